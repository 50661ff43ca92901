"""The five criteria of a published comparison of pruning techniques for CNNs.

    unit     l2 norm of the incoming weights of a unit
    l1       sum |w| of a filter, over the whole network or within a layer
    taylor   |a dL/da|, see `unit_criteria.taylor`
    vip      importance of a filter for the label, by partial least squares (below)
    weight   the k % smallest |w| of each layer: not here, but the method `magnitude` with scope="layer"

VIP: X has a column for each unit of all layers, the maximum (or mean) of its output over the image; Y is one-hot; both
are standardised. NIPALS finds components a = 1 ... h from E = X, F = Y:

    w = E^T u / ||E^T u||,  t = E w,  q = F^T t / t^T t,  u = F q / q^T q,  repeated until t converges
    p = E^T t / t^T t,  E <- E - t p^T,  F <- F - t q^T
    S_a = (t_a^T t_a)(q_a^T q_a),     VIP_j^2 = n_columns sum_a S_a w_ja^2 / sum_a S_a

so that the VIP_j^2 sum to the number of columns; a common threshold is VIP >= 1.

Ref      Rahul, Dahiya, Singh, Chawla 2020 (IJEAT 9(4)); its tables were not read [U]. VIP: the code of Jordao et al.
Departs  The definitions of unit and weight are those of a widely repeated exercise [I]. Units of linear layers have a
         column of X, too. An amount of weights goes, not all filters below a percentile of the scores; one pass, to be
         repeated with `rounds`. In Jordao's code the last convolution of a VGG is not cut, and a layer that would lose
         all its filters loses none; here it is cut, and such a layer keeps one unit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from l0ref.data import Splits
from l0ref.methods.global_filters import l1
from l0ref.methods.registry import Pruned, calibration, method
from l0ref.methods.unit_criteria import normalised, taylor_scores
from l0ref.nn import Model
from l0ref.pruning.axes import coupled_axes
from l0ref.pruning.trace import trace
from l0ref.pruning.units import free_axes, places, prune_units
from l0ref.validate import Array, choose, count

CRITERIA = ("vip", "unit", "l1", "taylor")
POOLS: dict[str, Callable[..., Array]] = {"max": np.max, "mean": np.mean}
TURNS = 500  # iterations of NIPALS for one component, at most


@method(
    "filter_criteria", paper="Rahul et al. 2020", kind="structured", reads=("weights", "activations", "gradients"),
    grain="unit", records=("scores",), marks="[I][U]", random=True,
)  # fmt: skip
def filter_criteria(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    criterion: str = "vip", samples: int = 1000, components: int = 2, pool: str = "max",
) -> Pruned:  # fmt: skip
    """Remove the units of lowest score by one of the criteria.

    scope       "global" compares scores over the network, "layer" ranks within a layer
    criterion   "vip", "unit", "l1" or "taylor"
    samples     of the training set, drawn with `seed`; "unit" and "l1" read none
    components  of partial least squares; pool: how a unit's output is reduced over the image, "max" or "mean"
    record      scores {axis: number per unit}; of "taylor" before each layer is divided by its l2 norm
    """
    if choose("criterion", criterion, CRITERIA) == "vip":
        scores = vip_scores(model, data, samples=samples, seed=seed, components=components, pool=pool)
    elif criterion == "taylor":
        scores = taylor_scores(model, data, samples=samples, seed=seed, absolute="sample")
    else:
        scores = weight_scores(model, criterion)
    even = normalised(scores) if criterion == "taylor" else scores
    order = places(scores) if scope == "layer" else even
    return Pruned(prune_units(model, order, amount=amount, scope=scope, min_keep=min_keep), {"scores": scores})


def weight_scores(model: Model, criterion: str) -> dict[str, Array]:
    """Return the l2 ("unit") or l1 norm of incoming weights by unit, the mean over layers that write one axis."""
    axes, found = coupled_axes(model), {}
    for axis, size in free_axes(model).items():
        rows = [model.params[f"{name}.weight"].reshape(size, -1).astype(np.float64) for name in axes.writers(axis)]
        norms = [l1(w, "sum") if criterion == "l1" else np.sqrt(np.square(w).sum(axis=1)) for w in rows]
        found[axis] = np.mean(norms, axis=0)
    return found


def vip_scores(model: Model, data: Splits, *, samples: int, seed: int, components: int, pool: str) -> dict[str, Array]:
    """Return the VIP of every unit, from one regression on the pooled outputs of all layers."""
    few, sizes = calibration(model, data, samples=samples, seed=seed), free_axes(model)
    join = POOLS[choose("pool", pool, POOLS)]
    rows = []
    for found in trace(model, few.x):
        outputs = (found.activated[axis].data.astype(np.float64) for axis in sizes)
        rows.append(np.concatenate([join(a.reshape(*a.shape[:2], -1), axis=2) for a in outputs], axis=1))
    labels = np.eye(few.classes)[few.y]
    values = vip(np.concatenate(rows), labels, components=components)
    return dict(zip(sizes, np.split(values, np.cumsum(list(sizes.values()))[:-1]), strict=True))


def vip(x: Array, y: Array, *, components: int) -> Array:
    """Return VIP_j of every column of x (N, p) for the columns of y (N, k); 0 where a column is constant.

    >>> x = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0], [4.0, 1.0]])
    >>> vip(x, x[:, :1], components=1).round(3).tolist()  # correlations 1 and 0.447 with the label
    [1.291, 0.577]
    """
    weights, strength = nipals(_standard(x), _standard(y), components=components)
    if strength.sum() == 0:
        return np.zeros(x.shape[1])
    return np.asarray(np.sqrt(x.shape[1] * (np.square(weights) @ strength) / strength.sum()))


def nipals(e: Array, f: Array, *, components: int) -> tuple[Array, Array]:
    """Return (w_a as columns, S_a) of partial least squares of two standardised matrices; fewer if E'F becomes 0."""
    weights: list[Array] = []
    strength: list[float] = []
    for _ in range(min(count("components", components, least=1), *e.shape)):
        u = f[:, int(np.square(f).sum(axis=0).argmax())]
        t = np.zeros(len(e))
        for _ in range(TURNS):
            w = e.T @ u
            size = float(np.sqrt(w @ w))
            if size < 1e-12 * max(1.0, float(np.abs(e).max(initial=0.0))) * len(e):
                return _columns(weights, e.shape[1]), np.array(strength)
            before, w = t, w / size
            t = e @ w
            q = f.T @ t / (t @ t)
            u = f @ q / (q @ q) if q.any() else u
            if np.abs(t - before).max() <= 1e-13 * np.abs(t).max():
                break
        e, f = e - np.outer(t, e.T @ t / (t @ t)), f - np.outer(t, q)
        weights.append(w)
        strength.append(float((t @ t) * (q @ q)))
    return _columns(weights, e.shape[1]), np.array(strength)


def _columns(weights: list[Array], rows: int) -> Array:
    return np.stack(weights, axis=1) if weights else np.zeros((rows, 0))


def _standard(a: Array) -> Array:
    """Return the columns with mean 0 and sample standard deviation 1; constant columns become 0."""
    centred = a - a.mean(axis=0)
    size = centred.std(axis=0, ddof=1) if len(a) > 1 else np.zeros(a.shape[1])
    varies = size > 1e-12 * np.abs(a).max(axis=0, initial=1e-300)
    return np.asarray(np.divide(centred, size, out=np.zeros_like(centred), where=varies))
