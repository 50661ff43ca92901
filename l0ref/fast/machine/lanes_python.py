"""The vectors of `machine.lanes` as plain functions: their meaning, with every offset checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.fast.machine.target import lanes
from l0ref.validate import Array

At = tuple[int, ...]
Vectors = tuple[Array, ...]


def load(x: Array, at: At) -> Vectors:
    """x[at_p + l]."""
    return tuple(x[_places(x, i)].copy() for i in at)


def spread(w: Array, at: At) -> Vectors:
    """w[at_i], in all lanes."""
    return tuple(np.full(lanes(w.dtype), w[_one(w, i)]) for i in at)


def filled(b: Array, rows: At, columns: At) -> Vectors:
    """b[rows_i], in all lanes, again for every column."""
    return spread(b, rows) * len(columns)


def outer(a: Vectors, v: Vectors, u: Vectors) -> Vectors:
    """a_pi[l] + v_p[l] u_i[l]."""
    pairs = [(x, y) for x in v for y in u]
    return tuple(_fused(x, y, s) for (x, y), s in zip(pairs, a, strict=True))


def plus(a: Vectors, b: Vectors) -> Vectors:
    """a_k[l] + b_k[l]."""
    return tuple(x + y for x, y in zip(a, b, strict=True))


def minus(a: Vectors, b: Vectors) -> Vectors:
    """a_k[l] - b_k[l]."""
    return tuple(x - y for x, y in zip(a, b, strict=True))


def at_least(a: Vectors, w: Array, i: int) -> Vectors:
    """max(a_pi[l], w[i]); a NaN stays NaN."""
    least = w[_one(w, i)]
    return tuple(np.where(x < least, least, x) for x in a)


def store(y: Array, columns: At, rows: At, a: Vectors) -> None:
    """y[columns_p + rows_i + l] = a_pi[l]."""
    for place, vector in zip([c + r for c in columns for r in rows], a, strict=True):
        y[_places(y, place)] = vector


def increase(y: Array, columns: At, rows: At, a: Vectors) -> None:
    """y[columns_p + rows_i + l] += a_pi[l], one after another."""
    for place, vector in zip([c + r for c in columns for r in rows], a, strict=True):
        y[_places(y, place)] += vector


def totals(a: Vectors) -> Vectors:
    """sum_l a_k[l]."""
    sums = np.stack(a)
    while sums.shape[1] > 1:  # neighbours first, as the compiled one does
        sums = sums[:, ::2] + sums[:, 1::2]
    return tuple(sums.reshape(-1, lanes(sums.dtype)))


def transposed(a: Vectors) -> Vectors:
    """a_l[k]."""
    return tuple(np.stack(a).T.copy())


def part(x: Array, at: int, count: int) -> Vectors:
    """x[at + l], 0 from `count` on."""
    out = np.zeros(lanes(x.dtype), x.dtype)
    for k in range(max(0, min(count, out.size))):
        out[k] = x[_one(x, at + k)]
    return (out,)


def gather(x: Array, t: NDArray[np.integer[Any]], at: int, count: int) -> Vectors:
    """x[t[at + l]], 0 from `count` on."""
    out = np.zeros(lanes(x.dtype), x.dtype)
    for k in range(max(0, min(count, out.size))):
        out[k] = x[_one(x, int(t[_one(t, at + k)]))]
    return (out,)


def total(a: Vectors) -> Any:
    """sum_l a_0[l], halves first, as the compiled one does."""
    (sums,) = a
    while sums.size > 1:
        sums = sums[: sums.size // 2] + sums[sums.size // 2 :]
    return sums[0]


def number(x: Array, i: float) -> Vectors:
    """The number i, of the type of x, in all lanes."""
    return (np.full(lanes(x.dtype), i, x.dtype),)


def larger(a: Vectors, v: Vectors) -> Vectors:
    """v_k[l] where v_0[l] > a_0[l] or is NaN, else a_k[l]."""
    wins = (v[0] > a[0]) | np.isnan(v[0])
    return tuple(np.where(wins, y, x) for x, y in zip(a, v, strict=True))


def where_equal(v: Vectors, k: Vectors, u: Vectors) -> Vectors:
    """v[l] where k[l] = u[l], 0 elsewhere."""
    ((x,), (mine,), (asked,)) = v, k, u
    return (np.where(mine == asked, x, x.dtype.type(0)),)


def width(x: Array) -> int:
    """The lanes of a vector."""
    return lanes(x.dtype)


def shift(at: At, by: int) -> At:
    """at_p + by."""
    return tuple(i + by for i in at)


def pick(t: NDArray[np.integer[Any]], at: At) -> At:
    """t[at_p]."""
    return tuple(int(t[_one(t, i)]) for i in at)


def at_most(at: At, most: int) -> At:
    """min(at_p, most)."""
    return tuple(min(i, most) for i in at)


def _fused(x: Array, y: Array, s: Array) -> Array:
    """x y + s in float32 rounded (nearly always) once; in float64 the product is rounded as well."""
    return np.asarray(x.astype(np.float64) * y + s, x.dtype)


def _places(x: Array, at: int) -> slice:
    if not 0 <= at <= x.size - lanes(x.dtype):
        raise IndexError(f"a vector at {at} reaches outside of an array of {x.size}")
    return slice(at, at + lanes(x.dtype))


def _one(w: Array, at: int) -> int:
    if not 0 <= at < w.size:
        raise IndexError(f"{at} lies outside of an array of {w.size}")
    return at
