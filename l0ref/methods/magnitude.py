"""The magnitude family: small weights go.

    magnitude             |w|, one ranking over the network                       (class-blind)
    class_uniform         |w|, the same fraction of every layer                   (class-uniform)
    class_distribution    |w| / std(w of the layer), one ranking                  (class-distribution)
    han                   the same with a quality factor per layer, and dropout rescaled
    lottery               |w|, and the remaining weights are reset to their initial values

A rule "|w| < q std(w of the layer)" with one q for all layers is a ranking of |w| / std: q is the value at which the
amount is met, so it need not be searched. std is the standard deviation with divisor n, over the n weights of the layer
not yet pruned.

Ref  Han, Pool, Tran, Dally 2015 (arXiv 1506.02626); See, Luong, Manning 2016 (arXiv 1606.09274); Frankle, Carbin 2019
     (arXiv 1803.03635). The papers were not read again for this file: the rules are general knowledge of them [I].
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from l0ref.data import Splits
from l0ref.errors import ArgumentError
from l0ref.methods.registry import Pruned, method
from l0ref.nn import Dropout, Layer, Model, Residual
from l0ref.pruning.prune import prune_by
from l0ref.pruning.score import SCORES
from l0ref.validate import Array, choose, positive

SEE, HAN, FRANKLE = "See, Luong, Manning 2016", "Han, Pool, Tran, Dally 2015", "Frankle, Carbin 2019"


@method("magnitude", paper=SEE, kind="score", reads=("weights",), records=("threshold",))
def magnitude(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0
) -> Pruned:
    """Mask the smallest |w|: class-blind pruning, and the default method of `l0ref compress`.

    scope, min_keep  as in `masks.keep_mask`
    record           threshold: the smallest |w| that stays, by layer

    Departs from the paper: an exact count goes, not all weights below a threshold.
    """
    pruned = prune_by(model, SCORES["magnitude"](model, None), amount=amount, scope=scope, min_keep=min_keep)
    return Pruned(pruned, {"threshold": _smallest_kept(pruned)})


@method("class_uniform", paper=SEE, kind="score", reads=("weights",), records=("threshold",), marks="[I]")
def class_uniform(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0
) -> Pruned:
    """Mask the same fraction of every layer, its smallest |w|: the score is the rank of |w| in its layer, from 0 to 1.

    scope   "global" meets the amount over the network exactly; "layer" rounds it in every layer
    record  threshold: the smallest |w| that stays, by layer
    """
    ranks = {key: places(np.abs(model.params[key]), model.mask(key)) for key in model.weights}
    pruned = prune_by(model, ranks, amount=amount, scope=scope, min_keep=min_keep)
    return Pruned(pruned, {"threshold": _smallest_kept(pruned)})


@method("class_distribution", paper=SEE, kind="score", reads=("weights",), records=("std", "quality"), marks="[I]")
def class_distribution(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0
) -> Pruned:
    """Mask the weights that are smallest relative to their layer: score |w| / std(w of the layer).

    record  std by layer; quality: the smallest score that stays, the paper's lambda
    """
    return _by_std(model, {}, amount, scope, min_keep)


@method("han", paper=HAN, kind="score", reads=("weights",), records=("std", "quality"), marks="[I]")
def han(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    sensitivity: Mapping[str, float] | None = None,
) -> Pruned:  # fmt: skip
    """Mask |w| < q s_l std(w of layer l), and rescale dropout by the root of the share of connections that stay.

    sensitivity  s_l by weight array, 1 where not named; q follows from the amount
    record       std by layer; quality: q

    A Dropout layer behind layer l gets p sqrt(C_after / C_before), C the number of weights of l that are not masked, so
    that over several rounds the factors multiply to the root of the total kept share. The pipeline retrains between
    rounds (`rounds`).
    """
    factors = dict(sensitivity or {})
    for key, value in factors.items():
        choose("sensitivity", key, model.weights)
        positive(f"sensitivity[{key!r}]", value)
    found = _by_std(model, factors, amount, scope, min_keep)
    layers, _ = _rescaled(found.model.architecture, model, found.model, 1.0)
    return dataclasses.replace(found, model=found.model.replace(architecture=layers))


@method("lottery", paper=FRANKLE, kind="score", reads=("weights",), records=("threshold",), marks="[I]", random=True)
def lottery(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    initial: Model | None = None,
) -> Pruned:  # fmt: skip
    """Mask the smallest |w| and reset all other parameters, biases too, to their values before training.

    initial  the network before training; None: the one that `Model.init` draws with `seed`, which is the network that
             the pipeline started from if it was made with the same seed, as `l0ref compress` does
    record   threshold: the smallest trained |w| that stays, by layer

    With rounds=1 this is one-shot pruning, with more rounds iterative pruning; fine-tuning trains the ticket.
    """
    start = initial
    if start is None:
        start = Model.init(model.architecture, input_shape=model.input_shape, seed=seed, dtype=model.dtype)
    if {k: v.shape for k, v in start.params.items()} != {k: v.shape for k, v in model.params.items()}:
        raise ArgumentError("initial is another network than model; pass the network that was trained")
    pruned = prune_by(model, SCORES["magnitude"](model, None), amount=amount, scope=scope, min_keep=min_keep)
    record = {"threshold": _smallest_kept(pruned)}
    return Pruned(
        pruned.replace(params=start.astype(model.dtype).params, buffers=start.astype(model.dtype).buffers), record
    )


def _by_std(model: Model, factors: Mapping[str, float], amount: float, scope: str, min_keep: int) -> Pruned:
    std = {key: _std(model.params[key][model.mask(key)]) for key in model.weights}
    scores = {k: np.abs(model.params[k]) / model.dtype.type((std[k] or 1.0) * factors.get(k, 1.0)) for k in std}
    pruned = prune_by(model, scores, amount=amount, scope=scope, min_keep=min_keep)
    kept = [scores[key][pruned.masks[key]].min(initial=math.inf) for key in model.weights]
    return Pruned(pruned, {"std": std, "quality": float(min(kept, default=math.inf))})


def _std(w: Array) -> float:
    return float(w.std(dtype=np.float64)) if w.size else 0.0


def places(size: Array, alive: Array) -> Array:
    """Return the rank of every entry within its layer, from 0 to below 1; entries pruned before come first."""
    order = np.lexsort((size.ravel(), alive.ravel()))
    place = np.empty(size.size)
    place[order] = (np.arange(size.size) + 0.5) / max(size.size, 1)
    return np.asarray(place.reshape(size.shape))


def _rescaled(layers: tuple[Layer, ...], before: Model, after: Model, share: float) -> tuple[tuple[Layer, ...], float]:
    """Return the layers with rescaled Dropout, and sqrt(C_after / C_before) of the last weights; else `share`.

    A residual block passes on the factor of its body; its shortcut starts with the factor in front of the block.
    """
    found: list[Layer] = []
    for layer in layers:
        if isinstance(layer, Residual):
            shortcut, _ = _rescaled(layer.shortcut, before, after, share)
            body, share = _rescaled(layer.body, before, after, share)
            found.append(dataclasses.replace(layer, body=body, shortcut=shortcut))
            continue
        key = f"{layer.name}.weight"
        if key in before.kinds:
            share = math.sqrt(int(after.mask(key).sum()) / max(int(before.mask(key).sum()), 1))
        found.append(dataclasses.replace(layer, p=layer.p * share) if isinstance(layer, Dropout) else layer)
    return tuple(found), share


def _smallest_kept(model: Model) -> dict[str, float]:
    return {k: float(np.abs(model.params[k][m]).min(initial=math.inf)) for k, m in model.masks.items()}
