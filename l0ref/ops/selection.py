"""Choices: each entry of the result is an entry of one of the inputs, or a bound.

Shapes everywhere: inputs broadcast as in NumPy, the result has the broadcast shape. Where two inputs
are equal, or one meets a bound, the slope is stated and tested. An input that was not taken receives exactly 0, even
from a cotangent that is infinite or NaN: the VJPs select, they do not multiply by 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.errors import ArgumentError, ShapeError
from l0ref.validate import Array, as_array, real


class Maximum(Op):
    """y = max(a, b).    VJP  y_bar goes to the larger input.

    Kink     where a = b each input receives half of y_bar, as in PyTorch
    """

    broadcasts = True

    @staticmethod
    def forward(a: Array, b: Array) -> tuple[Array, Saved]:
        return np.maximum(a, b), (a, b)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array, Array]:
        a, b = saved
        return _share(y_bar, a > b, a == b), _share(y_bar, b > a, a == b)


class Minimum(Op):
    """y = min(a, b).    VJP  y_bar goes to the smaller input.

    Kink     where a = b each input receives half of y_bar, as in PyTorch
    """

    broadcasts = True

    @staticmethod
    def forward(a: Array, b: Array) -> tuple[Array, Saved]:
        return np.minimum(a, b), (a, b)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array, Array]:
        a, b = saved
        return _share(y_bar, a < b, a == b), _share(y_bar, b < a, a == b)


class Clip(Op):
    """y = min(max(x, low), high).    VJP  x_bar = y_bar where low <= x <= high, else 0.

    Kink     at x = low and x = high the slope is 1, as in PyTorch
    """

    @staticmethod
    def forward(x: Array, *, low: float, high: float) -> tuple[Array, Saved]:
        return np.clip(x, low, high).astype(x.dtype, copy=False), ((x >= low) & (x <= high),)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        (inside,) = saved
        return (np.where(inside, y_bar, 0),)


class Where(Op):
    """y = a where `condition` holds, else b.    VJP  y_bar goes to the input that was taken."""

    broadcasts = True

    @staticmethod
    def forward(a: Array, b: Array, *, condition: Array) -> tuple[Array, Saved]:
        _check_condition(condition, a, b)
        return np.where(condition, a, b), (condition,)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array, Array]:
        (condition,) = saved
        return np.where(condition, y_bar, 0), np.where(condition, 0, y_bar)


def _check_condition(condition: Array, a: Array, b: Array) -> None:
    try:
        np.broadcast_shapes(condition.shape, a.shape, b.shape)
    except ValueError:
        raise ShapeError(
            f"condition has shape {condition.shape}, which does not broadcast with the inputs {a.shape} and {b.shape}; "
            "from the right, sizes must be equal or 1"
        ) from None


def _share(y_bar: Array, wins: Array, ties: Array) -> Array:
    """All of y_bar where an input wins, half of it where it ties, else 0."""
    return np.where(wins, y_bar, np.where(ties, y_bar / 2, 0))


def maximum(input: Any, other: Any) -> Tensor:
    """The larger of two arrays, entry by entry, broadcast; a tie shares the gradient."""
    return apply(Maximum, input, other)


def minimum(input: Any, other: Any) -> Tensor:
    """The smaller of two arrays, entry by entry, broadcast; a tie shares the gradient."""
    return apply(Minimum, input, other)


def clip(input: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """`input` limited to [min, max]; None means no limit on that side. Slope 1 inside and on both ends."""
    low, high = limits(min, max)
    return apply(Clip, input, low=low, high=high)


def limits(min: float | None, max: float | None) -> tuple[float, float]:
    """Return both ends of `clip`, infinite in place of None."""
    if min is None and max is None:
        raise ArgumentError("min=None and max=None limit nothing; give at least one of them")
    low, high = -np.inf if min is None else real("min", min), np.inf if max is None else real("max", max)
    if low > high:
        raise ArgumentError(f"min={min!r} must not exceed max={max!r}; swap them")
    return low, high


def where(condition: Any, input: Any, other: Any) -> Tensor:
    """`input` where the boolean array `condition` holds, else `other`; all three broadcast."""
    chosen = as_array("condition", condition)
    if chosen.dtype != np.bool_:
        raise ArgumentError(f"condition has dtype {chosen.dtype}, expected bool; compare first, as in x > 0")
    return apply(Where, input, other, condition=chosen)
