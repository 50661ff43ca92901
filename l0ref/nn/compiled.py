"""Compiled chains of networks: which networks have one, when it is faster than the tape, and where it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from l0ref.autodiff.op import current_backend
from l0ref.nn.activations import ReLU
from l0ref.nn.layer import Layer, Shape
from l0ref.nn.layers import Conv2d, Flatten, Linear, MaxPool2d
from l0ref.nn.sparse import SparseConv2d, SparseLinear
from l0ref.ops.windows import Windows
from l0ref.validate import Array, pair

if TYPE_CHECKING:
    from l0ref.fast.chain import Activation, Chain

SPARES = 8  # models of a process that keep a chain: LeNet-5 for 256 samples takes 25 MB, its weights 2 MB
FEW = 8  # samples from which on a chain, which always fills a vector, is faster than the tape;
LITTLE = 10_000  # for fewer only if dense layers have no more multiply-adds: 1.2 ns each, the tape 10 us a layer


def chain_of(architecture: Sequence[Layer], input_shape: Shape, *, capacity: int, dtype: Any) -> Chain | None:
    """Return the chain of a network for up to `capacity` samples, or None where only the tape can run it.

    A chain covers a sequence of layers with biases: Conv2d (one group) or SparseConv2d, then Linear or SparseLinear,
    each optionally followed by a ReLU, a convolution also by a 2 x 2 max-pool. It covers no Linear with fewer inputs
    than a vector has lanes, and no layer without inputs or outputs. It exists on the backend "numba" only.
    """
    if current_backend() != "numba":
        return None
    from l0ref.fast import chain as parts  # imports Numba
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
        after: dict[str, Any] = {"relu": bool(layers) and type(layers[0]) is ReLU}
        del layers[: after["relu"]]
        if isinstance(layer, Conv2d | SparseConv2d):
            after["pooled"] = bool(layers) and type(layers[0]) is MaxPool2d
            if after["pooled"] and not _halves(layers.pop(0)):
                return None
        stage = _stage(layer, x, after)
        if stage is None or not x.entries * stage.y.entries:
            return None
        links.append(parts.Link(stage, f"{layer.name}.weight", f"{layer.name}.bias"))
        x = stage.y
    return parts.Chain(links) if links and x is not first else None


def _stage(layer: Any, x: Activation, after: dict[str, Any]) -> Any:
    """The stage of a layer with the ReLU and pooling that follow it, or None if no stage covers it."""
    from l0ref.fast import chain as parts

    if isinstance(layer, SparseLinear):
        return parts.SparseLinearStage(x, layer.pattern, **after)
    if isinstance(layer, Linear):
        return parts.LinearStage(x, layer.out_features, **after) if x.entries >= x.lanes else None
    windows = Windows(*(pair(name, getattr(layer, name)) for name in ("kernel_size", "stride", "padding", "dilation")))
    if isinstance(layer, SparseConv2d):
        kernel, groups = layer.kernel_shape, layer.groups
        return parts.SparseConvolutionStage(x, layer.pattern, kernel, windows, groups=groups, **after)
    return parts.ConvolutionStage(x, layer.out_channels, windows, **after) if layer.groups == 1 else None


class Network(Protocol):
    """The fields of a `Model` that are read here."""

    @property
    def architecture(self) -> Sequence[Layer]: ...
    @property
    def input_shape(self) -> Shape: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def patterns(self) -> Mapping[str, Any]: ...
    @property
    def positions(self) -> Mapping[str, int]: ...
    @property
    def sizes(self) -> Mapping[str, int]: ...


def is_lean(model: Network) -> bool:
    """Return whether the dense layers have so few multiply-adds that a chain is faster than the tape for any batch."""
    return sum(model.positions[k] * size for k, size in model.sizes.items() if k not in model.patterns) <= LITTLE


def chain_is_faster(model: Network, x: Array, *, rows: int) -> bool:
    """Return whether a chain, if the network has one, accepts the samples x and is faster than the tape for `rows`."""
    return x.dtype == model.dtype and x.flags.c_contiguous and len(x) > 0 and (rows >= FEW or is_lean(model))


@contextmanager
def kept_chain(model: Network, *, capacity: int) -> Iterator[Chain | None]:
    """Lend the chain of a model, or None where there is none.

    Making a chain takes longer than running a few samples through it, so each model keeps the one it used last. A
    thread that finds it in use gets a new one. Copies and unpickled models start without; only the SPARES models used
    last keep a chain, and none keeps it beyond its own life.
    """
    kept = None
    if current_backend() == "numba":
        with _lock:
            kept = _spares.pop(model, None)
    if kept is None or kept.capacity < capacity or kept.x.dtype != model.dtype:
        kept = chain_of(model.architecture, model.input_shape, capacity=capacity, dtype=model.dtype)
    yield kept
    if kept is not None:
        with _lock:
            _spares.setdefault(model, kept)
            while len(_spares) > SPARES:
                del _spares[next(iter(_spares))]  # the one used longest ago


_spares: WeakKeyDictionary[Network, Chain] = WeakKeyDictionary()
_lock = Lock()


def _halves(layer: Any) -> bool:
    """Whether a max-pool has adjacent windows of 2 x 2."""
    stride = layer.kernel_size if layer.stride is None else layer.stride
    return all(pair("window", v) == (n, n) for v, n in ((layer.kernel_size, 2), (stride, 2), (layer.padding, 0)))
