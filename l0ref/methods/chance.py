"""Pruning at random: the baseline every method must beat."""

from __future__ import annotations

import numpy as np

from l0ref.data import Splits
from l0ref.errors import ArgumentError
from l0ref.masks.ranking import drop_count
from l0ref.methods.registry import Pruned, method
from l0ref.methods.shares import Budget, in_proportion, named_shares
from l0ref.nn import Model
from l0ref.pruning.prune import prune_by
from l0ref.pruning.score import SCORES


@method("random", paper="baseline", kind="score", reads=("weights",), random=True)
def random(
    model: Model,
    data: Splits,
    *,
    amount: float,
    seed: int,
    scope: str = "global",
    min_keep: int = 0,
    budget: Budget | None = None,
) -> Pruned:
    """Score every weight by uniform noise in [0, 1), a function of the seed; remove the lowest.

    scope, min_keep  as in `masks.keep_mask`
    budget           {"fc1": 300, "fc2": 100}, in text fc1:300/fc2:100: the layers keep weights in this proportion, and
                     numbers whose sum is the total are met exactly; by default `scope` alone divides the amount
    """
    scores = SCORES["random"](model, seed)
    if budget is None:
        return Pruned(prune_by(model, scores, amount=amount, scope=scope, min_keep=min_keep))
    shares = named_shares(budget, model.weights, scope=scope)
    if shares is None:
        raise ArgumentError(f"budget={budget!r} of method random must give one number for each layer, as in fc1:300")
    most = np.array([int(model.mask(key).sum()) for key in shares])
    total = min(model.size - drop_count(amount, model.size, "weights", ""), int(most.sum()))
    counts = in_proportion(total, list(shares.values()), np.minimum(max(min_keep, 1), most), most)
    for key, k in zip(shares, counts, strict=True):
        model = prune_by(model, {key: scores[key]}, amount=model.sizes[key] - k)
    return Pruned(model)
