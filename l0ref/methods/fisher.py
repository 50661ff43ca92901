"""Magnitude times a root of the Fisher diagonal: of weights of equal size, those with more effect on the loss stay.

    s_i = |w_i| F_i^(1/4)        F_i = mean_n (d log p(y_n | x_n) / d w_i)^2        y_n drawn from p(. | x_n)

p(. | x) is softmax of the logits. F is the diagonal of the Fisher information, from the exact square of each sample's
gradient, not of a batch's. A row f of weights is multiplied by columns x_np at places p (one place in a Linear layer),
and its outputs have cotangents delta_nfp:

    F_fk = mean_n (sum_p delta_nfp x_npk)^2        Linear: mean_n delta_nf^2 x_nk^2

The exponent 1/2 gives the root of w^2 F, the order of optimal brain damage with F as the curvature; 0 gives magnitude.

Ref      ours: 1/4 was the best of the exponents and scores tried on LeNet-300-100 beyond 100x, and as good as |w| at
         100x. F in place of second derivatives: general knowledge [I].
"""

from __future__ import annotations

import numpy as np

from l0ref.data import Dataset, Splits
from l0ref.errors import ArgumentError
from l0ref.layerwise.operator import groups_of, patches
from l0ref.methods.registry import Pruned, calibration, method
from l0ref.nn import Model
from l0ref.pruning.prune import prune_by
from l0ref.pruning.trace import trace, weighted_layers
from l0ref.streams import stream
from l0ref.validate import Array, nonnegative

CHUNK = 64  # samples at a time: a convolution holds the gradient of its kernel for each of them


@method(
    "fisher", paper="this package", kind="score", reads=("weights", "gradients"), records=("scores", "fisher"),
    marks="[I]", random=True,
)  # fmt: skip
def fisher(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    samples: int = 5000, power: float = 0.25,
) -> Pruned:  # fmt: skip
    """Mask the smallest |w| F^power; see the text of the module.

    samples  of the training set, drawn with `seed`; their labels are drawn from the model
    power    of F, 0 or greater
    record   scores: s; fisher: F, both by weight array
    """
    if not data.train.classes:
        raise ArgumentError(f"data={data.name!r} has no classes to draw labels from; use method='magnitude'")
    few = calibration(model, data, samples=samples, seed=seed)
    found = fisher_diagonal(model, few, rng=stream(seed, "calibrate", 1))
    exponent = nonnegative("power", power)
    scores = {key: np.abs(model.params[key]) * found[key] ** exponent for key in model.weights}
    pruned = prune_by(model, scores, amount=amount, scope=scope, min_keep=min_keep)
    return Pruned(pruned, {"scores": scores, "fisher": found})


def fisher_diagonal(model: Model, data: Dataset, *, rng: np.random.Generator) -> dict[str, Array]:
    """Return F over all samples, by weight array and in its shape, float64; labels are drawn with `rng`."""
    layers, total = weighted_layers(model), {key: np.zeros(model.params[key].shape) for key in model.weights}
    for found in trace(model, data.x, chunk=CHUNK):
        bars = found.gradients(drawn(found.logits.data, rng))
        for name, layer in layers.items():
            x, n = found.entering[name].data.astype(np.float64), len(bars[name])
            delta = n * bars[name].astype(np.float64).reshape(n, bars[name].shape[1], -1)  # of a sample, not the mean
            out = total[f"{name}.weight"].reshape(delta.shape[1], -1)
            for group, rows in groups_of(layer):
                columns = patches(layer, x, group=group).reshape(n, delta.shape[2], -1)
                if columns.shape[1] == 1:  # one place: the square of a product is the product of squares
                    out[rows] += np.square(delta[:, rows, 0]).T @ np.square(columns[:, 0])
                else:
                    out[rows] += np.square(delta[:, rows] @ columns).sum(axis=0)
    return {key: part / len(data) for key, part in total.items()}


def drawn(logits: Array, rng: np.random.Generator) -> Array:
    """Return a label for each row of logits, drawn from softmax(logits): the largest logit plus Gumbel noise."""
    return np.asarray(np.argmax(logits.astype(np.float64) + rng.gumbel(size=logits.shape), axis=1))
