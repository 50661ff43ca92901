"""Pruning before training, by one gradient: SNIP and GraSP.

    snip     s = |w dL/dw| / sum |w dL/dw|          smallest go; the sum is over all parameters, biases too
    grasp    s = -w (H g),  g = dL/dw               largest go: the gradient of the weights left is largest

L is the mean cross-entropy of some training samples. Both are meant for the network before its training (a pipeline
with no epochs before the cut), and are defined for any network.

Ref  Lee, Ajanthan, Torr 2019 (arXiv 1810.02340) and Wang, Zhang, Grosse 2020 (arXiv 2002.07376); constants from the
     authors' code: logits over 200, 25 samples of each class, for GraSP.

Both depart from the paper in the mode: gradients are taken in evaluation mode. Before training, batch normalisation
then has its first statistics, 0 and 1, and does not normalise, whereas the authors use those of the batch [I].
"""

from __future__ import annotations

import numpy as np

from l0ref.autodiff.tensor import Tensor, grad
from l0ref.data import Dataset, Splits
from l0ref.methods.registry import Pruned, calibration, method
from l0ref.nn import Model
from l0ref.nn.loss import data_loss
from l0ref.pruning.prune import prune_by
from l0ref.streams import stream
from l0ref.validate import Array, count, positive

CHUNK = 256  # samples on the tape at a time
STEP = 1e-5  # of the difference of gradients, relative to the size of the weights


@method(
    "snip", paper="Lee, Ajanthan, Torr 2019", kind="score", reads=("weights", "gradients"), records=("scores",),
    marks="[I]", random=True,
)  # fmt: skip
def snip(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    samples: int = 128,
) -> Pruned:  # fmt: skip
    """Mask the weights whose removal changes the loss least, to first order: |w dL/dw|.

    samples  of the training set, drawn with `seed`
    record   scores: s of all parameters, summing to 1

    |w dL/dw| is also |dL/dm| at m = 1 of a mask m that multiplies w.
    Departs from the authors' code: biases share the sum, as there, but are not pruned.
    """
    grads = loss_gradients(model, calibration(model, data, samples=samples, seed=seed))
    products = {key: np.abs(model.params[key] * g) for key, g in grads.items()}
    total = sum(float(p.sum(dtype=np.float64)) for p in products.values()) or 1.0
    scores = {key: p / p.dtype.type(total) for key, p in products.items()}
    ours = {key: scores[key] for key in model.weights}
    return Pruned(prune_by(model, ours, amount=amount, scope=scope, min_keep=min_keep), {"scores": scores})


@method(
    "grasp", paper="Wang, Zhang, Grosse 2020", kind="score", reads=("weights", "gradients"), records=("scores",),
    marks="[I]", random=True,
)  # fmt: skip
def grasp(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    per_class: int = 25, temperature: float = 200.0,
) -> Pruned:  # fmt: skip
    """Mask the weights with the largest -w (H g): those whose removal lowers the norm of the gradient least.

    per_class    training samples of each class, drawn with `seed`; all samples of a class that has fewer
    temperature  divides the logits
    record       scores: s by weight array

    Departs from the authors' code: H g is a central difference of gradients in float64, and the samples form one batch,
    not two halves whose gradients are summed.
    """
    few = balanced(data.train, count("per_class", per_class, least=1), seed=seed)
    wide, few = model.astype(np.float64), Dataset(few.x.astype(np.float64), few.y, few.classes, few.name)
    curved = hessian_times_gradient(wide, few, temperature=positive("temperature", temperature))
    scores = {key: (-wide.params[key] * curved[key]).astype(model.dtype) for key in model.weights}
    order = {key: -s for key, s in scores.items()}
    return Pruned(prune_by(model, order, amount=amount, scope=scope, min_keep=min_keep), {"scores": scores})


def balanced(data: Dataset, per_class: int, *, seed: int) -> Dataset:
    """Return up to `per_class` samples of every class, in the order of the data set."""
    rng = stream(seed, "calibrate")
    chosen = [rng.permutation(np.flatnonzero(data.y == c))[:per_class] for c in range(data.classes)]
    return data.take(np.sort(np.concatenate(chosen)))


def hessian_times_gradient(model: Model, data: Dataset, *, temperature: float) -> dict[str, Array]:
    """Return H g by weight array, (g(w + t g) - g(w - t g)) / 2t, H and g with respect to the weights alone."""
    grads = loss_gradients(model, data, temperature=temperature)
    g = {key: grads[key] * model.mask(key) for key in model.weights}
    length = np.sqrt(sum(float(np.square(each).sum()) for each in g.values()))
    size = np.sqrt(sum(float(np.square(model.params[key]).sum()) for key in g))
    t = STEP * max(float(size), 1.0) / max(float(length), np.finfo(np.float64).tiny)
    ends = [
        loss_gradients(
            model.replace(params={k: p + s * g[k] if k in g else p for k, p in model.params.items()}),
            data,
            temperature=temperature,
        )
        for s in (t, -t)
    ]
    return {key: (ends[0][key] - ends[1][key]) / (2 * t) for key in g}


def loss_gradients(model: Model, data: Dataset, *, temperature: float = 1.0) -> dict[str, Array]:
    """Return dL/dp for every parameter p, L the mean loss of logits / temperature over `data`, in evaluation mode."""
    total: dict[str, Array] = {}
    for start in range(0, len(data), CHUNK):
        x, y = data.x[start : start + CHUNK], data.y[start : start + CHUNK]
        tensors = {key: Tensor(p) for key, p in model.params.items()}
        logits, _ = model.forward(x, params=tensors)
        loss = data_loss(logits / temperature, y) * (len(y) / len(data))
        for key, g in zip(tensors, grad(loss, list(tensors.values())), strict=True):
            total[key] = total[key] + g if key in total else g
    return total
