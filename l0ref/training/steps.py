"""The steps of training, one batch after another: on the tape, or on a compiled chain where the network allows it.

Both begin from a `TrainingState` and return one. In between, the tape makes a new state at every step, and the chain
updates its arrays in place. The tape's step is the definition:

    loss, grads  mean data loss of the batch and d loss / d params: `loss_and_gradient`
    params       the optimiser's step against grads and the pull of the penalty, under the masks
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from l0ref.data import Dataset
from l0ref.distillation import Feed
from l0ref.nn import Model
from l0ref.nn.compiled import chain_or_reason
from l0ref.nn.loss import loss_and_gradient
from l0ref.optim import Optimizer, State
from l0ref.optim.base import check_like
from l0ref.optim.in_place import InPlace, steps_in_place
from l0ref.penalty import Pull
from l0ref.streams import stream
from l0ref.training.state import TrainingState
from l0ref.validate import Array, sealed


@dataclass(frozen=True)
class Task:
    """The part of a step's input that stays the same for the whole training."""

    model: Model
    data: Dataset
    optimizer: Optimizer
    label_smoothing: float
    seed: int
    feed: Feed


class Steps(Protocol):
    """A state of training and its steps; `runs` says whether they run on the chain, or why on the tape."""

    runs: str

    def begin(self, state: TrainingState) -> None:
        """Continue from this state."""

    def take(self, order: Array, *, lr: float, pull: Pull) -> float:
        """Take one step on the samples data[order]; return their mean data loss before it."""

    def state(self) -> TrainingState:
        """Return the current state in arrays that no later step overwrites."""

    def lent(self) -> TrainingState:
        """Return the current state for inspection, without copies: `take_back` must follow before the next step."""

    def take_back(self) -> None:
        """End a loan: lent arrays that the caller still holds are left unchanged and replaced by copies."""


class TapeSteps:
    """Steps on the tape."""

    def __init__(self, task: Task, because: str = "") -> None:
        self.task, self.runs = task, f"runs on the tape because {because}"

    def begin(self, state: TrainingState) -> None:
        own = {key: np.array(p) for key, p in state.params.items()}  # a hook may return the read-only views of `lent`
        self._state, self._rng = dataclasses.replace(state, params=own), _dropout_stream(self.task, state)

    def take(self, order: Array, *, lr: float, pull: Pull) -> float:
        task, state = self.task, self._state
        x, y = task.feed.samples(order, state.epoch), task.data.y[order]
        found = loss_and_gradient(
            task.model.architecture, state.params, state.buffers, x, y,
            label_smoothing=task.label_smoothing, rng=self._rng, soft=task.feed.soft(order, x, state.epoch),
        )  # fmt: skip
        loss = float(found.loss)
        params, slots = task.optimizer.step(state.params, found.grads, state.slots, lr=lr, masks=state.masks, pull=pull)
        self._state = dataclasses.replace(
            state,
            params=params,
            slots=slots,
            buffers=found.buffers,
            step=state.step + 1,
            batch=state.batch + 1,
            loss_sum=state.loss_sum + loss * len(order),
        )
        return loss

    def state(self) -> TrainingState:
        return dataclasses.replace(self._state, dropout=self._rng.bit_generator.state)

    def lent(self) -> TrainingState:
        state, names = self.state(), self._state.slots.slots
        params, *parts = ({k: sealed(a[...]) for k, a in d.items()} for d in (state.params, *names.values()))
        slots = dataclasses.replace(state.slots, slots=dict(zip(names, parts, strict=True)))
        return dataclasses.replace(state, params=params, slots=slots)

    def take_back(self) -> None:
        pass


class ChainSteps:
    """Steps in place on a compiled chain."""

    def __init__(self, task: Task, chain: Any) -> None:
        self.task, self.chain, self.runs = task, chain, "runs on the compiled chain"

    def begin(self, state: TrainingState) -> None:
        check_like(self.task.model.params, state.params, "state.params")  # a hook may have made them
        self._state, self._buffers, self._rng = state, state.buffers, _dropout_stream(self.task, state)
        self.chain.draw_from(self._rng)
        self._arrays = InPlace(self.task.optimizer, state.params, state.slots, state.masks)
        self._taken, self._loss_sum = 0, state.loss_sum

    def take(self, order: Array, *, lr: float, pull: Pull) -> float:
        task, arrays = self.task, self._arrays
        x, rows, y = task.data.x, order, task.data.y[order]
        if task.feed.transform is not None:
            x, rows = task.feed.samples(order, self._state.epoch), np.arange(len(order))
        options = {"label_smoothing": task.label_smoothing, "soft": task.feed.soft(order, x, self._state.epoch)}
        loss = self.chain.gradient(arrays.params, arrays.grads, x, rows, y, **options)
        arrays.step(lr=lr, pull=pull)
        self._buffers = self.chain.moved(self._buffers)
        self._taken += 1
        self._loss_sum += float(loss) * len(order)
        return float(loss)

    def state(self) -> TrainingState:
        return self._now(*self._arrays.taken_out())

    def lent(self) -> TrainingState:
        return self._now(*self._arrays.lent())

    def take_back(self) -> None:
        self._arrays.take_back()

    def _now(self, params: dict[str, Array], slots: State) -> TrainingState:
        before, taken = self._state, self._taken
        return dataclasses.replace(
            before,
            params=params,
            slots=slots,
            buffers=self._buffers,
            dropout=self._rng.bit_generator.state if self.chain.dropouts else None,
            step=before.step + taken,
            batch=before.batch + taken,
            loss_sum=self._loss_sum,
        )


def _dropout_stream(task: Task, state: TrainingState) -> np.random.Generator:
    """Return the random generator of dropout, positioned at this state."""
    rng = stream(task.seed, "dropout", state.epoch)
    if state.dropout is not None:
        rng.bit_generator.state = dict(state.dropout)
    return rng


def steps_for(task: Task, *, batch_size: int) -> Steps:
    """Return compiled steps where the task allows them, otherwise steps on the tape with the reason."""
    x, y, model = task.data.x, task.data.y, task.model
    if x.dtype != model.dtype or not x.flags.c_contiguous or x.shape[1:] != model.input_shape:
        return TapeSteps(task, "the samples have gaps, or another type or shape than the network")
    if y.shape[1:] != (model.classes,) if y.dtype.kind == "f" else y.max(initial=0) >= model.classes:
        return TapeSteps(task, "a label is too large, or targets are not one for each output")  # the tape says which
    if not steps_in_place(task.optimizer):
        return TapeSteps(task, f"optimizer {type(task.optimizer).__name__} has no step in place")
    options: dict[str, Any] = {"capacity": batch_size, "dtype": model.dtype, "training": True}
    chain = chain_or_reason(model.architecture, model.input_shape, **options)
    return TapeSteps(task, chain) if isinstance(chain, str) else ChainSteps(task, chain)
