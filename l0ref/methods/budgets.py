"""Budgets: how many weights each layer keeps, for layer-wise methods.

    magnitude      as many as magnitude pruning of the network leaves it
    proportional   the same fraction of every layer
    equal_change   all layers have the same relative change of their outputs: ||X W' + b - Z|| / ||Z||
    fc1:300/...    in proportion to given numbers; numbers whose sum is the total are met exactly

X are the inputs of the layer in the trained network, Z its pre-activations: each layer is measured alone, before any is
pruned. The change is measured for `solve` without swaps at a few k and interpolated, log change linear in log k; twice,
a point is added where the budget falls. In a cascade, or after swaps, the changes are only approximately equal.

Ref  The rules are ours [I]; how Phan et al. (ICDM 2020) divide a budget is unknown [U].
"""

from __future__ import annotations

from functools import partial

import numpy as np

from l0ref.layerwise import Quadratic, solve
from l0ref.layerwise.operator import groups_of, layer_of
from l0ref.methods.layer_by_layer import layer_quadratic, magnitude_plan
from l0ref.methods.shares import Budget, divided, in_proportion, named_shares
from l0ref.nn import Model
from l0ref.pruning.prune import prune_by
from l0ref.pruning.score import SCORES
from l0ref.validate import Array

POINTS = (0.01, 0.03, 0.1, 0.3)  # of a layer's weights, where its curve is first measured
MOVES = 2
SMALLEST = 1e-6  # least relative change, assigned to a layer that keeps all its weights


def budget_plan(
    model: Model, x: Array, *, amount: float, scope: str, min_keep: int, budget: Budget
) -> dict[str, Array]:
    """Return for each weight array a mask of its largest entries, as many as the layer keeps.

    x  calibration samples, used by "equal_change" only
    """
    plan = magnitude_plan(model, amount=amount, scope=scope, min_keep=min_keep)
    shares = named_shares(budget, plan, scope=scope)
    if budget == "magnitude":
        return plan
    total = sum(int(mask.sum()) for mask in plan.values())
    most = np.array([int(model.mask(key).sum()) for key in plan])
    least = np.minimum(max(min_keep, 1), most)
    if budget == "equal_change":
        counts = _equal_change(model, x, list(plan), total, least, most)
    else:
        each = list(shares.values()) if shares else [float(model.sizes[key]) for key in plan]
        counts = in_proportion(total, each, least, most)
    scores = SCORES["magnitude"](model, None)
    return {
        key: prune_by(model, {key: scores[key]}, amount=model.sizes[key] - k).masks[key]
        for key, k in zip(plan, counts, strict=True)
    }


def _equal_change(model: Model, x: Array, keys: list[str], total: int, least: Array, most: Array) -> list[int]:
    curves = [_Curve(model, key, x, int(a), int(b)) for key, a, b in zip(keys, least, most, strict=True)]
    for move in range(MOVES + 1):
        high = max(curve.change(curve.least) for curve in curves)
        counts = divided(total, partial(_weights_at, curves, max(high, SMALLEST)), least, most)
        if move < MOVES:
            for curve, k in zip(curves, counts, strict=True):
                curve.change(k)
    return counts


def _weights_at(curves: list[_Curve], high: float, t: float) -> Array:
    return np.array([curve.weights_at(high * (SMALLEST / high) ** t) for curve in curves])


class _Curve:
    """The relative change of a layer's outputs as a function of the number of weights it keeps, at measured points."""

    def __init__(self, model: Model, key: str, x: Array, least: int, most: int) -> None:
        self.groups: list[tuple[Quadratic, Array]] = [
            (layer_quadratic(model, key, x, group=group), np.abs(model.params[key][rows]))
            for group, rows in groups_of(layer_of(model, key))
        ]
        self.least, self.points = least, {most: SMALLEST}
        for share in (0.0, *POINTS):
            self.change(min(max(int(share * most), least), most))

    def change(self, k: int) -> float:
        """Return the change with k weights, measured once; a group keeps as many as it has of the layer's k largest."""
        if k not in self.points:
            sizes = np.concatenate([size.ravel() for _, size in self.groups])
            owner = np.repeat(np.arange(len(self.groups)), [size.size for _, size in self.groups])
            each = np.bincount(owner[np.argsort(-sizes, kind="stable")[:k]], minlength=len(self.groups))
            missed = whole = 0.0
            for (layer, _), few in zip(self.groups, each.tolist(), strict=True):
                found = solve(layer, few, scope="layer", seed=0, tries=0, limit=0)
                missed += float(np.sum(layer.error(found.weights)))
                whole += float(layer.y_square.sum())
            self.points[k] = max(float(np.sqrt(missed / whole)) if whole else 0.0, SMALLEST)
        return self.points[k]

    def weights_at(self, change: float) -> float:
        """Return the interpolated number of weights at which the outputs change by `change`."""
        k = np.array(sorted(self.points), float)
        changes = np.minimum.accumulate([self.points[int(n)] for n in k])
        return float(np.exp(np.interp(-np.log(change), -np.log(changes), np.log(np.maximum(k, 1)))))
