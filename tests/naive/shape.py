"""Loops for `l0ref.ops.shape`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.naive import F64, Index, places, table


def refill(x: F64, shape: Index) -> F64:
    """The entries of `x` in scan order, put into `shape` in scan order."""
    out = np.empty(shape)
    for source, at in zip(places(x.shape), places(shape), strict=True):
        out[at] = x[source]
    return out


def count(shape: Index) -> int:
    return len(list(places(shape)))


def reshape(x: F64, *, shape: Index) -> F64:
    known = count(tuple(n for n in shape if n != -1))
    return refill(x, tuple(count(x.shape) // known if n == -1 else n for n in shape))


def flatten(x: F64, *, start_dim: int, end_dim: int) -> F64:
    ndim = max(x.ndim, 1)
    start, end = start_dim % ndim, end_dim % ndim
    full = x.shape or (1,)
    return refill(x, (*full[:start], count(full[start : end + 1]), *full[end + 1 :]))


def permute(x: F64, *, dims: Index) -> F64:
    order = [dim % x.ndim for dim in dims]
    shape = tuple(x.shape[axis] for axis in order)
    return table(shape, lambda *at: x[tuple(at[order.index(axis)] for axis in range(x.ndim))])


def transpose(x: F64, *, dim0: int, dim1: int) -> F64:
    dims = list(range(x.ndim))
    dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return permute(x, dims=tuple(dims))


def concatenate(*xs: F64, axis: int) -> F64:
    place = axis % xs[0].ndim
    sizes = [x.shape[place] for x in xs]
    shape = (*xs[0].shape[:place], sum(sizes), *xs[0].shape[place + 1 :])

    def entry(*at: int) -> Any:
        which, left = 0, at[place]
        while left >= sizes[which]:
            left -= sizes[which]
            which += 1
        return xs[which][(*at[:place], left, *at[place + 1 :])]

    return table(shape, entry)


def pad(x: F64, *, pad: Index, value: float) -> F64:
    before, after = [0] * x.ndim, [0] * x.ndim
    for i in range(len(pad) // 2):
        before[x.ndim - 1 - i], after[x.ndim - 1 - i] = pad[2 * i], pad[2 * i + 1]
    shape = tuple(b + n + a for b, n, a in zip(before, x.shape, after, strict=True))

    def entry(*at: int) -> Any:
        inner = tuple(i - b for i, b in zip(at, before, strict=True))
        inside = all(0 <= i < n for i, n in zip(inner, x.shape, strict=True))
        return x[inner] if inside else value

    return table(shape, entry)
