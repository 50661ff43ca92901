"""Pruning at random: the baseline every method must beat."""

from __future__ import annotations

from l0ref.data import Splits
from l0ref.methods.registry import Pruned, method
from l0ref.nn import Model
from l0ref.pruning.prune import prune_by
from l0ref.pruning.score import SCORES


@method("random", paper="baseline", kind="score", reads=("weights",), random=True)
def random(model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0) -> Pruned:
    """Score every weight by uniform noise in [0, 1), a function of the seed; the lowest go.

    scope, min_keep  as in `masks.keep_mask`
    """
    return Pruned(prune_by(model, SCORES["random"](model, seed), amount=amount, scope=scope, min_keep=min_keep))
