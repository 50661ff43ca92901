"""Logarithms of sums of exponentials, and the probabilities made from them.

The largest entry is subtracted before exponentials are taken, so that nothing overflows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.ops.axes import Axis, one_axis, reduced_count, some_axes
from l0ref.ops.reduction import with_axes
from l0ref.validate import Array, flag


class Logsumexp(Op):
    """y = log sum e^x over the axes = m + log sum e^(x - m) with m = max x.

    Shapes   x (...) -> y, the shape of x without the reduced axes, or with 1 in their place
    VJP      x_bar = y_bar e^(x - y), y_bar and y repeated along the axes: y_bar times the softmax
    Limits   only entries -inf: y = -inf; with an entry inf: y = inf. As in PyTorch, x_bar is NaN at the entries equal
             to such a y and 0 at the others
    """

    @staticmethod
    def forward(x: Array, *, axis: Axis, keepdims: bool) -> tuple[Array, Saved]:
        axes = some_axes("axis", axis, x.ndim)
        reduced_count("logsumexp", x.shape, axes)
        m = x.max(axis=axes, keepdims=True)
        m = np.where(np.isinf(m), 0, m)  # nothing to gain by subtracting it, and inf - inf would be NaN
        with np.errstate(divide="ignore", over="ignore"):  # log 0 = -inf, and e^x = inf beside an infinite x, are right
            y = m + np.log(np.exp(x - m).sum(axis=axes, keepdims=True))
        return y if keepdims else y.squeeze(axes), (x, y, axes)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        x, y, axes = saved
        with np.errstate(invalid="ignore"):  # inf - inf: see Limits
            return (with_axes(y_bar, x.shape, axes) * np.exp(x - y),)


class Softmax(Op):
    """y_i = e^x_i / sum_j e^x_j along one axis.

    Shapes   x (...) -> y (...)
    VJP      x_bar_i = y_i (y_bar_i - sum_j y_bar_j y_j)
    """

    @staticmethod
    def forward(x: Array, *, axis: int) -> tuple[Array, Saved]:
        place = one_axis("axis", axis, x.ndim)
        reduced_count("softmax", x.shape, (place,))
        e = np.exp(x - x.max(axis=place, keepdims=True))
        y = e / e.sum(axis=place, keepdims=True)
        return y, (y, place)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        y, axis = saved
        return (y * (y_bar - (y_bar * y).sum(axis=axis, keepdims=True)),)


class LogSoftmax(Op):
    """y_i = x_i - log sum_j e^x_j along one axis.

    Shapes   x (...) -> y (...)
    VJP      x_bar_i = y_bar_i - e^y_i sum_j y_bar_j
    """

    @staticmethod
    def forward(x: Array, *, axis: int) -> tuple[Array, Saved]:
        place = one_axis("axis", axis, x.ndim)
        reduced_count("log_softmax", x.shape, (place,))
        y = log_probabilities(x, place)
        return y, (y, place)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        y, axis = saved
        return (y_bar - np.exp(y) * y_bar.sum(axis=axis, keepdims=True),)


def log_probabilities(x: Array, axis: int) -> Array:
    """x - log sum e^x along one axis, as plain arrays."""
    below = x - x.max(axis=axis, keepdims=True)
    return np.asarray(below - np.log(np.exp(below).sum(axis=axis, keepdims=True)))


def logsumexp(input: Any, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Logarithm of the sum of e ** input over `axis`."""
    return apply(Logsumexp, input, axis=axis, keepdims=flag("keepdims", keepdims))


def softmax(input: Any, axis: int) -> Tensor:
    """Non-negative numbers that sum to 1 along `axis`."""
    return apply(Softmax, input, axis=axis)


def log_softmax(input: Any, axis: int) -> Tensor:
    """Logarithm of the softmax, exact where the softmax itself would round to 0."""
    return apply(LogSoftmax, input, axis=axis)
