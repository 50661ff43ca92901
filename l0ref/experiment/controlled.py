"""One compression with its controls: same start, same epochs, same number of weights removed.

The dense network of each penalty is trained once; the main cut and all points of the curve start from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from l0ref.data import Splits
from l0ref.errors import ConfigError
from l0ref.experiment.controls import Control, control, penalty_name
from l0ref.masks import amount_for_compression
from l0ref.nn import Model
from l0ref.penalty import Penalty
from l0ref.pruning.cut import Cut
from l0ref.pruning.pipeline import Compressed, Dense, Stage, prune_and_tune, prune_gradually, ramp_to, train_dense
from l0ref.pruning.stages import StagedCuts, parts_of
from l0ref.training import Recipe

MAIN = "l0"


@dataclass(frozen=True)
class Experiment:
    """Results by run name: "l0" is the main run, the others are controls.

    runs    the compressions at the main cut
    curves  for each run, pairs (compression asked for, compression reached by pruning and fine-tuning)
    """

    runs: Mapping[str, Compressed]
    curves: Mapping[str, Sequence[tuple[float, Compressed]]]


def check_cuts(model: Model, cut: Cut, curve: Sequence[float], *, stages: Sequence[float] = ()) -> None:
    """Refuse, before any training, a cut, or a ratio of curve or stages, that leaves a layer without weights."""
    for name, ratio in [*(("stages", r) for r in stages), *(("curve", r) for r in curve)]:
        if ratio > model.size:
            raise ConfigError(f"{name}={ratio!r} leaves none of {model.size} weights; ask for less")
        fraction = amount_for_compression(model.size, ratio) / model.size
        Cut(amount=fraction, scope=cut.scope, min_keep=cut.min_keep).check_model(model, asked=f"{name}={ratio!r}: ")
    if not stages:
        cut.check_model(model)


def kept_by_layer(run: Compressed) -> dict[str, int]:
    """Return {weight array: number of weights kept} of the final network."""
    return {key: int(run.model.mask(key).sum()) for key in run.model.weights}


def run_experiment(
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
    controls: Sequence[str] = (),
    control_l1: float = 0.0,
    control_l2: float = 0.0,
    curve: Sequence[float] = (),
    reached: Callable[[str, Stage], None] | None = None,
    finished: Callable[[str, Compressed], None] | None = None,
    **options: Any,
) -> Experiment:
    """Run the pipeline with the l0 penalty and with each control.

    train, cut, finetune, rounds, stages, gradual   of the main run, as in `compress`
    controls                    names out of `CONTROLS`
    control_l1, control_l2      strengths of the penalties of the controls "l1" and "l2"
    curve                       compression ratios at which every run is also pruned and fine-tuned
    reached                     called with the name of a run and the stage after each of its trainings
    finished                    called with name and result of each run as soon as it is done, the main run first
    options                     progress and every, for `fit`
    """
    if gradual is not None and rounds > 1:
        raise ConfigError(f"gradual and rounds={rounds} exclude each other; choose one way to prune")
    if gradual is not None:
        ramp_to(cut, epochs=gradual.epochs)
    if stages is not None and (gradual is not None or curve):
        raise ConfigError("stages and gradual or a curve exclude each other; choose one way to prune")
    check_cuts(model, cut, curve, stages=stages.ratios if stages is not None else ())
    parts_of(cut, finetune, size=model.size, rounds=rounds, stages=stages)  # checks rounds and stages
    fractions = [amount_for_compression(model.size, ratio) / model.size for ratio in curve]

    def compress_from(start: Dense, each: Control, cut: Cut, **shared: Any) -> Compressed:
        if gradual is not None:
            return prune_gradually(start, data, cut, each.train(gradual), finetune, **shared)
        own = stages and dataclasses.replace(stages, penalty=each.penalty)
        return prune_and_tune(start, data, cut, finetune, rounds=rounds, stages=own, **shared)

    dense: dict[Penalty, Dense] = {}
    runs: dict[str, Compressed] = {}
    curves: dict[str, list[tuple[float, Compressed]]] = {}
    own = Control(MAIN, train.penalty)
    others = [control(name, like=train.penalty, l1=control_l1, l2=control_l2) for name in controls]
    for each in (own, *others):
        label = (
            each.name
            if each is not own
            else penalty_name(train.penalty.surrogate.name, alpha=train.penalty.alpha, l2=train.penalty.l2)
        )
        shared: dict[str, Any] = {"seed": seed, "label": label, **options}
        if reached is not None:
            shared["reached"] = partial(reached, each.name)
        if each.penalty not in dense:
            dense[each.penalty] = train_dense(model, data, each.train(train), **shared)
        start = dense[each.penalty]
        here = (
            cut if each is own else each.cut(runs[MAIN].removed / model.size, like=cut, kept=kept_by_layer(runs[MAIN]))
        )
        runs[each.name] = compress_from(start, each, here, **shared)
        if finished is not None:
            finished(each.name, runs[each.name])
        curves[each.name] = []
        for n, (ratio, fraction) in enumerate(zip(curve, fractions, strict=True)):
            like_main = {} if each is own else kept_by_layer(curves[MAIN][n][1])
            point = compress_from(start, each, each.cut(fraction, like=cut, kept=like_main), **shared)
            curves[each.name].append((ratio, point))
    return Experiment(runs, curves)
