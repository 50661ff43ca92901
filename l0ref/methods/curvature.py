"""Second derivatives of the loss, neuron by neuron: the Gauss-Newton matrix of a unit's incoming weights.

    H_f = 1/N sum_n sum_c g_nc g_nc'       g_nc = sum_p delta_ncfp [x_np; 1]

x_np is the input that a row of weights is multiplied by at place p (one place in a Linear layer), 1 the input of the
bias, and delta_nc the derivative of the logits, multiplied by column c of S_n, with respect to the pre-activation;
S S' = diag(p) - p p' is the Hessian of the cross-entropy in the logits, S = diag(sqrt p) - p sqrt(p)'. A network of
ReLUs is piecewise linear in the weights of one layer, so its H_f is the Hessian itself, except at kinks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from l0ref.autodiff.tensor import grad
from l0ref.data import Dataset
from l0ref.layerwise.operator import groups_of, patches
from l0ref.nn import Conv2d, Linear, Model
from l0ref.pruning.trace import trace, weighted_layers
from l0ref.validate import Array


def columns(layer: Linear | Conv2d, x: Array, group: int | None = None) -> Array:
    """Return [x; 1] as (N, P, K + 1): the inputs of a row of K weights and its bias, for each sample and place."""
    rows = patches(layer, x, group=group)
    return np.append(rows, np.ones_like(rows[:, :1]), axis=1).reshape(len(x), -1, rows.shape[1] + 1)


def grams(model: Model, data: Dataset) -> dict[tuple[str, int], Array]:
    """Return by layer and group the mean over samples and places of [x; 1][x; 1]', (K + 1, K + 1) in float64."""
    layers, total = weighted_layers(model), dict[tuple[str, int], Array]()
    for found in trace(model, data.x):
        for name, layer in layers.items():
            for group, _ in groups_of(layer):
                cols = columns(layer, found.entering[name].data.astype(np.float64), group)
                flat, key = cols.reshape(-1, cols.shape[2]), (name, group or 0)
                total[key] = total.get(key, 0.0) + flat.T @ flat / (len(data) * cols.shape[1])
    return total


def slopes(model: Model, data: Dataset) -> dict[tuple[str, int], tuple[Array, Array]]:
    """Return ([x; 1] (N, P, K + 1), delta (N, C, F, P)) over all samples, by layer and first row of each group."""
    layers = weighted_layers(model)
    parts: dict[tuple[str, int], list[tuple[Array, Array]]] = {}
    for found in trace(model, data.x):
        z = found.logits.data - found.logits.data.max(axis=1, keepdims=True)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        root = np.sqrt(p)
        factor = np.eye(p.shape[1], dtype=p.dtype) * root[:, None, :] - p[:, :, None] * root[:, None, :]
        wrt = [found.leaving[name] for name in layers]
        bars = [grad(found.logits, wrt, y_bar=np.ascontiguousarray(factor[:, :, c])) for c in range(p.shape[1])]
        for i, (name, layer) in enumerate(layers.items()):
            delta = np.stack([bar[i].reshape(*bar[i].shape[:2], -1) for bar in bars], axis=1)
            for group, rows in groups_of(layer):
                pair = columns(layer, found.entering[name].data, group), delta[:, :, rows]
                parts.setdefault((name, rows.start or 0), []).append(pair)
    return {
        name: (np.concatenate([c for c, _ in pairs]).astype(np.float64), np.concatenate([d for _, d in pairs]))
        for name, pairs in parts.items()
    }


def hessian_diagonals(model: Model, data: Dataset) -> dict[str, Array]:
    """Return by layer the diagonals of all H_f, (F, K + 1)."""
    found: dict[str, list[Array]] = {}
    for (name, _), (cols, delta) in slopes(model, data).items():
        if cols.shape[1] == 1:
            part = np.square(delta[:, :, :, 0]).sum(axis=1).T @ np.square(cols[:, 0]) / len(cols)
        else:
            part = np.stack([np.square(g).mean(axis=0) * delta.shape[1] for g in _gradients(cols, delta)])
        found.setdefault(name, []).append(part)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def neuron_hessians(model: Model, data: Dataset) -> Iterator[tuple[str, int, Array]]:
    """Yield (layer, f, H_f (K + 1, K + 1)) for every row of weights of every layer."""
    for (name, first), (cols, delta) in slopes(model, data).items():
        if cols.shape[1] == 1:
            for f, weight in enumerate(np.square(delta[:, :, :, 0]).sum(axis=1).T, first):
                yield name, f, (cols[:, 0] * weight[:, None]).T @ cols[:, 0] / len(cols)
        else:
            for f, g in enumerate(_gradients(cols, delta), first):
                yield name, f, g.T @ g / len(cols)


def _gradients(cols: Array, delta: Array) -> Iterator[Array]:
    """Yield for every f the g_nc as rows (N C, K + 1)."""
    for f in range(delta.shape[2]):
        yield (delta[:, :, f] @ cols).reshape(-1, cols.shape[2])
