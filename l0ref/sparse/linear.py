"""The fully connected layer with a sparse weight, for a batch of rows, as `l0ref.ops.linear`.

Axis letters: n rows of the batch, d features in, m features out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, Saved
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.errors import ShapeError
from l0ref.sparse.block_pattern import BlockPattern
from l0ref.sparse.by_rows import AnyPattern, product, sampled_product, transposed_product
from l0ref.sparse.checks import is_pattern
from l0ref.sparse.pattern import Pattern, check_values
from l0ref.validate import Array


class SparseLinear(Op):
    """y = x W^T + b over stored entries: y[..., m] = sum_d x[..., d] w[m, d] + b[m].

    Shapes   x (..., D), values (nnz,), b (M,) or absent -> y (..., M); the pattern has shape (M, D)
    VJP      x_bar = y_bar W, a product with the transpose (SpMM)
             w_bar[m, d] = sum_n y_bar[n, m] x[n, d] at the stored entries alone (SDDMM)
             b_bar[m] = sum_n y_bar[n, m], with the leading axes taken as one axis n
    """

    @staticmethod
    def forward(x: Array, values: Array, bias: Array | None = None, *, pattern: Pattern) -> tuple[Array, Saved]:
        check_linear(x, values, bias, pattern=pattern, kind=Pattern)
        return _forward(x, values, bias, pattern), (x, values, bias is not None, pattern)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
        return _vjp(saved, y_bar)


class BlockSparseLinear(Op):
    """y = x W^T + b over stored tiles: y[..., m] = sum_d x[..., d] w[m, d] + b[m].

    Shapes   x (..., D), values (tiles, b_r, b_c), b (M,) or absent -> y (..., M); the pattern has shape (M, D)
    VJP      as `SparseLinear`; the cotangent of padding is exactly 0
    """

    @staticmethod
    def forward(x: Array, values: Array, bias: Array | None = None, *, pattern: BlockPattern) -> tuple[Array, Saved]:
        check_linear(x, values, bias, pattern=pattern, kind=BlockPattern)
        return _forward(x, values, bias, pattern), (x, values, bias is not None, pattern)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
        return _vjp(saved, y_bar)


def _forward(x: Array, values: Array, bias: Array | None, pattern: AnyPattern) -> Array:
    y = np.ascontiguousarray(product(pattern, values, _features(x)).T)  # mn -> nm
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], pattern.shape[0])


def _vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
    x, values, has_bias, pattern = saved
    y_features = _features(y_bar)

    def x_bar() -> Array:
        return np.ascontiguousarray(transposed_product(pattern, values, y_features).T).reshape(x.shape)

    def values_bar() -> Array:
        return sampled_product(pattern, y_features, _features(x))

    cotangents = (x_bar, values_bar, lambda: y_features.sum(axis=1))
    return cotangents if has_bias else cotangents[:2]


def _features(x: Array) -> Array:
    """Activations (..., D) as features by samples, (D, N); a view where there is one."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1]).T


def sparse_linear(input: Any, values: Any, bias: Any = None, *, pattern: Pattern) -> Tensor:
    """Input @ W.T + bias for a sparse W of shape (out, in): its values (nnz,), in the order of its pattern."""
    xs = (input, values) if bias is None else (input, values, bias)
    return apply(SparseLinear, *xs, pattern=pattern)


def block_sparse_linear(input: Any, values: Any, bias: Any = None, *, pattern: BlockPattern) -> Tensor:
    """Input @ W.T + bias for a W of shape (out, in) stored in tiles: values (tiles, b_r, b_c)."""
    xs = (input, values) if bias is None else (input, values, bias)
    return apply(BlockSparseLinear, *xs, pattern=pattern)


def check_linear(x: Array, values: Array, bias: Array | None, *, pattern: AnyPattern, kind: type[AnyPattern]) -> None:
    """Refuse inputs that do not fit the pattern; twins, whose kernels do not check shapes, call this too."""
    made_by = "Pattern.from_mask(w != 0)" if kind is Pattern else "BlockPattern.from_mask(w != 0, blocksize=...)"
    is_pattern("pattern", pattern, kind, made_by=made_by)
    check_values(pattern, values)
    m, d = pattern.shape
    if x.ndim == 0 or x.shape[-1] != d:
        raise ShapeError(
            f"input has shape {x.shape}, expected (..., {d}): a weight of shape {(m, d)} reads {d} features from the "
            "last axis"
        )
    if bias is not None and bias.shape != (m,):
        raise ShapeError(f"bias has shape {bias.shape}, expected {(m,)}: one number for each row of the weight")
