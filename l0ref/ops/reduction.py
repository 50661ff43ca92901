"""Reductions: several entries of the input make one of the result.

axis        a number, a tuple of numbers, or None for all axes
keepdims    keep the reduced axes with size 1, so that the result broadcasts against the input

Shapes everywhere: x (...) -> y, the shape of x without the reduced axes, or with 1 in their place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.ops.axes import Axis, reduced_count, some_axes
from l0ref.validate import Array, flag


class Sum(Op):
    """y = sum of x over the axes; 0 where there is nothing to add.    VJP  x_bar = y_bar, repeated along the axes."""

    @staticmethod
    def forward(x: Array, *, axis: Axis, keepdims: bool) -> tuple[Array, Saved]:
        axes = some_axes("axis", axis, x.ndim)
        return x.sum(axis=axes, keepdims=keepdims), (x.shape, axes)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        shape, axes = saved
        return (np.broadcast_to(with_axes(y_bar, shape, axes), shape),)


class Mean(Op):
    """y = sum of x over the axes / n, n entries each.    VJP  x_bar = y_bar / n, repeated along the axes."""

    @staticmethod
    def forward(x: Array, *, axis: Axis, keepdims: bool) -> tuple[Array, Saved]:
        axes = some_axes("axis", axis, x.ndim)
        n = reduced_count("mean", x.shape, axes)
        return x.sum(axis=axes, keepdims=keepdims) / n, (x.shape, axes, n)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        shape, axes, n = saved
        return (np.broadcast_to(with_axes(y_bar / n, shape, axes), shape),)


class Max(Op):
    """y = largest entry of x over the axes.    VJP  y_bar goes to that entry, 0 to all others.

    Kink     among equal entries the first in scan order (last axis fastest) receives all of y_bar.
             PyTorch's max(dim) also names one entry; its amax shares y_bar between the equal ones.
    NaN      an input with a NaN has the maximum NaN
    """

    @staticmethod
    def forward(x: Array, *, axis: Axis, keepdims: bool) -> tuple[Array, Saved]:
        axes = some_axes("axis", axis, x.ndim)
        n = reduced_count("maximum", x.shape, axes)
        rows = _rows(x, axes, n)
        first = rows.argmax(axis=-1, keepdims=True)
        y = np.take_along_axis(rows, first, axis=-1)
        out = tuple(1 if i in axes else size for i, size in enumerate(x.shape) if keepdims or i not in axes)
        return y.reshape(out), (x.shape, axes, first, n)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        shape, axes, first, n = saved
        x_bar = np.zeros(shape, dtype=y_bar.dtype)
        rows_bar = np.zeros((*first.shape[:-1], n), dtype=y_bar.dtype)
        np.put_along_axis(rows_bar, first, y_bar.reshape(first.shape), axis=-1)
        _moved(x_bar, axes)[...] = rows_bar.reshape(_moved(x_bar, axes).shape)
        return (x_bar,)


def with_axes(y: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """`y`, reduced from `shape` over `axes`, with size 1 in place of each of these axes."""
    return y.reshape(tuple(1 if i in axes else size for i, size in enumerate(shape)))


def _moved(x: Array, axes: tuple[int, ...]) -> Array:
    """`x` with `axes`, in order, behind all others: a view."""
    return x.transpose(*(i for i in range(x.ndim) if i not in axes), *axes)


def _rows(x: Array, axes: tuple[int, ...], n: int) -> Array:
    """`x` with `axes` flattened into one last axis of `n` entries, in scan order."""
    moved = _moved(x, axes)
    return moved.reshape(*moved.shape[: x.ndim - len(axes)], n)


def sum(input: Any, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Sum over `axis`; 0 over no entries."""
    return apply(Sum, input, axis=axis, keepdims=flag("keepdims", keepdims))


def mean(input: Any, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over `axis`; the mean of no entries is an error."""
    return apply(Mean, input, axis=axis, keepdims=flag("keepdims", keepdims))


def max(input: Any, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Largest entry over `axis`; of equal ones the first in scan order carries the gradient."""
    return apply(Max, input, axis=axis, keepdims=flag("keepdims", keepdims))
