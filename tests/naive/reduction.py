"""Loops for `l0ref.ops.reduction`: entries are collected in scan order, then folded."""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.naive import F64, Index, places, table

Axis = int | tuple[int, ...] | None


def reduced(axis: Axis, ndim: int) -> set[int]:
    """The reduced axes, counted from the front."""
    if axis is None:
        return set(range(ndim))
    return {a + ndim if a < 0 else a for a in ((axis,) if isinstance(axis, int) else axis)}


def fold(x: F64, axis: Axis, keepdims: bool, f: Callable[[list[float]], float]) -> F64:
    """f of the list of entries that fall on each entry of the result."""
    axes = reduced(axis, x.ndim)

    def target(place: Index) -> Index:
        return tuple(0 if i in axes else at for i, at in enumerate(place) if keepdims or i not in axes)

    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes)
    found: dict[Index, list[float]] = {place: [] for place in places(shape)}
    for place in places(x.shape):
        found[target(place)].append(float(x[place]))
    return table(shape, lambda *place: f(found[place]))


def total(x: F64, *, axis: Axis, keepdims: bool) -> F64:
    return fold(x, axis, keepdims, math.fsum)


def mean(x: F64, *, axis: Axis, keepdims: bool) -> F64:
    return fold(x, axis, keepdims, lambda entries: math.fsum(entries) / len(entries))


def largest(x: F64, *, axis: Axis, keepdims: bool) -> F64:
    return fold(x, axis, keepdims, max)


def logsumexp(x: F64, *, axis: Axis, keepdims: bool) -> F64:
    return fold(x, axis, keepdims, lambda entries: math.log(math.fsum(math.exp(e) for e in entries)))
