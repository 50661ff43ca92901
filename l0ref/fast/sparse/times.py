"""Compiled `l0ref.sparse.matmul.times`: the product ``w @ x`` of a sparse matrix and an array.

Why it is fast: the product of a small layer takes the processor 3 microseconds, and Python takes as long to choose the
kernel and its arguments. The choice depends on the pattern and on shape and dtype of x alone, and is cached.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from l0ref.fast.machine.policy import flat, threads_for_call
from l0ref.fast.machine.target import lanes
from l0ref.fast.sparse.batch import Batch, is_often
from l0ref.fast.sparse.matrix import multiply, no_bias
from l0ref.fast.sparse.operands import no_floor, operand
from l0ref.sparse.by_rows import AnyPattern
from l0ref.validate import Array

Product = Callable[[Array, Array], Array]


def times(pattern: AnyPattern, values: Array, x: Array) -> Array:
    """Return W x, (M,), or W X, (M, N), for an x that fits."""
    return _product_of(pattern, x.shape, x.dtype)(values, x)


@lru_cache(maxsize=64)  # keeps the patterns alive
def _product_of(pattern: AnyPattern, shape: tuple[int, ...], dtype: Any) -> Product:
    """Return the function that multiplies values and an x of this shape and dtype."""
    matrix, width = operand(pattern), lanes(dtype)
    if len(shape) == 1:
        return _with_vector(pattern, dtype)
    if shape[1] and shape[1] % width == 0 and not is_often(matrix.loads, prod(shape) * np.dtype(dtype).itemsize):
        return _where_it_stands(pattern, shape[1], width, dtype)
    return lambda values, x: multiply(pattern, values, Batch(x))


def prepared(pattern: AnyPattern, values: Array) -> Callable[[Array, Array], None]:
    """Return a function of (x, y) that fills y, (M,), with W x for a contiguous x, (D,); it checks nothing."""
    matrix, b = operand(pattern), no_bias(pattern.shape[0], values.dtype)
    return matrix.prepared(values, b)


def _with_vector(pattern: AnyPattern, dtype: Any) -> Product:
    matrix, b = operand(pattern), no_bias(pattern.shape[0], dtype)

    def product(values: Array, x: Array) -> Array:
        y = np.empty(b.size, dtype)
        matrix.multiply(values, flat(x), b, y)
        return y

    return product


def _where_it_stands(pattern: AnyPattern, count: int, width: int, dtype: Any) -> Product:
    matrix, b, floor = operand(pattern), no_bias(pattern.shape[0], dtype), no_floor(dtype)
    shape, work = (b.size, count), matrix.work(count)
    at, steps = (count // width, width, width), (count, count)

    def product(values: Array, x: Array) -> Array:
        y = np.empty(shape, dtype)
        matrix.contract(values, flat(x), b, floor, y.reshape(-1), at, steps, threads=threads_for_call(work))
        return y

    return product
