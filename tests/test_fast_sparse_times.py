"""``w @ x`` off the tape: what the kept ways to multiply give, and what they must not keep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from l0ref import backend, sparse
from l0ref.errors import DTypeError, ShapeError
from l0ref.fast.machine import scratch
from l0ref.fast.machine.target import lanes
from l0ref.fast.sparse import batch as sparse_layout
from l0ref.fast.sparse import matrix as sparse_matrix
from l0ref.fast.sparse import times as sparse_times
from l0ref.sparse import BCSR, CSR
from l0ref.validate import Array

pytestmark = pytest.mark.kernels
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_kind = pytest.mark.parametrize("blocksize", [None, (4, 4), (16, 1)])


@pytest.fixture(autouse=True)
def _compiled() -> Iterator[None]:
    with backend("numba"):
        yield


def stored(w: Array, blocksize: tuple[int, int] | None) -> Any:
    return CSR.from_dense(w) if blocksize is None else BCSR.from_dense(w, blocksize=blocksize)


def whole(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator, *, keep: float = 1.0) -> Array:
    numbers = rng.integers(1, 10, size=shape) * (rng.random(shape) < keep)
    return numbers.astype(dtype)


def placed(x: Array, *, at_a_line: bool) -> Array:
    """The same numbers, where a line of the cache begins, or not."""
    memory = scratch.zeros(x.size + 1, x.dtype)
    memory = memory[:-1] if at_a_line else memory[1:]
    memory[:] = x.ravel()
    return memory.reshape(x.shape)


@each_dtype
@each_kind
@pytest.mark.parametrize("keep", [0.0, 0.1, 1.0])  # of 31 rows: features are loaded never, 3 times, 31 times
@pytest.mark.parametrize("vectors", [None, 0, 0.5, 1, 3, 9])
def test_is_the_sum_over_stored_entries(
    keep: float, vectors: float | None, blocksize: Any, dtype: Any, rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    w = whole((31, 40), dtype, rng, keep=keep)
    shape = (40,) if vectors is None else (40, int(vectors * lanes(dtype)))
    x, matrix = whole(shape, dtype, rng), stored(w, blocksize)
    want = (w.astype(np.float64) @ x).astype(dtype)
    for cache in (2**20, 0):  # with room for x in it, and without
        monkeypatch.setattr(sparse_layout, "CACHE", cache)
        sparse_times._product_of.cache_clear()
        for at_a_line in (True, False):
            for given in (placed(x, at_a_line=at_a_line), np.asfortranarray(x)):
                given.flags.writeable = False
                y = matrix @ given
                np.testing.assert_array_equal(y, want)
                assert y.dtype == dtype
                assert y.flags.writeable
    sparse_times._product_of.cache_clear()


@each_kind
@pytest.mark.parametrize("shape", [(40,), (40, 32), (40, 5)])
def test_other_values_on_one_pattern(shape: tuple[int, ...], blocksize: Any, rng: np.random.Generator) -> None:
    w, x = whole((31, 40), np.float32, rng, keep=0.2), whole(shape, np.float32, rng)
    first = stored(w, blocksize)
    np.testing.assert_array_equal(first @ x, w @ x)
    np.testing.assert_array_equal(first.with_values(3 * first.values) @ x, 3 * w @ x)
    double = first.with_values(first.values.astype(np.float64))
    np.testing.assert_array_equal(double @ x.astype(np.float64), (w @ x).astype(np.float64))


@each_kind
def test_what_does_not_fit_is_refused_as_on_the_tape(blocksize: Any, rng: np.random.Generator) -> None:
    matrix = stored(whole((31, 40), np.float32, rng), blocksize)
    matrix @ np.ones(40, np.float32)
    for x, error, said in (
        (np.ones(40), DTypeError, "mixed dtypes"),
        (np.ones((40, 16), np.int64), DTypeError, "expected float32 or float64"),
        (np.ones(39, np.float32), ShapeError, r"expected \(40,\)"),
        (np.ones((16, 40), np.float32), ShapeError, r"expected \(40, N\)"),
        (np.ones((40, 1, 1), np.float32), ShapeError, r"expected \(40, N\)"),
        (np.float32(1), ShapeError, "expected"),
    ):
        with pytest.raises(error, match=said):
            matrix @ x


def test_the_truth_is_what_runs_under_its_backend(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, x = stored(whole((31, 40), np.float32, rng), None), np.ones(40, np.float32)
    want = matrix @ x
    monkeypatch.setattr(sparse_times, "_product_of", lambda *_: pytest.fail("the compiled product was asked for"))
    with backend("numpy"):
        np.testing.assert_array_equal(matrix @ x, want)


def test_the_compiled_product_is_what_runs_without_a_tape(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix, x = stored(whole((31, 40), np.float32, rng), None), np.ones((40, 16), np.float32)
    monkeypatch.setattr(sparse.matmul, "apply", lambda *_, **__: pytest.fail("the tape was asked for"))
    assert (matrix @ x).shape == (31, 16)


@each_dtype
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_do_not_change_a_bit(
    threads: int, dtype: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    w = rng.standard_normal((31, 40)).astype(dtype)
    x = placed(rng.standard_normal((40, 5 * lanes(dtype))).astype(dtype), at_a_line=False)
    found = []
    for count in (1, threads):
        for home in (sparse_times, sparse_matrix):
            monkeypatch.setattr(home, "threads_for_call", lambda _, count=count: count)
        for kept in (w, w * (np.arange(31) < 3)[:, None]):  # copied, and where it stands
            found.append(stored(kept, None) @ x)
    np.testing.assert_array_equal(found[:2], found[2:])


@each_kind
@pytest.mark.parametrize("shape", [(0, 40), (31, 0), (0, 0), (1, 1)])
def test_matrices_of_almost_nothing(shape: tuple[int, int], blocksize: Any, rng: np.random.Generator) -> None:
    w = whole(shape, np.float32, rng)
    for count in (0, 1, lanes(np.float32), 5 * lanes(np.float32)):
        x = whole((shape[1], count), np.float32, rng)
        np.testing.assert_array_equal(stored(w, blocksize) @ x, w @ x)
    x = whole(shape[1:], np.float32, rng)
    np.testing.assert_array_equal(stored(w, blocksize) @ x, w @ x)
