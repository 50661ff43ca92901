"""Compiled twins of `SparseLinear` and `BlockSparseLinear`."""

from __future__ import annotations

from math import prod
from typing import Any

from l0ref.autodiff.op import Saved, reshaped
from l0ref.fast.sparse.batch import Batch
from l0ref.fast.sparse.matrix import multiply, multiply_transposed, sample
from l0ref.sparse.block_pattern import BlockPattern
from l0ref.sparse.by_rows import AnyPattern
from l0ref.sparse.linear import check_linear
from l0ref.sparse.pattern import Pattern
from l0ref.validate import Array


def sparse_linear_forward(
    x: Array, values: Array, bias: Array | None = None, *, pattern: Pattern
) -> tuple[Array, Saved]:
    """Value of `l0ref.sparse.linear.SparseLinear`."""
    check_linear(x, values, bias, pattern=pattern, kind=Pattern)
    return _forward(x, values, bias, pattern)


def sparse_linear_vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
    """Cotangents of `l0ref.sparse.linear.SparseLinear`."""
    return _vjp(saved, y_bar)


def block_sparse_linear_forward(
    x: Array, values: Array, bias: Array | None = None, *, pattern: BlockPattern
) -> tuple[Array, Saved]:
    """Value of `l0ref.sparse.linear.BlockSparseLinear`."""
    check_linear(x, values, bias, pattern=pattern, kind=BlockPattern)
    return _forward(x, values, bias, pattern)


def block_sparse_linear_vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
    """Cotangents of `l0ref.sparse.linear.BlockSparseLinear`."""
    return _vjp(saved, y_bar)


def _forward(x: Array, values: Array, bias: Array | None, pattern: AnyPattern) -> tuple[Array, Saved]:
    batch = Batch(_rows(x), rows=True)
    y = multiply(pattern, values, batch, bias)
    return reshaped(y, (*x.shape[:-1], pattern.shape[0])), (x.shape, batch, values, bias is not None, pattern)


def _vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
    shape, x, values, has_bias, pattern = saved
    y = Batch(_rows(y_bar), rows=True)
    cotangents = (
        lambda: reshaped(multiply_transposed(pattern, values, y), shape),
        lambda: sample(pattern, y, x),
        lambda: y.x.sum(axis=0),
    )
    return cotangents if has_bias else cotangents[:2]


def _rows(x: Array) -> Array:
    """Activations (..., D) as (N, D)."""
    return reshaped(x, (prod(x.shape[:-1]), x.shape[-1]))
