"""Five repairs of a pruned layer, from its quadratic: how the weights left, S, compensate for the removed ones, N.

    none            w_S = v_S                                         the trained weights, unchanged
    least_squares   w_S = G_SS^-1 q_S                                 the optimum on the support
    obs             w_S = v_S + G_SS^-1 G_SN v_N                      the shift of Optimal Brain Surgeon
    bias_and_scale  w_S = c v_S, c = q_S'v_S / v_S'G_SS v_S           one factor for each neuron, and the bias
    reweighting     w_S = c_S v_S, c >= 0 of least error              one factor for each weight, so that signs stay

`obs` equals `least_squares` if the targets are the layer's own outputs, q = G v, as without a cascade. All use the best
bias afterwards, `Quadratic.bias`, except `none`, which keeps the trained bias.

Ref  Hassibi and Stork 1993 (OBS, the shift for a group of weights); the others are folklore [I].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from l0ref.layerwise.nonnegative import nonnegative_least_squares
from l0ref.layerwise.quadratic import DEPENDENT, Quadratic, least_squares
from l0ref.validate import Array, choose


def repair(layer: Quadratic, support: Array, *, how: str = "least_squares") -> Array:
    """Return the weights (M, P) on a support after the repair `how`, 0 elsewhere; see the text of the module.

    layer  made with the trained weights, `Quadratic.from_samples(..., weights=...)`
    """
    fix = REPAIRS[choose("how", how, REPAIRS)]
    mask = layer.narrow(support)
    w = np.zeros(mask.shape)
    for i, row in enumerate(mask):
        S = np.flatnonzero(row)
        if S.size:
            w[i, S] = fix(layer, i, S)
    return layer.widen(w)


Index = NDArray[np.intp]


def _least_squares(layer: Quadratic, i: int, S: Index) -> Array:
    return least_squares(layer.gram[np.ix_(S, S)], layer.moments[i, S])


def _obs(layer: Quadratic, i: int, S: Index) -> Array:
    v, N = layer.trained[i], np.setdiff1d(np.arange(len(layer.gram)), S)
    return np.asarray(v[S] + least_squares(layer.gram[np.ix_(S, S)], layer.gram[np.ix_(S, N)] @ v[N]))


def _bias_and_scale(layer: Quadratic, i: int, S: Index) -> Array:
    v = layer.trained[i, S]
    power = float(v @ layer.gram[np.ix_(S, S)] @ v)
    return np.asarray(v * (float(layer.moments[i, S] @ v) / power if power > 0 else 1.0))


def _reweighting(layer: Quadratic, i: int, S: Index) -> Array:
    v = layer.trained[i, S]
    values, V = np.linalg.eigh(layer.gram[np.ix_(S, S)] * np.outer(v, v))  # = F'F
    root = np.sqrt(np.maximum(values, DEPENDENT * values[-1]))
    inverse = np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)
    return np.asarray(v * nonnegative_least_squares(root[:, None] * V.T, inverse * (V.T @ (layer.moments[i, S] * v))))


REPAIRS: dict[str, Callable[[Quadratic, int, Index], Array]] = {
    "none": lambda layer, i, S: layer.trained[i, S],
    "least_squares": _least_squares,
    "obs": _obs,
    "bias_and_scale": _bias_and_scale,
    "reweighting": _reweighting,
}
