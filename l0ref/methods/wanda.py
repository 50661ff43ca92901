"""Wanda: |w| times the size of what it is multiplied by, compared within the weights of one output.

    s_ij = |w_ij| ||x_j||_2          x_j input j over all samples (and places, of a convolution)

The smallest s of every row go, the same fraction of each row.

Ref      Sun, Liu, Bair, Kolter 2023 (arXiv 2306.11695), as general knowledge of the paper [I].
Departs  The amount is met exactly: where a fraction of a weight remains, rows give one more in their order. The paper
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
    repair   what the weights that stay do about it, layer by layer in a cascade: a name out of `layerwise.repair`
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
    """Return, shaped like each weight array, the sum over samples and places of the square of what it meets.

    That is the derivative of sum(layer(x^2)) with respect to the weight, so that groups and strides need no care.
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
    """The place of every entry within its row, from 0 to below 1; what has gone comes first."""
    rows, left = scores.reshape(len(scores), -1), alive.reshape(len(scores), -1)
    order = np.lexsort((rows, left), axis=1)
    place = np.empty(rows.shape)
    even = (np.arange(rows.shape[1]) + 0.5) / max(rows.shape[1], 1)
    np.put_along_axis(place, order, np.broadcast_to(even, rows.shape), axis=1)
    return place.reshape(scores.shape)
