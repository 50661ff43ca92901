"""On-the-fly pruning: thresholds by depth, read off the weights alone, with no training afterwards.

    flat         T_l = T                              one threshold for the network
    triangular   T_l = T (1 + (slope - 1) l / (L-1))  a ramp over the layers l = 0 ... L-1, from T to slope T
    relative     T_l = T times the scale of layer l, or the T-quantile of its |w|

    w goes where |w| < T_l.  Scales: "absolute" (1), "span" (max |w|), "std" (std w), "quantile" (the same share of
    every layer)

T is the only free number. `amount` sets it so that exactly that many weights go: a rule |w| < T s_l with one T is a
ranking of |w| / s_l. `drop` finds it by bisection: the largest cut, up to `amount`, that loses at most that accuracy.

Ref      Ashouri, Abdelrahman, Dos Remedios 2018 (arXiv 1811.04199): three methods that are independent of the model,
         without retraining, at a limited loss of accuracy (5 points of top-5). The names are given; the formulas are
         inferred [I] from the names, which describe the threshold as a function of depth, and so is the bisection [I].
Departs  An exact count goes instead of all weights below a threshold; the rule of the paper at ties is unknown [U].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref import metrics
from l0ref.data import Splits
from l0ref.errors import ArgumentError
from l0ref.masks import largest_amount
from l0ref.masks.ranking import drop_count
from l0ref.methods.magnitude import places
from l0ref.methods.registry import Pruned, check_calibration, method
from l0ref.nn import Model
from l0ref.pruning.prune import prune_by
from l0ref.validate import Array, between, choose, positive

RULES = ("flat", "triangular", "relative")
SCALES = ("quantile", "absolute", "span", "std")


@method(
    "on_the_fly", paper="Ashouri et al. 2018", kind="score", reads=("weights",), records=("thresholds", "knob"),
    marks="[I][U]",
)  # fmt: skip
def on_the_fly(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    rule: str = "relative", scale: str = "quantile", slope: float = 2.0, drop: float | None = None,
) -> Pruned:  # fmt: skip
    """Mask the weights below the threshold of their layer; no gradient is taken, and without `drop` no sample is read.

    rule     "flat", "triangular" or "relative"
    scale    of "relative": "quantile", "absolute", "span" or "std"
    slope    of "triangular": threshold of the last layer over that of the first, > 0; 1 is flat
    drop     None, or the largest loss of accuracy on validation data, as a share (0.05 is five points of top-1);
             `amount` is then a limit
    record   thresholds: the smallest |w| that stays, by layer; knob: T, the smallest |w| / s_l that stays
    """
    scores = thresholded(model, rule=rule, scale=scale, slope=slope)
    options: dict[str, Any] = {"scope": scope, "min_keep": min_keep}
    if drop is not None and scope != "global":
        raise ArgumentError(f"drop={drop!r} needs scope='global', not {scope!r}: the rule divides the cut among layers")
    if drop is not None:
        amount = _largest(model, data, scores, amount, between("drop", drop, 0.0, 1.0), options)
    pruned = prune_by(model, scores, amount=amount, **options)
    kept = {key: pruned.mask(key) for key in model.weights}
    thresholds = {k: float(np.abs(model.params[k][m]).min()) if m.any() else 0.0 for k, m in kept.items()}
    knob = min((float(scores[k][m].min()) for k, m in kept.items() if m.any()), default=0.0)
    return Pruned(pruned, {"thresholds": thresholds, "knob": knob})


def thresholded(model: Model, *, rule: str, scale: str = "quantile", slope: float = 2.0) -> dict[str, Array]:
    """Return |w| / s_l of every weight, s_l the factor of the rule in layer l; for quantiles the rank in the layer."""
    choose("rule", rule, RULES)
    choose("scale", scale, SCALES)
    positive("slope", slope)
    keys = list(model.weights)
    last = max(len(keys) - 1, 1)
    scores: dict[str, Array] = {}
    for number, key in enumerate(keys):
        size = np.abs(model.params[key]).astype(np.float64)
        if rule == "relative" and scale == "quantile":
            scores[key] = places(size, model.mask(key))
            continue
        alive = model.params[key][model.mask(key)].astype(np.float64)
        std = float(alive.std()) if alive.size else 0.0
        factors = {"absolute": 1.0, "span": float(np.abs(alive).max(initial=0.0)), "std": std}
        ramp = 1 + (slope - 1) * number / last
        factor = {"flat": 1.0, "triangular": ramp, "relative": factors.get(scale, 1.0)}[rule]
        scores[key] = size / (factor or 1.0)
    return scores


def _largest(
    model: Model, data: Splits, scores: dict[str, Array], amount: float, drop: float, options: dict[str, Any]
) -> int:
    """Return the largest count, up to `amount`, that costs no more than `drop` of validation accuracy."""
    check_calibration(model, data)
    if not len(data.validation):
        raise ArgumentError(f"drop={drop!r} is measured on data.validation, which is empty; give at least one sample")
    n = drop_count(amount, model.size, "entries", "")
    before = metrics.evaluate(model, data.validation).acc1

    def lost(count: int) -> float:
        after = metrics.evaluate(prune_by(model, scores, amount=count, **options), data.validation).acc1
        return before - after

    return largest_amount(lost, n=n, limit=drop)
