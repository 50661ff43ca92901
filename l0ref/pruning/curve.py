"""What pruning alone costs: accuracy of one trained network, cut ever deeper, without fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence

from l0ref import metrics
from l0ref.data import Dataset
from l0ref.masks import amount_for_compression
from l0ref.nn import Model
from l0ref.pruning.prune import prune


def pruning_curve(
    model: Model,
    validation: Dataset,
    ratios: Sequence[float],
    *,
    scope: str = "global",
    score: str = "magnitude",
    min_keep: int = 1,
    seed: int | None = None,
) -> list[float]:
    """Return the accuracy on `validation` of `model` pruned by each of `ratios`, in their order.

    model      a network that is not pruned, or less than the smallest ratio asks for
    ratios     weights over weights left, each from 1 to model.size; 1 removes nothing
    min_keep   every layer keeps at least this many, so that no ratio the network has room for collapses it
    scope, score, seed   as in `prune`

    Every ratio starts from `model` itself. Dead units are not swept, so exactly floor(size / ratio) weights are left.
    """
    accuracies = []
    for ratio in ratios:
        amount = amount_for_compression(model.size, ratio)
        pruned = prune(model, amount=amount, scope=scope, score=score, min_keep=min_keep, seed=seed)
        accuracies.append(metrics.evaluate(pruned, validation).acc1)
    return accuracies
