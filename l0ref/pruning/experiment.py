"""One compression beside its controls: same start, same epochs, same number of weights removed.

Every network is trained once; the main cut and all points of the curve start from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from l0ref.data import Splits
from l0ref.errors import ConfigError
from l0ref.masks import amount_for_compression
from l0ref.nn import Model
from l0ref.penalty import Penalty
from l0ref.pruning.controls import Control, control
from l0ref.pruning.pipeline import Compressed, Dense, prune_and_tune, prune_gradually, train_dense
from l0ref.pruning.recipe import Cut, Recipe

MAIN = "l0"


@dataclass(frozen=True)
class Experiment:
    """Results by run name: "l0" is the main job, the others are controls.

    runs    the compressions at the main cut
    curves  for each run, pairs (compression asked for, compression reached by pruning and fine-tuning)
    """

    runs: Mapping[str, Compressed]
    curves: Mapping[str, Sequence[tuple[float, Compressed]]]


def run_experiment(
    model: Model,
    data: Splits,
    *,
    train: Recipe,
    cut: Cut,
    finetune: Recipe,
    seed: int,
    rounds: int = 1,
    gradual: Recipe | None = None,
    controls: Sequence[str] = (),
    control_l1: float = 0.0,
    control_l2: float = 0.0,
    curve: Sequence[float] = (),
    notify: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Experiment:
    """Run the pipeline with the l0 penalty and with each control.

    train, cut, finetune, rounds, gradual   the main job, as in `compress`
    controls                    names out of `CONTROLS`
    control_l1, control_l2      strengths of those two
    curve                       compression ratios at which every run is also pruned and fine-tuned
    notify                      called with the name of each run when it begins
    options                     progress and every, for `fit`
    """
    if gradual is not None and rounds > 1:
        raise ConfigError(f"gradual and rounds={rounds} exclude each other; choose one way to prune")
    dense: dict[Penalty, Dense] = {}
    runs: dict[str, Compressed] = {}
    curves: dict[str, list[tuple[float, Compressed]]] = {}
    own = Control(MAIN, train.penalty)
    others = [control(name, like=train.penalty, l1=control_l1, l2=control_l2) for name in controls]
    for each in (own, *others):
        notify(each.name)
        shared = {"seed": seed, "label": each.name, **options}
        if each.penalty not in dense:
            dense[each.penalty] = train_dense(model, data, each.train(train), **shared)
        start = dense[each.penalty]
        here = cut if each is own else each.cut(runs[MAIN].removed / model.size, like=cut)
        if gradual is not None:
            runs[each.name] = prune_gradually(start, data, here, each.train(gradual), finetune, **shared)
        else:
            runs[each.name] = prune_and_tune(start, data, here, finetune, rounds=rounds, **shared)
        curves[each.name] = [
            (ratio, prune_and_tune(start, data, _at(ratio, model.size, each, cut), finetune, rounds=rounds, **shared))
            for ratio in curve
        ]
    return Experiment(runs, curves)


def _at(ratio: float, size: int, each: Control, cut: Cut) -> Cut:
    return each.cut(amount_for_compression(size, ratio) / size, like=cut)
