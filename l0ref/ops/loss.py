"""Losses: cross entropy against labels or probabilities, and the mean squared error.

reduction   "none" keeps the loss of each sample or entry, "sum" adds them up, "mean" also divides by their number, or
            by the sum of their weights
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.errors import ArgumentError, ShapeError
from l0ref.ops.softmax import log_probabilities
from l0ref.validate import Array, as_array, between, choose, count, labels, nonnegative_array

REDUCTIONS = ("mean", "sum", "none")


class CrossEntropy(Op):
    """loss_n = -sum_c v_nc log p_nc,  p_n = softmax(x_n),  v_nc = w_c ((1 - s) q_nc + s / C).

    Shapes   x (N, C); target (N,) integers in [0, C), q_nc = [c = target_n], or probabilities (N, C), q = target
             -> loss (N,), or () when it is reduced
    Range    label_smoothing s in [0, 1]; weight w (C,) finite and not negative, ones by default. Probabilities are
             finite and not negative; whether a row sums to 1 is not checked
    Ignored  where target_n = ignore_index, v_n = 0: no loss, no slope, no part in the mean
    Mean     divides by the sum of w[target_n] over the samples that are not ignored; for probabilities by N
    VJP      x_bar_nc = loss_bar_n (V_n p_nc - v_nc),  V_n = sum_c v_nc;  for the mean loss_bar_n = loss_bar / divisor
    Ref      Szegedy et al., Rethinking the Inception architecture (2016), section 7: label smoothing
    Departs  A mean over no samples (all ignored or of weight 0) is refused, as that over an empty batch is; PyTorch
             returns NaN. No label is ignored by default (PyTorch: -100). v_nc = 0 gives 0 where log p_nc = -inf
    """

    @staticmethod
    def forward(
        x: Array, *, target: Any, label_smoothing: float, reduction: str, weight: Any = None, ignore_index: Any = None
    ) -> tuple[Array, Saved]:
        v, share = wanted(x, target, label_smoothing, weight, ignore_index)
        log_p = log_probabilities(x, 1)
        loss = -np.multiply(v, log_p, where=v != 0, out=np.zeros_like(v)).sum(axis=1)
        return _reduce(loss, reduction, divisor := share.sum()), (log_p, v, divisor, reduction)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Array]:
        log_p, v, divisor, reduction = saved
        whole = v.sum(axis=1, keepdims=True)
        x_bar, loss_bar = np.exp(log_p) * whole - v, _spread(y_bar, (len(v),), reduction, divisor)[:, None]
        return (np.multiply(x_bar, loss_bar, where=whole != 0, out=np.zeros_like(x_bar)),)


def wanted(x: Array, target: Any, smoothing: float, weight: Any, ignore_index: int | None) -> tuple[Array, Array]:
    """Return v (N, C) of `CrossEntropy`, and the share (N,) of each sample in the divisor of the mean."""
    if x.ndim != 2 or x.shape[1] == 0:
        raise ShapeError(f"input has shape {x.shape}, expected (N, C): a row of C >= 1 scores for each sample")
    n, classes = x.shape
    w = np.ones(classes, x.dtype) if weight is None else nonnegative_array("weight", weight, like=x, shape=(classes,))
    array = as_array("target", target)
    if array.ndim == 2 and array.dtype.kind == "f":
        if ignore_index is not None:
            raise ArgumentError(f"ignore_index={ignore_index!r} is for labels; give a row to leave out the target 0")
        q, share = nonnegative_array("target", array, like=x, shape=x.shape), np.ones(n, x.dtype)
    else:
        index = labels("target", array, shape=(n,), classes=classes, ignore=ignore_index)
        seen = np.ones(n, bool) if ignore_index is None else index != ignore_index
        q, rows = np.zeros(x.shape, x.dtype), np.flatnonzero(seen)
        q[rows, index[rows]] = 1
        share = q @ w
        w = seen[:, None] * w
    return w * (q * (1 - smoothing) + smoothing / classes), share


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
        return _reduce(difference**2, reduction, difference.size), (difference, reduction)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, Any]:
        difference, reduction = saved

        def a_bar() -> Array:
            return np.asarray(difference * (2 * _spread(y_bar, difference.shape, reduction, difference.size)))

        return a_bar, lambda: -a_bar()


def _reduce(loss: Array, reduction: str, divisor: Any) -> Array:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return np.asarray(loss.sum())
    if loss.size == 0:
        raise ShapeError("input is empty: there is no mean of 0 losses; pass reduction='sum' or leave the batch out")
    if not divisor:
        raise ArgumentError("target leaves no sample of weight above 0: there is no mean; pass reduction='sum'")
    return np.asarray(loss.sum() / loss.dtype.type(divisor))


def _spread(y_bar: Array, shape: tuple[int, ...], reduction: str, divisor: Any) -> Array:
    """The cotangent of each loss before it was reduced."""
    if reduction == "mean":
        y_bar = y_bar / np.asarray(divisor, dtype=y_bar.dtype)
    return np.broadcast_to(y_bar, shape)


def cross_entropy(
    input: Any, target: Any, *, weight: Any = None, ignore_index: int | None = None, label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:  # fmt: skip
    """Cross entropy of scores `input` (N, C) against integer labels `target` (N,), or probabilities (N, C).

    weight        (C,) weight of a sample of each class
    ignore_index  label of samples that are left out; may lie outside of [0, C)

    >>> round(float(cross_entropy(np.zeros((2, 4)), [3, -1], ignore_index=-1)), 4)  # log 4
    1.3863
    """
    smoothing = between("label_smoothing", label_smoothing, 0, 1)
    chosen = choose("reduction", reduction, REDUCTIONS)
    kept: dict[str, Any] = {"weight": weight, "ignore_index": ignore_index}
    if ignore_index is not None:
        count("ignore_index", ignore_index, least=-(2**62))
    return apply(CrossEntropy, input, target=target, label_smoothing=smoothing, reduction=chosen, **kept)


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """Squared difference of two arrays of one shape; both may carry a gradient. PyTorch would broadcast them."""
    return apply(MseLoss, input, target, reduction=choose("reduction", reduction, REDUCTIONS))
