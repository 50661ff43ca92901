"""Optimal brain damage: second derivatives, one weight at a time.

    s = h_qq w_q^2 / 2        h the diagonal of the Hessian of the loss; nothing moves

At a minimum of the loss the gradient is 0, and s is the rise of the loss, to second order, when w_q alone is removed. h
is computed in `methods.curvature`.

Ref      LeCun, Denker, Solla 1990.
Departs  h is the diagonal of the Gauss-Newton matrix, not the result of the paper's recursion.
"""

from __future__ import annotations

import numpy as np

from l0ref.data import Splits
from l0ref.methods.curvature import hessian_diagonals
from l0ref.methods.registry import Pruned, calibration, method
from l0ref.nn import Model
from l0ref.pruning.prune import prune_by


@method(
    "obd", paper="LeCun, Denker, Solla 1990", kind="score", reads=("weights", "activations", "gradients"),
    records=("scores",), random=True,
)  # fmt: skip
def obd(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    samples: int = 1000,
) -> Pruned:  # fmt: skip
    """Mask the weights with the least h_qq w_q^2 / 2, h the diagonal of the Hessian of the loss.

    samples  of the training set, drawn with `seed`
    record   scores by weight array
    """
    diagonals = hessian_diagonals(model, calibration(model, data, samples=samples, seed=seed))
    scores = {}
    for key in model.weights:
        w, h = model.params[key], diagonals[key.removesuffix(".weight")][:, :-1]
        scores[key] = (h.reshape(w.shape) * np.square(w, dtype=np.float64) / 2).astype(w.dtype)
    return Pruned(prune_by(model, scores, amount=amount, scope=scope, min_keep=min_keep), {"scores": scores})
