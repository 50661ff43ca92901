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


def reduce(losses: F64, reduction: str) -> Any:
    """None, sum or mean of the losses."""
    entries = [float(losses[at]) for at in places(losses.shape)]
    if reduction == "none":
        return losses
    return math.fsum(entries) if reduction == "sum" else math.fsum(entries) / len(entries)


def cross_entropy(x: F64, *, target: Any, label_smoothing: float, reduction: str) -> Any:
    log_p = log_softmax(x, axis=1)
    n, classes = x.shape

    def loss(i: int) -> float:
        wanted = [label_smoothing / classes] * classes
        wanted[int(target[i])] += 1 - label_smoothing
        return -math.fsum(wanted[c] * log_p[i, c] for c in range(classes))

    return reduce(table((n,), loss), reduction)


def mse_loss(a: F64, b: F64, *, reduction: str) -> Any:
    def loss(*at: int) -> float:
        return float(a[at] - b[at]) * float(a[at] - b[at])

    shape: Index = a.shape
    return reduce(table(shape, loss), reduction)
