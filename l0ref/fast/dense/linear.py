"""Compiled twins of `Matmul` and `Linear`.

Why they are fast: see `products.matmul`, which multiplies where the truth calls BLAS.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from l0ref.autodiff.op import Saved, reshaped, unbroadcast
from l0ref.fast.products.matmul import product
from l0ref.ops.linear import check_linear, check_matmul
from l0ref.validate import Array


def matmul_forward(a: Array, b: Array) -> tuple[Array, Saved]:
    """Value of `l0ref.ops.linear.Matmul`."""
    check_matmul(a, b)
    rows, columns = a[None, :] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    added = tuple(axis for axis, x in ((-2, a), (-1, b)) if x.ndim == 1)
    return np.squeeze(product(rows, columns), axis=added), (rows, columns, added, a.shape, b.shape)


def matmul_vjp(saved: Saved, y_bar: Array) -> tuple[Any, Any]:
    """Cotangents of `l0ref.ops.linear.Matmul`."""
    rows, columns, added, a_shape, b_shape = saved
    wide = np.expand_dims(y_bar, added)

    def a_bar() -> Array:
        return reshaped(unbroadcast(product(wide, columns.swapaxes(-1, -2)), rows.shape), a_shape)

    def b_bar() -> Array:
        return reshaped(unbroadcast(product(rows.swapaxes(-1, -2), wide), columns.shape), b_shape)

    return a_bar, b_bar


def linear_forward(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, Saved]:
    """Value of `l0ref.ops.linear.Linear`."""
    check_linear(x, weight, bias)
    n, (m, d) = prod(x.shape[:-1]), weight.shape
    y = product(x.reshape(n, d), weight.T)
    if bias is not None:
        y += bias
    return reshaped(y, (*x.shape[:-1], m)), (x, weight, bias is not None)


def linear_vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
    """Cotangents of `l0ref.ops.linear.Linear`."""
    x, weight, has_bias = saved
    n, (m, d) = prod(x.shape[:-1]), weight.shape
    y_rows = y_bar.reshape(n, m)

    cotangents = (
        lambda: reshaped(product(y_rows, weight), x.shape),
        lambda: product(y_rows.T, x.reshape(n, d)),
        lambda: y_rows.sum(axis=0),
    )
    return cotangents if has_bias else cotangents[:2]
