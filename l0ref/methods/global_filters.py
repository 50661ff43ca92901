"""Pruning at a glance: whole filters and neurons by mean |w|, one threshold for the network.

    score of a unit   mean |w| over its incoming weights: the l1 norm of the filter over its number of weights
    cut               all units of all layers but the last, sorted once; the lowest go; every layer keeps one
    then              the network is made physically smaller (`pruning.shrink`) and fine-tuned; repeat (`rounds`)

A raw l1 sum would mainly rank filters by their size, one of 4,608 weights above one of 64. Dividing by the fan-in makes
layers comparable; a filter concatenated with a copy of itself keeps its score.

Ref      Salama, Ostapenko, Klein, Nabi 2019 (arXiv 1912.00200). Its text was not read: norms relative to the rest of
         the network, one global threshold and no study of single layers are from its abstract.
Departs  Mean |w| is inferred [I] from the kept sizes the authors published, which a raw sum would rank the other way
         round. The same lists show that widths tied by a shortcut are decided together, but how their scores are pooled
         is unknown [U]; our choice is the mean. Fraction per round, epochs and learning rate are unknown [U].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from l0ref.data import Splits
from l0ref.methods.registry import Pruned, method
from l0ref.nn import Model
from l0ref.pruning.axes import coupled_axes
from l0ref.pruning.units import by_layer, free_axes, places, ranked_units, remove_in_order
from l0ref.validate import Array, choose

NORMS = ("mean", "sum")
POOLS: dict[str, Callable[..., Array]] = {"mean": np.mean, "sum": np.sum}


@method(
    "global_filters", paper="Salama et al. 2019", kind="structured", reads=("weights",), grain="unit",
    records=("scores", "units"), marks="[I][U]",
)  # fmt: skip
def global_filters(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    norm: str = "mean", pool: str = "mean",
) -> Pruned:  # fmt: skip
    """Remove the units of smallest mean |w|.

    scope   "global" compares scores over the network; "layer" within each axis
    norm    "mean": |w| averaged over the incoming weights; "sum": the raw l1 norm, to see the difference
    pool    how scores of layers whose outputs are added are combined: "mean" or "sum"
    record  scores {axis: number per unit}; units {layer: indices of removed units}
    """
    choose("norm", norm, NORMS)
    scores = unit_scores(model, norm=norm, pool=pool)
    order = ranked_units(places(scores) if scope == "layer" else scores)
    pruned, units = remove_in_order(model, order, amount=amount, scope=scope, min_keep=min_keep)
    return Pruned(pruned, {"scores": scores, "units": by_layer(units)})


def unit_scores(model: Model, *, norm: str, pool: str) -> dict[str, Array]:
    """Return {axis: score of each unit}; layers that write one axis are pooled."""
    join = POOLS[choose("pool", pool, POOLS)]
    axes, found = coupled_axes(model), {}
    for axis, size in free_axes(model).items():
        rows = [model.params[f"{name}.weight"].reshape(size, -1) for name in axes.writers(axis)]
        found[axis] = join([l1(w, norm) for w in rows], axis=0)
    return found


def l1(w: Array, norm: str) -> Array:
    """Return the l1 norm of each row ("sum"), or the norm over the number of entries ("mean"), in float64.

    >>> l1(np.array([[1.0, -3.0]]), "mean").tolist(), l1(np.array([[1.0, -3.0]]), "sum").tolist()
    ([2.0], [4.0])
    """
    total = np.abs(w).sum(axis=1, dtype=np.float64)
    return np.asarray(total / max(w.shape[1], 1) if norm == "mean" else total)
