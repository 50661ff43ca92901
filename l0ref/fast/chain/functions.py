"""Functions of single numbers as stages of a chain: y = f(x), and x_bar = y_bar f'(x).

Each is a sequence of NumPy calls on existing memory, bit for bit equal to its operation in `l0ref.ops`, where the
formulas and the kinks are. Arguments: the layer, which holds the constants; x; the array to fill, y or x_bar; y_bar.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from l0ref.fast.chain.branches import SimpleStage, flags_for
from l0ref.fast.chain.places import Activation
from l0ref.fast.machine.scratch import room
from l0ref.ops.selection import limits
from l0ref.validate import Array

THRESHOLD = 20  # above it `Softplus` is x itself


class FunctionStage(SimpleStage):
    """y = f(x) for a layer of FUNCTIONS."""

    def __init__(self, x: Activation, layer: Any) -> None:
        super().__init__(x)
        self.layer = layer
        self.value, self.slope = FUNCTIONS[type(layer).__name__]

    def _fill(self, x: Array, y: Array) -> None:
        self.value(self.layer, x, y)

    def _fill_back(self, x: Array, x_bar: Array, y_bar: Array) -> None:
        self.slope(self.layer, x, x_bar, y_bar)


def _relu(_: Any, x: Array, y: Array) -> None:
    np.maximum(x, 0, out=y)


def _relu_back(_: Any, x: Array, x_bar: Array, y_bar: Array) -> None:
    np.copyto(x_bar, 0)
    np.copyto(x_bar, y_bar, where=np.greater(x, 0, out=flags_for(x)))


def _leaky_relu(layer: Any, x: Array, y: Array) -> None:
    np.multiply(x, layer.negative_slope, out=y)
    np.copyto(y, x, where=np.greater(x, 0, out=flags_for(x)))


def _leaky_relu_back(layer: Any, x: Array, x_bar: Array, y_bar: Array) -> None:
    np.multiply(y_bar, layer.negative_slope, out=x_bar)
    np.copyto(x_bar, y_bar, where=np.greater(x, 0, out=flags_for(x)))


def _clip(layer: Any, x: Array, y: Array) -> None:
    np.clip(x, *limits(layer.min, layer.max), out=y)


def _clip_back(layer: Any, x: Array, x_bar: Array, y_bar: Array) -> None:
    low, high = limits(layer.min, layer.max)
    np.copyto(x_bar, 0)
    np.copyto(x_bar, y_bar, where=np.greater_equal(x, low, out=flags_for(x)))
    np.copyto(x_bar, 0, where=np.greater(x, high, out=flags_for(x)))


def _tanh(_: Any, x: Array, y: Array) -> None:
    np.tanh(x, out=y)


def _tanh_back(_: Any, x: Array, x_bar: Array, y_bar: Array) -> None:
    _bell(x, x_bar, y_bar, rate=2, height=4)


def _sigmoid(_: Any, x: Array, y: Array) -> None:
    t = _falling(x, 1)
    np.copyto(y, t)
    np.copyto(y, 1, where=np.greater_equal(x, 0, out=flags_for(x)))
    t += 1
    y /= t


def _sigmoid_back(_: Any, x: Array, x_bar: Array, y_bar: Array) -> None:
    _bell(x, x_bar, y_bar, rate=1, height=1)


def _softplus(_: Any, x: Array, y: Array) -> None:
    t = _falling(x, 1)
    np.maximum(x, 0, out=y)
    y += np.log1p(t, out=t)
    np.copyto(y, x, where=np.greater(x, THRESHOLD, out=flags_for(x)))


def _softplus_back(layer: Any, x: Array, x_bar: Array, y_bar: Array) -> None:
    _sigmoid(layer, x, x_bar)
    np.copyto(x_bar, 1, where=np.greater(x, THRESHOLD, out=flags_for(x)))
    x_bar *= y_bar


FUNCTIONS: dict[str, tuple[Callable[..., None], Callable[..., None]]] = {
    "ReLU": (_relu, _relu_back),
    "LeakyReLU": (_leaky_relu, _leaky_relu_back),
    "Sigmoid": (_sigmoid, _sigmoid_back),
    "Tanh": (_tanh, _tanh_back),
    "Softplus": (_softplus, _softplus_back),
    "Clip": (_clip, _clip_back),
}


def _bell(x: Array, x_bar: Array, y_bar: Array, *, rate: int, height: int) -> None:
    """x_bar = y_bar height t / (1 + t)^2 with t = e^(-rate |x|)."""
    t = _falling(x, rate)
    np.multiply(y_bar, height, out=x_bar)
    x_bar *= t
    t += 1
    x_bar /= np.square(t, out=t)


def _falling(x: Array, rate: int) -> Array:
    """Return t = e^(-rate |x|), in reused memory."""
    t = np.abs(x, out=room("function", x.size, x.dtype).reshape(x.shape))
    t *= -rate
    return np.exp(t, out=t)
