"""The data loss of a network and its gradient: the first part of a training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from l0ref import ops
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.nn.layer import Layer
from l0ref.nn.sequence import run
from l0ref.validate import Array


class Pass(NamedTuple):
    """A batch through a network and back.

    logits   (N, classes)
    loss     L, a mean over the batch; an array without axes
    grads    {key: dL / d params[key]}
    buffers  all buffers after the pass
    """

    logits: Array
    loss: Array
    grads: dict[str, Array]
    buffers: dict[str, Array]


def loss_and_gradient(
    architecture: Sequence[Layer],
    params: Mapping[str, Array],
    buffers: Mapping[str, Array],
    x: Array,
    y: Array,
    *,
    label_smoothing: float = 0.0,
    training: bool = True,
    rng: np.random.Generator | None = None,
    soft: Any = None,
) -> Pass:
    """Return the loss of a batch, and its gradient with respect to every parameter, both on the tape.

        L(params) = 1/N sum_n cross_entropy(network(x_n; params), y_n)       y class labels
        L(params) = 1/(N K) sum_nk (network(x_n; params)_k - y_nk)^2         y floats, of a regression

    x, y             (N, ...) samples, (N,) class labels or (N, K) targets
    label_smoothing  share of the target spread evenly over all classes
    training, rng    use batch statistics and dropout, which `rng` drives
    soft             a teacher's targets for the batch, `l0ref.distillation.Soft`: their loss is mixed with that above

    Penalty and masks take no part here: the optimiser applies them.
    """
    tensors = {key: Tensor(w) for key, w in params.items()}
    logits, changed = run(architecture, Tensor(x), tensors, buffers, training=training, rng=rng)
    loss = data_loss(logits, y, label_smoothing=label_smoothing)
    loss = loss if soft is None else soft.mixed(loss, logits)
    grads = dict(zip(tensors, grad(loss, list(tensors.values())), strict=True))
    return Pass(logits.data, loss.data, grads, {**buffers, **changed})


def data_loss(outputs: Tensor, y: Array, *, label_smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
    """Return the loss of outputs (N, K): cross-entropy against labels (N,), squared error against floats (N, K)."""
    if y.dtype.kind == "f":
        return ops.mse_loss(outputs, y, reduction=reduction)
    return ops.cross_entropy(outputs, y, label_smoothing=label_smoothing, reduction=reduction)
