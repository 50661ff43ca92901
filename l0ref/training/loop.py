"""`fit`: the one training loop.

    minimise  mean cross-entropy  +  strength * sum_l C_l alpha sum_i phi(w_i)  +  l2 sum_i w_i^2

one batch at a time, under masks, with hooks after every step and every epoch.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from l0ref import metrics
from l0ref.data import Dataset, batch_count, orders
from l0ref.errors import ArgumentError, Diverged, Interrupted
from l0ref.nn import Model
from l0ref.optim import Adam, Optimizer
from l0ref.penalty import Penalty
from l0ref.schedules import Constant, ReduceOnPlateau, Schedule
from l0ref.streams import stream
from l0ref.training.history import History
from l0ref.training.progress import Progress
from l0ref.training.state import TrainingState
from l0ref.training.steps import Steps, Task, steps_for
from l0ref.validate import between, choose, count, nonnegative

AfterStep = Callable[[TrainingState], TrainingState | None]
AfterEpoch = Callable[[TrainingState, Mapping[str, Any]], TrainingState | None]
MONITORS = {"val_loss": 1.0, "val_acc1": -1.0}  # sign that makes smaller better


def fit(
    model: Model,
    data: Dataset,
    *,
    epochs: int,
    seed: int,
    batch_size: int = 64,
    optimizer: Optimizer | None = None,
    schedule: Schedule | None = None,
    penalty: Penalty | None = None,
    warmup: Schedule | None = None,
    label_smoothing: float = 0.0,
    validation: Dataset | None = None,
    select: str = "last",
    monitor: str = "val_loss",
    patience: int | None = None,
    threshold: float = 1e-2,
    first_epoch: int = 1,
    phase: str = "train",
    progress: str = "auto",
    every: int = 1,
    label: str = "",
    after_step: AfterStep | None = None,
    after_epoch: AfterEpoch | None = None,
) -> tuple[Model, History]:
    """Train a model and return the trained one with its history; `model` itself is not changed.

    epochs, batch_size  passes over `data`, samples per step; the order is a function of (seed, epoch)
    optimizer           Adam(lr=1e-3) by default; under masks, pruned weights stay exactly zero
    schedule            factor of the learning rate at each step; constant by default. ReduceOnPlateau
                        reads the `monitor` of the epochs so far
    penalty             added to the loss; none by default
    warmup              factor of the penalty's l0 term at each step; constant 1 by default
    label_smoothing     share of the target spread evenly over all classes
    validation          evaluated after each epoch; needed for `patience` and select="best"
    select              "last": the weights of the last epoch; "best": those of the epoch whose
                        `monitor` ("val_loss" or "val_acc1") was best, the first among equals
    patience            stop after this many epochs without a better `monitor`
    threshold           the history counts the share of weights below it
    first_epoch         number of the first epoch; a second fit that continues gets its own shuffles
    progress, every     "auto" (a bar on a terminal, otherwise a line an epoch), "bar", "lines", "none";
                        see `Progress`
    phase, label        name of the phase in history and messages; what progress shows before it
    after_step          called with the state after each step, and after_epoch with the state and the
                        history's row; what they return, unless None, replaces the state

    A loss or parameter that is not finite raises Diverged with phase, epoch, batch and tensor;
    Ctrl-C raises Interrupted. Both carry the last good `model` and the `history`.
    """
    trainer = Trainer(
        model=model,
        data=data,
        epochs=count("epochs", epochs),
        seed=count("seed", seed),
        batch_size=count("batch_size", batch_size, least=1),
        optimizer=optimizer if optimizer is not None else Adam(),
        schedule=schedule if schedule is not None else Constant(),
        penalty=penalty if penalty is not None else Penalty(),
        warmup=warmup if warmup is not None else Constant(),
        label_smoothing=between("label_smoothing", label_smoothing, 0.0, 1.0),
        validation=validation,
        select=choose("select", select, ("last", "best")),
        monitor=choose("monitor", monitor, MONITORS),
        patience=patience,
        threshold=nonnegative("threshold", threshold),
        first_epoch=count("first_epoch", first_epoch, least=1),
        phase=phase,
        after_step=after_step,
        after_epoch=after_epoch,
    )
    with Progress(f"{label} {phase}".strip(), epochs, show=progress, every=every) as bar:
        return trainer.run(bar)


@dataclass(frozen=True)
class Trainer:
    """The settings of one `fit`, and the functions that turn a state into the next."""

    model: Model
    data: Dataset
    epochs: int
    seed: int
    batch_size: int
    optimizer: Optimizer
    schedule: Schedule
    penalty: Penalty
    warmup: Schedule
    label_smoothing: float
    validation: Dataset | None
    select: str
    monitor: str
    patience: int | None
    threshold: float
    first_epoch: int
    phase: str
    after_step: AfterStep | None
    after_epoch: AfterEpoch | None

    def __post_init__(self) -> None:
        kinds = {"model": Model, "data": Dataset, "optimizer": Optimizer, "penalty": Penalty}
        for name, kind in (kinds | {"schedule": Schedule, "warmup": Schedule}).items():
            if not isinstance(getattr(self, name), kind):
                found = type(getattr(self, name)).__name__
                raise ArgumentError(f"{name} is {found}, expected an instance of l0ref's {kind.__name__}")
        if self.validation is None and (self.select == "best" or self.patience is not None):
            wish = "select='best'" if self.select == "best" else f"patience={self.patience}"
            raise ArgumentError(f"{wish} needs validation data; pass validation=")
        if isinstance(self.schedule, ReduceOnPlateau):
            self.check_plateau(self.schedule)
        if len(self.data) == 0:
            raise ArgumentError("data is empty; pass at least one sample")
        if self.validation is not None and len(self.validation) == 0:
            raise ArgumentError("validation is empty; pass at least one sample, or None")
        self.model.check_input("data.x", self.data.x)
        if self.validation is not None:
            self.model.check_input("validation.x", self.validation.x)
        if self.patience is not None:
            count("patience", self.patience, least=1)

    def check_plateau(self, schedule: ReduceOnPlateau) -> None:
        """Refuse a plateau schedule that reads the monitor the wrong way round, or has none to read."""
        mode = "min" if self.monitor == "val_loss" else "max"
        if self.validation is None or schedule.mode != mode:
            raise ArgumentError(
                f"schedule={schedule!r} reads monitor={self.monitor!r}; pass validation= and mode={mode!r}"
            )

    def run(self, bar: Progress) -> tuple[Model, History]:
        """Train for all epochs, or until `patience` runs out."""
        state, history, best = self.start(), History(), self.model
        good = state
        begin = time.perf_counter()
        try:
            for epoch in range(self.first_epoch, self.first_epoch + self.epochs):
                state, row = self.run_epoch(dataclasses.replace(state, epoch=epoch), history)
                row["seconds"] = time.perf_counter() - begin
                history = self.extend(history, row)
                good = state
                if history.best_epoch == epoch:
                    best = state.model(self.model)
                bar.epoch(row | {"epoch": len(history)})
                if self.out_of_patience(history):
                    history = dataclasses.replace(history, stopped="early")
                    break
        except (Diverged, KeyboardInterrupt) as stop:
            error = stop if isinstance(stop, Diverged) else Interrupted("training was interrupted")
            error.model, error.history = good.model(self.model), history
            raise error from None
        last = state.model(self.model) if self.epochs else self.model
        chosen = best if self.select == "best" and self.epochs else last
        number = history.best_epoch if self.select == "best" else self.first_epoch + len(history) - 1
        return chosen, dataclasses.replace(history, best_epoch=number, seconds=time.perf_counter() - begin)

    def start(self) -> TrainingState:
        """The state before the first step: the model's arrays, an optimiser without memory."""
        m, per_epoch = self.model, batch_count(len(self.data), batch_size=self.batch_size)
        slots = self.optimizer.init(m.params)
        return TrainingState(m.params, m.masks, m.buffers, slots, 0, self.epochs * per_epoch, self.first_epoch)

    def run_epoch(self, state: TrainingState, history: History) -> tuple[TrainingState, dict[str, Any]]:
        """One pass over the data: the new state and the epoch's row of the history."""
        rng = stream(self.seed, "dropout", state.epoch)
        past = history.column(self.monitor) if self.validation is not None else ()
        loss_sum, lr, strength = 0.0, 0.0, math.nan
        self.steps.begin(state)
        for i, order in enumerate(
            orders(len(self.data), batch_size=self.batch_size, seed=self.seed, epoch=state.epoch)
        ):
            step = state.step + i
            lr = self.optimizer.lr * self.schedule(step, steps=state.steps, history=past)
            before, strength = strength, self.warmup(step, steps=state.steps)
            if strength != before:
                pull = self.penalty.pull(self.factors, strength=strength)
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what overflows is caught below
                loss = self.steps.take(order, lr=lr, pull=pull, rng=rng)
            if not math.isfinite(loss):
                raise self.diverged(self.steps.state(), i, "the loss", f"is {loss}")
            loss_sum += loss * len(order)
            if self.after_step is not None:
                self.hook_after_step()
        state = self.steps.state()
        if (name := state.first_bad()) is not None:
            raise self.diverged(state, i, name, "holds NaN or infinite entries")
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            row = self.row(state, loss_sum / len(self.data), lr, strength)
        for name in ("loss", "val_loss"):
            if row[name] is not None and not np.isfinite(row[name]):
                raise self.diverged(state, i, f"{name} of the epoch", f"is {row[name]}")
        return self.called(self.after_epoch, state, row), row

    def hook_after_step(self) -> None:
        """Call `after_step` with the state of this moment, and go on from what it returns."""
        now = self.steps.state()
        changed = self.called(self.after_step, now)
        if changed is not now:
            self.steps.begin(changed)

    @cached_property
    def steps(self) -> Steps:
        """What takes the steps."""
        task = Task(self.model, self.data, self.optimizer, self.penalty, self.label_smoothing)
        return steps_for(task, batch_size=self.batch_size)

    @cached_property
    def factors(self) -> dict[str, float]:
        """The layer weights C_l of the penalty."""
        return self.penalty.factors(self.model)

    def row(self, state: TrainingState, loss_data: float, lr: float, strength: float) -> dict[str, Any]:
        """The history's row for an epoch that ended in `state`."""
        terms = self.penalty.terms(state.params, self.factors)
        l0, l2 = strength * sum(terms.l0.values()), sum(terms.l2.values())
        score = metrics.evaluate(state.model(self.model), self.validation) if self.validation is not None else None
        weights, sizes = {k: state.params[k] for k in self.model.weights}, self.model.sizes
        return {
            "phase": self.phase,
            "epoch": state.epoch,
            "lr": lr,
            "strength": strength,
            "loss": loss_data + l0 + l2,
            "loss_data": loss_data,
            "loss_l0": l0,
            "loss_l2": l2,
            "val_loss": score.loss if score else None,
            "val_acc1": score.acc1 if score else None,
            "below_threshold": metrics.share_below(weights, sizes, self.threshold),
            "sparsity": metrics.sparsity(weights, sizes),
            **{f"sparsity:{k}": metrics.sparsity({k: w}, sizes) for k, w in weights.items()},
        }

    def extend(self, history: History, row: dict[str, Any]) -> History:
        """The history with one more epoch, which is the best one so far if its monitor is the best."""
        better = self.validation is not None and (
            not history.rows or _signed(row, self.monitor) < min(_signed(r, self.monitor) for r in history.rows)
        )
        best = row["epoch"] if better else history.best_epoch
        return History((*history.rows, row), best_epoch=best)

    def out_of_patience(self, history: History) -> bool:
        """Whether the monitor has not improved for `patience` epochs."""
        return self.patience is not None and history.rows[-1]["epoch"] - history.best_epoch >= self.patience

    def diverged(self, state: TrainingState, batch: int, name: str, what: str) -> Diverged:
        """The error for a value that is not finite."""
        tensor = "" if state.first_bad() in (None, name) else f" (first bad tensor: {state.first_bad()})"
        return Diverged(
            f"{self.phase}, epoch {state.epoch}, batch {batch + 1}: {name} {what}{tensor}; "
            "the last good state is kept, try a smaller learning rate"
        )

    def called(
        self, hook: Callable[..., TrainingState | None] | None, state: TrainingState, *args: Any
    ) -> TrainingState:
        """The state after a hook, under the hook's masks."""
        changed = hook(state, *args) if hook is not None else None
        if changed is None:
            return state
        return changed.with_masks(changed.masks) if changed.masks is not state.masks else changed


def _signed(row: Mapping[str, Any], monitor: str) -> float:
    return MONITORS[monitor] * float(row[monitor])
