"""Which networks a compiled chain covers, and the chain of one that it does."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from l0ref.autodiff.op import current_backend
from l0ref.nn.activations import ReLU
from l0ref.nn.layer import Layer, Shape
from l0ref.nn.layers import Conv2d, Flatten, Linear, MaxPool2d
from l0ref.ops.windows import Windows
from l0ref.validate import pair

if TYPE_CHECKING:
    from l0ref.fast.chain import Chain


def chain_of(architecture: Sequence[Layer], input_shape: Shape, *, capacity: int, dtype: Any) -> Chain | None:
    """Return the chain of a network for up to `capacity` samples, or None where the tape has to do.

    A chain covers layers with a bias in a row, Conv2d (one group) and then Linear, each with a ReLU behind it or none,
    a convolution also with a max-pool of 2 x 2; no layer with fewer inputs than a vector has lanes. It is there on the
    backend "numba" only.
    """
    if current_backend() != "numba":
        return None
    from l0ref.fast import chain as parts  # Numba is loaded with it
    from l0ref.fast.target import lanes

    layers = list(architecture)
    shape = input_shape if len(input_shape) == 3 else (prod(input_shape), 1, 1)
    blocks = -(-capacity // lanes(dtype))
    x = first = parts.Activation(shape, blocks=blocks, dtype=dtype)
    links = []
    while layers:
        layer: Any = layers.pop(0)
        if type(layer) is Flatten:
            continue
        if type(layer) not in (Conv2d, Linear) or not layer.bias:
            return None
        relu = bool(layers) and type(layers[0]) is ReLU
        del layers[:relu]
        stage: Any
        if isinstance(layer, Linear):
            if prod(x.shape) < x.lanes:
                return None
            stage = parts.LinearStage(x, layer.out_features, relu=relu)
        else:
            pooled = bool(layers) and type(layers[0]) is MaxPool2d
            if (pooled and not _halves(layers.pop(0))) or layer.groups != 1:
                return None
            settings = (pair(name, getattr(layer, name)) for name in ("kernel_size", "stride", "padding", "dilation"))
            stage = parts.ConvolutionStage(x, layer.out_channels, Windows(*settings), relu=relu, pooled=pooled)
        links.append(parts.Link(stage, f"{layer.name}.weight", f"{layer.name}.bias"))
        x = stage.y
    return parts.Chain(links) if links and x is not first else None


def _halves(layer: Any) -> bool:
    """Whether a max-pool takes windows of 2 x 2, side by side."""
    stride = layer.kernel_size if layer.stride is None else layer.stride
    return all(pair("window", v) == (n, n) for v, n in ((layer.kernel_size, 2), (stride, 2), (layer.padding, 0)))
