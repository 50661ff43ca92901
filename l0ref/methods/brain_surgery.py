"""Optimal brain surgery: OBS on the loss of the network, L-OBS and ExactOBS on the output of each layer.

    obs         cost w_q^2 / (2 [H^-1]_qq), step-by-step elimination in each neuron, with the H of its own weights
    l_obs       the same cost with H = mean [x; 1][x; 1]' of the layer, sorted once
    exact_obs   the same H, step-by-step elimination; rows of a layer compete by the rise of each step

Elimination is in `methods.elimination`, H in `methods.curvature`. Biases belong to H, are never pruned, and move; a
weight that had gone before, or a bias that its layer does not have, takes no part.

Ref  Hassibi, Stork 1993; Dong, Chen, Pan 2017 (arXiv 1705.07565), after the authors' code;
     Frantar, Singh, Alistarh 2022 (arXiv 2208.11580), the last as general knowledge [I].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from l0ref.data import Splits
from l0ref.errors import ArgumentError
from l0ref.methods.curvature import grams, neuron_hessians
from l0ref.methods.elimination import damped, moved, path
from l0ref.methods.layer_by_layer import magnitude_plan
from l0ref.methods.registry import Pruned, calibration, method
from l0ref.nn import Model
from l0ref.pruning.prune import prune_by
from l0ref.validate import Array, nonnegative

Known = dict[str, tuple[Array, NDArray[np.bool_], Array]]  # by layer: H, the entries that are there, the inverse


@method(
    "obs", paper="Hassibi, Stork 1993", kind="layerwise", reads=("weights", "activations", "gradients"),
    records=("rises",), random=True,
)  # fmt: skip
def obs(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    samples: int = 1000, damping: float = 1e-3,
) -> Pruned:  # fmt: skip
    """Eliminate the weights that raise the loss least, and move the other weights of the same neuron to compensate.

    samples  of the training set, drawn with `seed`
    damping  times the mean of the diagonal of H is added to that diagonal
    record   rises: by weight array, the largest predicted rise of the loss up to the step that would remove the weight

    Departs from the paper: H has one block for each neuron, the Gauss-Newton matrix of its incoming weights.
    """
    nonnegative("damping", damping)
    found = neuron_hessians(model, calibration(model, data, samples=samples, seed=seed))
    hessians = {(name, f): damped(h, damping) for name, f, h in found}
    rises = _rises(model, hessians)
    pruned = prune_by(model, rises, amount=amount, scope=scope, min_keep=min_keep)
    return Pruned(_moved(model, pruned, hessians), {"rises": rises})


@method(
    "exact_obs", paper="Frantar, Singh, Alistarh 2022", kind="layerwise", reads=("weights", "activations"),
    records=("rises",), marks="[I]", random=True,
)  # fmt: skip
def exact_obs(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    samples: int = 1000, damping: float = 1e-3,
) -> Pruned:  # fmt: skip
    """Eliminate the weights that raise the squared error of their layer's output least.

    samples, damping  as in `obs`
    record            rises: by weight array, the largest rise of the error up to the step that would remove the weight

    Errors of different layers are not comparable: with scope="global" every layer loses as many weights as magnitude
    pruning of the network takes from it.
    """
    hessians = _layer_hessians(model, data, samples, seed, damping)
    rises = _rises(model, hessians)
    pruned = _masked_by_layer(model, rises, amount, scope, min_keep)
    return Pruned(_moved(model, pruned, hessians), {"rises": rises})


@method(
    "l_obs", paper="Dong, Chen, Pan 2017", kind="layerwise", reads=("weights", "activations"), records=("scores",),
    random=True,
)  # fmt: skip
def l_obs(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    samples: int = 1000, damping: float = 1e-6,
) -> Pruned:  # fmt: skip
    """Mask weights with the least w_q^2 / (2 [H^-1]_qq), scored once, and move the others.

    samples, damping  as in `obs`
    record            scores by weight array

    Weights are removed in the order of their scores, each with the move -w_q / [H^-1]_qq H^-1_:q of the initial H^-1
    and the current w_q. Removed weights are set to 0 once, at the end: no move reads them, so the result is the same as
    with a reset after each move. The budget of each layer is that of `exact_obs`.
    Departs from the authors' code: H is damped and inverted directly; their recursion for H^-1 starts from 10^6 I.
    """
    hessians = _layer_hessians(model, data, samples, seed, damping)
    scores, known = {}, Known()
    for key in model.weights:
        w, name = model.params[key].astype(np.float64), key.removesuffix(".weight")
        inverses = (_inverse(name, hessians[name, f], row, known) for f, row in enumerate(_there(model, name)))
        diagonals = np.stack([a.diagonal()[:-1].copy() for a in inverses])
        scores[key] = np.square(w) / (2 * diagonals.reshape(w.shape))
    pruned = _masked_by_layer(model, scores, amount, scope, min_keep)
    params = dict(pruned.params)
    for key in model.weights:
        name = key.removesuffix(".weight")
        there, rows = _there(model, name), _rows(model, name)
        went, order = there & ~_there(pruned, name), scores[key].reshape(len(rows), -1)
        for f in np.flatnonzero(went.any(axis=1)):
            a, gone = _inverse(name, hessians[name, int(f)], there[f], known), np.flatnonzero(went[f])
            for q in gone[np.argsort(order[f, gone], kind="stable")]:
                rows[f] -= rows[f, q] / a[q, q] * a[:, q]
        _set_rows(params, model, name, rows)
    return Pruned(pruned.replace(params=params), {"scores": scores})


def _layer_hessians(
    model: Model, data: Splits, samples: int, seed: int, damping: float
) -> dict[tuple[str, int], Array]:
    """Return by (layer, row) the damped H; rows of one group share one array."""
    nonnegative("damping", damping)
    found = grams(model, calibration(model, data, samples=samples, seed=seed))
    shared = {key: damped(h, damping) for key, h in found.items()}
    groups = Counter(name for name, _ in shared)
    rows = {name: len(model.params[f"{name}.weight"]) for name in groups}
    return {(name, f): shared[name, f * groups[name] // rows[name]] for name in groups for f in range(rows[name])}


def _inverse(name: str, h: Array, there: NDArray[np.bool_], known: Known) -> Array:
    """Return the inverse of H on the entries that are there, and I elsewhere; `known` keeps the last of each layer."""
    last = known.get(name)
    if last is None or last[0] is not h or (last[1] != there).any():
        inverse, some = np.eye(len(h)), np.ix_(there, there)
        try:
            inverse[some] = np.linalg.inv(h[some])
        except np.linalg.LinAlgError:
            raise ArgumentError(f"the Hessian of layer {name!r} is singular; give a damping above 0") from None
        known[name] = last = h, there, inverse
    return last[2]


def _there(model: Model, name: str) -> NDArray[np.bool_]:
    """Return (F, K + 1): which weights have not gone and, in the last column, whether the layer has biases."""
    mask = model.mask(f"{name}.weight")
    return np.pad(mask.reshape(len(mask), -1), ((0, 0), (0, 1)), constant_values=f"{name}.bias" in model.params)


def _rows(model: Model, name: str) -> Array:
    """Return (F, K + 1) weights and, in the last column, biases (0 if the layer has none), float64."""
    w = model.params[f"{name}.weight"]
    bias = model.params.get(f"{name}.bias", np.zeros(len(w)))
    return np.concatenate([w.reshape(len(w), -1), bias[:, None]], axis=1).astype(np.float64)


def _set_rows(params: dict[str, Array], model: Model, name: str, rows: Array) -> None:
    w = model.params[f"{name}.weight"]
    params[f"{name}.weight"] = rows[:, :-1].reshape(w.shape).astype(w.dtype)
    if f"{name}.bias" in params:
        params[f"{name}.bias"] = rows[:, -1].astype(w.dtype)


def _rises(model: Model, hessians: Mapping[tuple[str, int], Array]) -> dict[str, Array]:
    """Return for each weight the largest rise of f up to the step that removes it from its row, in float64.

    This running maximum does not decrease along a row, so that a ranking of all rows takes the first steps of each.
    """
    found = {key: np.zeros(model.params[key].shape) for key in model.weights}
    there, known = {key: _there(model, key.removesuffix(".weight")) for key in model.weights}, Known()
    for (name, f), h in hessians.items():
        key, inverse = f"{name}.weight", _inverse(name, h, np.ones(len(h), bool), known)
        gone = ~there[key][f]
        order, rise = path(h, _rows(model, name)[f], gone=gone, fixed=1, inverse=inverse)
        steps = np.maximum.accumulate(rise)
        row = found[key].reshape(len(found[key]), -1)[f]
        row[order] = steps + np.arange(len(steps)) * np.spacing(steps.max(initial=0.0))  # ties in the order of the path
    return found


def _moved(model: Model, pruned: Model, hessians: Mapping[tuple[str, int], Array]) -> Model:
    params = dict(pruned.params)
    for name in dict.fromkeys(name for name, _ in hessians):
        rows, kept = _rows(model, name), _there(pruned, name)
        _set_rows(params, model, name, np.stack([moved(hessians[name, f], rows[f], kept[f]) for f in range(len(rows))]))
    return pruned.replace(params=params)


def _masked_by_layer(model: Model, scores: Mapping[str, Array], amount: float, scope: str, min_keep: int) -> Model:
    """Prune by scores comparable within a layer only: each loses as many weights as magnitude pruning takes from it."""
    found = model
    for key, keep in magnitude_plan(model, amount=amount, scope=scope, min_keep=min_keep).items():
        drop = int((~keep).sum())
        found = prune_by(found, {key: scores[key]}, amount=drop)
    return found
