"""The comparison of methods: every method prunes the same trained networks to the same number of weights.

    equal weights          the amount follows from the ratio
    equal multiply-adds    for methods that remove units from networks with convolutions, where a weight is used many
                           times: the amount is found by search, see `equal_flops`, and the row says so, with the
                           number of cuts tried. Methods that train do so in every trial, so they get fewer trials and
                           the result may be further from the target; only the epochs of the chosen cut count against
                           the budget. Without convolutions both ratios are equal, and nothing is searched

    one dense network per seed  all methods start from it
    one budget of epochs        a method that trains spends part of it, and fine-tuning the rest
    no choices                  methods run with their defaults, fine-tuning with one recipe for all; so slr and admm
                                remove single weights, and nothing is searched for them
    test set                    read once for each network that is reported, after its fine-tuning

A point is one row: a method at one ratio with one seed. Rows are plain values, so that they can be written after each
point and a comparison can be resumed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from l0ref import metrics
from l0ref.data import Splits
from l0ref.errors import ArgumentError, LayerCollapse
from l0ref.masks import amount_for_compression
from l0ref.methods import METHODS, Pruned
from l0ref.nn import Model
from l0ref.record import clock
from l0ref.training import Recipe, follow
from l0ref.validate import choose, count, real

Row = dict[str, Any]
Key = tuple[int, str, float, str]  # seed, method, ratio, the quantity that is equal
EQUAL = ("weights", "multiply-adds")
TRIALS, NEAR = 10, 0.01  # cuts of a search at most; relative excess over the target that ends it
TRAININGS = 4  # cuts of a search at most for a method that trains


@dataclass(frozen=True)
class Comparison:
    """The settings of a comparison.

    methods   names out of `METHODS`
    ratios    weights of the dense network over weights that stay, or the same ratio of multiply-adds
    seeds     of data split, initial weights and methods
    finetune  the recipe after the cut; its epochs are the budget that methods which train share
    """

    methods: tuple[str, ...]
    ratios: tuple[float, ...]
    seeds: tuple[int, ...]
    finetune: Recipe

    def __post_init__(self) -> None:
        for name in self.methods:
            choose("methods", name, METHODS)
        for ratio in self.ratios:
            if real("ratios", ratio) < 1:
                raise ArgumentError(f"ratios={ratio!r} must be a compression ratio of at least 1")
        for seed in self.seeds:
            count("seeds", seed)

    def points(self, model: Model) -> Iterator[Key]:
        """Yield the points in the order they are computed, all of one seed before the next.

        model  with the layers of the dense networks; if every weight is used once, there are no searched points
        """
        if max(self.ratios, default=1) > model.size:
            raise ArgumentError(f"ratios={max(self.ratios)!r} leaves none of {model.size} weights; ask for less")
        once = set(model.positions.values()) <= {1}
        for seed in self.seeds:
            for name in self.methods:
                chosen = METHODS[name]
                searched = chosen.grain == "unit" and not once
                for equal in EQUAL if searched else EQUAL[:1]:
                    yield from ((seed, name, ratio, equal) for ratio in self.ratios)


def key_of(row: Mapping[str, Any]) -> Key:
    """Return the key of the point of a row."""
    return row["seed"], row["method"], row["ratio"], row["equal"]


def point(
    dense: Model, data: Splits, *, method: str, ratio: float, finetune: Recipe, seed: int, equal: str = "weights"
) -> Row:
    """Cut a trained network by one method and fine-tune it; return sizes, accuracies and costs.

    equal  the quantity that the ratio refers to, out of EQUAL

    A method with an option `epochs` gets half of the epochs. If it cannot meet the ratio, or removes nothing, the row
    holds the reason as "refused".
    """
    chosen, budget = METHODS[choose("method", method, METHODS)], finetune.epochs
    options: dict[str, Any] = {"epochs": max(budget // 2, 1)} if "epochs" in chosen.options else {}
    row: Row = {"seed": seed, "method": method, "kind": chosen.kind, "ratio": float(ratio)}
    row["equal"] = choose("equal", equal, EQUAL)

    def cut(amount: int) -> Pruned:
        return chosen.run(dense, data, amount=amount, seed=seed, **options)

    try:
        if equal == "weights":
            found = cut(amount_for_compression(dense.size, ratio))
        else:
            trials = TRAININGS if chosen.kind == "training" else TRIALS
            found, row["trials"] = equal_flops(dense, cut, ratio=ratio, trials=trials)
        if ratio > 1 and not found.record["removed"]:
            raise LayerCollapse(f"method={method!r} removed nothing with {options or 'its defaults'}")
    except (ArgumentError, LayerCollapse) as refusal:
        return row | {"refused": str(refusal)}
    start, rest = clock(), max(budget - found.epochs, 0)
    recipe = dataclasses.replace(finetune, epochs=rest)
    tuned, _ = follow(recipe, found.model, data.train, seed=seed, phase="finetune", progress="none")
    seconds = clock() - start
    x = data.validation.x
    before, after = dense.logits(x).astype(np.float64), found.model.logits(x).astype(np.float64)
    size, quality = metrics.of(tuned), "acc1" if data.test.classes else "r2"
    return row | {
        "size_nz": size["size_nz"],
        "compression_ratio": dense.size / max(size["size_nz"], 1),
        "theoretical_speedup": metrics.of(dense)["flops"] / max(size["flops_nz"], 1),
        "logit_change": float(np.linalg.norm(after - before) / (np.linalg.norm(before) or 1.0)),
        f"val_{quality}_pruned": metrics.evaluate(found.model, data.validation).quality,
        f"val_{quality}": metrics.evaluate(tuned, data.validation).quality,
        f"test_{quality}": metrics.evaluate(tuned, data.test).quality,
        "seconds_method": found.seconds,
        "seconds_finetune": seconds,
        "epochs_method": found.epochs,
        "epochs_finetune": rest,
    }


def equal_flops(
    dense: Model, cut: Callable[[int], Pruned], *, ratio: float, trials: int = TRIALS
) -> tuple[Pruned, int]:
    """Return the largest cut that leaves at least 1 / ratio of the multiply-adds, and how many cuts were tried.

    cut     number of weights to remove -> result of a method
    trials  cuts at most

    Bisection over the amount; it ends early within NEAR of the target. A method is refused if every cut tried removes
    more.
    """
    target = metrics.of(dense)["flops"] / ratio
    low, high, best, left = 0, dense.size, None, math.inf
    for trial in range(1, trials + 1):
        middle = (low + high) // 2 if trial > 1 else amount_for_compression(dense.size, ratio)
        try:
            found = cut(middle)
        except LayerCollapse:
            high = middle
            continue
        flops = metrics.of(found.model)["flops_nz"]
        if flops < target:
            high = middle
            continue
        low = middle
        if flops <= left:
            best, left = found, flops
        if flops <= (1 + NEAR) * target:
            break
    if best is None:
        raise LayerCollapse(f"ratio={ratio!r} of multiply-adds was met by none of {trials} cuts; take another ratio")
    return best, trial
