"""The magnitude family: small weights go.

    magnitude             |w|, one ranking over the network                       (class-blind)
    class_uniform         |w|, the same fraction of every layer                   (class-uniform)
    class_distribution    |w| / std(w of the layer), one ranking                  (class-distribution)
    han                   the same with a quality factor a layer, and dropout rescaled
    lottery               |w|, and what stays goes back to its initial value

A rule "|w| < q std(w of the layer)" with one q for all layers is a ranking of |w| / std: q is the value at which the
amount is met, so it need not be searched. std is the root of the mean square about the mean, over weights not yet
pruned.

Ref  Han, Pool, Tran, Dally 2015 (arXiv 1506.02626); See, Luong, Manning 2016 (arXiv 1606.09274); Frankle, Carbin 2019
     (arXiv 1803.03635). The papers were not read again for this file: what follows is general knowledge of them [I].
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
    """Mask the smallest |w|: class-blind pruning, and the rule of the main job.

    scope, min_keep  as in `masks.keep_mask`
    record           threshold: the smallest |w| that stays, by layer

    Departs from the paper: an exact count goes, not what is below a threshold.
    """
    pruned = prune_by(model, SCORES["magnitude"](model, None), amount=amount, scope=scope, min_keep=min_keep)
    return Pruned(pruned, {"threshold": _smallest_kept(pruned)})


@method("class_uniform", paper=SEE, kind="score", reads=("weights",), records=("threshold",), marks="[I]")
def class_uniform(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0
) -> Pruned:
    """Mask the same fraction of every layer, its smallest |w|: score is the place of |w| in its layer, from 0 to 1.

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
    """Mask what is smallest beside its layer: score |w| / std(w of the layer).

    record  std by layer; quality: the smallest score that stays, the paper's lambda
    """
    return _by_std(model, {}, amount, scope, min_keep)


@method("han", paper=HAN, kind="score", reads=("weights",), records=("std", "quality"), marks="[I]")
def han(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    sensitivity: Mapping[str, float] | None = None,
) -> Pruned:  # fmt: skip
    """Mask |w| < q s_l std(w of layer l), and rescale dropout by the root of the share of connections that stay.

    sensitivity  s_l by weight array, 1 where not named; q is what meets the amount
    record       std by layer; quality: q

    A Dropout layer behind layer l gets p sqrt(C_after / C_before), C the weights of l that are not masked, so that
    in several rounds the factors multiply to the root of all that was kept. The retraining between rounds is the
    pipeline's (`rounds`).
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
    """Mask the smallest |w| and set all other parameters, biases too, back to where training began.

    initial  the network before training; None: the one `Model.init` draws with `seed`, which is where the pipeline
             began if its network was made with the same seed, as `l0ref compress` does
    record   threshold: the smallest trained |w| that stays, by layer

    With rounds=1 this is one-shot, with more of them iterative pruning; fine-tuning trains the ticket.
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
    """The place of every entry among those of its layer, from 0 to below 1; what has gone comes first."""
    order = np.lexsort((size.ravel(), alive.ravel()))
    place = np.empty(size.size)
    place[order] = (np.arange(size.size) + 0.5) / max(size.size, 1)
    return np.asarray(place.reshape(size.shape))


def _rescaled(layers: tuple[Layer, ...], before: Model, after: Model, share: float) -> tuple[tuple[Layer, ...], float]:
    """The layers with every Dropout rescaled, and the root of the share of the last weights, `share` if none are here.

    A residual block is gone through along its body; a shortcut begins with the share in front of the block.
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
