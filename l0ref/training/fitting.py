"""`fit` trains a network, `resume` continues an interrupted training.

    minimise  mean cross-entropy  +  strength * sum_l C_l alpha sum_i phi(w_i)  +  l2 sum_i w_i^2

by mini-batches, under masks, with hooks after every step and every epoch.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from l0ref.autodiff.op import current_backend
from l0ref.data import Dataset
from l0ref.data.transform import Transform
from l0ref.distillation import Teacher
from l0ref.nn import Model
from l0ref.optim import Adam, Optimizer
from l0ref.penalty import Penalty
from l0ref.progress import Progress
from l0ref.schedules import Constant, Schedule
from l0ref.training.history import History
from l0ref.training.loop import AfterEpoch, AfterStep, Resumed, Trainer
from l0ref.training.recipe import Recipe
from l0ref.training.state import TrainingState

DEFAULTS = {"optimizer": Adam, "schedule": Constant, "penalty": Penalty, "warmup": Constant}


def fit(
    model: Model,
    data: Dataset,
    *,
    epochs: int,
    seed: int,
    batch_size: int = Recipe.batch_size,
    drop_last: bool = Recipe.drop_last,
    optimizer: Optimizer | None = None,
    schedule: Schedule | None = None,
    penalty: Penalty | None = None,
    warmup: Schedule | None = None,
    label_smoothing: float = Recipe.label_smoothing,
    validation: Dataset | None = None,
    select: str = Recipe.select,
    monitor: str = Recipe.monitor,
    patience: int | None = Recipe.patience,
    threshold: float = Recipe.threshold,
    first_epoch: int = 1,
    phase: str = "train",
    batch: Transform | None = None,
    teacher: Teacher | None = None,
    progress: str = "auto",
    every: int = 1,
    label: str = "",
    after_step: AfterStep | None = None,
    after_epoch: AfterEpoch | None = None,
    resumed: Resumed | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 1,
) -> tuple[Model, History]:
    """Train a model and return the trained one with its history; `model` itself is not changed.

    epochs, batch_size  passes over `data`, samples per step; the order is a function of (seed, epoch)
    drop_last           leave out the last batch of an epoch where it is smaller than the others: batch normalisation
                        of (N, C) cannot take a batch of one sample, and is refused before training
    optimizer           Adam(lr=1e-3) by default; under masks, pruned weights stay exactly zero
    schedule            factor of the learning rate at each step; constant by default. ReduceOnPlateau
                        reads the `monitor` of the epochs so far
    penalty             added to the loss; none by default
    warmup              factor of the penalty's l0 term at each step; constant 1 by default
    label_smoothing     share of the target spread evenly over all classes
    validation          data evaluated after each epoch; needed for `patience` and select="best"
    select              "last": the weights of the last epoch; "best": those of the epoch whose
                        `monitor` ("val_loss" or "val_acc1") was best, the first among equals
    patience            stop after this many epochs without improvement of `monitor`
    threshold           the history records the share of weights whose absolute value is below it
    first_epoch         number of the first epoch: a second `fit` that continues a first one then shuffles differently
    batch               transform of the samples of each batch, a function of (seed, epoch, sample) as described in
                        `l0ref.data.transform`; validation samples are not transformed
    teacher             a trained network to imitate, `l0ref.distillation.Teacher`; its loss is part of the data loss
    progress, every     "auto" (a bar on a terminal, otherwise a line an epoch), "bar", "lines", "none";
                        see `Progress`
    phase, label        name of the phase in history and messages; text that progress shows before it
    after_step          called with the state after each step, and after_epoch with the state and the
                        history's row; what they return, unless None, replaces the state
    resumed             called with the restored state before the first step after an interruption, so that hooks can
                        restore what they carry themselves
    checkpoint          folder for checkpoints, new or without any; `resume` continues from the newest one and gives
                        the bits of an uninterrupted training
    checkpoint_every    interval of checkpoints: an int counts epochs; a float counts minutes, within epochs too, and
                        0.0 means after every step

    A loss or parameter that is not finite raises Diverged with phase, epoch, batch and tensor;
    Ctrl-C raises Interrupted. Both carry the last good `model` and the `history`.
    """
    given = locals()
    given |= {name: made() for name, made in DEFAULTS.items() if given[name] is None}
    recipe = Recipe(**{field.name: given.pop(field.name) for field in dataclasses.fields(Recipe)})
    return follow(recipe, **given)


def follow(
    recipe: Recipe,
    model: Model,
    data: Dataset,
    *,
    seed: int,
    progress: str = "auto",
    every: int = 1,
    label: str = "",
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 1,
    **options: Any,
) -> tuple[Model, History]:
    """Train a model by a recipe; `options` are validation, first_epoch, phase and the hooks, as in `fit`."""
    from l0ref.checkpoint.folder import keeping  # which imports the loop

    trainer = Trainer(recipe, model, data, seed, **options)
    with keeping(checkpoint, every=checkpoint_every) as keeper:
        trainer = dataclasses.replace(trainer, keeper=keeper)
        return trainer.result(watched(trainer, trainer.start(), progress=progress, every=every, label=label))


def resume(
    folder: str | os.PathLike[str],
    data: Dataset,
    *,
    validation: Dataset | None = None,
    batch: Transform | None = None,
    teacher: Teacher | None = None,
    progress: str = "auto",
    every: int = 1,
    label: str = "",
    after_step: AfterStep | None = None,
    after_epoch: AfterEpoch | None = None,
    resumed: Resumed | None = None,
    checkpoint_every: float = 1,
) -> tuple[Model, History]:
    """Continue the training that `fit(checkpoint=folder)` began; return what it would have returned, bit for bit.

    data, validation         the same samples as before; others are refused by their checksums
    batch, teacher           the same as before; others are refused
    after_step, after_epoch  the same functions as before; a checkpoint records only whether there were any
    resumed                  called with the restored state, as in `fit`

    Recipe, seed and phase come from the newest intact checkpoint in the folder; a warning names any newer one that
    is damaged. Another release of l0ref, NumPy or Numba, another backend or processor may give other bits; a
    warning says so. A training that had finished is returned as it is.
    """
    from l0ref.checkpoint.folder import held  # which imports the loop

    with held(folder, every=checkpoint_every) as (keeper, found):
        options: dict[str, Any] = {"validation": validation, "after_step": after_step, "after_epoch": after_epoch}
        options |= {"batch": batch, "teacher": teacher}
        trainer = found.trainer(data, keeper=keeper, resumed=resumed, **options)
        if resumed is not None:
            resumed(found.state)
        return trainer.result(watched(trainer, found.state, progress=progress, every=every, label=label))


def watched(trainer: Trainer, state: TrainingState, *, progress: str, every: int, label: str) -> TrainingState:
    """Run a training from `state`, show its progress, and return its last state."""
    with Progress(f"{label} {trainer.phase}".strip(), trainer.recipe.epochs, show=progress, every=every) as bar:
        if "tape" in trainer.steps.runs and current_backend() == "numba":
            bar.note(trainer.steps.runs)
        return trainer.run(state, bar)
