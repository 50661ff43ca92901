"""Activation layers: a function applied to every entry, without parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from l0ref import ops
from l0ref.autodiff.tensor import Tensor
from l0ref.nn.layer import Layer, Result
from l0ref.ops.selection import limits
from l0ref.validate import nonnegative


@dataclass(frozen=True)
class ReLU(Layer):
    """max(x, 0), slope 0 at 0."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Result:
        """Apply the layer."""
        return ops.relu(x), {}


@dataclass(frozen=True)
class LeakyReLU(Layer):
    """x where x > 0, else negative_slope * x."""

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        nonnegative("negative_slope", self.negative_slope)

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Result:
        """Apply the layer."""
        return ops.leaky_relu(x, negative_slope=self.negative_slope), {}


@dataclass(frozen=True)
class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Result:
        """Apply the layer."""
        return ops.sigmoid(x), {}


@dataclass(frozen=True)
class Tanh(Layer):
    """Hyperbolic tangent."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Result:
        """Apply the layer."""
        return ops.tanh(x), {}


@dataclass(frozen=True)
class Softplus(Layer):
    """log(1 + exp(x)), a smooth ReLU."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Result:
        """Apply the layer."""
        return ops.softplus(x), {}


@dataclass(frozen=True)
class Clip(Layer):
    """x limited to [min, max], by one of them alone where the other is None; slope 1 inside and on both ends."""

    min: float | None = None
    max: float | None = None

    def __post_init__(self) -> None:
        limits(self.min, self.max)

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Result:
        """Apply the layer."""
        return ops.clip(x, self.min, self.max), {}


ELEMENTWISE = (ReLU, LeakyReLU, Sigmoid, Tanh, Softplus, Clip)
