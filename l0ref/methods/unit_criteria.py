"""Three scores of a unit: how often its output is 0, its effect on the loss, and the importance of its readers.

    apoz     share of exact zeros of its output over samples and places; the largest go
    taylor   |a dL/da|, averaged over places and samples, over the l2 norm of its layer; the smallest go
    nisp     s = sum over readers of |w| s_reader, from s = 1 at the outputs of the network; the smallest go

a is the output of the unit's activation. For a ReLU unit the sum over samples of a dL/da is the derivative of L with
respect to a gate on the unit, and equals the sum of w dL/dw over its incoming weights and bias.

Ref  Hu, Peng, Tai, Tang 2016 (arXiv 1607.03250); Molchanov et al. 2017 (arXiv 1611.06440); Yu et al. 2018 (arXiv
     1711.05908). Formulas of the first and the last are general knowledge of the papers [I].
"""

from __future__ import annotations

import numpy as np

from l0ref.autodiff.tensor import grad
from l0ref.data import Splits
from l0ref.methods.registry import Pruned, calibration, method
from l0ref.nn import Model
from l0ref.nn.loss import data_loss
from l0ref.pruning.axes import coupled_axes
from l0ref.pruning.trace import CHUNK, trace
from l0ref.pruning.units import free_axes, places, prune_units
from l0ref.validate import Array, choose


@method(
    "apoz", paper="Hu et al. 2016", kind="structured", reads=("weights", "activations"), grain="unit",
    records=("scores",), marks="[I]", random=True,
)  # fmt: skip
def apoz(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    samples: int = 1000,
) -> Pruned:  # fmt: skip
    """Remove the units whose output is most often exactly 0; one ranking over all layers.

    samples  of the training set, drawn with `seed`
    record   scores: share of zeros by layer

    Departs from the paper: a fixed amount goes, not the units more than a standard deviation above the mean.
    """
    few = calibration(model, data, samples=samples, seed=seed)
    zeros = {axis: np.zeros(size) for axis, size in free_axes(model).items()}
    for found in trace(model, few.x):
        for axis, total in zeros.items():
            silent = _by_unit(found.activated[axis].data == 0)
            total += silent.mean(axis=2).sum(axis=0) / len(few)
    busy = {axis: -share for axis, share in zeros.items()}
    return Pruned(prune_units(model, busy, amount=amount, scope=scope, min_keep=min_keep), {"scores": zeros})


@method(
    "taylor", paper="Molchanov et al. 2017", kind="structured", reads=("weights", "activations", "gradients"),
    grain="unit", records=("scores",), marks="[I]", random=True,
)  # fmt: skip
def taylor(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    samples: int = 1000, absolute: str = "sample",
) -> Pruned:  # fmt: skip
    """Remove the units with the least |a dL/da|, one ranking over all layers after each was divided by its l2 norm.

    samples   of the training set, drawn with `seed`
    absolute  "sample": the mean over samples of |mean over places|; "sum": |mean over samples and places|, the
              derivative with respect to a gate. Both conventions are in use [I]
    record    scores: by layer, before the division
    """
    scores = taylor_scores(model, data, samples=samples, seed=seed, absolute=absolute)
    even = normalised(scores)
    return Pruned(prune_units(model, even, amount=amount, scope=scope, min_keep=min_keep), {"scores": scores})


def normalised(scores: dict[str, Array]) -> dict[str, Array]:
    """Return the scores of each layer over their l2 norm; scores that are all 0 stay 0."""
    return {axis: s / (float(np.sqrt(np.square(s).sum())) or 1.0) for axis, s in scores.items()}


def taylor_scores(model: Model, data: Splits, *, samples: int, seed: int, absolute: str) -> dict[str, Array]:
    """Return the criterion of every unit by layer; see `taylor`."""
    choose("absolute", absolute, ("sample", "sum"))
    few = calibration(model, data, samples=samples, seed=seed)
    total = {axis: np.zeros(size) for axis, size in free_axes(model).items()}
    for i, found in enumerate(trace(model, few.x)):
        wrt = [found.activated[axis] for axis in total]
        slopes = grad(data_loss(found.logits, few.y[i * CHUNK : (i + 1) * CHUNK], reduction="sum"), wrt)
        for axis, a, slope in zip(total, wrt, slopes, strict=True):
            each = _by_unit(a.data * slope).mean(axis=2, dtype=np.float64) / len(few)
            total[axis] += (np.abs(each) if absolute == "sample" else each).sum(axis=0)
    return {axis: np.abs(t) for axis, t in total.items()}


@method(
    "nisp", paper="Yu et al. 2018", kind="structured", reads=("weights",), grain="unit", records=("scores",),
    marks="[I]",
)  # fmt: skip
def nisp(model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0) -> Pruned:
    """Remove the units of least importance, propagated back from the outputs; every layer loses the same fraction.

    record  scores: importance by layer

    Departs from the paper: every output of the network starts from 1, not from a feature ranking of the last layer.
    """
    axes = coupled_axes(model)
    scores = {axis: np.zeros(size) for axis, size in axes.sizes.items()}
    last = next(use.writes for use in reversed(axes.uses) if use.weighs)
    scores[last] += 1.0
    for use in reversed([use for use in axes.uses if use.mixes]):
        w = np.abs(model.params[f"{use.layer.name}.weight"]).astype(np.float64)
        groups = getattr(use.layer, "groups", 1)
        parts = zip(w.reshape(groups, len(w) // groups, -1), scores[use.writes].reshape(groups, -1), strict=True)
        inputs = axes.sizes[use.reads] // groups
        scores[use.reads] += np.concatenate([(s @ part).reshape(inputs, -1).sum(axis=1) for part, s in parts])
    own = {axis: scores[axis] for axis in free_axes(model)}
    return Pruned(prune_units(model, places(own), amount=amount, scope=scope, min_keep=min_keep), {"scores": own})


def _by_unit(a: Array) -> Array:
    """Return outputs (N, units) or (N, units, H, W) as (N, units, places)."""
    return a.reshape(*a.shape[:2], -1)
