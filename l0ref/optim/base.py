"""The contract of optimisers: a pure step over dictionaries of arrays, which takes masks and the penalty.

    state = optimizer.init(params)
    params, state = optimizer.step(params, grads, state, lr=..., masks=..., pull=...)

The step of one array is a plain function beside its optimiser (`sgd_step`, `adam_step`, ...); the
classes carry hyper-parameters and apply it to every array. Nothing is mutated: a step returns fresh
arrays and a fresh state. Entries too small for their type become exactly 0: see `flushed_weights`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.masks import masked
from l0ref.penalty import Pull
from l0ref.surrogates import L0
from l0ref.validate import Array, fitting_masks, float_array, mapping, nonnegative, plain_array

Arrays = Mapping[str, Array]


@dataclass(frozen=True, eq=False)
class State:
    """The memory of an optimiser between two steps.

    step   number of steps taken
    slots  {slot name: {key: array like the parameter}}; momentum and moments
    """

    step: int = 0
    slots: Mapping[str, Arrays] = field(default_factory=dict)


class Optimizer(ABC):
    """Takes steps that lower J = L + penalty, given the gradient of the data loss L."""

    @property
    @abstractmethod
    def lr(self) -> float:
        """Learning rate of a step for which no other is given."""

    @abstractmethod
    def init(self, params: Arrays) -> State:
        """Return the state before the first step: no steps taken, every slot zero."""

    @abstractmethod
    def step(
        self,
        params: Arrays,
        grads: Arrays,
        state: State,
        *,
        lr: float | None = None,
        masks: Arrays | None = None,
        pull: Pull | None = None,
    ) -> tuple[dict[str, Array], State]:
        """Return (params, state) after one step.

        params  {key: array}, of one float dtype, which is that of the result
        grads   {key: gradient of the data loss}, for the same keys
        state   from `init` or from the step before
        lr      learning rate of this step, 0 or greater; None: the optimiser's own
        masks   {key: bool array}, True keeps; a key without a mask keeps everything. Where a mask is False,
                parameter and slots are exactly 0 afterwards, whatever they were before
        pull    the penalty, `penalty.pull(factors, strength=...)`; None: no penalty
        """


class Elementwise(Optimizer):
    """An optimiser whose step treats every entry by itself, by one rule for all arrays.

    A subclass defines its `slot_names`, the rule `update`, and the step sizes of a prox that follows it.
    """

    @property
    @abstractmethod
    def slot_names(self) -> tuple[str, ...]:
        """Names of the arrays that it keeps for each parameter."""

    @abstractmethod
    def update(self, w: Array, g: Array, slots: tuple[Array, ...], *, lr: float, t: int) -> tuple[Array, ...]:
        """Return (w, *slots) of one array after step number t = 1, 2, ...; zeros must give zeros."""

    @abstractmethod
    def reach(self, lr: float) -> float:
        """Return how far a constant gradient of 1 moves a weight per step in the long run, before any rescaling."""

    def prox_step(self, slots: tuple[Array, ...], *, lr: float, t: int) -> float | Array:
        """Return how far a constant gradient of 1 moves each entry per step, rescaling included."""
        return self.reach(lr)

    def init(self, params: Arrays) -> State:
        return State(0, {name: {key: np.zeros_like(w) for key, w in params.items()} for name in self.slot_names})

    def step(
        self,
        params: Arrays,
        grads: Arrays,
        state: State,
        *,
        lr: float | None = None,
        masks: Arrays | None = None,
        pull: Pull | None = None,
    ) -> tuple[dict[str, Array], State]:
        rate = rate_of(self, lr)
        names = self.slot_names
        check(params, grads, state, names, {} if masks is None else masks)
        total = _with_penalty(grads, params, pull)
        new: dict[str, Array] = {}
        memory: dict[str, dict[str, Array]] = {name: {} for name in names}
        for key, w in params.items():
            keep = None if masks is None else masks.get(key)
            # Every rule maps zeros to zeros, so masking its inputs masks its outputs.
            w, g, *slots = (masked(a, keep) for a in (w, total[key], *(state.slots[name][key] for name in names)))
            new[key], *after = map(np.asarray, self.update(w, g, tuple(slots), lr=rate, t=state.step + 1))
            for name, slot in zip(names, after, strict=True):
                memory[name][key] = slot
        return new, State(state.step + 1, memory)


def flushed(slot: Array) -> Array:
    """Return a slot with +0 in place of subnormal numbers, |m| < tiny: 1.2e-38 in float32, 2.2e-308 in float64.

    The momentum of a dead unit decays to such numbers and stays there; arithmetic on them is up to 100 times as slow.

    Departs  as `flushed_weights` does
    """
    return np.where(np.abs(slot) < np.finfo(slot.dtype).tiny, slot.dtype.type(0), slot)


def flushed_weights(w: Array) -> Array:
    """Return parameters with +0 in place of |w| < `smallest_weight`: 9.9e-32 in float32, 1.0e-292 in float64.

    Weight decay drives unused weights below that within some thousand steps, but never to 0: they would have no effect,
    count as kept, and slow down every product they are in.

    Departs  from PyTorch, which keeps them: a step gives entries that differ by less than `smallest_weight`

    >>> import numpy as np
    >>> flushed_weights(np.array([1e-310, -1e-300, 1e-290])).tolist()
    [0.0, 0.0, 1e-290]
    """
    return np.where(np.abs(w) < smallest_weight(w.dtype), w.dtype.type(0), w)


def smallest_weight(dtype: Any) -> float:
    """Return tiny / eps: the last digit of a smaller number is subnormal, and so is a change of that size."""
    return float(np.finfo(dtype).tiny) / float(np.finfo(dtype).eps)


def rate_of(optimizer: Optimizer, lr: float | None) -> float:
    """Return the learning rate of one step: `lr` if it is given, else the optimiser's own."""
    return optimizer.lr if lr is None else nonnegative("lr", lr)


def plain(optimizer: Optimizer, **values: float | tuple[float, ...]) -> None:
    """Set checked hyper-parameters of a frozen optimiser as plain numbers; NumPy ones would make float32 float64."""
    for name, value in values.items():
        object.__setattr__(optimizer, name, value)


def memory_fraction(name: str, value: float) -> float:
    """Return `value` if it lies in [0, 1): the share of an average that is carried over to the next step."""
    if nonnegative(name, value) >= 1:
        raise ArgumentError(f"{name}={value!r} must lie in [0, 1); with 1 or more the past would never fade")
    return float(value)


def _with_penalty(grads: Arrays, params: Arrays, pull: Pull | None) -> Arrays:
    if pull is None:
        return grads
    check_slope(pull)
    return {**grads, **pull.added_to(grads, params)}


def check_slope(pull: Pull) -> None:
    """Refuse an l0 term whose gradient is 0 everywhere."""
    if isinstance(pull.surrogate, L0) and any(pull.prices.values()):
        raise ArgumentError(
            f"pull has the surrogate {pull.surrogate!r}, whose slope is 0 everywhere: its gradient pulls nothing; "
            "wrap the optimiser in Proximal, or take a surrogate with a slope"
        )


def check(params: Arrays, grads: Arrays, state: State, names: tuple[str, ...], masks: Arrays) -> None:
    """Refuse parameters without a gradient and slots of the same shape and type, and masks that fit no parameter."""
    if set(state.slots) != set(names):
        found, expected = sorted(state.slots), sorted(names)
        raise ArgumentError(f"state has the slots {found}, expected {expected}; make it with this optimiser's init()")
    check_like(params, params, "params")
    check_like(params, grads, "grads")
    for name in names:
        check_like(params, state.slots[name], f"state.slots[{name!r}]")
    fitting_masks(masks, params)


def check_like(params: Arrays, arrays: Arrays, what: str) -> None:
    """Refuse arrays whose keys, shapes or types differ from those of the parameters."""
    if set(mapping(what, arrays)) != set(mapping("params", params)):
        key = min(set(arrays) ^ set(params))
        has, lacks = (what, "params") if key in arrays else ("params", what)
        raise ArgumentError(f"{has} has {key!r}, {lacks} does not; give both the same keys")
    for key, w in params.items():
        a = float_array(f"{what}[{key!r}]", plain_array(f"{what}[{key!r}]", arrays[key]))
        if a.shape != w.shape:
            raise ShapeError(f"{what}[{key!r}] has shape {a.shape}, expected {w.shape}, that of the parameter")
        if a.dtype != w.dtype:
            raise DTypeError(f"{what}[{key!r}] has dtype {a.dtype}, expected {w.dtype}; convert it with astype()")
