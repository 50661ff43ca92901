"""Argument checks, and the wording of every message they raise.

Each check returns the value it was given (converted where that is its job), so that it can stand in
the line that uses the value. A message begins with the argument's name and value and ends with the
remedy.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError, DTypeError, ShapeError

Array = NDArray[Any]
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def shown(value: Any) -> str:
    """Return `value` as messages show it: on one line, the middle of a long one left out."""
    try:
        text = repr(value).replace("\n", " ")
    except ValueError:  # Python writes no number of more digits than its limit
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:100]} ... {text[-60:]}"


def choose(name: str, value: str, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`; the error otherwise lists them and suggests the nearest."""
    options = list(allowed)
    if isinstance(value, str) and value in options:
        return value
    near = difflib.get_close_matches(str(value)[:200], options, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ArgumentError(f"{name}={shown(value)} is not one of {', '.join(map(repr, options))}{hint}")


def real(name: str, value: float) -> float:
    """Return `value` as a float if it is a finite real number (a bool is not a number here)."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise ArgumentError(f"{name}={shown(value)} must be a real number, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:  # a whole number above 1.8e308
        number = math.inf
    if not math.isfinite(number):
        raise ArgumentError(f"{name}={shown(value)} must be finite")
    return number


def positive(name: str, value: float) -> float:
    """Return `value` if it is a finite number above zero."""
    if real(name, value) <= 0:
        raise ArgumentError(f"{name}={shown(value)} must be greater than 0")
    return float(value)


def nonnegative(name: str, value: float) -> float:
    """Return `value` if it is a finite number, zero or above."""
    if real(name, value) < 0:
        raise ArgumentError(f"{name}={shown(value)} must be 0 or greater")
    return float(value)


def between(name: str, value: float, low: float, high: float) -> float:
    """Return `value` if it is a finite number in the closed interval [low, high]."""
    if not low <= real(name, value) <= high:
        raise ArgumentError(f"{name}={shown(value)} must lie in [{low:g}, {high:g}]")
    return float(value)


def count(name: str, value: int, *, least: int = 0) -> int:
    """Return `value` as an int if it is a whole number of at least `least`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise ArgumentError(f"{name}={shown(value)} must be a whole number, not {type(value).__name__}")
    if value < least:
        raise ArgumentError(f"{name}={shown(value)} must be at least {least}")
    return int(value)


def flag(name: str, value: bool) -> bool:
    """Return `value` if it is True or False; refuse other values, which Python would take for one of them."""
    if not isinstance(value, bool | np.bool_):
        raise ArgumentError(f"{name}={shown(value)} must be True or False")
    return bool(value)


def mapping(name: str, value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a dict or another mapping."""
    if not isinstance(value, Mapping):
        raise ArgumentError(f"{name} is {type(value).__name__}, expected a dict of arrays by name")
    return value


def listed(name: str, value: Any) -> tuple[Any, ...]:
    """Return the entries of a tuple, a list or another row of values."""
    try:
        return tuple(value)
    except TypeError:
        raise ArgumentError(f"{name}={shown(value)} must be a tuple or a list") from None


def float_type(dtype: Any) -> np.dtype[Any]:
    """Return the dtype float32 or float64 that `dtype` names."""
    try:
        result: np.dtype[Any] = np.dtype(dtype)
    except (TypeError, ValueError):  # ValueError: text that is not Unicode
        raise DTypeError(f"dtype={shown(dtype)} is not a NumPy type; pass np.float32 or np.float64") from None
    if result not in FLOATS:
        raise DTypeError(f"dtype={result} is not float32 or float64; pass one of these")
    return result


def portion(share: float, n: int) -> int:
    """Return a share of n items as a whole number of them, floor(share n + 0.5): halves are rounded up.

    >>> portion(0.5, 5), portion(0.1, 14)
    (3, 1)
    """
    return math.floor(float(share) * n + 0.5)


def pair(name: str, value: int | tuple[int, int], *, least: int = 0) -> tuple[int, int]:
    """Return (vertical, horizontal) from one whole number or a pair of them, as PyTorch reads both."""
    values = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(values) != 2:
        raise ArgumentError(f"{name}={shown(value)} must be a whole number or a pair of them, got {len(values)}")
    return count(name, values[0], least=least), count(name, values[1], least=least)


def edges_of(padding: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return ((top, bottom), (left, right)) from that form, a pair (vertical, horizontal), or a whole number."""
    parts = padding if isinstance(padding, tuple | list) and len(padding) == 2 else pair("padding", padding)
    top, left = (pair("padding", part) for part in parts)
    return top, left


def raw_array(name: str, value: Any) -> Array:
    """Return `value` as an array of any dtype; refuse ragged lists, and masked arrays, whose mask would be lost."""
    if isinstance(value, np.ma.MaskedArray):
        remedy = "fill its gaps with .filled(value), or leave those samples out"
        raise DTypeError(f"{name} is a masked array, whose mask would have no effect; {remedy}")
    try:
        return np.asarray(value)
    except ValueError:
        raise ShapeError(
            f"{name} is a ragged list: its rows differ in length; give every row the same length"
        ) from None


def as_array(name: str, value: Any) -> Array:
    """Return `value` as an array of numbers."""
    array = raw_array(name, value)
    if array.dtype.kind in "OSUV":
        raise DTypeError(f"{name} has dtype {array.dtype}, which is not numeric; pass float32 or float64 numbers")
    return array


def plain_array(name: str, value: Any) -> Array:
    """Return `value` if it is an array, used as it is; refuse lists, and subclasses whose operators differ."""
    if not isinstance(value, np.ndarray | np.generic) or isinstance(value, np.ma.MaskedArray | np.matrix):
        as_array(name, value)
        raise DTypeError(f"{name} is a {type(value).__name__}, expected a NumPy array; pass np.asarray({name})")
    return value  # type: ignore[return-value]  # a NumPy number is an array without axes


def float_array(name: str, value: Any) -> Array:
    """Return `value` as a float32 or float64 array; refuse every other type instead of converting."""
    array = as_array(name, value)
    if array.dtype not in FLOATS:
        remedy = f"convert it with np.asarray({name}, dtype=np.float64)"
        raise DTypeError(f"{name} has dtype {array.dtype}, expected float32 or float64; {remedy}")
    return array


def sealed(fresh: Array) -> Array:
    """Make a fresh array, to which there is no other reference, read-only, and return it."""
    fresh.flags.writeable = False
    return fresh


def owned(array: Array) -> Array:
    """Return `array` if neither it nor any array it is a view of can be written to; otherwise a read-only copy."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if base.flags.writeable:
            return sealed(np.array(array, order="C"))
        base = base.base
    return array


def same_dtype(**arrays: Array) -> np.dtype[Any]:
    """Return the one dtype all `arrays` share; name each array's type when they differ."""
    dtypes = {array.dtype for array in arrays.values()}
    if len(dtypes) > 1:
        found = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items())
        raise DTypeError(f"mixed dtypes: {found}; convert all of them to one with astype()")
    return dtypes.pop()


def nonnegative_array(name: str, value: Any, *, like: Array, shape: tuple[int, ...]) -> Array:
    """Return an array of finite numbers, 0 or greater, of this shape and the dtype of `like`, the operation's input."""
    array = float_array(name, value)
    same_dtype(input=like, **{name: array})
    if array.shape != shape:
        raise ShapeError(f"{name} has shape {array.shape}, expected {shape}: one number for each class")
    if not (np.isfinite(array) & (array >= 0)).all():
        raise ArgumentError(f"{name} holds negative, NaN or infinite entries; its numbers must be finite, 0 or above")
    return array


def labels(
    name: str, value: Any, *, shape: tuple[int, ...], classes: int, ignore: int | None = None
) -> NDArray[np.intp]:
    """Return class labels as integers of the given shape, each in [0, classes); an empty array may have any dtype.

    ignore  one more label that is allowed, inside or outside this range
    """
    if _is_text(value):
        remedy = f"number them with names, {name} = np.unique({name}, return_inverse=True)"
        raise DTypeError(f"{name} holds strings, expected whole numbers; {remedy}")
    array = as_array(name, value)
    if array.shape != shape and array.ndim == 2 and array.shape == (*shape, classes):
        remedy = f"turn one-hot rows into labels with {name}.argmax(axis=1)"
        raise ShapeError(f"{name} has shape {array.shape}, expected {shape}, a label for each row of scores; {remedy}")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ArgumentError(f"{name} has {int(np.isnan(array).sum())} NaN; drop those samples or correct their labels")
    if array.size and array.dtype.kind not in "iu":
        raise DTypeError(f"{name} has dtype {array.dtype}, expected whole numbers; convert with .astype(np.int64)")
    if array.shape != shape:
        raise ShapeError(f"{name} has shape {array.shape}, expected {shape}: one label for each row of scores")
    seen = array if ignore is None else array[array != ignore]
    if seen.size and not (seen.min() >= 0 and seen.max() < classes):
        worst = int(seen.max()) if seen.max() >= classes else int(seen.min())
        raise ArgumentError(f"{name} holds the class index {worst}, outside [0, {classes}); count classes from 0")
    return array.astype(np.intp, copy=False)


def _is_text(value: Any) -> bool:
    """Whether an array or a list has strings in it."""
    try:
        array = np.asarray(value)
    except ValueError:
        return False  # ragged
    return array.dtype.kind in "SU" or (array.dtype.kind == "O" and any(isinstance(v, str) for v in array.flat))


def fitting_masks(masks: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Refuse masks that are not bool or not shaped like the array of the same name."""
    for key, mask in mapping("masks", masks).items():
        if key not in arrays:
            raise ArgumentError(f"masks has {key!r}, which is not a parameter; choose from {', '.join(arrays)}")
        found, expected = plain_array(f"masks[{key!r}]", mask), arrays[key].shape
        if found.dtype != np.bool_ or found.shape != expected:
            raise ShapeError(f"masks[{key!r}] is {found.dtype} {found.shape}, expected bool {expected}")
