"""FPGM: units near the geometric median of their layer are removed, because the others can replace them.

    s_i = sum_j ||f_i - f_j||        f_i incoming weights and bias of unit i, as a vector

The smallest s go, the same fraction of every layer.

Ref      He, Liu, Wang, Hu, Yang 2019 (arXiv 1811.00250); the formula is general knowledge of the paper [I].
Departs  Neurons are units, too, not only filters; the bias counts; units that a residual sum couples form one vector.
"""

from __future__ import annotations

import numpy as np

from l0ref.data import Splits
from l0ref.methods.registry import Pruned, method
from l0ref.nn import Model
from l0ref.pruning.axes import coupled_axes
from l0ref.pruning.units import already_gone, places, prune_units
from l0ref.validate import Array


@method(
    "fpgm",
    paper="He et al. 2019",
    kind="structured",
    reads=("weights",),
    grain="unit",
    records=("scores",),
    marks="[I]",
)
def fpgm(model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0) -> Pruned:
    """Remove the units nearest to the geometric median of their layer; see the text of the module.

    record  scores: s by layer, the sum over units not removed before; 0 for a unit removed before
    """
    scores = {}
    for axis, gone in already_gone(model).items():
        scores[axis] = np.where(gone, 0.0, distances(unit_vectors(model, axis))[:, ~gone].sum(axis=1))
    pruned = prune_units(model, places(scores), amount=amount, scope=scope, min_keep=min_keep)
    return Pruned(pruned, {"scores": scores})


def unit_vectors(model: Model, axis: str) -> Array:
    """Return (units, incoming weights and bias), float64, of all layers that write an axis."""
    parts = []
    for name in coupled_axes(model).writers(axis):
        w = model.params[f"{name}.weight"]
        parts.append(w.reshape(len(w), -1))
        if f"{name}.bias" in model.params:
            parts.append(model.params[f"{name}.bias"][:, None])
    return np.concatenate(parts, axis=1).astype(np.float64)


def distances(vectors: Array) -> Array:
    """Return ||v_i - v_j|| for all pairs of rows; equal rows have distance 0 exactly."""
    return np.stack([np.sqrt(np.square(vectors - v).sum(axis=1)) for v in vectors])
