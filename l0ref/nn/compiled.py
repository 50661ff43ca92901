"""Compiled chains of networks: which networks have one, when it is faster than the tape, and where it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from l0ref.autodiff.op import current_backend
from l0ref.nn.layer import Layer, Shape
from l0ref.validate import Array

if TYPE_CHECKING:
    from l0ref.fast.chain import Chain

SPARES = 8  # models of a process that keep a chain: LeNet-5 for 256 samples takes 25 MB, its weights 2 MB
FEW = 8  # samples from which on a chain, which always computes whole vectors, is faster than the tape
LITTLE = 10_000  # multiply-adds of dense layers (1.2 ns each; tape: 10 us a layer) up to which it is for fewer, too


def chain_of(
    architecture: Sequence[Layer], input_shape: Shape, *, capacity: int, dtype: Any, training: bool = False
) -> Chain | None:
    """Return the chain of a network for up to `capacity` samples, or None where only the tape can run it.

    training  True: for gradients, with batch statistics and dropout; False: for outputs, with running statistics
    """
    found = chain_or_reason(architecture, input_shape, capacity=capacity, dtype=dtype, training=training)
    return None if isinstance(found, str) else found


def chain_or_reason(
    architecture: Sequence[Layer], input_shape: Shape, *, capacity: int, dtype: Any, training: bool
) -> Chain | str:
    """Return the chain, or the reason why there is none: the end of "runs on the tape because ..."."""
    if current_backend() != "numba":
        return f"the backend is {current_backend()!r}"
    from l0ref.fast import chain as parts  # imports Numba

    try:
        return parts.build(architecture, input_shape, capacity=capacity, dtype=dtype, training=training)
    except parts.NotCovered as reason:
        return str(reason)


class Network(Protocol):
    """The fields of a `Model` that are read here."""

    @property
    def buffers(self) -> Mapping[str, Array]: ...

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
    known = all((v >= 0).all() for k, v in model.buffers.items() if k.endswith("running_var"))  # else the tape refuses
    return known and x.dtype == model.dtype and x.flags.c_contiguous and len(x) > 0 and (rows >= FEW or is_lean(model))


@contextmanager
def kept_chain(model: Network, *, capacity: int) -> Iterator[Chain | None]:
    """Lend the chain of a model, or None where there is none.

    Building a chain takes longer than running a few samples through it, so each model keeps the one it used last. A
    thread that finds it in use gets a new one. Copies and unpickled models start without one; only the SPARES most
    recently used models keep a chain, and only as long as they live.
    """
    kept = None
    if current_backend() == "numba":
        with _lock:
            kept = _spares.pop(model, None)
    if kept is None or kept.wanted < capacity or kept.x.dtype != model.dtype:
        kept = chain_of(model.architecture, model.input_shape, capacity=capacity, dtype=model.dtype)
    yield kept
    if kept is not None:
        with _lock:
            _spares.setdefault(model, kept)
            while len(_spares) > SPARES:
                del _spares[next(iter(_spares))]  # the least recently used one


_spares: WeakKeyDictionary[Network, Chain] = WeakKeyDictionary()
_lock = Lock()
