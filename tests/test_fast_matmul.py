"""The products of `l0ref.fast.products.matmul` against loops, however the factors stand in memory, and without BLAS.

The numbers are small and whole, so that every sum is exact, whatever its order, and results must be equal.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import Tensor, backend, grad, ops
from l0ref.autodiff.op import OPS, Rule
from l0ref.fast.machine import scratch
from l0ref.fast.machine.target import lanes
from l0ref.fast.products import matmul
from l0ref.fast.products.matmul import product
from l0ref.validate import Array
from tests.cases import CASES, Case
from tests.test_fast import run, twin
from tests.test_ops import assert_close, each_case

pytestmark = pytest.mark.kernels
matmul_of = np.matmul
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])

# n, k, m: one, a vector less or more than whole ones, more tiles than one, a long k and few rows
SIZES = [
    (1, 1, 1), (1, 17, 16), (2, 3, 1), (3, 7, 15), (4, 16, 16), (5, 33, 17), (17, 9, 31), (9, 1, 70), (33, 40, 8),
    (1, 300, 40), (6, 257, 24), (2, 256, 3),
]  # fmt: skip
STANDS: dict[str, Callable[[Array], Array]] = {
    "in rows": np.ascontiguousarray,
    "in columns": np.asfortranarray,
    "with gaps": lambda x: np.repeat(np.repeat(x, 2, axis=0), 3, axis=1)[::2, ::3],
    "backwards": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
}


@pytest.fixture(autouse=True)
def _all_of_it_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No product is small enough for BLAS."""
    monkeypatch.setattr(matmul, "SMALL", 0)
    monkeypatch.setattr(matmul, "SMALL_VECTOR", 0)
    monkeypatch.setattr(matmul, "SMALL_DOT", 0)
    monkeypatch.setattr(
        np, "matmul", lambda a, b, out=None: refuse() if a.size and b.size else matmul_of(a, b, out=out)
    )


def refuse(*_: Any, **__: Any) -> Array:
    raise AssertionError("BLAS was asked")


def factors(n: int, k: int, m: int, dtype: Any, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.integers(-9, 10, size=(n, k)).astype(dtype), rng.integers(-9, 10, size=(k, m)).astype(dtype)


def by_hand(a: Array, b: Array) -> Array:
    """sum_k a[n, k] b[k, m], in whole numbers."""
    total = np.zeros((len(a), b.shape[1]), np.int64)
    for k in range(len(b)):
        total += a[:, k, None].astype(np.int64) * b[k].astype(np.int64)
    return total


@each_dtype
@pytest.mark.parametrize("right", STANDS)
@pytest.mark.parametrize("left", STANDS)
@pytest.mark.parametrize(("n", "k", "m"), SIZES)
def test_product_is_the_sum_over_k(n: int, k: int, m: int, left: str, right: str, dtype: Any) -> None:
    a, b = factors(n, k, m, dtype)
    given = STANDS[left](a), STANDS[right](b)
    for x in given:
        x.flags.writeable = False
    y = product(*given)
    assert y.dtype == dtype
    assert y.flags.c_contiguous
    assert y.flags.owndata
    np.testing.assert_array_equal(y, by_hand(a, b))


@each_dtype
@pytest.mark.parametrize(("few", "long"), [(0, 0), (10**6, 0)])
@pytest.mark.parametrize(("n", "k", "m"), SIZES)
def test_both_ways_through_a_turned_matrix_agree(
    n: int, k: int, m: int, few: int, long: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "FEW", few)
    monkeypatch.setattr(matmul, "THIN", 0)
    monkeypatch.setattr(matmul, "LONG", long)
    a, b = factors(n, k, m, dtype)
    np.testing.assert_array_equal(product(a, np.asfortranarray(b)), by_hand(a, b))


@pytest.mark.parametrize(("n", "k", "more", "way"), [(16, 256, 1, "laid"), (15, 256, 1, "along"), (15, 255, 1, "laid"),
                                                     (16, 256, 0, "along"), (16, 255, 0, "laid")])  # fmt: skip
def test_a_turned_matrix_is_read_as_it_stands_for_few_rows_or_columns(
    n: int, k: int, more: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = factors(n, k, 2 * lanes(np.float32) + more, np.float32)
    monkeypatch.setattr(matmul, {"laid": "_along", "along": "_across"}[way], refuse)
    np.testing.assert_array_equal(product(a, np.asfortranarray(b)), by_hand(a, b))


@each_dtype
@pytest.mark.parametrize("turned", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("n", "k", "m"), SIZES)
def test_threads_do_not_change_a_bit(
    n: int, k: int, m: int, turned: bool, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((n, k)).astype(dtype), rng.standard_normal((k, m)).astype(dtype)
    found = []
    for threads in (1, 2, 3, 5):
        monkeypatch.setattr(matmul, "threads_for_call", lambda _, threads=threads: threads)
        found.append(product(a, np.asfortranarray(b) if turned else b))
    for y in found[1:]:
        np.testing.assert_array_equal(y, found[0])


@each_dtype
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("few", [0, 10**6])
def test_what_is_not_finite_stays_in_its_row_and_column(
    bad: float, few: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "FEW", few)
    monkeypatch.setattr(matmul, "THIN", 0)
    a, b = factors(7, 259, 21, dtype)
    a, b = np.abs(a) + 1, np.abs(b) + 1
    for k in (0, 243, 258):  # in a whole vector, in one that rests overlap, in a rest
        worse = b.copy()
        worse[k, 20] = bad
        for right in (worse, np.asfortranarray(worse)):
            y = product(a, right)
            np.testing.assert_array_equal(y[:, :20], by_hand(a, b)[:, :20])
            np.testing.assert_array_equal(y[:, 20], np.full(7, bad, dtype))


@each_dtype
def test_memory_lent_before_leaves_nothing_behind(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "room", lambda _, size, dtype: np.full(size, np.nan, dtype))
    for n in (3, 40):
        a, b = factors(n, 300, 21, dtype)
        np.testing.assert_array_equal(product(a, np.asfortranarray(b)), by_hand(a, b))


def test_stacks_are_multiplied_one_by_one() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(-9, 10, size=(3, 1, 4, 9)).astype(float), rng.integers(-9, 10, size=(2, 9, 17)).astype(float)
    y, out = product(a, b), np.empty((3, 2, 4, 17))
    assert y.shape == out.shape
    for i, j in np.ndindex(3, 2):
        np.testing.assert_array_equal(y[i, j], by_hand(a[i, 0], b[j]))
    assert product(a, b, out=out) is out
    np.testing.assert_array_equal(out, y)


@pytest.mark.parametrize("k", [3, 300])
def test_where_to_put_it_has_to_be_in_order(k: int) -> None:
    a, b = factors(20, k, 40, np.float32)
    with pytest.raises(ValueError, match="copy"):
        product(a, b, out=np.empty((20, 40), np.float32, order="F"))


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nothing_to_multiply(size: int, axis: int) -> None:
    sizes = [3, 3, 3]
    sizes[axis] = size
    a, b = factors(*sizes, np.float64)
    np.testing.assert_array_equal(product(a, b), by_hand(a, b))


# --- when BLAS is asked -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "k", "m", "small"), [(64, 64, 64, True), (64, 64, 65, False), (1, 678, 678, True),
                                                    (1, 679, 679, False), (678, 678, 1, True), (679, 679, 1, False),
                                                    (1, 10_000, 1, True), (1, 10_001, 1, False)])  # fmt: skip
def test_blas_is_asked_for_what_it_takes_one_thread_for(
    n: int, k: int, m: int, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    a, b = factors(n, k, m, np.float32)
    monkeypatch.setattr(np, "matmul", refuse)
    if small:
        with pytest.raises(AssertionError, match="BLAS was asked"):
            product(a, b)
    else:
        product(a, b)


def products_in(source: str) -> list[int]:
    """Lines that multiply matrices with NumPy, whose name is np."""
    asks = {"matmul", "dot", "vdot", "inner", "einsum", "tensordot", "linalg"}
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult))
        or (isinstance(node, ast.Attribute) and node.attr in asks and ast.unparse(node.value) == "np")
    ]


def test_compiled_twins_ask_no_blas_but_in_one_place() -> None:
    found = {path.name: products_in(path.read_text()) for path in Path(matmul.__file__).parents[1].rglob("*.py")}
    assert {name: len(lines) for name, lines in found.items() if lines} == {"matmul.py": 1}


@pytest.mark.parametrize("source", ["a @ b", "a @= b", "np.dot(a, b)", "f(np.einsum)", "np.linalg.norm(a)"])
def test_a_planted_product_is_found(source: str) -> None:
    assert products_in(f"x = 1\n{source}") == [2]


@each_case([case for case in CASES if case.op in ("Conv2d", "Linear", "Matmul")])
def test_twins_equal_the_truth_without_blas(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    xs, options = case.draw(0)
    got = run(twin(case.op), xs, options, 0)
    monkeypatch.undo()
    want = run(Rule(OPS[case.op].forward, OPS[case.op].vjp), xs, options, 0)
    for a, b in zip(got, want, strict=True):
        assert_close(a, b, 1e-13, "twin")


@each_dtype
def test_a_network_on_the_tape_asks_no_blas(dtype: Any) -> None:
    rng = np.random.default_rng(3)
    draw = lambda *shape: Tensor(rng.standard_normal(shape).astype(dtype))  # noqa: E731
    x, k, groups, w = draw(2, 4, 6, 6), draw(8, 4, 3, 3), draw(8, 2, 3, 3), draw(5, 8 * 2 * 2)
    with backend("numba"):
        hidden = ops.conv2d(ops.relu(ops.conv2d(x, k)), groups, groups=4)
        y = ops.linear(ops.reshape(hidden, (2, -1)), w) @ draw(5, 3)
    assert all(np.isfinite(g).all() for g in grad(ops.sum(y), [x, k, groups, w]))


def test_a_product_asks_for_no_room_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = factors(40, 300, 21, np.float32)
    product(a, np.asfortranarray(b))
    asked: list[int] = []
    monkeypatch.setattr(scratch, "_aligned", lambda size, *_, **__: asked.append(size))
    product(a, np.asfortranarray(b))
    assert asked == []


def test_vectors_of_this_processor_leave_rests_in_the_sizes_above() -> None:
    assert any(k % lanes(np.float32) for _, k, _ in SIZES)
    assert any(m % lanes(np.float64) for *_, m in SIZES)


@each_dtype
def test_cotangents_are_not_made_twice(dtype: Any) -> None:
    """A view of a fresh array would be copied by the tape: see `l0ref.autodiff.op.run_vjp`."""
    x, w = factors(9, 40, 33, dtype)
    for name, xs in (("Linear", (x, np.ascontiguousarray(w.T))), ("Matmul", (x, w))):
        y, saved = twin(name).forward(*xs)
        assert all(g().base is None for g in twin(name).vjp(saved, np.ones_like(y)))
