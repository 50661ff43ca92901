"""Layers whose weight is stored without its zeros: `compact` puts them in place of Linear and Conv2d.

The weight parameter holds only the stored values, in the order of the layer's pattern, and is trained like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from l0ref import sparse
from l0ref.autodiff.tensor import Tensor
from l0ref.errors import ArgumentError, ShapeError
from l0ref.nn.layer import AnyPattern, Layer, Result, Shape, Weight
from l0ref.nn.layers import Conv2d, Linear, Pair
from l0ref.sparse.checks import is_pattern
from l0ref.sparse.matmul import check_pattern
from l0ref.validate import Array, pair


@dataclass(frozen=True)
class SparseLinear(Layer):
    """y = x W^T + b over stored entries.    x (N, in), b (out)  ->  y (N, out).

    pattern  which entries of W (out, in) are stored: a Pattern with values (nnz,), or a BlockPattern
             with values (tiles, b_r, b_c)
    """

    in_features: int
    out_features: int
    pattern: AnyPattern
    bias: bool = True

    def __post_init__(self) -> None:
        rows, columns = self.dense.out_features, self.dense.in_features  # the dense layer checks that they are counts
        check_pattern(self.pattern)
        _check_shape(self.name, self.pattern, (rows, columns))

    def parameters(self, *, rng: np.random.Generator, dtype: Any) -> dict[str, Array]:
        """`<name>.weight`, the stored values, and `<name>.bias`: all zero, as a pruned layer is not drawn."""
        bias = {f"{self.name}.bias": np.zeros(self.out_features, dtype)} if self.bias else {}
        return {f"{self.name}.weight": np.zeros(self.pattern.values_shape, dtype), **bias}

    def forward(self, x: Tensor, params: Mapping[str, Tensor], buffers: Mapping[str, Array], **_: Any) -> Result:
        """Apply the layer."""
        values, bias = params[f"{self.name}.weight"], params.get(f"{self.name}.bias")
        if isinstance(self.pattern, sparse.BlockPattern):
            return sparse.block_sparse_linear(x, values, bias, pattern=self.pattern), {}
        return sparse.sparse_linear(x, values, bias, pattern=self.pattern), {}

    def output_shape(self, shape: Shape) -> Shape:
        """(in) -> (out)."""
        return self.dense.output_shape(shape)

    def weights(self) -> dict[str, Weight]:
        """The weights of the dense layer, stored or not."""
        return self.dense.weights()

    @property
    def dense(self) -> Linear:
        """The layer with all its weights."""
        return Linear(self.name, self.in_features, self.out_features, self.bias)


@dataclass(frozen=True)
class SparseConv2d(Layer):
    """Cross-correlation with the stored weights of a kernel (out, in/groups, kh, kw); see `sparse.sparse_conv2d`.

    pattern  which entries of the kernel, as a matrix (out, in/groups kh kw), are stored; values (nnz,)
    """

    in_channels: int
    out_channels: int
    kernel_size: Pair
    pattern: sparse.Pattern
    stride: Pair = 1
    padding: Pair = 0
    dilation: Pair = 1
    groups: int = 1
    bias: bool = True

    def __post_init__(self) -> None:
        groups = self.dense.groups  # the dense layer checks that it is at least 1
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % groups:
                raise ArgumentError(
                    f"groups={groups} of layer {self.name!r} does not divide {name}={getattr(self, name)}; "
                    "choose a divisor"
                )
        is_pattern("pattern", self.pattern, sparse.Pattern, made_by="Pattern.from_mask(kernel.reshape(F, -1) != 0)")
        _check_shape(self.name, self.pattern, (self.kernel_shape[0], prod(self.kernel_shape[1:])))

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """Shape of the dense kernel."""
        return self.out_channels, self.in_channels // self.groups, *pair("kernel_size", self.kernel_size)

    def parameters(self, *, rng: np.random.Generator, dtype: Any) -> dict[str, Array]:
        """`<name>.weight`, the stored values, and `<name>.bias`: all zero, as a pruned layer is not drawn."""
        bias = {f"{self.name}.bias": np.zeros(self.out_channels, dtype)} if self.bias else {}
        return {f"{self.name}.weight": np.zeros(self.pattern.values_shape, dtype), **bias}

    def forward(self, x: Tensor, params: Mapping[str, Tensor], buffers: Mapping[str, Array], **_: Any) -> Result:
        """Apply the layer."""
        values, bias = params[f"{self.name}.weight"], params.get(f"{self.name}.bias")
        y = sparse.sparse_conv2d(
            x, values, bias, pattern=self.pattern, kernel_shape=self.kernel_shape, stride=self.stride,
            padding=self.padding, dilation=self.dilation, groups=self.groups,
        )  # fmt: skip
        return y, {}

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) -> (F, P, Q), as for `Conv2d`."""
        return self.dense.output_shape(shape)

    def weights(self) -> dict[str, Weight]:
        """The weights of the dense layer, stored or not."""
        return self.dense.weights()

    @property
    def dense(self) -> Conv2d:
        """The layer with all its weights."""
        settings = (self.kernel_size, self.stride, self.padding, self.dilation, self.groups, self.bias)
        return Conv2d(self.name, self.in_channels, self.out_channels, *settings)


def _check_shape(name: str, pattern: AnyPattern, shape: tuple[int, int]) -> None:
    if pattern.shape != shape:
        raise ShapeError(f"pattern of layer {name!r} has shape {pattern.shape}, expected {shape}, that of its weight")
