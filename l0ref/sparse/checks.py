"""Argument checks of `l0ref.sparse`, and the wording of their messages."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.masks.applied import masked
from l0ref.validate import Array, as_array, count, float_array

INT32_MAX = 2**31 - 1
Pair = tuple[int, int]


def matrix_shape(value: Any) -> Pair:
    """Return (rows, columns), each small enough to be counted in int32."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ShapeError(f"shape={value!r} must be a pair: the rows and columns of a matrix")
    rows, columns = (count(f"shape[{i}]", size) for i, size in enumerate(value))
    if max(rows, columns) > INT32_MAX:
        raise ArgumentError(f"shape={value!r} goes beyond int32 indices, {INT32_MAX}; split the matrix")
    return rows, columns


def whole_numbers(name: str, value: Any) -> NDArray[np.int64]:
    """Return one axis of whole numbers as a fresh int64 array; an empty one may have any dtype, as [] is float64."""
    array = as_array(name, value)
    if array.size and array.dtype.kind not in "iu":
        raise DTypeError(f"{name} has dtype {array.dtype}, expected whole numbers; convert with .astype(np.int32)")
    if array.ndim != 1:
        raise ShapeError(f"{name} has shape {array.shape}, expected one axis; flatten it")
    return array.astype(np.int64)


def dense_matrix(name: str, value: Any) -> Array:
    """Return a float matrix."""
    array = float_array(name, value)
    _two_axes(name, array)
    return array


def kept_matrix(w: Any, mask: Any) -> Array:
    """Return a float matrix `w`, zero where the bool `mask` of the same shape, if given, is False."""
    dense = dense_matrix("w", w)
    return dense if mask is None else masked(dense, mask_matrix("mask", mask, shape=dense.shape))


def mask_matrix(name: str, value: Any, *, shape: tuple[int, ...] | None = None) -> Array:
    """Return a matrix of bool, of this shape if one is given."""
    array = as_array(name, value)
    if array.dtype != np.bool_:
        raise DTypeError(f"{name} has dtype {array.dtype}, expected bool, True = keep; compare the weights with != 0")
    _two_axes(name, array)
    if shape is not None and array.shape != shape:
        raise ShapeError(f"{name} has shape {array.shape}, expected {shape}: True or False for each entry")
    return array


def finite(name: str, values: Array) -> None:
    """Refuse NaN and infinities."""
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise ArgumentError(f"{name} has {bad} NaN or infinite of {values.size}; repair them before storing")


def is_pattern(name: str, value: Any, kind: type[Any], *, made_by: str) -> None:
    """Refuse what is not a pattern of this kind."""
    if not isinstance(value, kind):
        raise ArgumentError(
            f"{name} is {type(value).__name__}, expected {kind.__name__}; make it with {made_by}, or pass the "
            ".pattern of a sparse matrix"
        )


def frozen(array: Array, dtype: Any) -> Array:
    """Return a contiguous, read-only copy of this dtype."""
    copy = np.array(array, dtype=dtype, order="C")
    copy.flags.writeable = False
    return copy


def _two_axes(name: str, array: Array) -> None:
    if array.ndim != 2:
        raise ShapeError(
            f"{name} has shape {array.shape}, expected (rows, columns); give a convolution's kernel as "
            f"{name}.reshape({name}.shape[0], -1)"
        )
    matrix_shape(array.shape)
