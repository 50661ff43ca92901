"""Prepared products with single samples, `l0ref.sparse.plan`, against dense products in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0ref.autodiff.op import backend
from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.sparse import BCSR, CSR, plan

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dense", [None, False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (17, 40), (64, 33), (2, 0)])
@pytest.mark.parametrize("tiles", [None, (4, 2)])
@pytest.mark.parametrize("name", ["numba", "numpy"])
def test_plan_is_the_product(
    name: str, tiles: Any, shape: Any, dense: Any, dtype: Any, rng: np.random.Generator
) -> None:
    w = rng.normal(size=shape).astype(dtype) * (rng.random(shape) < 0.3)
    stored = CSR.from_dense(w) if tiles is None else BCSR.from_dense(w, blocksize=tiles)
    with backend(name):
        product = plan(stored, dense=dense)
        for _ in range(3):
            x = rng.normal(size=shape[1]).astype(dtype)
            y = product(x)
            assert (y.dtype, y.shape) == (dtype, shape[:1])
            want = w.astype(np.float64) @ x.astype(np.float64)
            np.testing.assert_allclose(y, want, rtol=0, atol=(1e-5 if dtype is np.float32 else 1e-13) * 10)
            before = y.copy()
            product(-x)
            np.testing.assert_array_equal(y, before)  # fresh


def test_form_follows_the_density_and_what_is_asked() -> None:
    few = np.eye(200)
    assert [plan(CSR.from_dense(few), dense=dense).is_dense for dense in (None, False, True)] == [False, False, True]
    assert repr(plan(CSR.from_dense(few))).startswith("Plan(sparse, CSR(shape=(200, 200), nnz=200")
    with pytest.raises(ArgumentError, match=r"^dense=1 must be True or False"):
        plan(CSR.from_dense(few), dense=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "first"),  # 0.13 M D - 2200, rounded up
    [((2, 5), 0), ((20, 845), 0), ((40, 500), 400), ((100, 300), 1700), ((300, 784), 28376), ((1000, 500), 62800)],
)
def test_number_of_entries_from_which_a_product_is_dense(shape: tuple[int, int], first: int) -> None:
    for nnz in (first - 1, first):
        if nnz >= 0:
            w = np.zeros(shape, np.float32)
            w.flat[:nnz] = 1
            assert plan(CSR.from_dense(w)).is_dense == (nnz >= first)


def test_large_matrices_are_never_dense() -> None:
    assert not plan(CSR.from_dense(np.ones((1, 500_001), np.float32))).is_dense


@pytest.mark.parametrize("dense", [False, True])
def test_other_samples_go_the_usual_way(dense: bool) -> None:
    w = CSR.from_dense(np.arange(12.0).reshape(3, 4))
    product, x = plan(w, dense=dense), np.arange(8.0)
    np.testing.assert_array_equal(product(x[::2]), w @ x[::2].copy())
    np.testing.assert_array_equal(product(np.eye(4)), w.to_dense())
    with pytest.raises(ShapeError, match=r"^x has shape \(8,\), expected \(4,\)"):
        product(x)


@pytest.mark.parametrize("dense", [False, True])
def test_types_are_those_of_the_matrix(dense: bool) -> None:
    """Another is refused; the same one in another object, as one with metadata, is not."""
    product = plan(CSR.from_dense(np.arange(12, dtype=np.float32).reshape(3, 4)), dense=dense)
    with pytest.raises(DTypeError, match=r"^SpMV: mixed dtypes float32, float64"):
        product(np.ones(4))
    same = np.ones(4, np.dtype("f4", metadata={"unit": "m"}))
    np.testing.assert_array_equal(product(same), [6, 22, 38])
