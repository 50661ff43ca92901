"""The one training loop: from a state to the next, an epoch at a time.

state = trainer.start()
state = trainer.run(state)             from any state of this training
model, history = trainer.result(state)
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from l0ref import metrics
from l0ref.data import Dataset, batch_count, orders
from l0ref.data.transform import Transform
from l0ref.distillation import Feed, Teacher
from l0ref.errors import ArgumentError, Diverged, Interrupted, ShapeError
from l0ref.nn import Model
from l0ref.progress import Progress
from l0ref.record import OPEN
from l0ref.schedules import ReduceOnPlateau
from l0ref.training.history import History
from l0ref.training.recipe import MONITORS, Recipe, check_kind
from l0ref.training.state import TrainingState
from l0ref.training.steps import Steps, Task, steps_for
from l0ref.validate import count

AfterStep = Callable[[TrainingState], TrainingState | None]
AfterEpoch = Callable[[TrainingState, Mapping[str, Any]], TrainingState | None]
Resumed = Callable[[TrainingState], None]
CHECKED = "L0REF_CHECK_MASKS"  # set: removed weights are checked to be 0 after every step and every hook


class Keeper(Protocol):
    """Keeps states of a training on disk."""

    def is_due(self) -> bool:
        """Return whether a state within an epoch should be kept now."""

    def keep(self, trainer: Trainer, state: TrainingState) -> None:
        """Keep this state."""

    def close_epoch(self, trainer: Trainer, state: TrainingState) -> None:
        """Keep the state after an epoch if that is due, or if the training has ended."""


@dataclass(frozen=True)
class Trainer:
    """The fixed inputs of one `fit`, and the functions that turn its state into the next."""

    recipe: Recipe
    model: Model
    data: Dataset
    seed: int
    validation: Dataset | None = None
    first_epoch: int = 1
    phase: str = "train"
    batch: Transform | None = None
    teacher: Teacher | None = None
    after_step: AfterStep | None = None
    after_epoch: AfterEpoch | None = None
    resumed: Resumed | None = None
    keeper: Keeper | None = None

    def __post_init__(self) -> None:
        count("seed", self.seed)
        count("first_epoch", self.first_epoch, least=1)
        check_kind("model", self.model, Model)
        check_kind("data", self.data, Dataset)
        self.check_monitor()
        for name, data in {"data": self.data, "validation": self.validation}.items():
            if data is not None:
                check_kind(name, data, Dataset)
                if len(data) == 0:
                    remedy = "" if name == "data" else ", or None"
                    raise ArgumentError(f"{name} is empty; pass at least one sample{remedy}")
                self.model.check_input(f"{name}.x", data.x)
                metrics.check_type(f"{name}.x", self.model, data.x)
        if self.teacher is not None:
            check_kind("teacher", self.teacher, Teacher)
            self.teacher.check(self.data)
        self.check_last_batch()

    def check_last_batch(self) -> None:
        """Refuse settings that leave no batch, or a last batch of one sample that a layer cannot train on."""
        size, n = self.recipe.batch_size, len(self.data)
        if self.samples == 0:
            raise ArgumentError(
                f"drop_last=True leaves nothing of {n} samples in batches of {size}; use a smaller batch"
            )
        if (self.samples - 1) % size == 0 and self.recipe.epochs:
            try:
                self.model.forward(self.data.x[:1], training=True, rng=np.random.default_rng(0))
            except ShapeError as error:
                raise ArgumentError(
                    f"batch_size={size} leaves one sample of {n} for the last batch, on which this network cannot "
                    f"train ({str(error).split(';')[0]}); pass drop_last=True or another batch_size"
                ) from None

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        n = len(self.data)
        return n - n % self.recipe.batch_size if self.recipe.drop_last else n

    def check_monitor(self) -> None:
        """Refuse a recipe that needs validation data where there are none, or a schedule with the wrong `mode`."""
        recipe = self.recipe
        if self.validation is None and (recipe.select == "best" or recipe.patience is not None):
            wish = "select='best'" if recipe.select == "best" else f"patience={recipe.patience}"
            raise ArgumentError(f"{wish} needs validation data; pass validation=")
        mode = "min" if recipe.monitor == "val_loss" else "max"
        if isinstance(recipe.schedule, ReduceOnPlateau) and (self.validation is None or recipe.schedule.mode != mode):
            raise ArgumentError(
                f"schedule={recipe.schedule!r} reads monitor={recipe.monitor!r}; pass validation= and mode={mode!r}"
            )

    def start(self) -> TrainingState:
        """The state before the first step: the model's arrays, an optimiser without memory."""
        m, epochs = self.model, self.recipe.epochs
        steps = epochs * batch_count(self.samples, batch_size=self.recipe.batch_size)
        return TrainingState(
            m.params, m.masks, m.buffers, self.recipe.optimizer.init(m.params), 0, steps, self.first_epoch
        )

    def run(self, state: TrainingState, bar: Progress | None = None) -> TrainingState:
        """Train from `state` to the end: through the last epoch, or until `patience` runs out."""
        if self.keeper is None and (record := OPEN.get()) is not None:
            return record.run(self, state, bar)
        good, begin = state, time.perf_counter() - state.history.seconds
        try:
            while not self.has_ended(state):
                state, row = self.run_epoch(state)
                good = state = self.closed(state, row | {"seconds": time.perf_counter() - begin})
                if bar is not None:
                    bar.epoch(state.history.rows[-1] | {"epoch": len(state.history)})
                if self.keeper is not None:
                    self.keeper.close_epoch(self, state)
        except (Diverged, KeyboardInterrupt) as stop:
            error = stop if isinstance(stop, Diverged) else Interrupted("training was interrupted")
            error.model, error.history = good.model(self.model), good.history
            if self.keeper is not None:
                self.keeper.keep(self, good)
            raise error from None
        return state

    def has_ended(self, state: TrainingState) -> bool:
        """Return whether no step is left to take after `state`."""
        return state.epoch >= self.first_epoch + self.recipe.epochs or state.history.stopped == "early"

    def result(self, state: TrainingState) -> tuple[Model, History]:
        """The model to return and the history, once `state` is the last one."""
        history = dataclasses.replace(state.history, carried=state.carried, runs=self.steps.runs)
        if self.recipe.select == "best":
            return state.best or self.model, history
        model = state.model(self.model) if history.rows else self.model
        return model, dataclasses.replace(history, best_epoch=self.first_epoch + len(history) - 1)

    def run_epoch(self, state: TrainingState) -> tuple[TrainingState, dict[str, Any]]:
        """Take the remaining steps of the epoch; return the state after them and the epoch's row of the history."""
        r, steps = self.recipe, state.steps
        n, seed, epoch = len(self.data), self.seed, state.epoch
        numbers = orders(n, batch_size=r.batch_size, seed=seed, epoch=epoch, drop_last=r.drop_last)
        strength = math.nan
        rate = self.rates(state)
        self.steps.begin(state)
        for step, order in enumerate(numbers[state.batch :], start=state.step):
            before, strength = strength, r.warmup(step, steps=steps)
            if strength != before:
                pull = r.penalty.pull(self.factors, strength=strength)
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # overflows are caught below
                loss = self.steps.take(order, lr=rate(step), pull=pull)
            if not math.isfinite(loss):
                raise self.diverged(self.steps.state(), "the loss", f"is {loss}")
            if os.environ.get(CHECKED):
                self.steps.state().check_masks()
            if self.after_step is not None:
                self.hook_after_step()
            if self.keeper is not None and self.keeper.is_due():
                self.keeper.keep(self, self.steps.state())
        state = self.steps.state()
        if (name := state.first_bad()) is not None:
            raise self.diverged(state, name, "holds NaN or infinite entries")
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            row = self.row(state)
        for name in ("loss", "val_loss"):
            if row[name] is not None and not np.isfinite(row[name]):
                raise self.diverged(state, f"{name} of the epoch", f"is {row[name]}")
        return self.called(self.after_epoch, state, row), row

    def rates(self, state: TrainingState) -> Callable[[int], float]:
        """The learning rate in the epoch of `state`, as a function of the step."""
        r = self.recipe
        past = state.history.column(r.monitor) if self.validation is not None else ()
        return lambda step: r.optimizer.lr * r.schedule(step, steps=state.steps, history=past)

    def hook_after_step(self) -> None:
        """Call `after_step` with the current state, and continue from the state that it returns."""
        now = self.steps.lent()
        changed = self.called(self.after_step, now)
        if changed is not now:
            return self.steps.begin(changed)
        del now, changed  # so that only arrays that the hook has kept are still referenced
        return self.steps.take_back()

    @cached_property
    def steps(self) -> Steps:
        """The object that takes the steps."""
        return steps_for(self.task, batch_size=self.recipe.batch_size)

    @property
    def task(self) -> Task:
        """The fixed inputs of every step."""
        r, feed = self.recipe, Feed(self.data, self.seed, self.batch, self.teacher)
        return Task(self.model, self.data, r.optimizer, r.label_smoothing, self.seed, feed)

    @cached_property
    def factors(self) -> dict[str, float]:
        """The layer weights C_l of the penalty."""
        return self.recipe.penalty.factors(self.model)

    def row(self, state: TrainingState) -> dict[str, Any]:
        """The history's row for an epoch whose last step led to `state`."""
        last, loss_data = state.step - 1, state.loss_sum / self.samples
        strength = self.recipe.warmup(last, steps=state.steps)
        terms = self.recipe.penalty.terms(state.params, self.factors)
        l0, l2 = strength * sum(terms.l0.values()), sum(terms.l2.values())
        score = metrics.evaluate(state.model(self.model), self.validation) if self.validation is not None else None
        weights, sizes = {k: state.params[k] for k in self.model.weights}, self.model.sizes
        return {
            "phase": self.phase,
            "epoch": state.epoch,
            "lr": self.rates(state)(last),
            "strength": strength,
            "loss": loss_data + l0 + l2,
            "loss_data": loss_data,
            "loss_l0": l0,
            "loss_l2": l2,
            "val_loss": score.loss if score else None,
            "val_acc1": score.acc1 if score else None,
            "below_threshold": metrics.share_below(weights, sizes, self.recipe.threshold),
            "sparsity": metrics.sparsity(weights, sizes),
            **{f"sparsity:{k}": metrics.sparsity({k: w}, sizes) for k, w in weights.items()},
        }

    def closed(self, state: TrainingState, row: dict[str, Any]) -> TrainingState:
        """The state at the start of the next epoch, after one that left `row`."""
        rows, epoch, monitor = state.history.rows, row["epoch"], self.recipe.monitor
        better = self.validation is not None and (
            not rows or _signed(row, monitor) < min(_signed(r, monitor) for r in rows)
        )
        best = epoch if better else state.history.best_epoch
        early = self.recipe.patience is not None and epoch - best >= self.recipe.patience
        history = History((*rows, row), "early" if early else "finished", best, row["seconds"])
        model = state.model(self.model) if better and self.recipe.select == "best" else state.best
        return dataclasses.replace(
            state, epoch=epoch + 1, batch=0, loss_sum=0.0, dropout=None, history=history, best=model
        )

    def diverged(self, state: TrainingState, name: str, what: str) -> Diverged:
        """The error for a value that is not finite."""
        tensor = "" if state.first_bad() in (None, name) else f" (first bad tensor: {state.first_bad()})"
        return Diverged(
            f"{self.phase}, epoch {state.epoch}, batch {state.batch}: {name} {what}{tensor}; "
            "the last good state is kept, try a smaller learning rate"
        )

    def called(
        self, hook: Callable[..., TrainingState | None] | None, state: TrainingState, *args: Any
    ) -> TrainingState:
        """The state after a hook, under the hook's masks."""
        changed = hook(state, *args) if hook is not None else None
        if changed is None:
            return state
        if changed.masks is not state.masks:
            return changed.with_masks(changed.masks)
        if os.environ.get(CHECKED):
            changed.check_masks()
        return changed


def _signed(row: Mapping[str, Any], monitor: str) -> float:
    return MONITORS[monitor] * float(row[monitor])
