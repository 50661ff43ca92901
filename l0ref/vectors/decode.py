"""The JSON form of numbers and arrays, read with every check: a file may be damaged or forged.

    number   {"decimal": 0.1, "hex": "0x1.999999999999ap-4"}
    array    {"dtype": "float64", "shape": [2], "decimal": [...], "hex": [...]}, flat in C order
             {"dtype": "int64" or "bool", "shape": [2], "values": [...]}

Both may carry "magnitude", see `files.Expected`. Hexadecimal and decimal must denote the same finite number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from l0ref.errors import DataError
from l0ref.validate import Array

MOST = 10**6  # entries of one array
AXES = 8
LARGEST = float(np.finfo(np.float64).max)


def value(form: Any, where: str) -> Any:
    """Return the value of `form`: None, a string, bool, integer, float or array, or a dictionary or list of these.

    Any other form raises a DataError whose message begins with `where`.
    """
    if form is None or isinstance(form, str | bool | int):
        return form
    if isinstance(form, list):
        return [value(item, f"{where}[{i}]") for i, item in enumerate(form)]
    if not isinstance(form, dict):
        raise damaged(where, f"has {form!r}, a number without its hexadecimal form")
    if "dtype" in form:
        return array(form, where)
    if "hex" in form:
        return number(form, where)
    return {key: value(item, f"{where}.{key}") for key, item in form.items()}


def number(form: dict[str, Any], where: str) -> float:
    """Return the float that `form` gives in both notations."""
    keys(form, where, {"decimal", "hex"}, {"magnitude"})
    return exact(form["hex"], form["decimal"], where)


def array(form: dict[str, Any], where: str) -> Array:
    """Return the array that `form` gives, float64, int64 or bool."""
    dtype = form["dtype"]
    floats = dtype == "float64"
    if not floats and dtype not in ("int64", "bool"):
        raise damaged(where, f"has dtype {dtype!r}, expected float64, int64 or bool")
    keys(form, where, {"dtype", "shape"} | ({"decimal", "hex"} if floats else {"values"}), {"magnitude"})
    shape = shape_of(form["shape"], where)
    size = math.prod(shape)
    if floats:
        texts, decimals = (entries(form[key], size, f"{where}.{key}") for key in ("hex", "decimal"))
        flat = [exact(h, d, f"{where}[{i}]") for i, (h, d) in enumerate(zip(texts, decimals, strict=True))]
        return np.array(flat, np.float64).reshape(shape)
    flat = entries(form["values"], size, f"{where}.values")
    right: Callable[[Any], bool] = is_bool if dtype == "bool" else is_index
    for i, entry in enumerate(flat):
        if not right(entry):
            raise damaged(f"{where}.values[{i}]", f"is {entry!r}, expected {dtype}")
    return np.array(flat, np.bool_ if dtype == "bool" else np.int64).reshape(shape)


def magnitudes(form: Any, where: str, like: Array) -> Array:
    """Return the magnitudes of a number or array, shaped like it; its absolute values where the file gives none."""
    least = np.abs(like)
    if not isinstance(form, dict) or "magnitude" not in form:
        return least
    given = form["magnitude"] if "dtype" in form else [form["magnitude"]]
    flat = entries(given, like.size, f"{where}.magnitude")
    for i, entry in enumerate(flat):
        if isinstance(entry, bool) or not isinstance(entry, int | float) or not 0 <= entry <= LARGEST:
            raise damaged(f"{where}.magnitude[{i}]", f"is {entry!r}, expected a number of 0 or more")
    result = np.array(flat, np.float64).reshape(like.shape)
    if not (result >= least).all():
        raise damaged(f"{where}.magnitude", "is below the absolute value it belongs to")
    return result


def exact(text: Any, decimal: Any, where: str) -> float:
    """Return the finite float that both notations denote."""
    try:
        found = float.fromhex(text)
        same = found.hex() == text and math.isfinite(found)
    except (TypeError, ValueError, OverflowError):
        same = False
    if not same:
        raise damaged(where, f"has hex {text!r}, which is not the hexadecimal form of a finite float64")
    if isinstance(decimal, bool) or not isinstance(decimal, int | float) or decimal != found:
        raise damaged(where, f"has hex {text} and decimal {decimal!r}, which are different numbers")
    return found


def shape_of(form: Any, where: str) -> tuple[int, ...]:
    """Return the shape; refuse one with too many axes or entries."""
    if not isinstance(form, list) or len(form) > AXES or not all(is_index(n) and 0 <= n <= MOST for n in form):
        raise damaged(where, f"has shape {form!r}, expected at most {AXES} sizes")
    if math.prod(form) > MOST:
        raise damaged(where, f"has shape {form!r}, more than {MOST} entries")
    return tuple(form)


def entries(form: Any, size: int, where: str) -> list[Any]:
    """Return the list of `size` entries."""
    if not isinstance(form, list) or len(form) != size:
        found = f"{len(form)} entries" if isinstance(form, list) else type(form).__name__
        raise damaged(where, f"has {found}, expected a list of {size}")
    return form


def keys(form: dict[str, Any], where: str, needed: set[str], allowed: set[str]) -> None:
    """Refuse an object that lacks a key or has an unknown one."""
    if wrong := sorted(needed - set(form)) or sorted(set(form) - needed - allowed):
        raise damaged(where, f"{'lacks' if wrong[0] in needed else 'has the unknown'} key {wrong[0]!r}")


def is_bool(entry: Any) -> bool:
    """Whether the entry is true or false."""
    return isinstance(entry, bool)


def is_index(entry: Any) -> bool:
    """Whether the entry is a whole number that fits int64."""
    return isinstance(entry, int) and not isinstance(entry, bool) and -(2**63) <= entry < 2**63


def damaged(where: str, what: str) -> DataError:
    """Return the error for a file that does not match its format."""
    return DataError(f"{where} {what}; restore the file from the package or generate it again")
