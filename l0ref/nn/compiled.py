"""Which networks a compiled chain covers, and the chain of one that it does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from l0ref.autodiff.op import current_backend
from l0ref.nn.activations import ReLU
from l0ref.nn.layer import Layer, Shape
from l0ref.nn.layers import Conv2d, Flatten, Linear, MaxPool2d
from l0ref.nn.sparse import SparseConv2d, SparseLinear
from l0ref.ops.windows import Windows
from l0ref.validate import pair

if TYPE_CHECKING:
    from l0ref.fast.chain import Activation, Chain

SPARES = 8  # networks of a process that keep a chain: one of LeNet-5 for 256 samples has 25 MB, its weights 2 MB


def chain_of(architecture: Sequence[Layer], input_shape: Shape, *, capacity: int, dtype: Any) -> Chain | None:
    """Return the chain of a network for up to `capacity` samples, or None where the tape has to do.

    A chain covers layers with a bias in a row, Conv2d (one group) or SparseConv2d and then Linear or SparseLinear, each
    with a ReLU behind it or none, a convolution also with a max-pool of 2 x 2; no Linear with fewer inputs than a
    vector has lanes, and no layer without inputs or outputs. It is there on the backend "numba" only.
    """
    if current_backend() != "numba":
        return None
    from l0ref.fast import chain as parts  # Numba is loaded with it
    from l0ref.fast.machine.target import lanes

    layers = list(architecture)
    shape = input_shape if len(input_shape) == 3 else (prod(input_shape), 1, 1)
    blocks = -(-capacity // lanes(dtype))
    x = first = parts.Activation(shape, blocks=blocks, dtype=dtype)
    links = []
    while layers:
        layer: Any = layers.pop(0)
        if type(layer) is Flatten:
            continue
        if type(layer) not in (Conv2d, Linear, SparseConv2d, SparseLinear) or not layer.bias:
            return None
        behind: dict[str, Any] = {"relu": bool(layers) and type(layers[0]) is ReLU}
        del layers[: behind["relu"]]
        if isinstance(layer, Conv2d | SparseConv2d):
            behind["pooled"] = bool(layers) and type(layers[0]) is MaxPool2d
            if behind["pooled"] and not _halves(layers.pop(0)):
                return None
        stage = _stage(layer, x, behind)
        if stage is None or not x.entries * stage.y.entries:
            return None
        links.append(parts.Link(stage, f"{layer.name}.weight", f"{layer.name}.bias"))
        x = stage.y
    return parts.Chain(links) if links and x is not first else None


def _stage(layer: Any, x: Activation, behind: dict[str, Any]) -> Any:
    """The stage of a layer and of what stands behind it, or None where there is none."""
    from l0ref.fast import chain as parts

    if isinstance(layer, SparseLinear):
        return parts.SparseLinearStage(x, layer.pattern, **behind)
    if isinstance(layer, Linear):
        return parts.LinearStage(x, layer.out_features, **behind) if x.entries >= x.lanes else None
    windows = Windows(*(pair(name, getattr(layer, name)) for name in ("kernel_size", "stride", "padding", "dilation")))
    if isinstance(layer, SparseConv2d):
        kernel, groups = layer.kernel_shape, layer.groups
        return parts.SparseConvolutionStage(x, layer.pattern, kernel, windows, groups=groups, **behind)
    return parts.ConvolutionStage(x, layer.out_channels, windows, **behind) if layer.groups == 1 else None


class Spare:
    """The chain that a network's outputs were last computed with, lent again if it is large enough.

    To make one takes longer than to run a few samples through it. Who finds it lent to another thread gets a new one.
    It is no part of the network: a copy of it, or what is unpickled, begins without. Only the networks used last keep
    theirs, and none that nobody holds.
    """

    @contextmanager
    def lent(
        self, architecture: Sequence[Layer], input_shape: Shape, *, capacity: int, dtype: Any
    ) -> Iterator[Chain | None]:
        """Give what `chain_of` does for a while."""
        kept = None
        if current_backend() == "numba":
            with _lock:
                kept = _spares.pop(self, None)
        if kept is None or kept.capacity < capacity or kept.x.dtype != dtype:
            kept = chain_of(architecture, input_shape, capacity=capacity, dtype=dtype)
        yield kept
        if kept is not None:
            with _lock:
                _spares.setdefault(self, kept)
                while len(_spares) > SPARES:
                    del _spares[next(iter(_spares))]  # the one used longest ago


_spares: WeakKeyDictionary[Spare, Chain] = WeakKeyDictionary()
_lock = Lock()


def _halves(layer: Any) -> bool:
    """Whether a max-pool takes windows of 2 x 2, side by side."""
    stride = layer.kernel_size if layer.stride is None else layer.stride
    return all(pair("window", v) == (n, n) for v, n in ((layer.kernel_size, 2), (stride, 2), (layer.padding, 0)))
