"""The pipeline: train with l0 + l2, prune the small weights, fine-tune the others.

    dense      trained with the penalty
    pruned     small weights masked, dead units swept
    finetuned  trained again under the masks

One cut by default; or several rounds, each cut followed by fine-tuning; or stages, several cuts under one schedule;
or gradual pruning, in small steps during training.

Ref      Oliveira, Batista, Seara, Neural Networks 171 (2024): the order of these steps, from its abstract.
Departs  The pruning rule, the number of rounds and the fine-tuning recipe of the paper are unknown [U];
         our choices are a global magnitude cut, one round, and fine-tuning without penalty.
         The sweep of dead units is ours.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from l0ref import metrics
from l0ref.data import Splits
from l0ref.deploy.sparse_training import follow_sparse
from l0ref.errors import ConfigError
from l0ref.masks import removed
from l0ref.methods.registry import METHODS
from l0ref.metrics import pruned_count
from l0ref.nn import Model
from l0ref.optim import State as Slots
from l0ref.pruning.cut import Cut
from l0ref.pruning.stages import StagedCuts, parts_of
from l0ref.pruning.sweep import sweep
from l0ref.record import clock
from l0ref.schedules import LogLinearKept, Schedule
from l0ref.tables import preformatted, screen, table
from l0ref.training import History, Recipe, TrainingState
from l0ref.validate import count, portion

LARGEST = "largest |w| removed"  # key of the number that gradual pruning carries in the state


@dataclass(frozen=True)
class Stage:
    """The model at one point of the pipeline.

    name        "dense", "pruned" or "finetuned"
    validation  loss and accuracy on the validation set; the test set is not read here
    seconds     wall-clock time of this stage
    """

    name: str
    model: Model
    validation: metrics.Score
    seconds: float = field(compare=False)


Reached = Callable[[Stage], None]


@dataclass(frozen=True, repr=False)
class Compressed:
    """The result of a compression.

    stages       dense, pruned, finetuned
    rows         history of all phases, a dict per epoch
    removed      number of weights masked after the last cut, before its sweep
    swept        number of dead units found in the last sweep, by layer
    cuts         one dict per cut: kept weights after the cut and after the sweep, largest |w| removed, validation
                 loss and accuracy before fine-tuning, epochs of the method (not after gradual pruning)
    record       record of the method at its last cut, see `l0ref.methods.Pruned`; empty after gradual pruning
    cut          the last cut
    """

    stages: tuple[Stage, ...]
    rows: tuple[dict[str, Any], ...]
    removed: int
    swept: Mapping[str, int]
    cuts: tuple[dict[str, Any], ...]
    record: Mapping[str, Any] = field(default_factory=dict)
    cut: Cut | None = None

    def __repr__(self) -> str:
        rows = [
            [
                s.name,
                f"{s.model.size - pruned_count(s.model):,}",
                f"{s.validation.loss:.4f}",
                f"{s.validation.quality:.4f}",
            ]
            for s in self.stages
        ]
        quality = "val R²" if math.isnan(self.stages[-1].validation.acc1) else "val acc"
        head = table(["stage", "kept", "val loss", quality], rows)
        return screen(f"Compressed(removed {self.removed:,}, {self.seconds:.1f} s)\n{head}\n{self.model!r}")

    def _repr_html_(self) -> str:
        return preformatted(self)

    @property
    def model(self) -> Model:
        """The final model."""
        return self.stages[-1].model

    @property
    def seconds(self) -> float:
        """Wall-clock time of all stages."""
        return sum(stage.seconds for stage in self.stages)


@dataclass(frozen=True)
class Dense:
    """A trained network, from which several compressions may start."""

    stage: Stage
    rows: tuple[dict[str, Any], ...]
    epochs: int


def train_dense(
    model: Model, data: Splits, recipe: Recipe, *, seed: int, reached: Reached | None = None, **options: Any
) -> Dense:
    """Train the network that is to be pruned; `options` (progress, every) go to `fit`.

    reached  here and below: called with the stage after each training
    """
    start = clock()
    trained, history, _ = _follow(recipe, model, data, seed=seed, phase="train", **options)
    stage = _stage("dense", trained, data, start)
    if reached is not None:
        reached(stage)
    return Dense(stage, history.rows, recipe.epochs)


def prune_and_tune(
    dense: Dense,
    data: Splits,
    cut: Cut,
    finetune: Recipe,
    *,
    seed: int,
    rounds: int = 1,
    stages: StagedCuts | None = None,
    reached: Reached | None = None,
    **options: Any,
) -> Compressed:
    """Cut and fine-tune a trained network, once, in rounds or in `stages`; the last cut reaches the full amount."""
    rows, cuts = list(dense.rows), []
    feed = {name: value for name, value in options.items() if name in ("batch", "teacher")}
    memory: Slots | None = None
    model, first_epoch = dense.stage.model, dense.epochs + 1
    pruning_seconds = tuning_seconds = 0.0
    for part in parts_of(cut, finetune, size=model.size, rounds=rounds, stages=stages):
        start = clock()
        before, found = model, part.cut.apply(model, data, seed=seed, feed=feed)
        masked = found.model
        swept = sweep(masked)
        pruned = _stage("pruned", swept.model, data, start)
        pruning_seconds += pruned.seconds
        cuts.append(_cut_row(_largest_removed(before, masked), masked, pruned) | {"epochs": found.epochs})
        start = clock()
        own = {"phase": part.phase, "first_epoch": first_epoch, "window": part.window}
        model, history, memory = _follow(
            part.recipe, pruned.model, data, seed=seed, memory=memory if part.window else None, **own, **options
        )
        tuned = _stage("finetuned", model, data, start)
        if reached is not None:
            reached(tuned)
        tuning_seconds += tuned.seconds
        rows += history.rows
        first_epoch += part.recipe.epochs
    points = (
        dense.stage,
        dataclasses.replace(pruned, seconds=pruning_seconds),
        dataclasses.replace(tuned, seconds=tuning_seconds),
    )
    return Compressed(points, tuple(rows), pruned_count(masked), swept.units, tuple(cuts), found.record, part.cut)


def prune_gradually(
    dense: Dense,
    data: Splits,
    cut: Cut,
    gradual: Recipe,
    finetune: Recipe,
    *,
    seed: int,
    schedule: Schedule | None = None,
    reached: Reached | None = None,
    **options: Any,
) -> Compressed:
    """Prune in small steps during training, with the penalty on and the optimiser's state kept; then fine-tune.

    cut       its `amount` must be a fraction; its method, which must not train, is applied at every pruning step
    gradual   the recipe of training with pruning
    schedule  fraction pruned as a function of the step; by default LogLinearKept(final=amount), twice per epoch
    """
    ramp = schedule if schedule is not None else ramp_to(cut, epochs=gradual.epochs)
    start, whole = clock(), dense.stage.model

    def after_step(state: TrainingState) -> TrainingState | None:
        target = ramp(state.step, steps=state.steps)
        if portion(target, whole.size) <= removed(state.masks):
            return None
        model = state.model(whole)
        pruned = dataclasses.replace(cut, amount=target).apply(model, data, seed=seed).model
        largest = max(state.carried.get(LARGEST, 0.0), _largest_removed(model, pruned))
        carried = {**state.carried, LARGEST: largest}
        return dataclasses.replace(state, params=pruned.params, masks=pruned.masks, carried=carried)

    masked, history, _ = _follow(
        gradual,
        whole,
        data,
        seed=seed,
        phase="gradual",
        first_epoch=dense.epochs + 1,
        after_step=after_step,
        **options,
    )
    swept = sweep(masked)
    pruned = _stage("pruned", swept.model, data, start)
    if reached is not None:
        reached(pruned)
    start = clock()
    first_epoch = dense.epochs + gradual.epochs + 1
    model, tuning, _ = _follow(
        finetune, pruned.model, data, seed=seed, phase="finetune", first_epoch=first_epoch, **options
    )
    tuned = _stage("finetuned", model, data, start)
    if reached is not None:
        reached(tuned)
    rows = (*dense.rows, *history.rows, *tuning.rows)
    row = _cut_row(history.carried.get(LARGEST, 0.0), masked, pruned)
    stages = (dense.stage, pruned, tuned)
    return Compressed(stages, rows, pruned_count(masked), swept.units, (row,), cut=cut)


def ramp_to(cut: Cut, *, epochs: int) -> LogLinearKept:
    """Return the schedule of gradual pruning: the fraction of the cut, in two steps per epoch."""
    if METHODS[cut.method].kind == "training":
        raise ConfigError(f"method={cut.method!r} trains by itself, so it does not prune gradually; leave gradual out")
    if not isinstance(cut.amount, float):
        raise ConfigError(f"cut={cut!r}: gradual pruning needs the fraction to reach; give amount as a float")
    return LogLinearKept(final=cut.amount, frequency=0.5 / count("gradual.epochs", epochs, least=1))


def compress(
    model: Model,
    data: Splits,
    *,
    train: Recipe,
    cut: Cut,
    finetune: Recipe,
    seed: int,
    rounds: int = 1,
    stages: StagedCuts | None = None,
    gradual: Recipe | None = None,
    **options: Any,
) -> Compressed:
    """Train, prune and fine-tune: `train_dense`, then `prune_and_tune` or, given `gradual`, `prune_gradually`."""
    for part in parts_of(cut, finetune, size=model.size, rounds=rounds, stages=stages):
        part.cut.check_model(model)
    dense = train_dense(model, data, train, seed=seed, **options)
    if gradual is not None:
        return prune_gradually(dense, data, cut, gradual, finetune, seed=seed, **options)
    return prune_and_tune(dense, data, cut, finetune, seed=seed, rounds=rounds, stages=stages, **options)


def _follow(recipe: Recipe, model: Model, data: Splits, **options: Any) -> tuple[Model, History, Slots]:
    """Train on the training set, evaluate on the validation set, in sparse layers where that is faster."""
    return follow_sparse(recipe, model, data.train, validation=data.validation, **options)


def _stage(name: str, model: Model, data: Splits, start: float) -> Stage:
    score = metrics.evaluate(model, data.validation)
    return Stage(name, model, score, clock() - start)


def _largest_removed(before: Model, masked: Model) -> float:
    gone = [abs(before.params[k][~masked.mask(k)]).max(initial=0.0) for k in before.weights]
    return float(max(gone, default=0.0))


def _cut_row(largest: float, masked: Model, pruned: Stage) -> dict[str, Any]:
    return {
        "kept": masked.size - pruned_count(masked),
        "kept_after_sweep": masked.size - pruned_count(pruned.model),
        "largest_removed": largest,
        "val_loss": pruned.validation.loss,
        "val_acc1": pruned.validation.acc1,
    }
