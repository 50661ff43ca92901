"""The one comparison: every method cuts the same trained networks, to the same number of weights.

    one dense network a seed    all methods begin there
    one budget of epochs        a method that trains spends part of it, and fine-tuning the rest
    choices                     none: methods run with their defaults, fine-tuning with one recipe for all
    test set                    read once for each network that is reported, when it is fine-tuned

A point is one row: a method at one ratio with one seed. Rows are plain values, so that they can be written after each
point and a comparison can go on where it was.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from l0ref import metrics
from l0ref.data import Splits
from l0ref.errors import ArgumentError, LayerCollapse
from l0ref.masks import amount_for_compression
from l0ref.methods import METHODS
from l0ref.nn import Model
from l0ref.tables import table
from l0ref.training import Recipe, follow
from l0ref.validate import choose, count, real

Row = dict[str, Any]
Key = tuple[int, str, float]  # seed, method, ratio


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    methods   names out of `METHODS`
    ratios    compression ratios, weights of the dense network over weights that stay
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

    def points(self) -> Iterator[Key]:
        """Yield the points in the order they are computed: all of one seed before the next."""
        return ((seed, name, ratio) for seed in self.seeds for name in self.methods for ratio in self.ratios)


def compare(
    plan: Comparison,
    *,
    data: Callable[[int], Splits],
    dense: Callable[[int], Model],
    done: Sequence[Row] = (),
    finished: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Compute all points that are not in `done`, and return the rows of all.

    data, dense  the data and the trained network of a seed; asked for once a seed, and only if a point needs them
    finished     called with each new row
    """
    rows = {(row["seed"], row["method"], row["ratio"]): row for row in done}
    now: tuple[int, Splits, Model] | None = None
    for key in plan.points():
        if key in rows:
            continue
        if now is None or now[0] != key[0]:
            now = key[0], data(key[0]), dense(key[0])
        rows[key] = point(now[2], now[1], method=key[1], ratio=key[2], finetune=plan.finetune, seed=key[0])
        if finished is not None:
            finished(rows[key])
    return [rows[key] for key in plan.points()]


def point(dense: Model, data: Splits, *, method: str, ratio: float, finetune: Recipe, seed: int) -> Row:
    """Cut a trained network by one method and fine-tune it; return what it cost and what is left.

    A method with an option `epochs` gets half of the budget. A budget that it cannot meet gives a row that says so.
    """
    chosen, budget = METHODS[choose("method", method, METHODS)], finetune.epochs
    options = {"epochs": max(budget // 2, 1)} if "epochs" in chosen.options else {}
    row: Row = {"seed": seed, "method": method, "kind": chosen.kind, "ratio": float(ratio)}
    try:
        found = chosen.run(dense, data, amount=amount_for_compression(dense.size, ratio), seed=seed, **options)
    except LayerCollapse as refusal:
        return row | {"refused": str(refusal)}
    start, rest = time.perf_counter(), max(budget - found.epochs, 0)
    recipe = dataclasses.replace(finetune, epochs=rest)
    tuned, _ = follow(recipe, found.model, data.train, seed=seed, phase="finetune", progress="none")
    seconds = time.perf_counter() - start
    x = data.validation.x
    before, after = dense.logits(x).astype(np.float64), found.model.logits(x).astype(np.float64)
    size = metrics.of(tuned)
    return row | {
        "size_nz": size["size_nz"],
        "compression_ratio": dense.size / max(size["size_nz"], 1),
        "theoretical_speedup": metrics.of(dense)["flops"] / max(size["flops_nz"], 1),
        "logit_change": float(np.linalg.norm(after - before) / (np.linalg.norm(before) or 1.0)),
        "val_acc1_pruned": metrics.evaluate(found.model, data.validation).acc1,
        "val_acc1": metrics.evaluate(tuned, data.validation).acc1,
        "test_acc1": metrics.evaluate(tuned, data.test).acc1,
        "seconds_method": found.seconds,
        "seconds_finetune": seconds,
        "epochs_method": found.epochs,
        "epochs_finetune": rest,
    }


def comparison_text(rows: Sequence[Mapping[str, Any]], *, value: str = "test_acc1") -> str:
    """Return a table of errors in percent: a line a method, a column a ratio; mean and sample deviation over seeds.

    "-" stands where a method could not meet the budget with some seed.
    """
    ratios = sorted({row["ratio"] for row in rows})
    lines = []
    for name in dict.fromkeys(row["method"] for row in rows):
        own = {ratio: [r for r in rows if r["method"] == name and r["ratio"] == ratio] for ratio in ratios}
        lines.append([name, *(_error([r.get(value) for r in own[ratio]]) for ratio in ratios)])
    return table(["error in %", *(f"{ratio:g}x" for ratio in ratios)], lines)


def _error(values: Sequence[float | None]) -> str:
    found = [100 * (1 - v) for v in values if v is not None]
    if not found or len(found) < len(values):
        return "-"
    if len(found) == 1:
        return f"{found[0]:.1f}"
    return f"{statistics.fmean(found):.1f} ±{statistics.stdev(found):.1f}"
