"""Losses: cross entropy against integer labels, and the mean squared error.

reduction   "none" keeps the loss of each sample or entry, "sum" adds them up, "mean" also divides by
            their number
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.errors import ShapeError
from l0ref.ops.softmax import log_probabilities
from l0ref.validate import Array, between, choose, labels

REDUCTIONS = ("mean", "sum", "none")


class CrossEntropy(Op):
    """loss_n = -sum_c q_nc log p_nc,  p_n = softmax(x_n),  q_nc = (1 - s) [c = target_n] + s / C.

    Shapes   x (N, C), target (N,) integers in [0, C) -> loss (N,), or () when it is reduced
    Range    label_smoothing s in [0, 1]; 0 gives loss_n = -log p_n[target_n]
    VJP      x_bar_nc = loss_bar_n (p_nc - q_nc); for the mean loss_bar_n = loss_bar / N
    Ref      Szegedy et al., Rethinking the Inception architecture (2016), section 7: label smoothing
    """

    @staticmethod
    def forward(x: Array, *, target: Any, label_smoothing: float, reduction: str) -> tuple[Array, Saved]:
        if x.ndim != 2 or x.shape[1] == 0:
            raise ShapeError(f"input has shape {x.shape}, expected (N, C): a row of C >= 1 scores for each sample")
        n, classes = x.shape
        index = labels("target", target, shape=(n,), classes=classes)
        log_p = log_probabilities(x, 1)
        loss = -(1 - label_smoothing) * log_p[np.arange(n), index]
        if label_smoothing:
            loss = loss - label_smoothing * log_p.mean(axis=1)
        return _reduce(loss, reduction), (log_p, index, label_smoothing, reduction)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        log_p, target, label_smoothing, reduction = saved
        n, classes = log_p.shape
        x_bar = np.exp(log_p)
        x_bar -= label_smoothing / classes
        x_bar[np.arange(n), target] -= 1 - label_smoothing
        x_bar *= _spread(y_bar, (n,), reduction)[:, None]
        return (x_bar,)


class MseLoss(Op):
    """loss = (a - b)^2 for every entry.

    Shapes   a (...), b the same -> loss (...), or () when it is reduced
    VJP      a_bar = 2 (a - b) loss_bar,  b_bar = -a_bar;  for the mean loss_bar is divided by the number of entries
    """

    @staticmethod
    def forward(a: Array, b: Array, *, reduction: str) -> tuple[Array, Saved]:
        if a.shape != b.shape:
            raise ShapeError(f"target has shape {b.shape}, expected that of the input, {a.shape}; reshape one of them")
        difference = a - b
        return _reduce(difference**2, reduction), (difference, reduction)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, Any]:
        difference, reduction = saved

        def a_bar() -> Array:
            return np.asarray(difference * (2 * _spread(y_bar, difference.shape, reduction)))

        return a_bar, lambda: -a_bar()


def _reduce(loss: Array, reduction: str) -> Array:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return np.asarray(loss.sum())
    if loss.size == 0:
        raise ShapeError("input is empty: there is no mean of 0 losses; pass reduction='sum' or leave the batch out")
    return np.asarray(loss.mean())


def _spread(y_bar: Array, shape: tuple[int, ...], reduction: str) -> Array:
    """The cotangent of each loss before it was reduced."""
    if reduction == "mean":
        y_bar = y_bar / np.asarray(np.prod(shape), dtype=y_bar.dtype)
    return np.broadcast_to(y_bar, shape)


def cross_entropy(input: Any, target: Any, *, label_smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
    """Cross entropy of scores `input` (N, C) against integer labels `target` (N,)."""
    smoothing = between("label_smoothing", label_smoothing, 0, 1)
    chosen = choose("reduction", reduction, REDUCTIONS)
    return apply(CrossEntropy, input, target=target, label_smoothing=smoothing, reduction=chosen)


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """Squared difference of two arrays of one shape; both may carry a gradient. PyTorch would broadcast them."""
    return apply(MseLoss, input, target, reduction=choose("reduction", reduction, REDUCTIONS))
