"""Every word of `l0ref.fast.machine.lanes`, compiled, against its definition; and what the plain words refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numba
import numpy as np
import pytest

from l0ref.fast.machine import lanes as words
from l0ref.fast.machine import lanes_python, target
from l0ref.fast.machine.lanes import lanes
from l0ref.validate import Array

pytestmark = pytest.mark.kernels
DTYPES = [np.float32, np.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
compile_fresh: Callable[[Any], Any] = numba.njit(error_model="numpy")  # no cache, which would not see a word change


def untouched(size: int, dtype: Any) -> Array:
    return np.full(size, np.nan, dtype)


def written(size: int, dtype: Any, vectors: dict[int, Any]) -> Array:
    """An array of NaN with vectors at some places."""
    y = untouched(size, dtype)
    for place, vector in vectors.items():
        y[place : place + lanes(dtype)] = vector
    return y


def consecutive(count: int, dtype: Any) -> tuple[int, ...]:
    """Places of so many vectors, one after another."""
    return tuple(range(0, count * lanes(dtype), lanes(dtype)))


@compile_fresh
def load_and_store(x: Any, at: Any, y: Any, columns: Any) -> None:
    words.store(y, columns, (0,), words.load(x, at))


@compile_fresh
def spread_and_store(w: Any, at: Any, y: Any, columns: Any) -> None:
    words.store(y, columns, (0,), words.spread(w, at))


@compile_fresh
def fill_and_store(b: Any, at: Any, y: Any, columns: Any, rows: Any) -> None:
    words.store(y, columns, rows, words.filled(b, at, columns))


@compile_fresh
def outer_of(a: Any, x: Any, w: Any, places: Any) -> None:
    """a_pi + x_p w_i, in place: places of a, of x and of w."""
    of_a, of_x, of_w = places
    words.store(a, of_a, (0,), words.outer(words.load(a, of_a), words.load(x, of_x), words.spread(w, of_w)))


@compile_fresh
def plus_of(x: Any, at: Any, by: Any, y: Any) -> None:
    words.store(y, at, (0,), words.plus(words.load(x, at), words.load(x, by)))


@compile_fresh
def minus_of(x: Any, at: Any, by: Any, y: Any) -> None:
    words.store(y, at, (0,), words.minus(words.load(x, at), words.load(x, by)))


@compile_fresh
def at_least_of(a: Any, at: Any, w: Any, i: Any) -> None:
    words.store(a, at, (0,), words.at_least(words.load(a, at), w, i))


@compile_fresh
def number_of(x: Any, i: Any, y: Any) -> None:
    words.store(y, (0,), (0,), words.number(x, i))


@compile_fresh
def larger_of(a: Any, v: Any, at: Any) -> None:
    words.store(a, at, (0,), words.larger(words.load(a, at), words.load(v, at)))


@compile_fresh
def where_equal_of(v: Any, k: Any, u: Any, y: Any) -> None:
    words.store(y, (0,), (0,), words.where_equal(words.load(v, (0,)), words.load(k, (0,)), words.load(u, (0,))))


@compile_fresh
def increase_by(y: Any, columns: Any, rows: Any, a: Any, at: Any) -> None:
    words.increase(y, columns, rows, words.load(a, at))


@compile_fresh
def totals_of(a: Any, at: Any, y: Any, columns: Any) -> None:
    words.store(y, columns, (0,), words.totals(words.load(a, at)))


@compile_fresh
def transposed_of(a: Any, at: Any, y: Any) -> None:
    words.store(y, at, (0,), words.transposed(words.load(a, at)))


@compile_fresh
def shifted(at: Any, by: Any) -> Any:
    return words.shift(at, by)


@compile_fresh
def picked(table: Any, at: Any) -> Any:
    return words.pick(table, at)


@compile_fresh
def limited(at: Any, most: Any) -> Any:
    return words.at_most(at, most)


@compile_fresh
def part_of(x: Any, at: Any, count: Any, y: Any) -> None:
    words.store(y, (0,), (0,), words.part(x, at, count))


@compile_fresh
def gathered(x: Any, t: Any, at: Any, count: Any, y: Any) -> None:
    words.store(y, (0,), (0,), words.gather(x, t, at, count))


@compile_fresh
def whole_gathered(x: Any, t: Any, at: Any, y: Any) -> None:
    words.store(y, (0,), (0,), words.gather(x, t, at, words.width(y)))


@compile_fresh
def total_of(x: Any, at: Any) -> Any:
    return words.total(words.load(x, at))


def test_every_word_has_a_test() -> None:
    tested = {"load", "store", "spread", "filled", "outer", "at_least", "increase", "totals", "transposed"}
    tested |= {"part", "gather", "total", "width", "number", "larger", "where_equal"}
    assert set(words.__all__) - {"COLUMNS", "ROWS", "lanes"} == tested | {"plus", "minus", "shift", "pick", "at_most"}


@each_dtype
def test_load_and_store(dtype: Any, rng: np.random.Generator) -> None:
    n = lanes(dtype)
    x = rng.normal(size=5 * n).astype(dtype)
    at, columns, size = (0, 3, 2 * n + 1, 4 * n), (n + 1, 2 * n + 1, 5 * n, 0), 6 * n
    y = untouched(size, dtype)
    load_and_store(x, at, y, columns)
    want = written(size, dtype, {c: x[i : i + n] for i, c in zip(at, columns, strict=True)})
    np.testing.assert_array_equal(y, want)


@each_dtype
def test_what_was_loaded_stays(dtype: Any) -> None:
    """A store into the places of a vector that was loaded before does not change it."""
    n = lanes(dtype)
    x = np.arange(3 * n).astype(dtype)
    load_and_store(x, (0, n), x, (n, 2 * n))
    np.testing.assert_array_equal(x, np.arange(3 * n) - np.repeat([0, n, n], n))


@each_dtype
def test_spread(dtype: Any, rng: np.random.Generator) -> None:
    n = lanes(dtype)
    w = rng.normal(size=7).astype(dtype)
    y = untouched(4 * n, dtype)
    spread_and_store(w, (6, 0, 3), y, (0, 3 * n, n))
    np.testing.assert_array_equal(y, written(4 * n, dtype, {0: w[6], 3 * n: w[0], n: w[3]}))


@each_dtype
def test_filled(dtype: Any, rng: np.random.Generator) -> None:
    n = lanes(dtype)
    b = rng.normal(size=7).astype(dtype)
    rows, columns, size = (0, 7 * n), (0, n + 1, 5 * n), 13 * n
    y = untouched(size, dtype)
    fill_and_store(b, (5, 2), y, columns, rows)
    want = written(size, dtype, {c + r: b[i] for c in columns for r, i in zip(rows, (5, 2), strict=True)})
    np.testing.assert_array_equal(y, want)


@each_dtype
@pytest.mark.parametrize(("across", "down"), [(3, 2), (1, 4), (4, 1), (1, 1)])
def test_outer(across: int, down: int, dtype: Any, rng: np.random.Generator) -> None:
    n = lanes(dtype)
    a, x, w = (rng.normal(size=size).astype(dtype) for size in (12 * n, 8 * n, 9))
    of_x, of_w = tuple(range(1, across * (n + 1), n + 1)), tuple(range(8, 8 - 2 * down, -2))
    want = a.copy()
    for p in range(across):
        for i in range(down):
            place = slice((p * down + i) * n, (p * down + i + 1) * n)
            want[place] = a[place] + x[of_x[p] : of_x[p] + n] * w[of_w[i]]
    outer_of(a, x, w, (consecutive(across * down, dtype), of_x, of_w))
    np.testing.assert_allclose(a, want, rtol=0, atol=8 * np.finfo(dtype).eps)


@each_dtype
def test_outer_rounds_once(dtype: Any, rng: np.random.Generator) -> None:
    """x w less its own rounded value is what rounding took away, and not 0."""
    x, w = rng.normal(size=lanes(dtype)).astype(dtype), rng.normal(size=1).astype(dtype)
    a = -(x * w)
    want = [float(Fraction(float(u)) * Fraction(float(w[0])) + Fraction(float(s))) for u, s in zip(x, a, strict=True)]
    assert any(want)
    outer_of(a, x, w, ((0,), (0,), (0,)))
    if not (numba.config.DISABLE_JIT and dtype == np.float64):  # NumPy has no wider type to take the product in
        assert a.tolist() == want


@each_dtype
def test_plus_and_minus(dtype: Any, rng: np.random.Generator) -> None:
    n = lanes(dtype)
    x = rng.normal(size=4 * n).astype(dtype)
    x[3] = np.inf
    at, by = (0, n, 2 * n), (1, 3 * n, 0)
    for run, of in ((plus_of, np.add), (minus_of, np.subtract)):
        y = untouched(4 * n, dtype)
        run(x, at, by, y)
        pairs = zip(at, by, strict=True)
        np.testing.assert_array_equal(y, written(4 * n, dtype, {i: of(x[i : i + n], x[k : k + n]) for i, k in pairs}))


@each_dtype
@pytest.mark.parametrize("least", [0.0, -math.inf, math.inf, -1.5])
def test_at_least(least: float, dtype: Any, rng: np.random.Generator) -> None:
    n = lanes(dtype)
    a = rng.normal(size=3 * n).astype(dtype)
    odd = [math.nan, -math.inf, math.inf, -0.0, 0.0, least]
    a[rng.permutation(3 * n)[:6]] = odd
    want = np.array([v if not v < least else least for v in a.tolist()], dtype)
    at_least_of(a, consecutive(3, dtype), np.array([9, 9, least, 9], dtype), 2)
    np.testing.assert_array_equal(a, want)
    assert np.isnan(a).sum() == 1
    np.testing.assert_array_equal(np.signbit(a), np.signbit(want))


@each_dtype
@pytest.mark.parametrize("i", [0, 3, -2, 0.5])
def test_number(i: float, dtype: Any) -> None:
    y = untouched(2 * lanes(dtype), dtype)
    number_of(np.zeros(0, dtype), i, y)
    np.testing.assert_array_equal(y, written(2 * lanes(dtype), dtype, {0: i}))


PAIRS = [(a, v) for a in (math.nan, -math.inf, -1.0, 0.0, math.inf) for v in (math.nan, -math.inf, -1.0, 0.0, math.inf)]


@each_dtype
@pytest.mark.parametrize(("a", "v"), PAIRS)
def test_larger_takes_the_first_of_equals_and_the_last_nan(a: float, v: float, dtype: Any) -> None:
    """In lane 0; the others keep what they have."""
    n = lanes(dtype)
    old, new = np.full(2 * n, 5, dtype), np.full(2 * n, 4, dtype)
    old[0], new[0] = a, v
    wins = math.isnan(v) or v > a
    larger_of(old, new, (0, n))
    np.testing.assert_array_equal(old, [v if wins else a] + [5] * (n - 1) + [4 if wins else 5] + [5] * (n - 1))


@each_dtype
def test_where_equal(dtype: Any) -> None:
    n = lanes(dtype)
    v, k, u = np.full(n, math.inf, dtype), np.arange(n).astype(dtype), np.ones(n, dtype)
    k[0] = u[0] = math.nan  # equal to nothing
    y = untouched(2 * n, dtype)
    where_equal_of(v, k, u, y)
    np.testing.assert_array_equal(y, written(2 * n, dtype, {0: np.where(np.arange(n) == 1, math.inf, 0)}))


@each_dtype
def test_increase_where_places_meet(dtype: Any, rng: np.random.Generator) -> None:
    n = lanes(dtype)
    columns, rows = (0, 1, n, 1), (0, 2, n // 2)
    a = rng.integers(-9, 9, size=len(columns) * len(rows) * n).astype(dtype)
    y = rng.integers(-9, 9, size=4 * n).astype(dtype)
    want = y.copy()
    for k, place in enumerate([c + r for c in columns for r in rows]):
        want[place : place + n] += a[k * n : (k + 1) * n]
    increase_by(y, columns, rows, a, consecutive(len(columns) * len(rows), dtype))
    np.testing.assert_array_equal(y, want)


@each_dtype
@pytest.mark.parametrize("times", [1, 2])
def test_totals_are_sums_of_neighbours(times: int, dtype: Any, rng: np.random.Generator) -> None:
    n = lanes(dtype)
    a = rng.normal(size=times * n * n).astype(dtype)
    y = untouched(3 * n, dtype)
    totals_of(a, consecutive(times * n, dtype), y, tuple(range(0, times * n, n)))
    sums = a.reshape(times * n, n)
    np.testing.assert_allclose(y[: times * n], sums.sum(axis=1, dtype=float), rtol=0, atol=n * np.finfo(dtype).eps)
    while sums.shape[1] > 1:
        sums = sums[:, ::2] + sums[:, 1::2]
    np.testing.assert_array_equal(y[: times * n], sums[:, 0])
    assert np.isnan(y[times * n :]).all()


@each_dtype
def test_transposed(dtype: Any) -> None:
    n = lanes(dtype)
    a, y = np.arange(n * n).astype(dtype), untouched(n * n, dtype)
    transposed_of(a, consecutive(n, dtype), y)
    np.testing.assert_array_equal(y.reshape(n, n), a.reshape(n, n).T)


@each_dtype
@pytest.mark.parametrize("places", [np.uint16, np.int32])
def test_vectors_that_are_not_full(places: Any, dtype: Any, rng: np.random.Generator) -> None:
    """The numbers asked for, and zeros; also at the end of an array, and where x is infinite beyond them."""
    n = lanes(dtype)
    x, high = rng.normal(size=3 * n).astype(dtype), 40_000  # beyond int16
    t = rng.permutation(3 * n).astype(places)
    far = np.full(high + 1, np.inf, dtype)
    far[high] = 7
    for count in range(-1, n + 1):
        some, at, y = max(count, 0), 3 * n - max(count, 0), untouched(n, dtype)
        zeros = np.zeros(n - some, dtype)
        part_of(x, at, count, y)
        np.testing.assert_array_equal(y, np.concatenate([x[at:], zeros]))
        gathered(x, t, at, count, y)
        np.testing.assert_array_equal(y, np.concatenate([x[t[at:]], zeros]))
        gathered(far, np.full(max(some, 1), high, places), 0, count, y)
        np.testing.assert_array_equal(y, np.concatenate([np.full(some, 7, dtype), zeros]))
    whole_gathered(x, t, n + 1, y)
    np.testing.assert_array_equal(y, x[t[n + 1 : 2 * n + 1]])


@each_dtype
def test_total_of_one_vector(dtype: Any, rng: np.random.Generator) -> None:
    x, n = rng.normal(size=3 * lanes(dtype)).astype(dtype), lanes(dtype)
    sums = x[1 : n + 1]
    while sums.size > 1:
        sums = sums[: sums.size // 2] + sums[sums.size // 2 :]
    assert total_of(x, (1,)) == sums[0]


def test_places() -> None:
    assert shifted((3, 0, -7), 5) == (8, 5, -2)
    assert shifted((3,), -4) == (-1,)
    assert picked(np.array([10, -20, 30]), (2, 0, 1, 1)) == (30, 10, -20, -20)
    assert limited((3, 9, -1, 4), 4) == (3, 4, -1, 4)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="plain words know the gaps of an array")
@pytest.mark.parametrize(
    "a", [np.zeros(99)[::-1], np.zeros(99)[::2], np.zeros((9, 9))], ids=["turned", "gaps", "matrix"]
)
def test_arrays_with_gaps_are_refused(a: Array) -> None:
    flat, said = np.zeros(99), r"is not a flat array without gaps"
    for run in (
        lambda: load_and_store(a, (0,), flat, (0,)),
        lambda: load_and_store(flat, (0,), a, (0,)),
        lambda: spread_and_store(a, (0,), flat, (0,)),
        lambda: fill_and_store(a, (0,), flat, (0,), (0,)),
        lambda: at_least_of(flat, (0,), a, 0),
        lambda: increase_by(a, (0,), (0,), flat, (0,)),
    ):
        with pytest.raises(numba.core.errors.NumbaError, match=said):
            run()


# --- with the compiler off --------------------------------------------------------------------------------------------


@each_dtype
def test_plain_words_refuse_places_outside(dtype: Any) -> None:
    n = lanes(dtype)
    x, one = np.zeros(2 * n, dtype), (np.ones(n, dtype),)
    for at in (0, n):  # the ends are inside
        lanes_python.store(x, (at,), (0,), lanes_python.load(x, (at,)))
        lanes_python.increase(x, (at,), (0,), one)
    np.testing.assert_array_equal(x, np.ones(2 * n))
    for at in (-1, n + 1):
        said = rf"^a vector at {at} reaches outside of an array of {2 * n}$"
        with pytest.raises(IndexError, match=said):
            lanes_python.load(x, (0, at))
        for write in (lanes_python.store, lanes_python.increase):
            with pytest.raises(IndexError, match=said):
                write(x, (0,), (at,), one)


def test_plain_words_refuse_numbers_outside() -> None:
    w = np.arange(3.0)
    at_least = lanes_python.at_least
    for at in (0, 2):
        assert lanes_python.spread(w, (at,))[0].tolist() == [at] * lanes(float)
        assert lanes_python.filled(w, (at,), (0,))[0].tolist() == [at] * lanes(float)
        assert lanes_python.pick(w.astype(int), (at,)) == (at,)
        assert at_least((np.zeros(2),), w, at)[0].tolist() == [at] * 2
    for at in (-1, 3):
        said = rf"^{at} lies outside of an array of 3$"
        for word in (
            lambda at=at: lanes_python.spread(w, (0, at)),
            lambda at=at: lanes_python.filled(w, (at,), (0,)),
            lambda at=at: lanes_python.pick(w.astype(int), (at,)),
            lambda at=at: at_least((w,), w, at),
        ):
            with pytest.raises(IndexError, match=said):
                word()


def test_plain_words_want_as_many_vectors_as_places() -> None:
    y, vectors = np.zeros(9 * lanes(float)), (np.ones(lanes(float)),) * 3
    for word in (lanes_python.store, lanes_python.increase):
        with pytest.raises(ValueError, match=r"^zip\(\) argument"):
            word(y, (0, 1), (0, 1), vectors)
    with pytest.raises(ValueError, match=r"^zip\(\) argument"):
        lanes_python.outer(vectors, vectors[:2], vectors[:2])


# --- the processor ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("features", "unit"),
    [
        ({"avx512f": True, "avx2": True}, (512, 32)),
        ({"avx512f": False, "avx2": True}, (256, 16)),
        ({"avx2": False, "sse2": True}, (128, 16)),
        ({"neon": True}, (128, 32)),
        ({}, (128, 16)),
    ],
)
def test_vector_unit(features: dict[str, bool], unit: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target.numba.config, "CPU_NAME", None)
    monkeypatch.setattr(target.llvm, "get_host_cpu_features", lambda: features)
    assert target.vector_unit() == unit
    monkeypatch.setattr(target.numba.config, "CPU_NAME", "generic")
    assert target.vector_unit() == (128, 16)


def test_vector_unit_of_an_unknown_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> dict[str, bool]:
        raise RuntimeError("no idea")

    monkeypatch.setattr(target.numba.config, "CPU_NAME", None)
    monkeypatch.setattr(target.llvm, "get_host_cpu_features", unknown)
    assert target.vector_unit() == (128, 16)
    assert not target.gathers_fast()


@pytest.mark.parametrize(
    ("name", "feature", "fast"),
    [
        ("sapphirerapids", True, True),
        ("icelake-server", False, False),
        ("znver4", False, False),
        ("znver6", True, False),
    ],
)
def test_where_gathering_is_fast(name: str, feature: bool, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target.numba.config, "CPU_NAME", None)
    monkeypatch.setattr(target.llvm, "get_host_cpu_name", lambda: name)
    monkeypatch.setattr(target.llvm, "get_host_cpu_features", lambda: {"avx512fp16": feature})
    assert target.gathers_fast() is fast
    monkeypatch.setattr(target.numba.config, "CPU_NAME", "generic")
    assert not target.gathers_fast()


def test_lanes_of_a_vector() -> None:
    assert (lanes(np.float32), lanes("float64")) == (target.BITS // 32, target.BITS // 64)
    assert target.ROWS * target.COLUMNS + target.ROWS + target.COLUMNS <= target.REGISTERS
    assert target.ROWS * target.COLUMNS % lanes(np.float32) == 0  # the totals of a tile are whole vectors
