"""Loops over what a sparse pattern stores: one number at a time, read from indptr and indices alone.

A pattern is anything with `indptr`, `indices` and `shape`; one with a `blocksize` stores tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.naive import F64, Index, places
from tests.naive import convolution as dense_convolution


def stored(pattern: Any) -> Iterator[tuple[Index, int, int]]:
    """Yield (index into values, row m, column d) of every stored entry; padding beyond the edge is left out."""
    rows, columns = pattern.shape
    tall, wide = getattr(pattern, "blocksize", (1, 1))
    for i in range(len(pattern.indptr) - 1):
        for p in range(int(pattern.indptr[i]), int(pattern.indptr[i + 1])):
            for r, c in places((tall, wide)):
                m, d = i * tall + r, int(pattern.indices[p]) * wide + c
                if m < rows and d < columns:
                    yield (p, r, c) if hasattr(pattern, "blocksize") else (p,), m, d


def spmm(values: F64, x: F64, *, pattern: Any, transposed: bool = False) -> F64:
    y = np.zeros((pattern.shape[1 if transposed else 0], x.shape[1]))
    for at, m, d in stored(pattern):
        out, into = (d, m) if transposed else (m, d)
        for n in range(x.shape[1]):
            y[out, n] += values[at] * x[into, n]
    return y


def spmm_vjp(y_bar: F64, values: F64, x: F64, *, pattern: Any, transposed: bool = False) -> list[F64]:
    values_bar, x_bar = np.zeros(values.shape), np.zeros(x.shape)
    for at, m, d in stored(pattern):
        out, into = (d, m) if transposed else (m, d)
        for n in range(x.shape[1]):
            values_bar[at] += y_bar[out, n] * x[into, n]
            x_bar[into, n] += y_bar[out, n] * values[at]
    return [values_bar, x_bar]


def spmv(values: F64, x: F64, *, pattern: Any, transposed: bool = False) -> F64:
    y = np.zeros(pattern.shape[1 if transposed else 0])
    for at, m, d in stored(pattern):
        y[d if transposed else m] += values[at] * x[m if transposed else d]
    return y


def spmv_vjp(y_bar: F64, values: F64, x: F64, *, pattern: Any, transposed: bool = False) -> list[F64]:
    values_bar, x_bar = np.zeros(values.shape), np.zeros(x.shape)
    for at, m, d in stored(pattern):
        out, into = (d, m) if transposed else (m, d)
        values_bar[at] += y_bar[out] * x[into]
        x_bar[into] += y_bar[out] * values[at]
    return [values_bar, x_bar]


def sddmm(a: F64, b: F64, *, pattern: Any) -> F64:
    tiles = getattr(pattern, "blocksize", ())
    w = np.zeros((len(pattern.indices), *tiles))
    for at, m, d in stored(pattern):
        for n in range(a.shape[1]):
            w[at] += a[m, n] * b[d, n]
    return w


def sddmm_vjp(w_bar: F64, a: F64, b: F64, *, pattern: Any) -> list[F64]:
    a_bar, b_bar = np.zeros(a.shape), np.zeros(b.shape)
    for at, m, d in stored(pattern):
        for n in range(a.shape[1]):
            a_bar[m, n] += w_bar[at] * b[d, n]
            b_bar[d, n] += w_bar[at] * a[m, n]
    return [a_bar, b_bar]


def linear(x: F64, values: F64, bias: F64 | None = None, *, pattern: Any) -> F64:
    y = np.zeros((*x.shape[:-1], pattern.shape[0]))
    for lead in places(x.shape[:-1]):
        for at, m, d in stored(pattern):
            y[(*lead, m)] += x[(*lead, d)] * values[at]
        for m in range(pattern.shape[0]):
            y[(*lead, m)] += 0.0 if bias is None else bias[m]
    return y


def linear_vjp(y_bar: F64, x: F64, values: F64, bias: F64 | None = None, *, pattern: Any) -> list[F64]:
    x_bar, values_bar, bias_bar = np.zeros(x.shape), np.zeros(values.shape), np.zeros(pattern.shape[0])
    for lead in places(x.shape[:-1]):
        for at, m, d in stored(pattern):
            x_bar[(*lead, d)] += y_bar[(*lead, m)] * values[at]
            values_bar[at] += y_bar[(*lead, m)] * x[(*lead, d)]
        for m in range(pattern.shape[0]):
            bias_bar[m] += y_bar[(*lead, m)]
    return [x_bar, values_bar] if bias is None else [x_bar, values_bar, bias_bar]


def contacts(x: Index, pattern: Any, kernel: Index, **options: Any) -> Iterator[tuple[Index, Index, Index]]:
    """Yield (index into y, index into x, index into values) of every product of a stored weight that enters y."""
    at = {(m, d): place for place, m, d in stored(pattern)}
    for at_y, at_x, (f, c, r, s) in dense_convolution.contacts(x, kernel, **options):
        place = at.get((f, (c * kernel[2] + r) * kernel[3] + s))
        if place is not None:
            yield at_y, at_x, place


def conv2d(x: F64, values: F64, b: F64 | None = None, *, pattern: Any, kernel_shape: Index, **options: Any) -> F64:
    y = np.zeros(dense_convolution.output_shape(x, np.zeros(kernel_shape), **options))
    for at_y, at_x, place in contacts(x.shape, pattern, kernel_shape, **options):
        y[at_y] += x[at_x] * values[place]
    if b is not None:
        for at_y in places(y.shape):
            y[at_y] += b[at_y[1]]
    return y


def conv2d_vjp(
    y_bar: F64, x: F64, values: F64, b: F64 | None = None, *, pattern: Any, kernel_shape: Index, **options: Any
) -> list[F64]:
    x_bar, values_bar, b_bar = np.zeros(x.shape), np.zeros(values.shape), np.zeros(kernel_shape[0])
    for at_y, at_x, place in contacts(x.shape, pattern, kernel_shape, **options):
        x_bar[at_x] += y_bar[at_y] * values[place]
        values_bar[place] += y_bar[at_y] * x[at_x]
    for at_y in places(y_bar.shape):
        b_bar[at_y[1]] += y_bar[at_y]
    return [x_bar, values_bar] if b is None else [x_bar, values_bar, b_bar]
