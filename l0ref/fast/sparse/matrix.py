"""A sparse matrix times a batch: the compiled functions of which the twins of the sparse operations are built.

    multiply             y[m, n] = b[m] + sum_d w[m, d] x[d, n]        over the stored entries
    multiply_transposed  x[d, n] = sum_m w[m, d] y[m, n]
    sample               g[m, d] = sum_n y[m, n] x[d, n]               at the stored entries

Activations are a `Batch`, which is laid out in blocks only once for several products. Features whose samples are whole
vectors are written in place, and read in place if they are read rarely; a single sample is not laid out. The values of
a transposed matrix are gathered for each product, since they change while a network is trained.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from l0ref.fast.machine.policy import MOVE, flat, threads_for_call
from l0ref.fast.machine.scratch import room
from l0ref.fast.sparse.batch import Batch, bring_back
from l0ref.fast.sparse.operands import Entries, no_floor, operand
from l0ref.sparse.by_rows import AnyPattern
from l0ref.validate import Array


def multiply(pattern: AnyPattern, values: Array, x: Batch, bias: Array | None = None) -> Array:
    """Return W X + b; X W^T + b if samples are rows; W x + b for a vector."""
    matrix, m, dtype = operand(pattern), pattern.shape[0], x.x.dtype
    y, b = x.empty(m), no_bias(m, dtype) if bias is None else flat(bias)
    if x.count == 1:
        matrix.multiply(values, flat(x.x), b, y.reshape(-1))
    elif y.size and x.stands and isinstance(matrix, Entries) and x.is_better_copied(loads=matrix.loads):
        threads = min(threads_for_call(matrix.work(x.count)), x.blocks)
        matrix.columns(values, b, flat(x.x), y.reshape(-1), count=x.count, threads=threads)
    elif y.size and x.stands:
        numbers, apart, step = x.read(loads=matrix.loads)
        at, steps, threads = (x.blocks, apart, x.width), (step, x.count), threads_for_call(matrix.work(x.count))
        matrix.contract(values, numbers, b, no_floor(dtype), y.reshape(-1), at, steps, threads=threads)
    elif y.size:
        threads = threads_for_call(matrix.work(x.count) + MOVE * (x.x.size + y.size))
        out = room("y", x.blocks * m * x.width, dtype)
        if x.rows and -(-x.blocks // matrix.group) >= threads:
            loan = x.memory()
            matrix.rows(values, b, x.on_the_way(loan.array, y, out), threads)
            x.laid = loan
        else:
            numbers, apart, step = x.read(loads=matrix.loads)
            at, steps = (x.blocks, apart, m * x.width), (step, x.width)
            matrix.contract(values, numbers, b, no_floor(dtype), out, at, steps, threads=threads)
            bring_back(out, y, rows=x.rows)
    return y


def multiply_transposed(pattern: AnyPattern, values: Array, y: Batch) -> Array:
    """Return W^T Y; Y W if samples are rows; W^T y for a vector."""
    return multiply(pattern.transpose(), operand(pattern).turned(values), y)


def sample(pattern: AnyPattern, y: Batch, x: Batch) -> Array:
    """Return the stored entries of Y X^T, Y^T X if samples are rows, y x^T for vectors, shaped like the values."""
    matrix, g = operand(pattern), np.zeros(pattern.values_shape, x.x.dtype)
    if x.count == 1:
        matrix.outer(flat(y.x), flat(x.x), g.reshape(-1))
    elif x.count and g.size:
        target, there, down = y.read(loads=1)
        source, here, step = x.read(loads=matrix.loads)
        threads = threads_for_call(matrix.work(x.count))
        matrix.sample(target, source, g.reshape(-1), (x.blocks, here, there), (step, down), threads=threads)
    return g


@lru_cache(maxsize=64)
def no_bias(rows: int, dtype: Any) -> Array:
    """Return read-only zeros."""
    return flat(np.zeros(rows, dtype))
