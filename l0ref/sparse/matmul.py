"""Products of a sparse matrix with a vector (SpMV) or matrix (SpMM), and a product sampled at its entries (SDDMM).

W (M, D) is given by its values, a tensor, and its pattern, an option: a Pattern with values (nnz,), or a BlockPattern
with values (tiles, b_r, b_c). Axis letters: m features out, d features in, n samples.
"""

from __future__ import annotations

from typing import Any

from l0ref.autodiff.op import Op, Saved, compiled
from l0ref.autodiff.tensor import Tensor, apply
from l0ref.errors import ArgumentError, ShapeError
from l0ref.sparse.block_pattern import BlockPattern
from l0ref.sparse.by_rows import AnyPattern, product, sampled_product, transposed_product
from l0ref.sparse.pattern import Pattern, check_values
from l0ref.validate import Array, flag, float_array


class SpMM(Op):
    """Y = W X, or W^T X if `transposed`: y[m,n] = sum_d w[m,d] x[d,n] over stored entries.

    Shapes   values like the pattern's, x (D, N) -> y (M, N); transposed: x (M, N) -> y (D, N)
    VJP      x_bar = W^T y_bar    w_bar[m,d] = sum_n y_bar[m,n] x[d,n] at the stored entries alone
             transposed: x_bar = W y_bar, and in w_bar x and y_bar are exchanged
    """

    @staticmethod
    def forward(values: Array, x: Array, *, pattern: AnyPattern, transposed: bool) -> tuple[Array, Saved]:
        check_product(values, x, pattern=pattern, transposed=transposed, ndim=2)
        multiply = transposed_product if transposed else product
        return multiply(pattern, values, x), (values, x, pattern, transposed)

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, Any]:
        values, x, pattern, transposed = saved
        if transposed:
            return lambda: sampled_product(pattern, x, y_bar), lambda: product(pattern, values, y_bar)
        return lambda: sampled_product(pattern, y_bar, x), lambda: transposed_product(pattern, values, y_bar)


class SpMV(Op):
    """y = W x, or W^T x if `transposed`: y[m] = sum_d w[m,d] x[d] over stored entries.

    Shapes   values like the pattern's, x (D,) -> y (M,); transposed: x (M,) -> y (D,)
    VJP      x_bar = W^T y_bar    w_bar[m,d] = y_bar[m] x[d] at the stored entries alone
             transposed: x_bar = W y_bar, and in w_bar x and y_bar are exchanged
    """

    @staticmethod
    def forward(values: Array, x: Array, *, pattern: AnyPattern, transposed: bool) -> tuple[Array, Saved]:
        check_product(values, x, pattern=pattern, transposed=transposed, ndim=1)
        y, saved = SpMM.forward(values, x[:, None], pattern=pattern, transposed=transposed)
        return y[:, 0], saved

    @staticmethod
    def vjp(saved: Saved, y_bar: Array) -> tuple[Any, Any]:
        values_bar, x_bar = SpMM.vjp(saved, y_bar[:, None])
        return values_bar, lambda: x_bar()[:, 0]


class SDDMM(Op):
    """The stored entries of A B^T: w[m,d] = sum_n a[m,n] b[d,n] at each stored (m, d), and nowhere else.

    Shapes   a (M, N), b (D, N) -> w like the pattern's values; padding is 0
    VJP      with W_bar the sparse matrix of w_bar: a_bar = W_bar b    b_bar = W_bar^T a
    Departs  from the usual form in that b is not given transposed: activations of one feature are contiguous
    """

    @staticmethod
    def forward(a: Array, b: Array, *, pattern: AnyPattern) -> tuple[Array, Saved]:
        check_sampled(a, b, pattern=pattern)
        return sampled_product(pattern, a, b), (a, b, pattern)

    @staticmethod
    def vjp(saved: Saved, w_bar: Array) -> tuple[Any, Any]:
        a, b, pattern = saved
        return lambda: product(pattern, w_bar, b), lambda: transposed_product(pattern, w_bar, a)


def spmm(values: Any, x: Any, *, pattern: AnyPattern, transposed: bool = False) -> Tensor:
    """W X for a sparse W (M, D) and a dense X (D, N), features by samples; W^T X, for X (M, N), if `transposed`."""
    return apply(SpMM, values, x, pattern=pattern, transposed=flag("transposed", transposed))


def spmv(values: Any, x: Any, *, pattern: AnyPattern, transposed: bool = False) -> Tensor:
    """W x for a sparse W (M, D) and a vector x (D,); W^T x, for x (M,), if `transposed`."""
    return apply(SpMV, values, x, pattern=pattern, transposed=flag("transposed", transposed))


def sddmm(a: Any, b: Any, *, pattern: AnyPattern) -> Tensor:
    """The entries of a @ b.T that the pattern stores, for a (M, N) and b (D, N), shaped like its values."""
    return apply(SDDMM, a, b, pattern=pattern)


def times(pattern: AnyPattern, values: Array, x: Any) -> Array:
    """Return W x or W X as an array, off the tape: the value of ``w @ x``.

    values  as a CSR or BCSR holds them: the compiled function does not check their shape

    An x that does not fit is passed to the operation, which refuses it with its own message.
    """
    dense = float_array("x", x)
    quick = compiled("times")
    if quick and dense.dtype == values.dtype and dense.shape[:1] == pattern.shape[1:] and dense.ndim <= 2:
        y: Array = quick(pattern, values, dense)
        return y
    return (spmv if dense.ndim == 1 else spmm)(values, dense, pattern=pattern).data


def check_pattern(pattern: Any) -> None:
    """Refuse what is neither a Pattern nor a BlockPattern."""
    if not isinstance(pattern, Pattern | BlockPattern):
        raise ArgumentError(
            f"pattern is {type(pattern).__name__}, expected Pattern or BlockPattern; make it with "
            "Pattern.from_mask(w != 0), or pass the .pattern of a sparse matrix"
        )


def check_product(values: Array, x: Array, *, pattern: AnyPattern, transposed: bool, ndim: int) -> None:
    """Refuse values and x that do not fit the pattern; twins, whose kernels do not check shapes, call this too."""
    check_pattern(pattern)
    check_values(pattern, values)
    (m, d), form = pattern.shape, {1: "({},)", 2: "({}, N)"}[ndim]
    rows = m if transposed else d
    if x.ndim != ndim or x.shape[0] != rows:
        raise ShapeError(
            f"x has shape {x.shape}, expected {form.format(rows)}: the {'transposed ' if transposed else ''}matrix "
            f"of shape {(m, d)} reads {rows} features; transpose activations given as (N, features)"
        )


def check_sampled(a: Array, b: Array, *, pattern: AnyPattern) -> None:
    """Refuse factors that do not fit the pattern; the twin calls this too."""
    check_pattern(pattern)
    for name, factor, rows in (("a", a, pattern.shape[0]), ("b", b, pattern.shape[1])):
        if factor.ndim != 2 or factor.shape[0] != rows:
            raise ShapeError(
                f"{name} has shape {factor.shape}, expected ({rows}, N): the pattern has shape {pattern.shape}; "
                "transpose activations given as (N, features)"
            )
    if a.shape[1] != b.shape[1]:
        raise ShapeError(
            f"b has shape {b.shape}, expected ({b.shape[0]}, {a.shape[1]}): as many samples as a of shape {a.shape}; "
            "take both from the same batch"
        )
