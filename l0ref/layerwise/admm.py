"""A first support for all neurons together: alternating directions with a hard threshold and a growing penalty.

With variables scaled by sqrt(G_jj), so that C = G / (d d') has a diagonal of ones:

    W <- (Q + rho D - U) (C + rho I)^-1     D <- H_k(W + U / rho)     U <- U + rho (W - D)

H_k keeps the k largest magnitudes, of every row or of all rows together. rho grows faster while more of the support
still changes, and the steps end when the support no longer changes. One eigendecomposition of C serves all steps. The
steps run in float32, with Q divided by its largest entry; later stages improve the support in float64.

Ref  The scheme is that of ALPS (Meng et al., NeurIPS 2024) [I]; the schedule of rho was found by trial.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from l0ref.layerwise.quadratic import Quadratic
from l0ref.validate import Array

Mask = NDArray[np.bool_]
START, EVERY, STEPS, STILL = 0.1, 3, 200, 3  # first rho; steps between checks; most steps; unchanged checks that end it


def largest_of_rows(scores: Array, k: NDArray[np.intp]) -> Mask:
    """Return a mask of the k[i] largest scores of row i."""
    mask = np.zeros(scores.shape, bool)
    for n in np.unique(k[k > 0]).tolist():
        rows = np.flatnonzero(k == n)
        best = np.argpartition(-scores[rows], n - 1, axis=1)[:, :n]
        mask[rows[:, None], best] = True
    return mask


def largest_of_all(scores: Array, k: int) -> Mask:
    """Return a mask of the k largest scores of all rows together."""
    return largest_of_rows(scores.reshape(1, -1), np.array([k])).reshape(scores.shape)


def admm_support(layer: Quadratic, keep: Callable[[Array], Mask]) -> tuple[Mask, list[int]]:
    """Return the support where the steps end, and the number of its entries that had changed at every check.

    keep  H_k: scores (M, p), none negative -> the mask of the scores that stay
    """
    if not layer.moments.size:
        return np.zeros(layer.moments.shape, bool), []
    d = np.sqrt(np.diag(layer.gram))
    values, V = np.linalg.eigh((layer.gram / np.outer(d, d)).astype(np.float32))
    values, unit = np.maximum(values, 0), float(np.abs(layer.moments / d).max()) or 1.0
    QV = (layer.moments / (d * unit)).astype(np.float32) @ V
    U, rho = np.zeros(QV.shape, np.float32), START
    D = (layer.trained * (d / unit)).astype(np.float32)
    D = np.where(keep(np.abs(D)), D, np.float32(0))
    last, changed, still = D != 0, [], 0
    for step in range(1, STEPS + 1):
        W = ((QV + (rho * D - U) @ V) / (values + np.float32(rho))) @ V.T
        Z = W + U / rho
        mask = keep(np.abs(Z))
        D = np.where(mask, Z, np.float32(0))
        U += rho * (W - D)
        if step % EVERY == 0:
            changed.append(int(np.count_nonzero(mask != last)))
            still = 0 if changed[-1] else still + 1
            if still == STILL:
                break
            share = changed[-1] / max(int(mask.sum()), 1)
            rho *= 1.3 if share > 0.1 else 1.2 if share > 0.005 else 1.1
            last = mask
    return mask, changed
