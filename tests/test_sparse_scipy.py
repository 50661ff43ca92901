"""Sparse matrices to SciPy and back, the products of both, and what SciPy allows and we do not."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from l0ref.errors import ArgumentError, ConfigError, DTypeError
from l0ref.interop.scipy import from_scipy, to_scipy
from l0ref.sparse import BCSR, CSR
from tests.random_sparse import blocksizes, matrices

scipy_sparse = pytest.importorskip("scipy.sparse", reason="needs the extra `crosscheck`")
pytestmark = pytest.mark.crosscheck


@given(matrices())
def test_there_and_back(w: Any) -> None:
    theirs = to_scipy(CSR.from_dense(w))
    assert isinstance(theirs, scipy_sparse.csr_array)
    assert (theirs.dtype, theirs.shape) == (w.dtype, w.shape)
    np.testing.assert_array_equal(theirs.toarray(), w)
    theirs.check_format(full_check=True)
    expected = scipy_sparse.csr_array(w)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(theirs, name), getattr(expected, name))
        assert getattr(theirs, name).flags.writeable
    for made in (theirs, expected, scipy_sparse.csr_matrix(w)):
        ours = from_scipy(made)
        np.testing.assert_array_equal(ours.to_dense(), w)
        assert ours.dtype == w.dtype
        assert not any(np.shares_memory(ours.values, getattr(made, name)) for name in ("data", "indices", "indptr"))


@given(matrices())
def test_products_and_transpose_are_theirs(w: Any) -> None:
    w = w.astype(np.float64)
    x = np.random.default_rng(0).normal(size=(w.shape[1], 3))
    ours, theirs = CSR.from_dense(w), scipy_sparse.csr_array(w)
    assert (np.abs(ours @ x - theirs @ x) <= 1e-15 * w.shape[1] * (np.abs(w) @ np.abs(x))).all()
    turned = theirs.T.tocsr()
    np.testing.assert_array_equal(ours.transpose().values, turned.data)
    np.testing.assert_array_equal(ours.transpose().indices, turned.indices)
    np.testing.assert_array_equal(ours.transpose().indptr, turned.indptr)


@given(matrices(), blocksizes())
def test_tiles_are_theirs(w: Any, size: tuple[int, int]) -> None:
    """SciPy's tiles must divide the matrix, so it is given a whole number of them."""
    w = np.ascontiguousarray(w[: w.shape[0] // size[0] * size[0], : w.shape[1] // size[1] * size[1]])
    if 0 in w.shape:
        return
    theirs, ours = scipy_sparse.csr_array(w).tobsr(size), BCSR.from_dense(w, blocksize=size)
    theirs.sort_indices()
    np.testing.assert_array_equal(ours.values, theirs.data)
    np.testing.assert_array_equal(ours.pattern.indices, theirs.indices)
    np.testing.assert_array_equal(ours.pattern.indptr, theirs.indptr)


def damaged(data: Any, indices: Any, indptr: Any = (0, 2, 2, 3)) -> Any:
    return scipy_sparse.csr_array((np.array(data), np.array(indices), np.array(indptr)), shape=(3, 4))


@pytest.mark.parametrize(
    ("w", "error", "said"),
    [
        (
            lambda: damaged([1.0, 2.0, 3.0], [2, 0, 1]),
            ArgumentError,
            r"^indices of row 0 do not rise .*sum_duplicates\)$",
        ),
        (lambda: damaged([1.0, 2.0, 3.0], [2, 2, 1]), ArgumentError, r"^indices of row 0 do not rise strictly"),
        (
            lambda: damaged([1.0, 0.0, 3.0], [0, 2, 1]),
            ArgumentError,
            r"^values has 1 zeros of 3, and a canonical matri",
        ),
        (lambda: damaged([1.0, np.nan, 3.0], [0, 2, 1]), ArgumentError, r"^values has 1 NaN or infinite of 3"),
        (lambda: damaged([1, 2, 3], [0, 2, 1]), DTypeError, r"^values has dtype int64, expected float32 or float64"),
        (lambda: scipy_sparse.coo_array(np.eye(3)), ArgumentError, r"^w has the format 'coo', expected 'csr'; convert"),
        (
            lambda: np.eye(3),
            ArgumentError,
            r"^w has the format 'ndarray', expected 'csr'; convert it with scipy.sparse",
        ),
    ],
)
def test_what_is_not_canonical_is_refused(w: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        from_scipy(w())


def test_scipy_can_tidy_up_what_we_refuse() -> None:
    w = damaged([1.0, 0.0, 3.0], [2, 0, 1])
    w.sum_duplicates()
    w.eliminate_zeros()
    np.testing.assert_array_equal(from_scipy(w).to_dense(), w.toarray())


@pytest.mark.parametrize("w", [np.eye(3), BCSR.from_dense(np.eye(3), blocksize=2)])
def test_only_csr_goes_there(w: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^w is (ndarray|BCSR), expected l0ref.sparse.CSR; make one with CSR.from"):
        to_scipy(w)


def test_missing_scipy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(ConfigError, match=r"^package 'scipy.sparse' is not installed; .*'l0ref\[crosscheck\]'$"):
        to_scipy(CSR.from_dense(np.eye(2)))
