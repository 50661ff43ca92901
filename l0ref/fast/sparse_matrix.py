"""A sparse matrix times a batch, as compiled functions: what the twins of the sparse operations are made of.

    multiply             y[m, n] = b[m] + sum_d w[m, d] x[d, n]        over what is stored
    multiply_transposed  x[d, n] = sum_m w[m, d] y[m, n]
    sample               g[m, d] = sum_n y[m, n] x[d, n]               where something is stored

Activations are features by samples, or samples by features (`rows`). Both are laid out in blocks, which costs a read
and a write of each number; a single sample is left as it is. Features whose samples are whole vectors are written where
they belong, and read where they stand if that is seldom: there a vector may lie across two lines of the cache, and rows
a power of 2 apart drive each other out of the first one. The values of a transposed
matrix are gathered anew for each product, since they change while a network is trained.
"""

from __future__ import annotations

import numpy as np

from l0ref.fast.sparse_layout import blocks_for, bring_back, flat, laid, room
from l0ref.fast.sparse_operands import no_floor, operand
from l0ref.fast.target import lanes
from l0ref.sparse.products import AnyPattern
from l0ref.validate import Array

SELDOM = 5  # times that a feature is read, up to which reading it where it stands is faster than laying it out


def multiply(pattern: AnyPattern, values: Array, x: Array, bias: Array | None = None, *, rows: bool = False) -> Array:
    """Return W X + b, or X W^T + b if samples are `rows`; W x + b for a vector."""
    (m, d), count, width = pattern.shape, _count(x, rows), lanes(x.dtype)
    y = np.empty((m, count)[: x.ndim] if not rows else (count, m), x.dtype)
    b = np.zeros(m, x.dtype) if bias is None else bias
    if count == 1:
        operand(pattern).multiply(values, flat(x), flat(b), y.reshape(-1))
    elif y.size:
        blocks, whole = blocks_for(count, width), not rows and count % width == 0
        stays = whole and operand(pattern).loads <= SELDOM * d
        out = y.reshape(-1) if whole else room("y", blocks * m * width, x.dtype)
        apart = blocks, width if stays else d * width, width if whole else m * width
        source = flat(x) if stays else laid(x, rows=rows, into="x")
        steps = count if stays else width, count if whole else width
        operand(pattern).contract(values, source, flat(b), no_floor(x.dtype), out, apart, steps)
        if not whole:
            bring_back(out, y, rows=rows)
    return y


def multiply_transposed(pattern: AnyPattern, values: Array, y: Array, *, rows: bool = False) -> Array:
    """Return W^T Y, or Y W if samples are `rows`; W^T y for a vector."""
    return multiply(pattern.transpose(), operand(pattern).turned(values), y, rows=rows)


def sample(pattern: AnyPattern, y: Array, x: Array, *, rows: bool = False) -> Array:
    """Return what is stored of Y X^T, or of Y^T X if samples are `rows`, or y x^T of vectors, like the values."""
    (m, d), count, width = pattern.shape, _count(x, rows), lanes(x.dtype)
    g = np.zeros(pattern.values_shape, x.dtype)
    if count == 1:
        operand(pattern).outer(flat(y), flat(x), g.reshape(-1))
    elif count and g.size:
        blocks, whole = blocks_for(count, width), not rows and count % width == 0
        apart = blocks, d * width, width if whole else m * width
        source, target = laid(x, rows=rows, into="x"), flat(y) if whole else laid(y, rows=rows, into="y")
        operand(pattern).sample(target, source, g.reshape(-1), apart, count if whole else width)
    return g


def _count(x: Array, rows: bool) -> int:
    """Number of samples; a vector is one."""
    return 1 if x.ndim == 1 else x.shape[0 if rows else 1]
