"""Sparse operations against loops and against the dense operations; what they do not touch; what they refuse."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l0ref import Penalty, ops, sparse
from l0ref.autodiff.tensor import Tensor, apply, grad
from l0ref.errors import ArgumentError, DTypeError, L0RefError, ShapeError
from l0ref.optim import SGD, Adam, Optimizer, Proximal
from l0ref.sparse import BCSR, CSR, BlockPattern, Pattern
from l0ref.surrogates import L1
from tests.cases import Case
from tests.cases.sparse import CASES, DEFAULTS
from tests.naive import sparse as naive
from tests.random_sparse import matrices

COTANGENTS: dict[str, Callable[..., Any]] = {
    "BlockSparseLinear": naive.linear_vjp,
    "SDDMM": naive.sddmm_vjp,
    "SpMM": naive.spmm_vjp,
    "SpMV": naive.spmv_vjp,
    "SparseConv2d": naive.conv2d_vjp,
    "SparseLinear": naive.linear_vjp,
}


def close(got: Any, want: Any, rtol: float = 1e-12) -> None:
    """Equal to rtol times the largest entry; zeros exactly."""
    assert got.shape == want.shape
    assert np.abs(got - want).max(initial=0) <= rtol * np.abs(want).max(initial=0)


def run(function: Callable[..., Tensor], *xs: Any, **options: Any) -> tuple[Any, Any, list[Any]]:
    """The value, a random cotangent and the cotangents of the inputs."""
    tensors = [Tensor(x) for x in xs]
    y = function(*tensors, **options)
    y_bar = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)
    return y.data, y_bar, grad(y, tensors, y_bar=y_bar)


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_cotangents_equal_loops(case: Case) -> None:
    xs, options = case.draw(0)
    _, y_bar, got = run(lambda *ts: apply(case.op, *ts, **options), *xs)
    want = COTANGENTS[case.op](y_bar, *xs, **options)
    assert len(got) == len(want) == len(xs)
    for a, b in zip(got, want, strict=True):
        close(a, b)


# --- the same as dense ------------------------------------------------------------------------------------------------


@given(matrices(), st.integers(0, 3), st.booleans())
def test_linear_is_dense_linear_on_any_matrix(w: Any, n: int, blocks: bool) -> None:
    w = w.astype(np.float64)
    x, b = np.random.default_rng(0).normal(size=(n, w.shape[1])), np.arange(1.0, w.shape[0] + 1)
    made: Any = BCSR.from_dense(w, blocksize=(2, 3)) if blocks else CSR.from_dense(w)
    layer: Any = sparse.block_sparse_linear if blocks else sparse.sparse_linear
    y, y_bar, (x_bar, v_bar, b_bar) = run(layer, x, made.values, b, pattern=made.pattern)
    want, _, (want_x, want_w, want_b) = run(ops.linear, x, w, b)
    close(y, want)
    close(x_bar, want_x)
    close(b_bar, want_b)
    close(v_bar, made.pattern.gather(want_w))
    assert y.flags.c_contiguous
    product, _, (v_bar, x_bar) = run(sparse.spmm, made.values, x.T, pattern=made.pattern)
    close(product, (want - b).T, 1e-11)
    back, _, _ = run(sparse.spmm, made.values, y_bar.T, pattern=made.pattern, transposed=True)
    close(back, want_x.T)
    turned = made.transpose()
    close(back, sparse.spmm(turned.values, y_bar.T, pattern=turned.pattern).data)
    entries = sparse.sddmm(y_bar.T, x.T, pattern=made.pattern).data
    close(entries, made.pattern.gather(want_w))


@given(
    st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)), st.integers(1, 3), st.integers(0, 2),
)  # fmt: skip
def test_convolution_is_dense_convolution(
    seed: int, density: float, stride: Any, padding: Any, dilation: Any, groups: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    c, f, (r, s) = rng.integers(1, 3), rng.integers(1, 3), rng.integers(1, 4, 2)
    kernel = rng.normal(size=(f * groups, c, r, s)) * (rng.random((f * groups, c, r, s)) < density)
    x = rng.normal(size=(n, c * groups, 5 + dilation[0], 4 + dilation[1]))
    w, b = CSR.from_dense(kernel.reshape(len(kernel), -1)), rng.normal(size=len(kernel))
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    y, _, (x_bar, v_bar, b_bar) = run(
        sparse.sparse_conv2d, x, w.values, b, pattern=w.pattern, kernel_shape=kernel.shape, **options
    )
    want, _, (want_x, want_k, want_b) = run(ops.conv2d, x, kernel, b, **options)
    close(y, want)
    close(x_bar, want_x)
    close(b_bar, want_b)
    close(v_bar, w.pattern.gather(want_k.reshape(len(kernel), -1)))
    assert y.flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4, 6), (1, 1), (0, 3), (3, 0)])
def test_matrix_times_array(rng: np.random.Generator, shape: tuple[int, int], dtype: Any) -> None:
    w = (rng.normal(size=shape) * (rng.random(shape) < 0.5)).astype(dtype)
    for made in (CSR.from_dense(w), BCSR.from_dense(w, blocksize=(2, 4))):
        for x in (rng.normal(size=shape[1]), rng.normal(size=(shape[1], 3)), np.zeros((shape[1], 0))):
            y = made @ x.astype(dtype)
            assert isinstance(y, np.ndarray)
            assert y.dtype == dtype
            close(y, w @ x.astype(dtype), 1e-13 if dtype == np.float64 else 1e-6)


@pytest.mark.parametrize("make", [CSR.from_dense, lambda w: BCSR.from_dense(w, blocksize=2)])
def test_products_off_the_tape_say_what_they_want(make: Any) -> None:
    w = make(np.eye(3, 4))
    with pytest.raises(TypeError, match=r"unsupported operand|does not support ufuncs"):
        np.ones((2, 3)) @ w
    with pytest.raises(DTypeError, match=r"^x has dtype object, which is not numeric"):
        w @ Tensor(np.ones(4))
    with pytest.raises(DTypeError, match=r"^SpMV: mixed dtypes float64, float32; convert all inputs to one"):
        w @ np.ones(4, np.float32)
    with pytest.raises(ShapeError, match=r"^x has shape \(\), expected \(4, N\)"):
        w @ np.ones(())


# --- what is not stored stays out -------------------------------------------------------------------------------------


TILED = BlockPattern.from_mask(np.ones((3, 5), bool), blocksize=(2, 4))
READERS: dict[str, Callable[..., Tensor]] = {
    "linear": lambda v: sparse.block_sparse_linear(np.arange(1.0, 11).reshape(2, 5), v, pattern=TILED),
    "spmm": lambda v: sparse.spmm(v, np.arange(1.0, 11).reshape(5, 2), pattern=TILED),
    "spmm transposed": lambda v: sparse.spmm(v, np.arange(1.0, 7).reshape(3, 2), pattern=TILED, transposed=True),
    "spmv": lambda v: sparse.spmv(v, np.arange(1.0, 6), pattern=TILED),
    "spmv transposed": lambda v: sparse.spmv(v, np.arange(1.0, 4), pattern=TILED, transposed=True),
}


@pytest.mark.parametrize("reader", READERS)
def test_padding_of_tiles_is_neither_read_nor_moved(rng: np.random.Generator, reader: str) -> None:
    padding = TILED.padding()
    assert padding.sum() == 4 * 8 - 15
    values = rng.normal(size=TILED.values_shape)
    y, _, (v_bar,) = run(READERS[reader], values)
    spoilt_y, _, (spoilt_bar,) = run(READERS[reader], np.where(padding, 1e9, values))
    np.testing.assert_array_equal(spoilt_y, y)
    np.testing.assert_array_equal(spoilt_bar, v_bar)
    assert (v_bar[padding] == 0).all()
    assert (v_bar[~padding] != 0).all()


def test_padding_of_sampled_tiles_is_zero(rng: np.random.Generator) -> None:
    w = sparse.sddmm(rng.normal(size=(3, 2)), rng.normal(size=(5, 2)), pattern=TILED).data
    np.testing.assert_array_equal(w == 0, TILED.padding())


def steps(optimizer: Optimizer, w: Any, gradient: Callable[[Any], Any], **options: Any) -> Any:
    now, state = {"w": w}, optimizer.init({"w": w})
    for _ in range(4):
        now, state = optimizer.step(now, {"w": gradient(now["w"])}, state, **options)
    return now["w"]


@pytest.mark.parametrize(
    "optimizer", [SGD(lr=0.1, momentum=0.9), Adam(lr=0.01), Proximal(SGD(lr=0.1))], ids=["sgd", "adam", "proximal"]
)
@pytest.mark.parametrize("blocksize", [None, (2, 3)])
def test_steps_on_values_are_masked_dense_steps(rng: np.random.Generator, optimizer: Optimizer, blocksize: Any) -> None:
    mask = rng.random((4, 5)) < 0.4
    mask[1, 2] = True
    pattern: Any = Pattern.from_mask(mask)
    layer: Any = sparse.sparse_linear
    if blocksize:
        pattern, layer = BlockPattern.from_mask(mask, blocksize=blocksize), sparse.block_sparse_linear
    mask = pattern.to_mask()
    w, x, y = rng.normal(size=(4, 5)) * mask, rng.normal(size=(6, 5)), rng.normal(size=(6, 4))
    pull = Penalty(L1(), alpha=0.01, l2=0.1).pull({"w": 1.0})

    def dense_gradient(now: Any) -> Any:
        t = Tensor(now)
        return grad(ops.mse_loss(ops.linear(x, t), y), [t])[0]

    def sparse_gradient(now: Any) -> Any:
        t = Tensor(now)
        return grad(ops.mse_loss(layer(x, t, pattern=pattern), y), [t])[0]

    want = steps(optimizer, w, dense_gradient, masks={"w": mask}, pull=pull)
    got = steps(optimizer, pattern.gather(w), sparse_gradient, pull=pull)
    assert got.size < w.size or blocksize
    close(pattern.scatter(got), want)
    if blocksize:
        assert (got[pattern.padding()] == 0).all()


@pytest.mark.parametrize("blocksize", [None, (4, 4)])
def test_no_dense_weight_is_made(rng: np.random.Generator, blocksize: Any) -> None:
    size, n = 3000, 4
    rows, columns = np.arange(size), rng.integers(0, size // 4, size) * 4
    pattern: Any = Pattern(np.arange(size + 1), columns, (size, size))
    layer: Any = sparse.sparse_linear
    if blocksize:
        tiles = Pattern(np.arange(size // 4 + 1), columns[: size // 4] // 4, (size // 4, size // 4))
        pattern, layer = BlockPattern(tiles, (size, size), blocksize), sparse.block_sparse_linear
    x, values = Tensor(rng.normal(size=(n, size))), Tensor(rng.normal(size=pattern.values_shape))
    y_bar = np.ones((n, size))
    grad(layer(x, values, pattern=pattern), [x, values], y_bar=y_bar)
    tracemalloc.start()
    grad(layer(x, values, pattern=pattern), [x, values], y_bar=y_bar)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = x.data.nbytes + values.data.nbytes + y_bar.nbytes
    assert len(rows) == size
    assert peak < 6 * held < size * size  # 8 size^2 bytes would be a dense weight


# --- what is refused --------------------------------------------------------------------------------------------------

P = Pattern.from_mask(np.eye(3, 4, dtype=bool))
B = BlockPattern.from_mask(np.eye(3, 4, dtype=bool), blocksize=2)
V, T, X = np.ones(3), np.ones((2, 2, 2)), np.ones((5, 4))
K = Pattern.from_mask(np.ones((2, 6), bool))
KV, IMAGES = np.ones(12), np.ones((1, 2, 4, 4))
CONV: dict[str, Any] = {"pattern": K, "kernel_shape": (2, 2, 3, 1)}

WRONG: list[tuple[str, Callable[[], Any], type[L0RefError], str]] = [
    ("spmm rows", lambda: sparse.spmm(V, X, pattern=P), ShapeError,
     r"x has shape \(5, 4\), expected \(4, N\): the matrix of shape \(3, 4\) reads 4 features; transpose activations"),
    ("spmm transposed", lambda: sparse.spmm(V, X.T, pattern=P, transposed=True), ShapeError,
     r"x has shape \(4, 5\), expected \(3, N\): the transposed matrix of shape \(3, 4\) reads 3 features"),
    ("spmm vector", lambda: sparse.spmm(V, np.ones(4), pattern=P), ShapeError, r"x has shape \(4,\), expected \(4, N"),
    ("spmv matrix", lambda: sparse.spmv(V, X.T, pattern=P), ShapeError, r"x has shape \(4, 5\), expected \(4,\): the"),
    ("spmv number", lambda: sparse.spmv(V, 1.0, pattern=P), ShapeError, r"x has shape \(\), expected \(4,\)"),
    ("spmm values", lambda: sparse.spmm(T, X.T, pattern=P), ShapeError,
     r"values has shape \(2, 2, 2\), expected \(3,\), the entries that the pattern stores; take them with pattern"),
    ("spmm block values", lambda: sparse.spmm(V, X.T, pattern=B), ShapeError,
     r"values has shape \(3,\), expected \(2, 2, 2\)"),
    ("spmm matrix as pattern", lambda: sparse.spmm(V, X.T, pattern=CSR(P, V)), ArgumentError,  # type: ignore[arg-type]
     r"pattern is CSR, expected Pattern or BlockPattern; make it with .* or pass the .pattern of a sparse matrix"),
    ("spmm integers", lambda: sparse.spmm(np.ones(3, int), X.T, pattern=P), DTypeError, r"data has dtype int64, expec"),
    ("spmm half", lambda: sparse.spmm(V, X.T.astype(np.float16), pattern=P), DTypeError, r"data has dtype float16"),
    ("spmm mixed", lambda: sparse.spmm(V, X.T.astype(np.float32), pattern=P), DTypeError, r"SpMM: mixed dtypes float"),
    ("sddmm a", lambda: sparse.sddmm(X, X.T, pattern=P), ShapeError,
     r"a has shape \(5, 4\), expected \(3, N\): the pattern has shape \(3, 4\); transpose activations given"),
    ("sddmm b", lambda: sparse.sddmm(np.ones((3, 5)), X, pattern=P), ShapeError, r"b has shape \(5, 4\), expected \(4"),
    ("sddmm samples", lambda: sparse.sddmm(np.ones((3, 2)), X.T, pattern=P), ShapeError,
     r"b has shape \(4, 5\), expected \(4, 2\): as many samples as a of shape \(3, 2\); take both from the same batch"),
    ("sddmm vector", lambda: sparse.sddmm(V, V, pattern=P), ShapeError, r"a has shape \(3,\), expected \(3, N\)"),
    ("sddmm pattern", lambda: sparse.sddmm(V, V, pattern=None), ArgumentError, r"pattern is NoneType, expected Patter"),  # type: ignore[arg-type]
    ("linear features", lambda: sparse.sparse_linear(X.T, V, pattern=P), ShapeError,
     r"input has shape \(4, 5\), expected \(\.\.\., 4\): a weight of shape \(3, 4\) reads 4 features from the last ax"),
    ("linear number", lambda: sparse.sparse_linear(1.0, V, pattern=P), ShapeError, r"input has shape \(\), expected"),
    ("linear values", lambda: sparse.sparse_linear(X, X, pattern=P), ShapeError, r"values has shape \(5, 4\)"),
    ("linear bias", lambda: sparse.sparse_linear(X, V, np.ones(4), pattern=P), ShapeError,
     r"bias has shape \(4,\), expected \(3,\): one number for each row of the weight"),
    ("linear, block pattern", lambda: sparse.sparse_linear(X, T, pattern=B), ArgumentError,  # type: ignore[arg-type]
     r"pattern is BlockPattern, expected Pattern; make it with Pattern.from_mask\(w != 0\), or pass the .pattern"),
    ("block linear, pattern", lambda: sparse.block_sparse_linear(X, V, pattern=P), ArgumentError,  # type: ignore[arg-type]
     r"pattern is Pattern, expected BlockPattern; make it with BlockPattern.from_mask\(w != 0, blocksize=\.\.\.\)"),
    ("block linear values", lambda: sparse.block_sparse_linear(X, V, pattern=B), ShapeError,
     r"values has shape \(3,\), expected \(2, 2, 2\)"),
    ("block linear features", lambda: sparse.block_sparse_linear(X.T, T, pattern=B), ShapeError, r"input has shape "),
    ("conv images", lambda: sparse.sparse_conv2d(IMAGES[0], KV, **CONV), ShapeError, r"input has shape \(2, 4, 4\)"),
    ("conv values", lambda: sparse.sparse_conv2d(IMAGES, V, **CONV), ShapeError, r"values has shape \(3,\), expected"),
    ("conv pattern", lambda: sparse.sparse_conv2d(IMAGES, KV, **{**CONV, "pattern": B}), ArgumentError,
     r"pattern is BlockPattern, expected Pattern; make it with Pattern.from_mask\(kernel.reshape\(F, -1\) != 0\)"),
    ("conv kernel", lambda: sparse.sparse_conv2d(IMAGES, KV, pattern=K, kernel_shape=(2, 2, 3, 3)), ShapeError,
     r"pattern has shape \(2, 6\), expected \(2, 18\): that of a kernel \(2, 2, 3, 3\) as a matrix; make it from kern"),
    ("conv kernel turned", lambda: sparse.sparse_conv2d(IMAGES, KV, pattern=K, kernel_shape=(6, 2, 1, 1)), ShapeError,
     r"pattern has shape \(2, 6\), expected \(6, 2\)"),
    ("conv three sizes", lambda: sparse.sparse_conv2d(IMAGES, KV, pattern=K, kernel_shape=(2, 2, 3)), ShapeError,
     r"kernel_shape=\(2, 2, 3\) must have four sizes, \(F, C/groups, R, S\), those of the dense kernel"),
    ("conv no rows", lambda: sparse.sparse_conv2d(IMAGES, KV, pattern=K, kernel_shape=(2, 2, 0, 1)), ArgumentError,
     r"kernel_shape\[2\]=0 must be at least 1"),
    ("conv groups", lambda: sparse.sparse_conv2d(IMAGES, KV, **CONV, groups=3), ArgumentError,
     r"groups=3 does not divide the 2 channels of input; choose a divisor"),
    ("conv groups of filters", lambda: sparse.sparse_conv2d(
        np.ones((1, 6, 4, 4)), KV, pattern=K, kernel_shape=(2, 2, 3, 1), groups=3), ArgumentError,
     r"groups=3 does not divide the 2 filters of kernel_shape; choose a divisor"),
    ("conv channels", lambda: sparse.sparse_conv2d(np.ones((1, 3, 4, 4)), KV, **CONV), ShapeError,
     r"kernel_shape=\(2, 2, 3, 1\) with groups=1 reads 2 channels, but input of shape \(1, 3, 4, 4\) has 3; give it 3"),
    ("conv bias", lambda: sparse.sparse_conv2d(IMAGES, KV, V, **CONV), ShapeError, r"bias has shape \(3,\), expected"),
    ("conv size", lambda: sparse.sparse_conv2d(np.ones((1, 2, 2, 4)), KV, **CONV), ShapeError,
     r"kernel_shape=\(2, 2, 3, 1\) with dilation=\(1, 1\) spans 3 x 1 pixels, but the padded image has 2 x 4; us"),
    ("conv stride", lambda: sparse.sparse_conv2d(IMAGES, KV, **CONV, stride=0), ArgumentError, r"stride=0 must be"),
    ("conv padding", lambda: sparse.sparse_conv2d(IMAGES, KV, **CONV, padding=-1), ArgumentError, r"padding=-1 must"),
    ("conv integers", lambda: sparse.sparse_conv2d(IMAGES.astype(int), KV, **CONV), DTypeError, r"input has dtype int"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "said"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_wrong_input_gets_one_sentence(call: Callable[[], Any], error: type[L0RefError], said: str) -> None:
    with pytest.raises(error, match=f"^{said}") as caught:
        call()
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def test_operations_check_what_reaches_them_by_name() -> None:
    with pytest.raises(ShapeError, match=r"^kernel_shape=\(2, 2, 3, 1\) with groups=1 reads 2 channels"):
        apply("SparseConv2d", np.ones((1, 3, 4, 4)), KV, **CONV, **DEFAULTS)
    with pytest.raises(ShapeError, match=r"^input has shape \(4, 5\)"):
        apply("SparseLinear", X.T, V, pattern=P)
