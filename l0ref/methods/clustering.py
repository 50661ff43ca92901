"""Clustering: one unit of each cluster is kept, or all weights of a cluster share one value.

    kmeans_units      k-means on incoming weights and bias of the units of a layer; the unit nearest each centre stays
    weight_sharing    the smallest |w| go, and the weights left in each layer are rounded to their cluster centres

k-means lowers sum_i min_c ||x_i - m_c||^2 by assigning, then averaging, until no assignment changes; a cluster that
loses all its members keeps its centre.

Ref  Han, Mao, Dally 2016 (arXiv 1510.00149) for shared weights, with initial centres evenly spaced from the smallest to
     the largest weight; clustering of units is general knowledge of several papers [I].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from l0ref.data import Splits
from l0ref.methods.geometric_median import unit_vectors
from l0ref.methods.registry import Pruned, method
from l0ref.nn import Model
from l0ref.pruning.prune import prune_by
from l0ref.pruning.score import SCORES
from l0ref.pruning.units import already_gone, prune_units, ranked_units, remove_in_order
from l0ref.streams import stream
from l0ref.validate import Array, count

ROUNDS = 100  # at most; a round that changes no assignment is the last


def kmeans(x: Array, centres: Array, *, rounds: int = ROUNDS) -> tuple[Array, NDArray[np.intp]]:
    """Return (centres (k, d), the cluster of each row of x (n, d)); ties go to the first of the nearest centres.

    >>> import numpy as np
    >>> centres, of = kmeans(np.array([[0.0], [1.0], [9.0]]), np.array([[0.0], [5.0]]))
    >>> centres.ravel().tolist(), of.tolist()
    ([0.5, 9.0], [0, 0, 1])
    """
    centres, of = centres.astype(np.float64), np.full(len(x), -1, np.intp)
    for _ in range(rounds):
        nearest = _squares(x, centres).argmin(axis=1)
        if np.array_equal(nearest, of):
            break
        of = nearest
        for c in np.unique(of):
            centres[c] = x[of == c].mean(axis=0)
    return centres, of


@method(
    "kmeans_units", paper="several", kind="structured", reads=("weights",), grain="unit", records=("clusters",),
    marks="[I]", random=True,
)  # fmt: skip
def kmeans_units(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0
) -> Pruned:
    """Cluster the units of every layer, as many clusters as units may stay, and keep the one nearest to each centre.

    record  clusters: the cluster of each unit, by layer; -1 for a unit removed before

    Every layer loses the same fraction of its units, the largest that does not exceed the amount. Centres start at
    units drawn with `seed`. The outgoing weights of a removed unit are lost; only fine-tuning compensates for them.
    """
    gone = already_gone(model)
    even = {axis: np.where(each, 0.0, np.cumsum(~each) / each.size) for axis, each in gone.items()}
    cut = {"amount": amount, "scope": scope, "min_keep": min_keep}
    _, units = remove_in_order(model, ranked_units(even), **cut)  # type: ignore[arg-type]
    rng = stream(seed, "prune")
    scores, clusters = {}, {}
    for axis, each in gone.items():
        x = unit_vectors(model, axis)[~each]
        stay = len(x) - sum(name == axis for name, _ in units)
        centres, of = kmeans(x, x[np.sort(rng.choice(len(x), stay, replace=False))])
        clusters[axis], scores[axis] = np.full(each.size, -1), np.zeros(each.size)
        clusters[axis][~each] = of
        scores[axis][~each] = _spread_scores(np.sqrt(_squares(x, centres)), of, even[axis][~each])
    return Pruned(prune_units(model, scores, **cut), {"clusters": clusters})  # type: ignore[arg-type]


@method(
    "weight_sharing", paper="Han, Mao, Dally 2016", kind="score", reads=("weights",),
    records=("codebook", "distortion"), marks="[I]",
)  # fmt: skip
def weight_sharing(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    clusters: int = 32,
) -> Pruned:  # fmt: skip
    """Mask the smallest |w|, and give each weight left in a layer one of `clusters` values.

    record  codebook: the values of each layer, ascending; distortion: sum of squared changes of the weights left

    Departs from the paper: later training separates shared weights again, since gradients of a cluster are not summed.
    """
    pruned = prune_by(model, SCORES["magnitude"](model, None), amount=amount, scope=scope, min_keep=min_keep)
    params, codebook, distortion = dict(pruned.params), {}, {}
    for key, mask in pruned.masks.items():
        w = pruned.params[key][mask].astype(np.float64)[:, None]
        low, high = (float(w.min()), float(w.max())) if w.size else (0.0, 0.0)
        start = np.linspace(low, high, count("clusters", clusters, least=1))
        centres, of = kmeans(w, start[:, None])
        values = centres[of, 0].astype(model.dtype)
        values[values == 0] = np.finfo(model.dtype).tiny  # so that a kept weight does not count as a zero
        params[key] = params[key].copy()
        params[key][mask] = values
        codebook[key], distortion[key] = np.unique(values), float(np.square(values - w[:, 0]).sum())
    return Pruned(pruned.replace(params=params), {"codebook": codebook, "distortion": distortion})


def _squares(x: Array, centres: Array) -> Array:
    """Return (n, k) squared distances."""
    return np.stack([np.square(x - c).sum(axis=1) for c in centres], axis=1)


def _spread_scores(distance: Array, of: NDArray[np.intp], even: Array) -> Array:
    """Return scores that remove the units farthest from their centre first, and the nearest of each cluster last."""
    own = distance[np.arange(len(of)), of]
    first = {int(np.flatnonzero(of == c)[own[of == c].argmin()]) for c in np.unique(of)}
    stays = np.array([i in first for i in range(len(of))])
    order = np.lexsort((-own, stays))
    scores = np.empty(len(of))
    scores[order] = even
    return scores
