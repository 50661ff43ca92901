"""Few weights that reproduce the outputs of a layer: a support by alternating directions, exact moves, then a refit.

The cardinality-constrained layer problem is that of Phan et al. (ICDM 2020) for a general activation in its linear
form [I]: the paper's text was not available, and the solver is ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.layerwise.admm import Mask, admm_support, largest_of_all, largest_of_rows
from l0ref.layerwise.moves import exchange, kicks, swaps
from l0ref.layerwise.quadratic import Quadratic, budget
from l0ref.streams import stream
from l0ref.validate import Array, choose, count

GAIN = 1e-7  # least gain of a swap, relative to w'q_S, the part of e that the support explains
SMALL = 128  # live inputs up to which kicks are worth their time
KICKS = 20  # default for such layers


@dataclass(frozen=True)
class Solution:
    """The result of `solve`.

    weights    (M, P), or (P) for one neuron, in the dtype of the samples; `Quadratic.bias` gives the biases
    support    mask of the kept weights, of the same shape
    objective  f summed over the neurons: squared error and ridge
    record     changed: entries of the support that changed, at every check of the first stage; admm, swapped,
               exchanged, kicked: f after each stage; swaps: {neuron: change of f by every swap}; moved: entries moved
               between rows, by round; won: kicks that found a better support, by neuron
    """

    weights: Array
    support: Mask
    objective: float
    record: dict[str, Any] = field(default_factory=dict)


def solve(
    layer: Quadratic,
    k: Any,
    *,
    scope: str = "neuron",
    seed: int,
    tries: int | None = None,
    limit: int = 500,
) -> Solution:
    """Return weights with at most `k` non-zeros and a small f; good, not proven best: see `certify`.

    k       weights that stay. scope="neuron": of each neuron, one number or one for each; scope="layer": of all neurons
            together. At most all inputs, constant ones included; constant inputs and outputs then get no weight
    tries   kicks for each neuron; None: 20 if at most 128 inputs vary, else none
    limit   swaps of each neuron at most, in the second stage and in each round of exchanges
    seed    of the kicks; without them nothing is random

    Stages: the support of `admm_support`; the best swap of every neuron, until none gains; with scope="layer" entries
    exchanged between neurons; kicks; least squares on the support.

    >>> import numpy as np
    >>> X = np.random.default_rng(0).standard_normal((50, 6))
    >>> found = solve(Quadratic.from_samples(X, X[:, 1] - 3 * X[:, 4], ridge=0.0), 2, seed=0)
    >>> np.flatnonzero(found.support).tolist(), found.weights.round(6)[[1, 4]].tolist()
    ([1, 4], [1.0, -3.0])
    """
    choose("scope", scope, ("neuron", "layer"))
    count("limit", limit)
    rows, p = layer.moments.shape
    keep = _keep(layer, k, scope)
    support, changed = admm_support(layer, keep)
    record: dict[str, Any] = {"changed": changed, "admm": _value(layer, support)}
    support, record["swaps"] = swaps(layer, support, range(rows), limit=limit, gain=GAIN)
    record["swapped"] = _value(layer, support)
    if scope == "layer":
        support, record["moved"] = exchange(layer, support, limit=limit, gain=GAIN)
        record["exchanged"] = _value(layer, support)
    tries = (KICKS if p <= SMALL else 0) if tries is None else count("tries", tries)
    rng = stream(seed, "calibrate")
    if tries:
        record["won"] = []
        for i in range(rows):
            support[i], won = kicks(layer, i, support[i], tries=tries, rng=rng)
            record["won"].append(won)
        record["kicked"] = _value(layer, support)
    w = layer.refit_live(support)
    weights = layer.widen(w)
    return Solution(weights, layer.widen(support), float(np.sum(layer.objective(weights))), record)


def _keep(layer: Quadratic, k: Any, scope: str) -> Any:
    """Return the hard threshold of a budget, without the constant outputs."""
    rows, p = layer.moments.shape
    if scope == "layer":
        every = layer.shape[0] * layer.shape[1]
        total = min(budget("k", k, every, f"the {rows} neurons together"), int(layer.varies.sum()) * p)
        out = np.where(layer.varies, 0.0, -np.inf)[:, None]
        return lambda scores: largest_of_all(scores + out, total)
    each = [budget("k", n, layer.shape[1], "a neuron") for n in (np.ravel(k).tolist() if np.ndim(k) else [k] * rows)]
    if len(each) != rows:
        raise ArgumentError(f"k has {len(each)} numbers, expected one for each of the {rows} neurons, or a single one")
    return partial(largest_of_rows, k=np.minimum(each, p) * layer.varies)


def _value(layer: Quadratic, support: Mask) -> float:
    """Return f at its minimum over a support, e - q'w summed over the neurons."""
    return float(np.maximum(layer.energy - (layer.moments * layer.refit_live(support)).sum(axis=1), 0.0).sum())
