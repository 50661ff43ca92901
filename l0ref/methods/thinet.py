"""ThiNet: remove the units whose joint removal changes the next layer's outputs least; scale the others to compensate.

    x_ij    contribution of unit j to sampled output i of the layer that reads it
    T       removed units, chosen greedily: each time the one that keeps  sum_i (sum_{j in T} x_ij)^2  smallest
    scale   argmin_v sum_i (sum_all x_ij - sum_{j not in T} v_j x_ij)^2, multiplied into the outgoing weights

Units without incoming weights before are in neither sum: the constants that they pass on stay.

Ref      Luo, Wu, Lin 2017 (arXiv 1707.06342), as general knowledge of the paper [I].
Departs  All layers are measured once, on the network as it is given, and cut at once; in the paper layer by layer, with
         training in between. They lose the same fraction of their units. Of several readers all are sampled, and share
         one scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from l0ref.data import Dataset, Splits
from l0ref.layerwise.operator import patches
from l0ref.methods.registry import Pruned, calibration, method
from l0ref.nn import Model
from l0ref.pruning.axes import coupled_axes
from l0ref.pruning.trace import trace, weighted_layers
from l0ref.pruning.units import already_gone, free_axes, places, prune_units
from l0ref.streams import stream
from l0ref.validate import Array, count


@method(
    "thinet", paper="Luo, Wu, Lin 2017", kind="structured", reads=("weights", "activations"), grain="unit",
    records=("order", "scale"), marks="[I]", random=True,
)  # fmt: skip
def thinet(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    samples: int = 1000, outputs: int = 10,
) -> Pruned:  # fmt: skip
    """Remove the units whose removal changes the next layer's outputs least; see the text of the module.

    samples  of the training set, drawn with `seed`
    outputs  outputs of each reading layer that are drawn, with replacement, per sample on average
    record   order: by layer, the units in their order of removal, those gone before first; scale: of each unit,
             0 for a removed one, 1 for one gone before
    """
    few = calibration(model, data, samples=samples, seed=seed)
    squares = contributions(model, few, outputs=count("outputs", outputs, least=1), seed=seed)
    gone = already_gone(model)
    order = {axis: greedy(q, gone[axis]) for axis, q in squares.items()}
    ranks = {axis: np.argsort(o).astype(np.float64) for axis, o in order.items()}
    pruned = prune_units(model, places(ranks), amount=amount, scope=scope, min_keep=min_keep)
    params, scale = dict(pruned.params), {}
    for axis, q in squares.items():
        here, left = ~gone[axis], ~already_gone(pruned)[axis]
        scale[axis] = np.ones(len(q))
        scale[axis][here] = scales(q[np.ix_(here, here)], left[here])
        for name in coupled_axes(model).readers(axis):
            w = params[f"{name}.weight"]
            factor = scale[axis][:, None].astype(w.dtype)
            params[f"{name}.weight"] = (w.reshape(len(w), len(left), -1) * factor).reshape(w.shape)
    return Pruned(pruned.replace(params=params), {"order": order, "scale": scale})


def contributions(model: Model, data: Dataset, *, outputs: int, seed: int) -> dict[str, Array]:
    """Return by axis the Gram matrix sum_i x_ij x_ik (units, units) over sampled outputs of its readers."""
    axes, layers, rng = coupled_axes(model), weighted_layers(model), stream(seed, "prune")
    found = {axis: np.zeros((size, size)) for axis, size in free_axes(model).items()}
    for here in trace(model, data.x):
        for axis, total in found.items():
            for name in axes.readers(axis):
                entering = here.entering[name].data
                rows = patches(layers[name], entering.astype(np.float64))
                cols = rows.reshape(len(entering), -1, rows.shape[1])
                w = model.params[f"{name}.weight"].astype(np.float64)
                n, p = (rng.integers(size, size=outputs * len(cols)) for size in cols.shape[:2])
                f = rng.integers(len(w), size=len(n))
                x = (cols[n, p] * w.reshape(len(w), -1)[f]).reshape(len(n), len(total), -1).sum(axis=2)
                total += x.T @ x
    return found


def greedy(q: Array, gone: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return all units: those in `gone`, then each time the one that keeps 1'Q_TT 1 of the others in T smallest."""
    taken, order = gone.copy(), [int(j) for j in np.flatnonzero(gone)]
    joint = np.zeros(len(q))
    while not taken.all():
        j = int(np.where(taken, np.inf, np.diag(q) + joint).argmin())
        order.append(j)
        taken[j] = True
        joint = joint + 2 * q[:, j]
    return np.array(order, np.intp)


def scales(q: Array, left: NDArray[np.bool_]) -> Array:
    """Return argmin_v (1 - v)'Q(1 - v) with v = 0 outside of `left`; of several minimisers the one nearest to 1."""
    v = left.astype(np.float64)
    if left.any() and not left.all():
        missing = q[np.ix_(left, ~left)].sum(axis=1)
        v[left] += np.linalg.lstsq(q[np.ix_(left, left)], missing, rcond=1e-10)[0]
    return v
