"""Twins of the sparse products and layers where the registry's cases do not reach: across blocks, chunks, threads.

Most numbers are small and whole, so that every sum is exact, whatever its order, and results must be equal.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from l0ref import sparse
from l0ref.autodiff.op import OPS, Rule, backend, twin
from l0ref.errors import L0RefError
from l0ref.fast.machine import scratch
from l0ref.fast.machine.policy import LOADED, MOVE, flat
from l0ref.fast.machine.scratch import Loan, room
from l0ref.fast.machine.target import lanes
from l0ref.fast.sparse import batch as sparse_layout
from l0ref.fast.sparse import matrix as sparse_matrix
from l0ref.fast.sparse import operands as sparse_operands
from l0ref.fast.sparse import vector as sparse_vector
from l0ref.fast.sparse.batch import Batch
from l0ref.fast.sparse.entries import CHUNK, EIGHT, share
from l0ref.sparse import BlockPattern, Pattern
from l0ref.sparse.by_rows import product, transposed_product
from l0ref.validate import Array
from tests.cases.sparse import some, with_gaps
from tests.kept_memory import spoil

pytestmark = pytest.mark.kernels
DTYPES = [np.float32, np.float64]
THREADS = (1, 2, 3, 5)
# Numba compiles every kernel once more for float64; of it the tables of operations have cases that are not slow.
each_dtype = pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])


def apart(rows: int, columns: int) -> Array:
    """Every seventh entry, so that most rows have one or two."""
    return np.arange(rows * columns).reshape(rows, columns) % 7 == 3


MASKS: dict[str, Array] = {
    "a few entries": some(9, 21),
    "gaps": with_gaps(),
    "gaps, large": np.kron(with_gaps(), np.ones((3, 4), bool)),
    "full": np.ones((19, 6), bool),
    "one row, longer than a chunk": np.ones((1, CHUNK + 40), bool),
    "rows across chunks": some(7, 70, 0.9),
    "short rows": apart(90, 8),
    "one column": some(20, 1),
    "one entry": np.eye(1, dtype=bool),
    "all zero": np.zeros((5, 6), bool),
}
BLOCKSIZES = [(4, 4), (16, 1), (1, 16), (3, 5), (5, 2), (8, 8), (32, 1)]
PATTERNS: list[tuple[str, Any]] = [
    *((label, Pattern.from_mask(mask)) for label, mask in MASKS.items()),
    *(
        (f"{label}, tiles of {size[0]} x {size[1]}", BlockPattern.from_mask(mask, blocksize=size))
        for label, mask in MASKS.items()
        for size in (BLOCKSIZES if label in ("a few entries", "gaps, large") else [(4, 4), (16, 1)])
    ),
]
each_pattern = pytest.mark.parametrize("pattern", [p for _, p in PATTERNS], ids=[label for label, _ in PATTERNS])


def counts(dtype: Any) -> list[int]:
    """Numbers of samples at all rests of blocks and of groups of blocks."""
    n = lanes(dtype)
    return sorted({1, 2, n - 1, n, n + 1, 2 * n, 3 * n + 1, 4 * n, 5 * n, 6 * n + 1, 7 * n, (EIGHT + 1) * n})


def multiply(pattern: Any, values: Array, x: Array, b: Array | None = None, *, rows: bool = False) -> Array:
    return sparse_matrix.multiply(pattern, values, Batch(x, rows=rows), b)


def multiply_transposed(pattern: Any, values: Array, y: Array, *, rows: bool = False) -> Array:
    return sparse_matrix.multiply_transposed(pattern, values, Batch(y, rows=rows))


def sample(pattern: Any, y: Array, x: Array, *, rows: bool = False) -> Array:
    return sparse_matrix.sample(pattern, Batch(y, rows=rows), Batch(x, rows=rows))


def whole(shape: Any, dtype: Any, rng: np.random.Generator) -> Array:
    return rng.integers(-4, 5, size=shape).astype(dtype)


def draw(pattern: Any, count: int, dtype: Any, rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """A dense matrix of the pattern, values, x and y."""
    w = whole(pattern.shape, dtype, rng) * pattern.to_mask()
    m, d = pattern.shape
    return w, pattern.gather(w), whole((d, count), dtype, rng), whole((m, count), dtype, rng)


def times(a: Array, b: Array) -> Array:
    """The product of whole numbers, taken as such: BLAS may complain of numbers it reads and does not use."""
    return np.asarray(a.astype(np.int64) @ b.astype(np.int64)).astype(a.dtype)


def assert_exactly(got: Array, want: Array) -> None:
    """Exactly equal, of one type, and an array of its own."""
    np.testing.assert_array_equal(got, want)
    assert got.dtype == want.dtype
    assert got.base is None
    assert got.flags.c_contiguous


@each_pattern
@each_dtype
def test_products_with_any_number_of_samples(pattern: Any, dtype: Any, rng: np.random.Generator) -> None:
    for count in counts(dtype):
        w, values, x, y = draw(pattern, count, dtype, rng)
        b = whole(len(w), dtype, rng)
        for _ in range(2):  # once more on memory that holds anything
            assert_exactly(multiply(pattern, values, x), times(w, x))
            assert_exactly(multiply(pattern, values, np.asfortranarray(x).T, b, rows=True), times(x.T, w.T) + b)
            assert_exactly(multiply_transposed(pattern, values, y), times(w.T, y))
            assert_exactly(multiply_transposed(pattern, values, y.T.copy(), rows=True), times(y.T, w))
            assert_exactly(sample(pattern, y, x), pattern.gather(times(y, x.T)))
            assert_exactly(sample(pattern, y.T.copy(), x.T.copy(), rows=True), pattern.gather(times(y, x.T)))
            spoil()


@each_pattern
@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("loads", [np.inf, 0])
def test_whole_vectors_are_read_either_way(
    pattern: Any, loads: float, copies: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Batch, "is_better_copied", lambda *_, **__: copies)
    for kind in (sparse_operands.Entries, sparse_operands.Tiles):
        monkeypatch.setattr(kind, "loads", loads)
    for blocks in (1, 2, 5, 8, 11):
        w, values, a, b = draw(pattern, blocks * lanes(np.float32), np.float32, rng)
        for x in (a, np.asfortranarray(a)):
            batch, y = Batch(x), Batch(b)
            assert_exactly(sparse_matrix.multiply(pattern, values, batch), times(w, x))
            assert_exactly(sparse_matrix.sample(pattern, y, batch), pattern.gather(times(b, x.T)))
            reads = values.size if copies and isinstance(pattern, Pattern) else w.size
            assert (batch.laid is not None) == (loads > 0 and reads > 0)


@each_dtype
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("blocks", [1, 3, 4, 9])
def test_groups_of_samples_that_are_copied_on_the_way(
    blocks: int, threads: int, dtype: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums to the last bit those that are taken where x stands, whatever is left of y before."""
    monkeypatch.setattr(sparse_matrix, "threads_for_call", lambda _: threads)
    values, x = rng.standard_normal(PLAIN.nnz), rng.standard_normal((PLAIN.shape[1], blocks * lanes(dtype)))
    found = []
    for copies in (False, True):
        monkeypatch.setattr(Batch, "is_better_copied", lambda *_, copies=copies, **__: copies)
        spoil()
        found.append(sparse_matrix.multiply(PLAIN, values.astype(dtype), Batch(x.astype(dtype))))
    np.testing.assert_array_equal(*found)
    assert np.isfinite(found[0]).all()


def test_a_copy_is_worth_it_where_features_are_loaded_often() -> None:
    memory = scratch.zeros(2**20 + 1, np.dtype(np.float32))
    at_a_line, astride = Batch(memory[: 2**12].reshape(64, 64)), Batch(memory[1 : 2**12 + 1].reshape(64, 64))
    assert [astride.is_better_copied(loads=n) for n in (4, 12, 13)] == [False, False, True]
    assert not at_a_line.is_better_copied(loads=1000)
    beyond_the_cache = Batch(memory[: 2**20].reshape(1024, 1024))
    assert [beyond_the_cache.is_better_copied(loads=n) for n in (4, 5)] == [False, True]
    beyond_the_cache.laid = beyond_the_cache.memory()
    assert not beyond_the_cache.is_better_copied(loads=5)


@pytest.mark.parametrize(("rows", "astride", "copied"), [(12, True, 0), (13, True, 1), (13, False, 0)])
def test_what_is_better_copied_is_copied(
    rows: int, astride: bool, copied: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A feature is loaded once for each row of a full matrix."""
    calls: list[int] = []
    columns = sparse_operands.Entries.columns
    monkeypatch.setattr(
        sparse_operands.Entries,
        "columns",
        lambda *a, **k: calls.append(1) or columns(*a, **k),  # type: ignore[func-returns-value]
    )
    width, w = lanes(np.float32), whole((rows, 8), np.float32, rng) + np.float32(20)
    memory = scratch.zeros(8 * width + 1, np.dtype(np.float32))
    x = (memory[1:] if astride else memory[:-1]).reshape(8, width)
    x[:] = whole((8, width), np.float32, rng)
    with backend("numba"):
        np.testing.assert_array_equal(sparse.CSR.from_dense(w) @ x, w @ x)
    assert len(calls) == copied


@pytest.mark.parametrize("threads", [1, 64], ids=["in one kernel", "apart"])
def test_a_batch_is_laid_out_once(threads: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards the layout is what is read: here, one of other numbers."""
    monkeypatch.setattr(sparse_matrix, "threads_for_call", lambda _: threads)
    values = rng.standard_normal(PLAIN.nnz)
    x, y = (Batch(rng.standard_normal((9, n)), rows=True) for n in (30, 37))
    first = sparse_matrix.multiply(PLAIN, values, x), sparse_matrix.multiply_transposed(PLAIN, values, y)
    third = sparse_matrix.sample(PLAIN, y, x)
    for batch in (x, y):
        assert batch.laid is not None
        batch.laid.array *= 2
    np.testing.assert_array_equal(sparse_matrix.multiply(PLAIN, values, x), 2 * first[0])
    np.testing.assert_array_equal(sparse_matrix.multiply_transposed(PLAIN, values, y), 2 * first[1])
    np.testing.assert_array_equal(sparse_matrix.sample(PLAIN, y, x), 4 * third)


@pytest.mark.parametrize("threads", [1, 64], ids=["in one kernel", "apart"])
def test_a_layout_that_was_not_finished_is_not_kept(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_matrix, "threads_for_call", lambda _: threads)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    batch, values = Batch(np.ones((9, 30)), rows=True), np.ones(PLAIN.nnz)
    with monkeypatch.context() as patch:
        patch.setattr(sparse_layout, "_move", interrupted)
        patch.setattr(sparse_operands.sparse_rows, "multiply_entries", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sparse_matrix.multiply(PLAIN, values, batch)
    assert batch.laid is None
    want = np.repeat(np.diff(PLAIN.indptr)[None], 9, axis=0)
    np.testing.assert_array_equal(sparse_matrix.multiply(PLAIN, values, batch), want)


@pytest.mark.parametrize(
    ("pattern", "loads"),
    [
        (Pattern.from_mask(np.ones((12, 3), bool)), 12),
        (Pattern.from_mask(np.kron(np.eye(2, dtype=bool), np.ones((36, 3), bool))), 36),
        (BlockPattern.from_mask(np.ones((12, 3), bool), blocksize=(4, 1)), 3),
        (BlockPattern.from_mask(np.ones((12, 3), bool), blocksize=(6, 2)), 8 / 3),
        (Pattern.from_mask(np.zeros((12, 3), bool)), 0),
        (Pattern.from_mask(np.zeros((12, 0), bool)), 0),
    ],
    ids=["entries", "in two parts", "tall tiles", "tiles that overhang", "nothing", "no columns"],
)
def test_loads_of_a_feature(pattern: Any, loads: float) -> None:
    assert sparse_operands.operand(pattern).loads == loads


@pytest.mark.parametrize(
    ("count", "loads", "laid"),
    [(32, 60, False), (32, 61, True), (64, 15, False), (64, 16, True), (31, 0, True)],
    ids=["seldom", "often", "seldom, of many", "often, of many", "no whole vectors"],
)
def test_what_is_laid_out(count: int, loads: int, laid: bool) -> None:
    batch = Batch(np.zeros((2**13, count), np.float32))
    numbers, apart, step = batch.read(loads=loads)
    assert (batch.laid is not None) == laid
    width = lanes(np.float32)
    assert (apart, step) == ((2**13 * width, width) if laid else (width, count))
    assert numbers.size == (2**13 * batch.blocks * width)


@each_pattern
@each_dtype
def test_products_with_a_vector(pattern: Any, dtype: Any, rng: np.random.Generator) -> None:
    w, values, x, y = draw(pattern, 1, dtype, rng)
    b = whole(len(w), dtype, rng)
    assert_exactly(multiply(pattern, values, x[:, 0], b), times(w, x[:, 0]) + b)
    assert_exactly(multiply_transposed(pattern, values, y[:, 0]), times(w.T, y[:, 0]))
    assert_exactly(sample(pattern, y[:, 0], x[:, 0]), pattern.gather(np.outer(y, x)))


@each_dtype
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernel", [sparse_vector.multiply, sparse_vector.multiply_gathered])
def test_either_kernel_multiplies_a_vector(kernel: Any, threads: int, dtype: Any, rng: np.random.Generator) -> None:
    """Rows of every length, with what no entry reads infinite; whichever of the two this processor takes."""
    longest = 2 * lanes(dtype) + 5
    mask = np.arange(longest + 1) < rng.permutation(longest + 1)[:, None]  # one row is empty, none is full
    pattern = Pattern.from_mask(mask)
    w, b, x = whole(mask.shape, dtype, rng) * mask, whole(len(mask), dtype, rng), whole(longest + 1, dtype, rng)
    x[-1], y = np.inf, np.empty(len(mask), dtype)
    kernel((flat(pattern.gather(w)), pattern.indptr, pattern.indices), flat(x), flat(b), y, threads)
    assert_exactly(y, times(w[:, :-1], x[:-1]) + b)


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_columns_beyond_uint16(dtype: Any, rng: np.random.Generator) -> None:
    columns = 2**16 + 5
    pattern = Pattern([0, 2, 2, 5], [0, columns - 1, 7, 2**16 - 1, 2**16], (3, columns))
    assert pattern.indices.dtype == np.int32
    for count in (1, lanes(dtype)):
        w, values, x, y = draw(pattern, count, dtype, rng)
        assert_exactly(multiply(pattern, values, x), times(w, x))
        assert_exactly(sample(pattern, y, x), pattern.gather(times(y, x.T)))


@each_dtype
def test_padding_of_tiles_is_not_read(dtype: Any, rng: np.random.Generator) -> None:
    pattern = BlockPattern.from_mask(np.ones((6, 7), bool), blocksize=(4, 4))
    padding = pattern.padding()
    for count in (1, 3, lanes(dtype)):
        w, values, x, y = draw(pattern, count, dtype, rng)
        values[padding] = np.nan
        np.testing.assert_array_equal(product(pattern, values, x), times(w, x))
        np.testing.assert_array_equal(transposed_product(pattern, values, y), times(w.T, y))
        assert_exactly(multiply(pattern, values, x), times(w, x))
        assert_exactly(multiply_transposed(pattern, values, y), times(w.T, y))
        assert (sample(pattern, y, x)[padding] == 0).all()


@each_dtype
def test_results_at_infinity_are_those_of_the_truth(dtype: Any) -> None:
    """What no entry reads must not reach the result, not even as infinity times the zeros behind the last sample."""
    pattern = Pattern.from_mask(np.array([[True, False, True], [False, False, True]]))
    for count in (1, 3, lanes(dtype) + 1):
        x, values = np.ones((3, count), dtype), np.array([1, 2, 3], dtype)
        x[1], x[2, -1] = np.nan, np.inf
        want = np.array([[3.0] * (count - 1) + [np.inf], [3.0] * (count - 1) + [np.inf]])
        np.testing.assert_array_equal(multiply(pattern, values, x), want)
        np.testing.assert_array_equal(multiply(pattern, values, x.T.copy(), rows=True), want.T)


# --- the twins --------------------------------------------------------------------------------------------------------

TILED, PLAIN = BlockPattern.from_mask(some(37, 30, 0.1), blocksize=(4, 4)), Pattern.from_mask(some(37, 30, 0.2))
LAYERS: list[tuple[str, Any, Any]] = [
    ("SparseLinear", PLAIN, (2, 10, 30)),
    ("BlockSparseLinear", TILED, (2, 10, 30)),
    ("SparseLinear", PLAIN, (30,)),
    ("BlockSparseLinear", TILED, (1, 1, 30)),
]


@pytest.mark.parametrize(("op", "pattern", "shape"), LAYERS)
@each_dtype
def test_layers_take_any_leading_axes(op: str, pattern: Any, shape: Any, dtype: Any, rng: np.random.Generator) -> None:
    xs = whole(shape, dtype, rng), pattern.gather(whole((37, 30), dtype, rng)), whole(37, dtype, rng)
    y_bar = whole((*shape[:-1], 37), dtype, rng)
    results = []
    for rule in (Rule(OPS[op].forward, OPS[op].vjp), twin(op)):
        y, saved = rule.forward(*xs, pattern=pattern)
        results.append([y, *(np.asarray(bar()) for bar in rule.vjp(saved, y_bar))])
    for want, got in zip(*results, strict=True):
        np.testing.assert_array_equal(got, want)
        assert got.shape == want.shape
        assert got.dtype == dtype


X, V = np.ones((30, 3)), np.ones(PLAIN.nnz)
WRONG: list[tuple[str, Callable[[], Any]]] = [
    ("values of SpMM", lambda: sparse.spmm(V[1:], X, pattern=PLAIN)),
    ("rows of x", lambda: sparse.spmm(V, X.T, pattern=PLAIN)),
    ("rows of x, transposed", lambda: sparse.spmm(V, X, pattern=PLAIN, transposed=True)),
    ("a matrix for a vector", lambda: sparse.spmv(V, X, pattern=PLAIN)),
    ("samples of SDDMM", lambda: sparse.sddmm(np.ones((37, 2)), X, pattern=PLAIN)),
    ("pattern", lambda: sparse.sparse_linear(X.T, V, pattern=TILED)),  # type: ignore[arg-type]
    ("tiles", lambda: sparse.block_sparse_linear(X.T, V, pattern=TILED)),
    ("bias", lambda: sparse.sparse_linear(X.T, V, np.ones(3), pattern=PLAIN)),
    ("weights", lambda: sparse.sparse_conv2d(
        np.ones((1, 5, 2, 3)), V, pattern=PLAIN, kernel_shape=(37, 5, 2, 2))),
]  # fmt: skip


@pytest.mark.parametrize("call", [call for _, call in WRONG], ids=[label for label, _ in WRONG])
def test_twin_refuses_in_the_words_of_the_truth(call: Callable[[], Any]) -> None:
    said = []
    for name in ("numpy", "numba"):
        with backend(name), pytest.raises(L0RefError, match=r"has shape|is BlockPattern") as caught:
            call()
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]


# --- threads and memory -----------------------------------------------------------------------------------------------


def on(threads: int, patch: pytest.MonkeyPatch) -> None:
    """Run every kernel on so many threads, whatever its work."""
    for module in (sparse_layout, sparse_matrix, sparse_operands):
        patch.setattr(module, "threads_for_call", lambda _: threads)


def products(pattern: Any, rng: np.random.Generator) -> list[Array]:
    """Products that round, in float32, with whole blocks, part blocks and one sample."""
    out = []
    for count in (1, 5, 2 * lanes(np.float32), 5 * lanes(np.float32) + 3):
        values, x, y = (
            rng.standard_normal(shape).astype(np.float32)
            for shape in (pattern.values_shape, (pattern.shape[1], count), (pattern.shape[0], count))
        )
        for rows in (False, True):
            a, b = (x.T.copy(), y.T.copy()) if rows else (x, y)
            out += [multiply(pattern, values, a, rows=rows), multiply_transposed(pattern, values, b, rows=rows)]
            out += [sample(pattern, b, a, rows=rows)]
    return out


@pytest.mark.slow  # kernels for several threads are compiled for this
@pytest.mark.parametrize("pattern", [PLAIN, TILED, Pattern.from_mask(apart(90, 8))], ids=["entries", "tiles", "short"])
def test_threads_change_no_bit(pattern: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for threads in THREADS:
        on(threads, monkeypatch)
        results.append(products(pattern, np.random.default_rng(0)))
    for got in results[1:]:
        for a, b in zip(got, results[0], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("groups", [0, 1, 3])
@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0], [5], [1, 0, 9, 0, 0, 2], [0, 100, 1, 1]])
def test_shares_follow_one_another_and_are_about_equal(lengths: list[int], groups: int) -> None:
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    whole_group = len(lengths) + sum(lengths)
    for parts in (1, 2, 3, 7):
        ends = [share(indptr, groups, n, parts) for n in range(parts + 1)]
        assert ends == sorted(ends)
        assert (ends[0], ends[-1]) == (0, groups * len(lengths))
        cost = [sum(1 + lengths[k % len(lengths)] for k in range(a, b)) for a, b in pairwise(ends)]
        assert max(cost) <= groups * whole_group / parts + 1 + max(lengths, default=0)


@each_dtype
def test_work_is_counted_in_multiply_adds(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    for module in (sparse_layout, sparse_matrix, sparse_operands):
        monkeypatch.setattr(module, "threads_for_call", lambda work: asked.append(work) or 1)
    n = 2 * lanes(dtype)
    for pattern, each in ((PLAIN, LOADED * PLAIN.nnz), (TILED, 16 * TILED.tiles.nnz)):
        x, y, values = np.ones((n, 30), dtype), np.ones((n, 37), dtype), np.ones(pattern.values_shape, dtype)
        work, lay_x, lay_y = each * n, MOVE * x.size, MOVE * y.size
        multiply(pattern, values, x, rows=True)
        sample(pattern, y, x, rows=True)
        assert asked == [work + lay_x + lay_y, lay_y, lay_x, work]
        asked.clear()
        multiply(pattern, values, x.T.copy())
        assert asked == [work]
        multiply(pattern, values, x[1:].T.copy())
        part = MOVE * (x[1:].size + y[1:].size)
        assert asked[1:] == [each * (n - 1) + part, MOVE * x[1:].size, MOVE * y[1:].size]
        asked.clear()


def test_room_begins_where_a_line_of_the_cache_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_kept", type("Local", (), {})())
    for dtype in map(np.dtype, DTYPES):
        first = room("a", 100, dtype)
        assert first.size == 100
        assert first.ctypes.data % 64 == 0
        first[:] = 7
        assert (room("a", 40, dtype) == 7).all()
        assert not np.shares_memory(room("b", 100, dtype), first)
        assert room("a", 1000, dtype).ctypes.data % 64 == 0
        assert room("a", 1000, dtype).dtype == dtype


def test_loans_are_apart_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_kept", type("Local", (), {})())
    for dtype in map(np.dtype, DTYPES):
        loans = [Loan(size, dtype) for size in (100, 300, 200)]
        assert [(a.array.size, a.array.dtype, a.array.ctypes.data % 64) for a in loans] == [
            (100, dtype, 0), (300, dtype, 0), (200, dtype, 0)
        ]  # fmt: skip
        assert not any(np.shares_memory(a.array, b.array) for a, b in pairwise(loans))
        second, third = (a.array.ctypes.data for a in loans[1:])
        del loans
        smallest = Loan(150, dtype)
        assert smallest.array.ctypes.data == third
        assert Loan(250, dtype).array.ctypes.data == second


def test_few_loans_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_kept", type("Local", (), {})())
    loans = [Loan(size, np.float32) for size in range(1, 2 * scratch.KEPT)]
    del loans
    sizes = [a.size for a in scratch._free(np.dtype(np.float32))]
    assert sizes == list(range(scratch.KEPT, 2 * scratch.KEPT))


def test_flat_leaves_its_argument_as_it_is() -> None:
    for x in (np.zeros((2, 3)), np.zeros(3), np.zeros((4, 4))[::2, 1:]):
        x[...] = np.arange(x.size).reshape(x.shape)
        y = flat(x)
        assert x.flags.writeable
        assert not y.flags.writeable
        assert y.tolist() == list(range(x.size))


def test_values_are_gathered_anew_for_each_product() -> None:
    values = np.arange(1.0, PLAIN.nnz + 1)
    x = np.ones((37, 2))
    before = multiply_transposed(PLAIN, values, x)
    values *= 2
    np.testing.assert_array_equal(multiply_transposed(PLAIN, values, x), 2 * before)


def test_a_loan_that_cannot_be_had_says_so_and_nothing_else() -> None:
    with pytest.raises(MemoryError):
        Loan(10**14, np.dtype(np.float32))
