"""`prune`: from scores to masks to a model whose removed weights are exactly zero."""

from __future__ import annotations

from collections.abc import Mapping

from l0ref.masks import keep_mask, removed
from l0ref.masks.ranking import drop_count
from l0ref.nn import Model
from l0ref.pruning.score import SCORES
from l0ref.validate import Array, choose


def prune(
    model: Model,
    *,
    amount: float | None = None,
    threshold: float | None = None,
    scope: str = "global",
    score: str = "magnitude",
    min_keep: int = 0,
    seed: int | None = None,
) -> Model:
    """Return the model without its least important weights.

    amount     a float is the fraction of all weights that is gone afterwards, an int the count:
               exactly floor(amount * size + 0.5) weights are masked, those pruned before included
    threshold  instead of `amount`: weights whose score is below it go
    scope      "global" ranks all layers together; "layer" takes the amount from each layer
    score      "magnitude" or "random" (which needs `seed`)
    min_keep   leave every layer at least this many weights

    Only weights of Linear and Conv2d layers are pruned, never biases. Pruned stays pruned. A layer
    that would lose everything raises LayerCollapse.

    >>> from l0ref import nn, prune
    >>> small = prune(nn.digits_mlp(seed=0), amount=0.95)
    >>> sum(int(m.sum()) for m in small.masks.values())  # 5 % of 50,200
    2510
    """
    scores = SCORES[choose("score", score, SCORES)](model, seed)
    masks = keep_mask(scores, amount=amount, threshold=threshold, scope=scope, min_keep=min_keep, current=model.masks)
    return model.replace(masks=masks)


def prune_by(
    model: Model, scores: Mapping[str, Array], *, amount: float, scope: str = "global", min_keep: int = 0
) -> Model:
    """Return the model pruned by `amount` in the order of `scores`, unless as many weights are masked already.

    scores   a number per weight, by weight array; the lowest are removed first
    options  as in `prune`, which refuses an amount below the number masked. Between two rounds a sweep may remove more
             than the next round asks for, from the whole network or, with scope="layer", from one of its layers; that
             part then does not change
    """
    ranked = [list(scores)] if choose("scope", scope, ("global", "layer")) == "global" else [[key] for key in scores]
    masks = {key: model.mask(key) for key in model.weights}
    for keys in ranked:
        current = {key: masks[key] for key in keys}
        n = sum(m.size for m in current.values())
        if drop_count(amount, n, "entries", "") > removed(current):
            masks |= keep_mask({key: scores[key] for key in keys}, amount=amount, min_keep=min_keep, current=current)
    return model.replace(masks=masks)
