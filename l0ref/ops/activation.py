"""Activation functions: each entry of the result depends on one entry of the input.

Shapes everywhere: x (...) -> y (...). Slopes are computed from exp(-|x|), which cannot overflow and
keeps its digits where y rounds to 0 or 1 and a slope written as y (1 - y) would vanish.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.validate import Array, positive, real


class Relu(Op):
    """y = max(x, 0).    VJP  x_bar = y_bar where x > 0, else 0.

    Kink     at x = 0 the one-sided slopes are 0 and 1; we return 0, as PyTorch does
    """

    @staticmethod
    def forward(x: Array) -> tuple[Array, Saved]:
        return np.maximum(x, 0), (x,)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        (x,) = saved
        return (np.where(x > 0, y_bar, 0),)


class LeakyRelu(Op):
    """y = x where x > 0, else a x, with a = negative_slope.    VJP  x_bar = y_bar where x > 0, else a y_bar.

    Kink     at x = 0 the one-sided slopes are a and 1; we return a, as PyTorch does
    """

    @staticmethod
    def forward(x: Array, *, negative_slope: float) -> tuple[Array, Saved]:
        return np.where(x > 0, x, negative_slope * x), (x, negative_slope)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        x, negative_slope = saved
        return (np.where(x > 0, y_bar, negative_slope * y_bar),)


class Sigmoid(Op):
    """y = 1 / (1 + e^-x).    VJP  x_bar = y_bar t / (1 + t)^2  with t = e^-|x|, which equals y_bar y (1 - y)."""

    @staticmethod
    def forward(x: Array) -> tuple[Array, Saved]:
        t = np.exp(-np.abs(x))
        return _logistic(x, t), (t,)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        (t,) = saved
        return (y_bar * t / (1 + t) ** 2,)


class Tanh(Op):
    """y = tanh x.    VJP  x_bar = y_bar 4 t / (1 + t)^2  with t = e^(-2|x|), which equals y_bar (1 - y^2)."""

    @staticmethod
    def forward(x: Array) -> tuple[Array, Saved]:
        return np.tanh(x), (x,)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        (x,) = saved
        t = np.exp(-2 * np.abs(x))
        return (y_bar * 4 * t / (1 + t) ** 2,)


class Softplus(Op):
    """y = log(1 + e^(beta x)) / beta where beta x <= threshold, else x.

    Computed as max(x, 0) + log1p(e^-|beta x|) / beta, which cannot overflow.

    VJP      x_bar = y_bar / (1 + e^(-beta x)) where beta x <= threshold, else y_bar
    Kink     none in the function; at the threshold PyTorch's shortcut makes a step, of e^-20 / beta by
             default, which we keep so that values agree; threshold = inf gives the function itself
    """

    @staticmethod
    def forward(x: Array, *, beta: float, threshold: float) -> tuple[Array, Saved]:
        z = beta * x
        exact = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(z))) / beta
        return np.where(z > threshold, x, exact), (z, threshold)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        z, threshold = saved
        return (y_bar * np.where(z > threshold, 1, _logistic(z, np.exp(-np.abs(z)))),)


def _logistic(x: Array, t: Array) -> Array:
    """1 / (1 + e^-x) from t = e^-|x|."""
    return np.asarray(np.where(x >= 0, 1, t) / (1 + t))


def relu(input: Any) -> Tensor:
    """max(input, 0); slope 0 at 0."""
    return apply(Relu, input)


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Tensor:
    """`input` where it is positive, else negative_slope * input; slope `negative_slope` at 0."""
    return apply(LeakyRelu, input, negative_slope=real("negative_slope", negative_slope))


def sigmoid(input: Any) -> Tensor:
    """1 / (1 + e^-input), in [0, 1]."""
    return apply(Sigmoid, input)


def tanh(input: Any) -> Tensor:
    """Hyperbolic tangent, in [-1, 1]."""
    return apply(Tanh, input)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + e^(beta input)) / beta, a smooth relu; `input` itself where beta input > threshold."""
    endless = isinstance(threshold, float | np.floating) and threshold == math.inf
    limit = math.inf if endless else real("threshold", threshold)
    return apply(Softplus, input, beta=positive("beta", beta), threshold=limit)
