"""The cost of pruning alone: accuracy of one trained network at several compression ratios, without fine-tuning."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from l0ref import metrics
from l0ref.data import Splits
from l0ref.masks import amount_for_compression
from l0ref.nn import Model
from l0ref.pruning.cut import Cut


def pruning_curve(
    model: Model, data: Splits, ratios: Sequence[float], *, like: Cut | None = None, seed: int = 0
) -> list[float]:
    """Return the accuracy (R² of a regression) on the validation set of `model` pruned by each of `ratios`, in order.

    model   a network that is not pruned, or is pruned less than the smallest ratio asks for
    ratios  weights over weights left, each from 1 to model.size; 1 removes nothing
    like    method, scope and options of the cut; magnitude by default. Every layer keeps at least one weight, so that
            no ratio that leaves one weight per layer collapses the network

    Every ratio starts from `model` itself. Dead units are not swept, so a method of single weights leaves exactly
    floor(size / ratio) weights.
    """
    cut = like if like is not None else Cut(amount=0.0)
    accuracies = []
    for ratio in ratios:
        amount = amount_for_compression(model.size, ratio)
        here = dataclasses.replace(cut, amount=amount, threshold=None, tolerance=None, min_keep=max(cut.min_keep, 1))
        accuracies.append(metrics.evaluate(here.apply(model, data, seed=seed).model, data.validation).quality)
    return accuracies
