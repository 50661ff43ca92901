"""Products of matrices: `matmul` and the fully connected layer `linear`.

Axis letters: n rows of the batch, d features in, m features out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved, unbroadcast
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.errors import ShapeError
from l0ref.validate import Array


class Matmul(Op):
    """y = a b, the product of two matrices or of stacks of them: y[..., n, m] = sum_d a[..., n, d] b[..., d, m].

    Shapes   a (..., N, D), b (..., D, M) -> y (..., N, M); the leading axes broadcast. A vector a (D,)
             stands for one row, a vector b (D,) for one column, and that axis is missing in y.
    VJP      a_bar = y_bar b^T,  b_bar = a^T y_bar, summed over the leading axes that were repeated
    """

    @staticmethod
    def forward(a: Array, b: Array) -> tuple[Array, Saved]:
        check_matmul(a, b)
        return np.matmul(a, b), (a, b)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, Any]:
        a, b = saved
        rows = a[None, :] if a.ndim == 1 else a
        columns = b[:, None] if b.ndim == 1 else b
        wide = y_bar[..., None] if b.ndim == 1 else y_bar
        wide = wide[..., None, :] if a.ndim == 1 else wide  # ...nm, whatever was left out

        def a_bar() -> Array:
            return unbroadcast(wide @ columns.swapaxes(-1, -2), rows.shape).reshape(a.shape)

        def b_bar() -> Array:
            return unbroadcast(rows.swapaxes(-1, -2) @ wide, columns.shape).reshape(b.shape)

        return a_bar, b_bar


class Linear(Op):
    """y = x W^T + b: y[..., m] = sum_d x[..., d] W[m, d] + b[m].

    Shapes   x (..., D), W (M, D), b (M,) or absent -> y (..., M)
    VJP      x_bar = y_bar W     W_bar[m, d] = sum_n y_bar[n, m] x[n, d]     b_bar[m] = sum_n y_bar[n, m]
             with the leading axes taken as one axis n
    """

    @staticmethod
    def forward(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, Saved]:
        check_linear(x, weight, bias)
        y = np.matmul(x, weight.T)
        if bias is not None:
            y += bias
        return y, (x, weight, bias is not None)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
        x, weight, has_bias = saved
        n, (m, d) = math.prod(x.shape[:-1]), weight.shape
        y_rows = y_bar.reshape(n, m)

        def weight_bar() -> Array:
            return np.asarray(y_rows.T @ x.reshape(n, d))

        cotangents = (lambda: np.matmul(y_bar, weight), weight_bar, lambda: y_rows.sum(axis=0))
        return cotangents if has_bias else cotangents[:2]


def check_matmul(a: Array, b: Array) -> None:
    """Refuse factors whose shapes do not meet."""
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(f"matmul: shapes {a.shape} and {b.shape}: a number has no rows; multiply with * instead")
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise ShapeError(
            f"matmul: shapes {a.shape} and {b.shape}: {a.shape[-1]} columns meet {inner} rows; "
            "transpose or reshape one of them"
        )
    try:
        np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ShapeError(
            f"matmul: shapes {a.shape} and {b.shape}: the leading axes {a.shape[:-2]} and {b.shape[:-2]} do not "
            "broadcast; from the right, sizes must be equal or 1"
        ) from None


def check_linear(x: Array, weight: Array, bias: Array | None) -> None:
    """Refuse inputs and parameters whose shapes do not meet."""
    if weight.ndim != 2:
        raise ShapeError(f"weight has shape {weight.shape}, expected (out, in); give it two axes")
    if x.ndim == 0 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"input has shape {x.shape}, expected (..., {weight.shape[1]}): a weight of shape {weight.shape} reads "
            f"{weight.shape[1]} features from the last axis"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(
            f"bias has shape {bias.shape}, expected {weight.shape[:1]}: one number for each row of the weight"
        )


def matmul(input: Any, other: Any) -> Tensor:
    """input @ other; vectors and stacks of matrices as in NumPy."""
    return apply(Matmul, input, other)


def linear(input: Any, weight: Any, bias: Any = None) -> Tensor:
    """Input @ weight.T + bias, with weight (out, in) and bias (out,)."""
    return apply(Linear, input, weight) if bias is None else apply(Linear, input, weight, bias)
