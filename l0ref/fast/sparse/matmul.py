"""Compiled twins of `SpMM`, `SpMV` and `SDDMM`."""

from __future__ import annotations

from typing import Any

from l0ref.autodiff.op import Saved
from l0ref.fast.sparse.batch import Batch
from l0ref.fast.sparse.matrix import multiply, multiply_transposed, sample
from l0ref.sparse.by_rows import AnyPattern
from l0ref.sparse.matmul import check_product, check_sampled
from l0ref.validate import Array


def spmm_forward(values: Array, x: Array, *, pattern: AnyPattern, transposed: bool) -> tuple[Array, Saved]:
    """Value of `l0ref.sparse.matmul.SpMM`."""
    check_product(values, x, pattern=pattern, transposed=transposed, ndim=2)
    batch = Batch(x)
    y = (multiply_transposed if transposed else multiply)(pattern, values, batch)
    return y, (values, batch, pattern, transposed)


def spmm_vjp(saved: Saved, y_bar: Array) -> tuple[Any, Any]:
    """Cotangents of `l0ref.sparse.matmul.SpMM`."""
    values, x, pattern, transposed = saved
    target = Batch(y_bar)
    if transposed:
        return lambda: sample(pattern, x, target), lambda: multiply(pattern, values, target)
    return lambda: sample(pattern, target, x), lambda: multiply_transposed(pattern, values, target)


def spmv_forward(values: Array, x: Array, *, pattern: AnyPattern, transposed: bool) -> tuple[Array, Saved]:
    """Value of `l0ref.sparse.matmul.SpMV`."""
    check_product(values, x, pattern=pattern, transposed=transposed, ndim=1)
    batch = Batch(x)
    y = (multiply_transposed if transposed else multiply)(pattern, values, batch)
    return y, (values, batch, pattern, transposed)


def spmv_vjp(saved: Saved, y_bar: Array) -> tuple[Any, Any]:
    """Cotangents of `l0ref.sparse.matmul.SpMV`."""
    return spmm_vjp(saved, y_bar)


def sddmm_forward(a: Array, b: Array, *, pattern: AnyPattern) -> tuple[Array, Saved]:
    """Value of `l0ref.sparse.matmul.SDDMM`."""
    check_sampled(a, b, pattern=pattern)
    left, right = Batch(a), Batch(b)
    return sample(pattern, left, right), (left, right, pattern)


def sddmm_vjp(saved: Saved, w_bar: Array) -> tuple[Any, Any]:
    """Cotangents of `l0ref.sparse.matmul.SDDMM`."""
    a, b, pattern = saved
    return lambda: multiply(pattern, w_bar, b), lambda: multiply_transposed(pattern, w_bar, a)
