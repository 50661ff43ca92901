"""Checks of the axis arguments that reductions, softmax and changes of shape share."""

from __future__ import annotations

import math

import numpy as np

from l0ref.errors import ArgumentError, ShapeError

Axis = int | tuple[int, ...] | None


def one_axis(name: str, axis: int, ndim: int) -> int:
    """Return `axis` counted from the front, in [0, ndim)."""
    if isinstance(axis, bool | np.bool_) or not isinstance(axis, int | np.integer):
        raise ArgumentError(f"{name}={axis!r} must be a whole number, not {type(axis).__name__}")
    if not -ndim <= axis < ndim:
        range_ = f"choose one of {-ndim} to {ndim - 1}" if ndim else "give the input an axis with reshape"
        raise ArgumentError(f"{name}={axis} does not exist in an array of {ndim} axes; {range_}")
    return int(axis) % ndim


def some_axes(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """Return the axes meant by a number, a tuple or None (all of them), in rising order."""
    if axis is None:
        return tuple(range(ndim))
    if not isinstance(axis, tuple | list):
        return (one_axis(name, axis, ndim),)
    axes = sorted(one_axis(name, entry, ndim) for entry in axis)
    if not axes:
        raise ArgumentError(f"{name}=() names no axis; pass None to reduce all of them")
    if len(set(axes)) < len(axes):
        raise ArgumentError(f"{name}={axis} names an axis twice in an array of {ndim} axes; name each once")
    return tuple(axes)


def reduced_count(what: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """Return the number of entries reduced to each result; refuse 0, for which the reduction `what` is undefined."""
    n = math.prod(shape[axis] for axis in axes)
    if n == 0:
        raise ShapeError(f"input has shape {shape}: there is no {what} of 0 entries; leave empty arrays out")
    return n
