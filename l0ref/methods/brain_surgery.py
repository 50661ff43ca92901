"""Optimal brain surgery: OBS on the loss of the network, L-OBS and ExactOBS on the output of each layer.

    obs         cost w_q^2 / (2 [H^-1]_qq), step-by-step elimination in each neuron, with the H of its own weights
    l_obs       the same cost with H = mean [x; 1][x; 1]' of the layer, sorted once
    exact_obs   the same H, step-by-step elimination; rows of a layer compete by the rise of each step

Elimination is in `methods.elimination`, H in `methods.curvature`. Biases belong to H, are never pruned, and move.

Ref  Hassibi, Stork 1993; Dong, Chen, Pan 2017 (arXiv 1705.07565), after the authors' code;
     Frantar, Singh, Alistarh 2022 (arXiv 2208.11580), the last as general knowledge [I].
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from l0ref.data import Splits
from l0ref.errors import ArgumentError
from l0ref.methods.curvature import grams, neuron_hessians
from l0ref.methods.elimination import damped, moved, path
from l0ref.methods.layer_by_layer import magnitude_plan
from l0ref.methods.registry import Pruned, calibration, method
from l0ref.nn import Model
from l0ref.pruning.prune import prune_by
from l0ref.validate import Array, nonnegative


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
    return Pruned(_by_layer(model, rises, hessians, amount, scope, min_keep), {"rises": rises})


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
    inverses = {row: a for row, (_, a) in _with_inverses(hessians)}
    scores = {}
    for key in model.weights:
        w, name = model.params[key].astype(np.float64), key.removesuffix(".weight")
        diagonals = np.stack([np.diag(inverses[name, f])[:-1] for f in range(len(w))])
        scores[key] = np.square(w) / (2 * diagonals.reshape(w.shape))
    pruned = _masked_by_layer(model, scores, amount, scope, min_keep)
    params = dict(pruned.params)
    for key in model.weights:
        name, keep = key.removesuffix(".weight"), pruned.masks[key].reshape(len(pruned.masks[key]), -1)
        rows, order = _rows(model, name), scores[key].reshape(keep.shape)
        for f in np.flatnonzero(~keep.all(axis=1)):
            a, gone = inverses[name, int(f)], np.flatnonzero(~keep[f])
            gone = gone[np.argsort(order[f, gone], kind="stable")]
            for q in gone:
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


def _with_inverses(hessians: Mapping[tuple[str, int], Array]) -> Iterator[tuple[tuple[str, int], tuple[Array, Array]]]:
    """Yield (row, (H, H^-1)); consecutive rows with the same H share one inverse."""
    last, inverse = None, np.zeros((0, 0))
    for row, h in hessians.items():
        try:
            last, inverse = h, inverse if h is last else np.linalg.inv(h)
        except np.linalg.LinAlgError:
            raise ArgumentError(f"the Hessian of layer {row[0]!r} is singular; give a damping above 0") from None
        yield row, (h, inverse)


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
    for (name, f), (h, inverse) in _with_inverses(hessians):
        key = f"{name}.weight"
        gone = np.append(~model.mask(key)[f].ravel(), f"{name}.bias" not in model.params)
        order, rise = path(h, _rows(model, name)[f], gone=gone, fixed=1, inverse=inverse)
        steps = np.maximum.accumulate(rise)
        row = found[key].reshape(len(found[key]), -1)[f]
        row[order] = steps + np.arange(len(steps)) * np.spacing(steps.max(initial=0.0))  # ties in the order of the path
    return found


def _moved(model: Model, pruned: Model, hessians: Mapping[tuple[str, int], Array]) -> Model:
    params = dict(pruned.params)
    for name in dict.fromkeys(name for name, _ in hessians):
        rows, keep = _rows(model, name), pruned.masks[f"{name}.weight"]
        kept = np.concatenate([keep.reshape(len(keep), -1), np.ones((len(keep), 1), bool)], axis=1)
        kept[:, -1] = f"{name}.bias" in model.params
        _set_rows(params, model, name, np.stack([moved(hessians[name, f], rows[f], kept[f]) for f in range(len(rows))]))
    return pruned.replace(params=params)


def _masked_by_layer(model: Model, scores: Mapping[str, Array], amount: float, scope: str, min_keep: int) -> Model:
    """Prune by scores comparable within a layer only: each loses as many weights as magnitude pruning takes from it."""
    found = model
    for key, keep in magnitude_plan(model, amount=amount, scope=scope, min_keep=min_keep).items():
        drop = int((~keep).sum())
        found = prune_by(found, {key: scores[key]}, amount=drop)
    return found


def _by_layer(
    model: Model, rises: Mapping[str, Array], hessians: Mapping[tuple[str, int], Array], amount: float, scope: str,
    min_keep: int,
) -> Model:  # fmt: skip
    return _moved(model, _masked_by_layer(model, rises, amount, scope, min_keep), hessians)
