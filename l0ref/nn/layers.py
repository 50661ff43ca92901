"""The layers: thin descriptions around the functions of `l0ref.ops`.

Field names and array layouts are PyTorch's: Linear weight (out, in), Conv2d weight
(out, in/groups, kh, kw), activations NCHW.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from l0ref import ops
from l0ref.autodiff.tensor import Tensor
from l0ref.errors import ArgumentError, ShapeError
from l0ref.nn.initializers import INITIALIZERS
from l0ref.nn.layer import Layer, Result, Shape, Weight
from l0ref.ops.pooling import pool_windows
from l0ref.ops.windows import Windows
from l0ref.validate import Array, between, choose, count, edges_of, flag, pair

Pair = int | tuple[int, int]


@dataclass(frozen=True)
class Linear(Layer):
    """y = x W^T + b.    x (N, in), W (out, in), b (out)  ->  y (N, out)."""

    in_features: int
    out_features: int
    bias: bool = True
    init: str = "he_normal"

    def __post_init__(self) -> None:
        for name in ("in_features", "out_features"):
            object.__setattr__(self, name, count(name, getattr(self, name)))
        flag("bias", self.bias)
        choose("init", self.init, INITIALIZERS)

    def parameters(self, *, rng: np.random.Generator, dtype: Any) -> dict[str, Array]:
        """`<name>.weight` from the initialiser, `<name>.bias` zero."""
        shape = (self.out_features, self.in_features)
        draw = INITIALIZERS[self.init]
        weight = draw(shape, fan_in=self.in_features, fan_out=self.out_features, rng=rng).astype(dtype)
        bias = {f"{self.name}.bias": np.zeros(self.out_features, dtype)} if self.bias else {}
        return {f"{self.name}.weight": weight, **bias}

    def forward(self, x: Tensor, params: Mapping[str, Tensor], buffers: Mapping[str, Array], **_: Any) -> Result:
        """Apply the layer."""
        return ops.linear(x, params[f"{self.name}.weight"], params.get(f"{self.name}.bias")), {}

    def output_shape(self, shape: Shape) -> Shape:
        """(in) -> (out)."""
        if shape != (self.in_features,):
            raise self.misfit(shape, f"({self.in_features},); put a Flatten layer before it if the input has more axes")
        return (self.out_features,)

    def weights(self) -> dict[str, Weight]:
        """W, of kind "linear"."""
        return {f"{self.name}.weight": Weight("linear", self.in_features * self.out_features)}


@dataclass(frozen=True)
class Conv2d(Layer):
    """Cross-correlation y[n,f,p,q] = b[f] + sum_crs x[n,c,p+r,q+s] w[f,c,r,s] (stride 1 shown); see `ops.conv2d`."""

    in_channels: int
    out_channels: int
    kernel_size: Pair
    stride: Pair = 1
    padding: Pair = 0
    dilation: Pair = 1
    groups: int = 1
    bias: bool = True
    init: str = "he_normal"

    def __post_init__(self) -> None:
        for name, least in (("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
            pair(name, getattr(self, name), least=least)
        for name in ("in_channels", "out_channels", "groups"):
            object.__setattr__(self, name, count(name, getattr(self, name), least=1))
        flag("bias", self.bias)
        choose("init", self.init, INITIALIZERS)

    def parameters(self, *, rng: np.random.Generator, dtype: Any) -> dict[str, Array]:
        """`<name>.weight` (out, in/groups, kh, kw) from the initialiser, `<name>.bias` zero."""
        window = pair("kernel_size", self.kernel_size)
        shape = (self.out_channels, self.in_channels // self.groups, *window)
        fan_in, fan_out = shape[1] * prod(window), self.out_channels // self.groups * prod(window)
        weight = INITIALIZERS[self.init](shape, fan_in=fan_in, fan_out=fan_out, rng=rng).astype(dtype)
        bias = {f"{self.name}.bias": np.zeros(self.out_channels, dtype)} if self.bias else {}
        return {f"{self.name}.weight": weight, **bias}

    def forward(self, x: Tensor, params: Mapping[str, Tensor], buffers: Mapping[str, Array], **_: Any) -> Result:
        """Apply the layer."""
        weight, bias = params[f"{self.name}.weight"], params.get(f"{self.name}.bias")
        y = ops.conv2d(
            x, weight, bias, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )
        return y, {}

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) -> (F, P, Q) with P = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1."""
        if len(shape) != 3 or shape[0] != self.in_channels:
            raise self.misfit(shape, f"({self.in_channels}, height, width)")
        sizes = (self.kernel_size, self.stride, self.padding, self.dilation)
        grid = Windows(*(pair("window", size) for size in sizes)).grid((shape[1], shape[2]))
        if min(grid) < 1:
            raise self.misfit(shape, f"an image, with padding, of at least the kernel's size {self.kernel_size}")
        return (self.out_channels, *grid)

    def weights(self) -> dict[str, Weight]:
        """w, of kind "conv"."""
        window = prod(pair("kernel_size", self.kernel_size))
        size = self.out_channels * (self.in_channels // self.groups) * window
        return {f"{self.name}.weight": Weight("conv", size)}


@dataclass(frozen=True)
class _Pool(Layer):
    """Fields and checks that max and average pooling share.

    kernel_size, stride, padding   as in `ops.max_pool2d`; padding may differ from side to side
    ceil_mode                      one more window where pixels are left over
    """

    kernel_size: Pair
    stride: Pair | None = None
    padding: Pair | tuple[Pair, Pair] = 0
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        for name in ("kernel_size", "stride", "dilation"):
            if (size := getattr(self, name, None)) is not None:
                pair(name, size, least=1)
        edges_of(self.padding)
        for name in ("ceil_mode", "count_include_pad"):
            flag(name, getattr(self, name, False))

    @property
    def options(self) -> dict[str, Any]:
        """All fields except name and kernel_size: the options of the operation."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)[2:]}

    def windows(self, shape: Shape) -> Windows:
        """The windows over an input (C, H, W); refuse an input that they do not fit."""
        if len(shape) != 3:
            raise self.misfit(shape, "(channels, height, width)")
        geometry = {key: value for key, value in self.options.items() if key != "count_include_pad"}
        try:
            return pool_windows((shape[1], shape[2]), self.kernel_size, **geometry)[0]
        except ShapeError:
            size = f"an image, with padding, of at least the window's size {self.kernel_size}"
            raise self.misfit(shape, size) from None
        except ArgumentError as error:
            raise ArgumentError(f"layer {self.name!r} ({type(self).__name__}): {error}") from None

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) -> (C, P, Q)."""
        return (shape[0], *self.windows(shape).grid((shape[1], shape[2])))


@dataclass(frozen=True)
class MaxPool2d(_Pool):
    """Largest value of each window, whose places are `dilation` pixels apart; ties go to the first in scan order."""

    dilation: Pair = 1

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Result:
        """Apply the layer."""
        return ops.max_pool2d(x, self.kernel_size, **self.options), {}


@dataclass(frozen=True)
class AvgPool2d(_Pool):
    """Mean of each window; padding counts as zeros, or not at all with count_include_pad=False."""

    count_include_pad: bool = True

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Result:
        """Apply the layer."""
        return ops.avg_pool2d(x, self.kernel_size, **self.options), {}


@dataclass(frozen=True)
class GlobalAvgPool2d(Layer):
    """Mean over the image: (C, H, W) -> (C)."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Result:
        """Apply the layer."""
        return ops.flatten(ops.adaptive_avg_pool2d(x, 1), 1), {}

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) -> (C)."""
        if len(shape) != 3:
            raise self.misfit(shape, "(channels, height, width)")
        return shape[:1]


@dataclass(frozen=True)
class Flatten(Layer):
    """(C, H, W) -> (C H W), in C order."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Result:
        """Apply the layer."""
        return ops.flatten(x, 1), {}

    def output_shape(self, shape: Shape) -> Shape:
        """Product of all sizes."""
        return (prod(shape),)


@dataclass(frozen=True)
class Dropout(Layer):
    """Zero each entry with probability p while training and scale the rest by 1/(1-p); identity otherwise."""

    p: float = 0.5

    def __post_init__(self) -> None:
        between("p", self.p, 0.0, 1.0)

    def forward(self, x: Tensor, *_: Any, training: bool, rng: np.random.Generator | None) -> Result:
        """Apply the layer."""
        return ops.dropout(x, p=self.p, training=training, rng=rng), {}
