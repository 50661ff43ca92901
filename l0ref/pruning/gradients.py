"""Gradients of the mean loss over some samples, in evaluation mode: what criteria of sensitivity read."""

from __future__ import annotations

from l0ref.autodiff.tensor import Tensor, grad
from l0ref.data import Dataset
from l0ref.nn import Model
from l0ref.nn.loss import data_loss
from l0ref.validate import Array

CHUNK = 256  # samples on the tape at a time


def loss_gradients(model: Model, data: Dataset, *, temperature: float = 1.0) -> dict[str, Array]:
    """Return d L / d p for every parameter p, L the mean loss of logits / temperature over all of `data`."""
    total: dict[str, Array] = {}
    for start in range(0, len(data), CHUNK):
        x, y = data.x[start : start + CHUNK], data.y[start : start + CHUNK]
        tensors = {key: Tensor(p) for key, p in model.params.items()}
        logits, _ = model.forward(x, params=tensors)
        loss = data_loss(logits / temperature, y) * (len(y) / len(data))
        for key, g in zip(tensors, grad(loss, list(tensors.values())), strict=True):
            total[key] = total[key] + g if key in total else g
    return total
