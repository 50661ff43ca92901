"""Loops for `l0ref.ops.softmax` and `l0ref.ops.loss`."""

from __future__ import annotations

import math
from typing import Any

from tests.naive import F64, Index, places, table


def softmax(x: F64, *, axis: int) -> F64:
    place_of_axis = axis % x.ndim

    def entry(*at: int) -> float:
        line = [x[(*at[:place_of_axis], j, *at[place_of_axis + 1 :])] for j in range(x.shape[place_of_axis])]
        return math.exp(x[at]) / math.fsum(math.exp(e) for e in line)

    return table(x.shape, entry)


def log_softmax(x: F64, *, axis: int) -> F64:
    p = softmax(x, axis=axis)
    return table(x.shape, lambda *at: math.log(p[at]))


def reduce(losses: F64, reduction: str, divisor: float | None = None) -> Any:
    """None, sum or mean of the losses; the mean divides by their number unless told otherwise."""
    entries = [float(losses[at]) for at in places(losses.shape)]
    if reduction == "none":
        return losses
    whole = math.fsum(entries)
    return whole if reduction == "sum" else whole / (len(entries) if divisor is None else divisor)


def cross_entropy(
    x: F64, *, target: Any, label_smoothing: float, reduction: str, weight: Any = None, ignore_index: Any = None
) -> Any:
    log_p = log_softmax(x, axis=1)
    n, classes = x.shape
    prices = [1.0] * classes if weight is None else [float(w) for w in weight]
    has_labels = not hasattr(target, "ndim") or target.ndim == 1

    def asked(i: int, c: int) -> float:
        own = float(int(target[i]) == c) if has_labels else float(target[i, c])
        return prices[c] * (own * (1 - label_smoothing) + label_smoothing / classes)

    def loss(i: int) -> float:
        if has_labels and ignore_index is not None and int(target[i]) == ignore_index:
            return 0.0
        return -math.fsum(asked(i, c) * log_p[i, c] for c in range(classes))

    kept = [int(t) for t in target if ignore_index is None or int(t) != ignore_index] if has_labels else []
    divisor = math.fsum(prices[t] for t in kept) if has_labels else float(n)
    return reduce(table((n,), loss), reduction, divisor)


def mse_loss(a: F64, b: F64, *, reduction: str) -> Any:
    def loss(*at: int) -> float:
        return float(a[at] - b[at]) * float(a[at] - b[at])

    shape: Index = a.shape
    return reduce(table(shape, loss), reduction)
