"""Wanda: |w| times the norm of the input it multiplies, compared among the weights of one output.

    s_ij = |w_ij| ||x_j||_2          x_j input j over all samples (and all places of a convolution)

The smallest s of every row go, the same fraction of each row.

Ref      Sun, Liu, Bair, Kolter 2023 (arXiv 2306.11695), as general knowledge of the paper [I].
Departs  The amount is met exactly: if it is not a whole number per row, the first rows lose one weight more. The paper
         has no repair.
"""

from __future__ import annotations

import numpy as np

from l0ref.autodiff.tensor import Tensor, grad
from l0ref.data import Dataset, Splits
from l0ref.layerwise.repair import REPAIRS
from l0ref.methods.layer_by_layer import repaired
from l0ref.methods.registry import Pruned, calibration, method
from l0ref.nn import Model
from l0ref.pruning.prune import prune_by
from l0ref.pruning.trace import trace, weighted_layers
from l0ref.validate import Array, choose


@method(
    "wanda", paper="Sun et al. 2023", kind="score", reads=("weights", "activations"), records=("scores",), marks="[I]",
    random=True,
)  # fmt: skip
def wanda(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    samples: int = 1000, repair: str = "none",
) -> Pruned:  # fmt: skip
    """Mask the smallest |w_ij| ||x_j|| of every row; see the text of the module.

    samples  of the training set, drawn with `seed`
    repair   correction of the remaining weights, layer by layer in a cascade: a name out of `layerwise.repair`
    record   scores: s by weight array
    """
    choose("repair", repair, REPAIRS)
    few = calibration(model, data, samples=samples, seed=seed)
    squares = input_squares(model, few)
    scores = {key: np.abs(model.params[key]) * np.sqrt(squares[key]) for key in model.weights}
    within = {key: _places(s, model.mask(key)) for key, s in scores.items()}
    found = prune_by(model, within, amount=amount, scope=scope, min_keep=min_keep)
    return Pruned(repaired(found, model, few.x, how=repair), {"scores": scores})


def input_squares(model: Model, data: Dataset) -> dict[str, Array]:
    """Return for each weight the sum over samples and places of the square of its input, in the shape of the array.

    This is the derivative of sum(layer(x^2)) with respect to the weight, which handles groups and strides as well.
    """
    layers, total = weighted_layers(model), {key: np.zeros_like(model.params[key]) for key in model.weights}
    for found in trace(model, data.x):
        for name, layer in layers.items():
            params = {k: Tensor(p) for k, p in model.params.items() if k.startswith(f"{name}.")}
            y, _ = layer.forward(Tensor(np.square(found.entering[name].data)), params, {})
            (g,) = grad(y, [params[f"{name}.weight"]], y_bar=np.ones_like(y.data))
            total[f"{name}.weight"] += g
    return total


def _places(scores: Array, alive: Array) -> Array:
    """Return the rank of every entry within its row, from 0 to below 1; entries pruned before come first."""
    rows, left = scores.reshape(len(scores), -1), alive.reshape(len(scores), -1)
    order = np.lexsort((rows, left), axis=1)
    place = np.empty(rows.shape)
    even = (np.arange(rows.shape[1]) + 0.5) / max(rows.shape[1], 1)
    np.put_along_axis(place, order, np.broadcast_to(even, rows.shape), axis=1)
    return place.reshape(scores.shape)
