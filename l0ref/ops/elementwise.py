"""Elementwise arithmetic: each entry of the result depends on one entry of each input.

Shapes everywhere: inputs broadcast as in NumPy, the result has the broadcast shape. `y_bar` is the
cotangent of the result; the base class sums each cotangent back to its input's shape. Where a
function has a kink, the slope at the kink is stated and tested.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.validate import Array


class Add(Op):
    """y = a + b.    VJP  a_bar = y_bar,  b_bar = y_bar."""

    broadcasts = True

    @staticmethod
    def forward(a: Array, b: Array) -> tuple[Array, Saved]:
        return a + b, ()

    @staticmethod
    def vjp(_: Saved, y_bar: Array) -> tuple[Array, Array]:
        return y_bar, y_bar


class Sub(Op):
    """y = a - b.    VJP  a_bar = y_bar,  b_bar = -y_bar."""

    broadcasts = True

    @staticmethod
    def forward(a: Array, b: Array) -> tuple[Array, Saved]:
        return a - b, ()

    @staticmethod
    def vjp(_: Saved, y_bar: Array) -> tuple[Array, Array]:
        return y_bar, -y_bar


class Mul(Op):
    """y = a b.    VJP  a_bar = y_bar b,  b_bar = y_bar a."""

    broadcasts = True

    @staticmethod
    def forward(a: Array, b: Array) -> tuple[Array, Saved]:
        return a * b, (a, b)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, Any]:
        a, b = saved
        return lambda: y_bar * b, lambda: y_bar * a


class Div(Op):
    """y = a / b.    VJP  a_bar = y_bar / b,  b_bar = -y_bar a / b^2."""

    broadcasts = True

    @staticmethod
    def forward(a: Array, b: Array) -> tuple[Array, Saved]:
        y = a / b
        return y, (y, b)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, Any]:
        y, b = saved
        return lambda: y_bar / b, lambda: -y_bar * y / b


class Neg(Op):
    """y = -x.    VJP  x_bar = -y_bar."""

    @staticmethod
    def forward(x: Array) -> tuple[Array, Saved]:
        return -x, ()

    @staticmethod
    def vjp(_: Saved, y_bar: Array) -> tuple[Array]:
        return (-y_bar,)


class Pow(Op):
    """y = a^b.    VJP  a_bar = y_bar b a^(b-1),  b_bar = y_bar a^b log a.

    Kink     at a = 0 the slope along b is 0 for b >= 0 (its limit, for b > 0) and -inf for b < 0, where y is infinite;
             the slope along a is 0 for b = 0. As in PyTorch, these zeros stay 0 if y_bar is infinite or NaN
    """

    broadcasts = True

    @staticmethod
    def forward(a: Array, b: Array) -> tuple[Array, Saved]:
        y = a**b
        return y, (a, b, y)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, Any]:
        a, b, y = saved

        def a_bar() -> Array:
            return np.where(b == 0, 0, y_bar * b * a ** np.where(b == 0, 1, b - 1))

        def b_bar() -> Array:
            is_flat = (a == 0) & (b >= 0)
            return np.where(is_flat, 0, y_bar * y * np.log(np.where(is_flat, 1, a)))

        return a_bar, b_bar


class Exp(Op):
    """y = e^x.    VJP  x_bar = y_bar y."""

    @staticmethod
    def forward(x: Array) -> tuple[Array, Saved]:
        y = np.exp(x)
        return y, (y,)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        (y,) = saved
        return (y_bar * y,)


class Log(Op):
    """y = log x (natural).    VJP  x_bar = y_bar / x."""

    @staticmethod
    def forward(x: Array) -> tuple[Array, Saved]:
        return np.log(x), (x,)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        (x,) = saved
        return (y_bar / x,)


class Sqrt(Op):
    """y = sqrt(x).    VJP  x_bar = y_bar / (2 y), infinite at x = 0."""

    @staticmethod
    def forward(x: Array) -> tuple[Array, Saved]:
        y = np.sqrt(x)
        return y, (y,)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        (y,) = saved
        return (y_bar / (2 * y),)


class Abs(Op):
    """y = |x|.    VJP  x_bar = y_bar sign(x).

    Kink     at x = 0 the one-sided slopes are -1 and +1; we return 0, their midpoint, whatever y_bar is
    Departs  from PyTorch only at x = 0 with an infinite or NaN y_bar: PyTorch multiplies it by 0, which gives NaN
    """

    @staticmethod
    def forward(x: Array) -> tuple[Array, Saved]:
        return np.abs(x), (x,)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        (x,) = saved
        return (np.where(x == 0, 0, y_bar * np.sign(x)),)


def add(input: Any, other: Any) -> Tensor:
    """input + other, broadcast."""
    return apply(Add, input, other)


def sub(input: Any, other: Any) -> Tensor:
    """input - other, broadcast."""
    return apply(Sub, input, other)


def mul(input: Any, other: Any) -> Tensor:
    """input * other, entry by entry, broadcast."""
    return apply(Mul, input, other)


def div(input: Any, other: Any) -> Tensor:
    """input / other, broadcast."""
    return apply(Div, input, other)


def neg(input: Any) -> Tensor:
    """-input."""
    return apply(Neg, input)


def pow(input: Any, exponent: Any) -> Tensor:
    """input ** exponent, broadcast; both may carry a gradient."""
    return apply(Pow, input, exponent)


def exp(input: Any) -> Tensor:
    """e ** input."""
    return apply(Exp, input)


def log(input: Any) -> Tensor:
    """Natural logarithm."""
    return apply(Log, input)


def sqrt(input: Any) -> Tensor:
    """Square root."""
    return apply(Sqrt, input)


def abs(input: Any) -> Tensor:
    """Absolute value; slope 0 at 0."""
    return apply(Abs, input)
