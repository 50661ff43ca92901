"""Builds the chain of a network: layer by layer, each with the ReLU and the pooling that its stage includes.

Layers are identified by their class names, which are unique: a subclass, which may do something else, has another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from l0ref.fast.chain.branches import DropoutStage, ForkStage, SimpleStage, SumStage
from l0ref.fast.chain.chain import Chain, Link
from l0ref.fast.chain.convolution import ConvolutionStage
from l0ref.fast.chain.functions import FUNCTIONS, FunctionStage
from l0ref.fast.chain.linear import LinearStage
from l0ref.fast.chain.normalization import AffineStage, Norm, NormalizationStage
from l0ref.fast.chain.places import Activation, Branch
from l0ref.fast.chain.pooling import HalvingStage, PoolStage, shares
from l0ref.fast.chain.sparse_convolution import SparseConvolutionStage
from l0ref.fast.chain.sparse_linear import SparseLinearStage
from l0ref.fast.machine.target import lanes
from l0ref.ops.windows import Windows
from l0ref.validate import pair

BUDGET = 32_000_000  # bytes of values that a chain for inference may have; it takes more samples in several parts


class NotCovered(Exception):
    """The reason why there is no chain, as the end of "runs on the tape because ..."."""


def build(
    architecture: Sequence[Any], input_shape: tuple[int, ...], *, capacity: int, dtype: Any, training: bool
) -> Chain:
    """Return the chain of a network, or raise NotCovered.

    training  with batch statistics and dropout; otherwise batch normalisation is folded into the product before it
    """
    wanted = capacity
    if not training:
        links = _Builder(input_shape, 1, dtype, training).chain(architecture, wanted).links
        size = sum(link.stage.y.entries for link in links) * np.dtype(dtype).itemsize
        capacity = min(capacity, max(lanes(dtype), BUDGET // size))
    return _Builder(input_shape, -(-capacity // lanes(dtype)), dtype, training).chain(architecture, wanted)


class _Builder:
    """A chain under construction: the links so far."""

    def __init__(self, input_shape: tuple[int, ...], blocks: int, dtype: Any, training: bool) -> None:
        self.input_shape, self.blocks, self.dtype, self.training = input_shape, blocks, dtype, training
        self.links: list[Link] = []
        self.has_weights, self.is_flat = False, len(input_shape) == 1

    def chain(self, architecture: Sequence[Any], wanted: int) -> Chain:
        """Return the whole chain."""
        shape, layers = self.input_shape, list(architecture)
        if len(shape) != 3 or (layers and _kind(layers[0]) == "Flatten"):
            self.is_flat |= bool(layers) and _kind(layers[0]) == "Flatten"
            shape = (prod(shape), 1, 1)
        if not prod(shape):
            raise NotCovered("its samples are empty")
        x = Activation((shape[0], shape[1], shape[2]), blocks=self.blocks, dtype=self.dtype, is_data=True)
        y = self._plain(self._through(layers, x))
        if not self.has_weights:
            raise NotCovered("no layer of it has weights")
        if not self.is_flat:
            raise NotCovered("its outputs are images")
        return Chain(self.links, x, y, wanted)

    def _through(self, layers: Sequence[Any], x: Activation) -> Activation:
        """Add the stages of these layers; return the last activation."""
        rest = list(layers)
        while rest:
            layer = rest.pop(0)
            kind = _kind(layer)
            if kind in FUNCTIONS:
                x = self._added(FunctionStage(x, layer))
            elif kind in LAYERS:
                x = LAYERS[kind](self, layer, x, rest)
            else:
                raise NotCovered(f"layer {layer.name!r} is a {kind}, which chains do not know")
        return x

    def _added(self, stage: Any, weight: str = "", bias: str = "", norm: Norm | None = None) -> Activation:
        self.links.append(Link(stage, weight, bias, norm))
        y: Activation = stage.y
        return y

    def _plain(self, x: Activation) -> Activation:
        """Return x, or a copy, without a frame, and fix it so."""
        if x.frame != (0, 0):
            x = self._added(SimpleStage(x))
        x.fix()
        return x

    def add_linear(self, layer: Any, x: Activation, rest: list[Any]) -> Activation:
        if x.entries < x.lanes:
            raise NotCovered(f"layer {layer.name!r} has {x.entries} inputs, fewer than a vector has lanes, {x.lanes}")
        norm, x = self._norm_of(rest), self._plain(x)
        return self._weighted(layer, LinearStage(x, layer.out_features, relu=_taken(rest, "ReLU")), norm)

    def add_sparselinear(self, layer: Any, x: Activation, rest: list[Any]) -> Activation:
        return self._weighted(layer, SparseLinearStage(self._plain(x), layer.pattern, relu=_taken(rest, "ReLU")))

    def add_conv2d(self, layer: Any, x: Activation, rest: list[Any]) -> Activation:
        norm = self._norm_of(rest)
        stage = ConvolutionStage(x, layer.out_channels, _windows(layer), **self._after(layer, x, rest))
        return self._weighted(layer, stage, norm)

    def add_sparseconv2d(self, layer: Any, x: Activation, rest: list[Any]) -> Activation:
        after, x = self._after(layer, x, rest), self._plain(x)
        stage = SparseConvolutionStage(x, layer.pattern, layer.kernel_shape, _windows(layer), **after)
        return self._weighted(layer, stage)

    def _after(self, layer: Any, x: Activation, rest: list[Any]) -> dict[str, Any]:
        """The ReLU and the max-pool that the stage of a convolution includes, and its groups."""
        relu, pooled = _taken(rest, "ReLU"), _halved(rest, layer.output_shape(x.shape))
        return {"groups": layer.groups, "relu": relu, "pooled": pooled}

    def _weighted(self, layer: Any, stage: Any, norm: Norm | None = None) -> Activation:
        if not stage.x.entries * stage.y.entries:
            raise NotCovered(f"layer {layer.name!r} has no inputs or no outputs")
        self.has_weights = True
        return self._added(stage, f"{layer.name}.weight", f"{layer.name}.bias" if layer.bias else "", norm)

    def _norm_of(self, rest: list[Any]) -> Norm | None:
        """The batch normalisation that comes next, if it is folded into a product."""
        if self.training or not rest or _kind(rest[0]) not in ("BatchNorm1d", "BatchNorm2d"):
            return None
        return _norm(rest.pop(0))

    def add_batchnorm(self, layer: Any, x: Activation, rest: list[Any]) -> Activation:
        relu, norm = _taken(rest, "ReLU"), _norm(layer)
        if self.training:
            stage = NormalizationStage(x, norm, relu=relu)
            return self._added(stage, f"{norm.name}.weight", f"{norm.name}.bias")
        return self._added(AffineStage(x, relu=relu), norm=norm)

    def add_dropout(self, layer: Any, x: Activation, rest: list[Any]) -> Activation:
        return self._added(DropoutStage(x, layer.p)) if self.training else x

    def add_maxpool2d(self, layer: Any, x: Activation, rest: list[Any]) -> Activation:
        if _halved([layer], x.shape):
            return self._added(HalvingStage(self._plain(x)))
        return self._added(PoolStage(x, layer.windows(x.shape)))

    def add_avgpool2d(self, layer: Any, x: Activation, rest: list[Any]) -> Activation:
        return self._added(PoolStage(x, layer.windows(x.shape), shares(layer, x.shape)))

    def add_globalavgpool2d(self, layer: Any, x: Activation, rest: list[Any]) -> Activation:
        self.is_flat, image = True, (x.shape[1], x.shape[2])
        return self._added(PoolStage(x, Windows(image, (1, 1), (0, 0)), np.array(1 / prod(image))))

    def add_flatten(self, layer: Any, x: Activation, rest: list[Any]) -> Activation:
        self.is_flat = True
        return x if x.shape[1:] == (1, 1) else Branch(self._plain(x), is_flat=True)

    def add_residual(self, layer: Any, x: Activation, rest: list[Any]) -> Activation:
        fork = ForkStage(x)
        self._added(fork)
        main = self._through(layer.body, x)  # first, as dropout draws
        side = self._through(layer.shortcut, fork.other)
        return self._added(SumStage(main, side, relu=_taken(rest, "ReLU")))


LAYERS: dict[str, Callable[[_Builder, Any, Activation, list[Any]], Activation]] = {
    "Linear": _Builder.add_linear,
    "SparseLinear": _Builder.add_sparselinear,
    "Conv2d": _Builder.add_conv2d,
    "SparseConv2d": _Builder.add_sparseconv2d,
    "BatchNorm1d": _Builder.add_batchnorm,
    "BatchNorm2d": _Builder.add_batchnorm,
    "Dropout": _Builder.add_dropout,
    "MaxPool2d": _Builder.add_maxpool2d,
    "AvgPool2d": _Builder.add_avgpool2d,
    "GlobalAvgPool2d": _Builder.add_globalavgpool2d,
    "Flatten": _Builder.add_flatten,
    "Residual": _Builder.add_residual,
}


def _kind(layer: Any) -> str:
    return type(layer).__name__


def _norm(layer: Any) -> Norm:
    return Norm(layer.name, layer.momentum, layer.eps)


def _taken(rest: list[Any], kind: str) -> bool:
    """Whether the next layer is of this kind; then it is taken."""
    found = bool(rest) and _kind(rest[0]) == kind
    del rest[:found]
    return found


def _halved(rest: list[Any], shape: tuple[int, ...]) -> bool:
    """Whether the next layer is a max-pool of adjacent windows of 2 x 2 over (C, H, W) alone; then it is taken."""
    adjacent = Windows((2, 2), (2, 2), (0, 0))
    found = bool(rest) and _kind(rest[0]) == "MaxPool2d" and rest[0].windows(shape) == adjacent
    del rest[:found]
    return found


def _windows(layer: Any) -> Windows:
    """The windows of a convolution."""
    sizes = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    return Windows(*(pair("window", size) for size in sizes))
