"""Batch normalisation layers, and the running statistics they keep as buffers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from l0ref import ops
from l0ref.autodiff.tensor import Tensor
from l0ref.nn.layer import Layer, Result, Shape
from l0ref.validate import Array, between, count, positive


@dataclass(frozen=True)
class _BatchNorm(Layer):
    """y = weight (x - mean) / sqrt(var + eps) + bias, per channel.

    In training, mean and var are those of the batch, and the running values move towards them by
    `momentum`; otherwise the running values are used.
    """

    num_features: int
    momentum: float = 0.1
    eps: float = 1e-5
    axes: ClassVar[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_features", count("num_features", self.num_features, least=1))
        between("momentum", self.momentum, 0.0, 1.0)
        positive("eps", self.eps)

    def parameters(self, *, rng: np.random.Generator, dtype: Any) -> dict[str, Array]:
        """`<name>.weight` one, `<name>.bias` zero."""
        return {
            f"{self.name}.weight": np.ones(self.num_features, dtype),
            f"{self.name}.bias": np.zeros(self.num_features, dtype),
        }

    def buffers(self, *, dtype: Any) -> dict[str, Array]:
        """`<name>.running_mean` zero, `<name>.running_var` one."""
        return {
            f"{self.name}.running_mean": np.zeros(self.num_features, dtype),
            f"{self.name}.running_var": np.ones(self.num_features, dtype),
        }

    def forward(
        self, x: Tensor, params: Mapping[str, Tensor], buffers: Mapping[str, Array], *, training: bool, **_: Any
    ) -> Result:
        """Apply the layer; in training also return the new running statistics."""
        mean, var = f"{self.name}.running_mean", f"{self.name}.running_var"
        y, new_mean, new_var = ops.batch_norm(
            x,
            buffers[mean],
            buffers[var],
            params[f"{self.name}.weight"],
            params[f"{self.name}.bias"],
            training=training,
            momentum=self.momentum,
            eps=self.eps,
        )
        return y, {mean: new_mean, var: new_var} if training else {}

    def output_shape(self, shape: Shape) -> Shape:
        """Unchanged; the first axis must have `num_features` channels."""
        if len(shape) != self.axes or shape[0] != self.num_features:
            raise self.misfit(shape, f"{self.num_features} channels and {self.axes} axes")
        return shape


@dataclass(frozen=True)
class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C)."""

    axes: ClassVar[int] = 1


@dataclass(frozen=True)
class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W): statistics over batch and image."""

    axes: ClassVar[int] = 3
