"""The sums of products of `l0ref.fast.products.contraction` against loops over their formulas, with tables at random.

The numbers are small and whole, so that every sum is exact, whatever its order, and results must be equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from l0ref.fast.machine.lanes import COLUMNS, ROWS, lanes
from l0ref.fast.machine.policy import flat
from l0ref.fast.products import contraction
from l0ref.fast.products import launch as products
from l0ref.fast.products.contraction import DOWN
from l0ref.validate import Array

pytestmark = pytest.mark.kernels
DTYPES = [np.float32, np.float64]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
THREADS = (1, 2, 3, 5)
GAP = 3  # entries between the vectors of a result: nobody may write there

# columns, rows, taps, blocks: every number of columns and rows leaves other rests, 70 is more than a chunk
COUNTS = [
    (1, 1, 1, 1), (2, 3, 1, 2), (3, 2, 4, 1), (4, 4, 3, 3), (5, 9, 2, 2), (9, 5, 5, 1), (70, 3, 2, 1), (2, 70, 1, 1),
    (3, 4, 70, 2), (4, 1, 9, 1), (1, 4, 9, 4), (8, 9, 4, 1), (2, 9, 8, 1),
]  # fmt: skip
EMPTY = [(3, 4, 5, 0), (3, 4, 0, 2), (0, 4, 5, 2)]
each_count = pytest.mark.parametrize(("columns", "rows", "taps", "blocks"), [*COUNTS, *EMPTY])


def whole(size: int, dtype: Any, rng: np.random.Generator) -> Array:
    return rng.integers(-9, 10, size=size).astype(dtype)


def offsets(low: int, count: int, rng: np.random.Generator) -> Array:
    """So many offsets at random, below low + 20."""
    return rng.integers(low, low + 20, size=count)


def apart(columns: int, rows: int, dtype: Any, rng: np.random.Generator) -> tuple[Array, Array, int]:
    """Offsets that give every column and row a vector of its own, with gaps; and the length of a block of them."""
    each = lanes(dtype) + GAP
    return rng.permutation(columns) * each * rows + GAP, rng.permutation(rows) * each, columns * rows * each + GAP


def at(x: Array, place: int) -> Array:
    """The vector at a place, inside the array."""
    assert 0 <= place <= x.size - lanes(x.dtype)
    return x[place : place + lanes(x.dtype)]


def places(*sizes: int) -> Iterator[tuple[int, ...]]:
    return np.ndindex(*sizes)


def sums_of(x: Array, w: Array, tables: Any, blocks: int) -> Iterator[tuple[int, int, int, int, Array]]:
    """Yield block, p, i, place in y, and sum_t w[rows_i + taps'_t] x[columns_p + taps_t + l]."""
    columns, rows, taps, steps = tables
    for block, p, i in places(blocks, columns.shape[1], rows.shape[1]):
        total = np.zeros(lanes(x.dtype))
        for t in range(taps.shape[1]):
            total += w[rows[0, i] + taps[1, t]] * at(x, block * steps[0] + columns[0, p] + taps[0, t])
        yield block, p, i, block * steps[1] + columns[1, p] + rows[1, i], total


# --- contract ---------------------------------------------------------------------------------------------------------


def contraction_of(columns: int, rows: int, taps: int, blocks: int, dtype: Any, rng: np.random.Generator) -> Any:
    """x, w, b, tables and how long y must be."""
    columns_of_y, rows_of_y, step = apart(columns, rows, dtype, rng)
    tables = (
        np.stack([offsets(2, columns, rng), columns_of_y]),
        np.stack([offsets(1, rows, rng), rows_of_y, offsets(0, rows, rng)]),
        np.stack([offsets(3, taps, rng), offsets(0, taps, rng)]),
        np.array([37, step]),
    )
    x, w, b = (whole(size, dtype, rng) for size in (37 * blocks + 50 + lanes(dtype), 60, 20))
    return x, w, b, tables, blocks * step


def contracted(x: Array, w: Array, b: Array, least: float, tables: Any, *, blocks: int, size: int) -> Array:
    y = np.full(size, np.nan, x.dtype)
    for _, _, i, place, total in sums_of(x, w, tables, blocks):
        at(y, place)[:] = np.maximum(least, b[tables[1][2, i]] + total)
    return y


@each_dtype
@each_count
def test_contract(columns: int, rows: int, taps: int, blocks: int, dtype: Any, rng: np.random.Generator) -> None:
    x, w, b, tables, size = contraction_of(columns, rows, taps, blocks, dtype, rng)
    for least in (0.0, -math.inf, 2.0):
        want = contracted(x, w, b, least, tables, blocks=blocks, size=size)
        for threads in THREADS:
            y = np.full(size, np.nan, dtype)
            contraction.contract(flat(x), flat(w), flat(b), np.array([least], dtype), y, tables, DOWN, blocks, threads)
            np.testing.assert_array_equal(y, want)


@each_dtype
def test_tiles_of_contract_are_cut_anywhere(dtype: Any, rng: np.random.Generator) -> None:
    x, w, b, tables, size = contraction_of(9, 5, 3, 2, dtype, rng)
    floor, want = np.zeros(1, dtype), contracted(x, w, b, 0.0, tables, blocks=2, size=size)
    tiles = 2 * math.ceil(9 / COLUMNS) * math.ceil(5 / ROWS)
    for cut in range(tiles + 1):
        first, second = np.full((2, size), np.nan, dtype)
        contraction.contract_tiles(x, w, b, floor, first, tables, DOWN, 0, cut)
        contraction.contract_tiles(x, w, b, floor, second, tables, DOWN, cut, tiles)
        both = np.isfinite(first) & np.isfinite(second)
        assert not both.any()
        np.testing.assert_array_equal(np.where(np.isfinite(first), first, second), want)


@each_dtype
def test_contract_keeps_nan_under_a_floor(dtype: Any, rng: np.random.Generator) -> None:
    x, w, b, tables, size = contraction_of(5, 4, 1, 1, dtype, rng)
    tables[2][0] = 0
    tables[0][0] = 0
    w += 20  # none is 0
    x[1] = np.nan
    y, floor = np.zeros(size, dtype), np.array([1e6], dtype)
    contraction.contract(flat(x), flat(w), flat(b), floor, y, tables, DOWN, 1, 1)
    assert np.isnan(y).sum() == 5 * 4
    assert (y == 1e6).sum() == 5 * 4 * (lanes(dtype) - 1)


# --- scatter ----------------------------------------------------------------------------------------------------------


def scattering_of(columns: int, rows: int, taps: int, blocks: int, dtype: Any, rng: np.random.Generator) -> Any:
    """x, w, tables and y, in which the vectors of a block meet: every offset is drawn, and some twice."""
    tables = (
        np.stack([offsets(2, columns, rng), offsets(0, columns, rng)]),
        np.stack([offsets(1, rows, rng), offsets(1, rows, rng), np.zeros(rows, int)]),
        np.stack([offsets(3, taps, rng), offsets(0, taps, rng)]),
        np.array([37, 40 + lanes(dtype)]),
    )
    x, w, y = (whole(size, dtype, rng) for size in (37 * blocks + 50 + lanes(dtype), 60, (40 + lanes(dtype)) * blocks))
    return x, w, tables, y


def scatter(x: Array, w: Array, y: Array, tables: Any, blocks: int, threads: int) -> Array:
    """The kernel, with room that holds NaN before, which is returned."""
    parts = tuple(range(0, COLUMNS * lanes(x.dtype), lanes(x.dtype)))
    room = np.full(threads * tables[2].shape[1] * COLUMNS * lanes(x.dtype), np.nan, x.dtype)
    contraction.scatter(flat(x), flat(w), flat(np.zeros(1, x.dtype)), y, tables, room, parts, blocks, threads)
    return room


def test_each_thread_scatters_from_room_of_its_own(rng: np.random.Generator) -> None:
    x, w, tables, y = scattering_of(9, 5, 3, 4, np.float64, rng)
    for threads in (1, 2, 4):
        assert np.isfinite(scatter(x, w, y, tables, 4, threads)).all()


@each_dtype
@each_count
def test_scatter(columns: int, rows: int, taps: int, blocks: int, dtype: Any, rng: np.random.Generator) -> None:
    x, w, tables, before = scattering_of(columns, rows, taps, blocks, dtype, rng)
    want = before.copy()
    for _, _, _, place, total in sums_of(x, w, tables, blocks):
        at(want, place)[:] += total
    for threads in THREADS:
        y = before.copy()
        scatter(x, w, y, tables, blocks, threads)
        np.testing.assert_array_equal(y, want)


# --- correlate --------------------------------------------------------------------------------------------------------


def correlation_of(columns: int, rows: int, taps: int, blocks: int, dtype: Any, rng: np.random.Generator) -> Any:
    tables = (
        np.stack([offsets(2, columns, rng), offsets(0, columns, rng)]),
        np.stack([offsets(1, rows, rng), np.zeros(rows, int)]),
        offsets(3, taps, rng),
        np.array([37, 31]),
    )
    x, d = (whole(size, dtype, rng) for size in (37 * blocks + 50 + lanes(dtype), 31 * blocks + 50 + lanes(dtype)))
    return x, d, tables


def correlate(x: Array, d: Array, tables: Any, *, blocks: int, threads: int) -> Array:
    """The table g, (rows, taps), from a memory that held something else."""
    dtype, shape = x.dtype, (tables[1].shape[1], tables[2].size)
    sums, g = np.full(products.tile_room(*shape), np.nan, dtype), np.full(shape, np.nan, dtype)
    parts = tuple(range(0, ROWS * COLUMNS, lanes(dtype)))
    contraction.correlate(flat(x), flat(d), flat(np.zeros(1, dtype)), sums, parts, tables, blocks, threads)
    contraction.untiled(sums, g)
    return g


@each_dtype
@each_count
def test_correlate(columns: int, rows: int, taps: int, blocks: int, dtype: Any, rng: np.random.Generator) -> None:
    x, d, tables = correlation_of(columns, rows, taps, blocks, dtype, rng)
    want = np.zeros((rows, taps))
    for block, p, i, t in places(blocks, columns, rows, taps):
        of_x = at(x, block * 37 + tables[0][0, p] + tables[2][t])
        of_d = at(d, block * 31 + tables[0][1, p] + tables[1][0, i])
        want[i, t] += of_x @ of_d
    for threads in THREADS:
        np.testing.assert_array_equal(correlate(x, d, tables, blocks=blocks, threads=threads), want)


@pytest.mark.parametrize("rows", [0, 1, ROWS, ROWS + 1])
@pytest.mark.parametrize("taps", [0, 1, COLUMNS, COLUMNS + 1])
def test_room_for_the_tiles_of_a_correlation(rows: int, taps: int) -> None:
    assert products.tile_room(rows, taps) == math.ceil(rows / ROWS) * math.ceil(taps / COLUMNS) * ROWS * COLUMNS


# --- threads ----------------------------------------------------------------------------------------------------------


@each_dtype
def test_threads_change_no_bit(dtype: Any, rng: np.random.Generator) -> None:
    """Numbers whose sums are rounded: another order would show."""
    x, w, b, tables, size = contraction_of(9, 5, 9, 3, dtype, rng)
    s_x, s_w, s_tables, s_y = scattering_of(9, 5, 9, 3, dtype, rng)
    c_x, c_d, c_tables = correlation_of(9, 5, 9, 3, dtype, rng)
    for a in (x, w, b, s_x, s_w, s_y, c_x, c_d):
        a[...] = rng.normal(size=a.size)
    results = []
    for threads in THREADS:
        y, z = np.zeros(size, dtype), s_y.copy()
        contraction.contract(flat(x), flat(w), flat(b), np.array([-math.inf], dtype), y, tables, DOWN, 3, threads)
        scatter(s_x, s_w, z, s_tables, 3, threads)
        g = correlate(c_x, c_d, c_tables, blocks=3, threads=threads)
        results.append([y.tobytes(), z.tobytes(), g.tobytes()])
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("threads", [1, 2])
def test_products_choose_threads_by_their_work(
    threads: int, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """The work is columns x rows x taps x blocks x lanes, in multiply-adds."""
    asked: list[int] = []
    monkeypatch.setattr(products, "threads_for", lambda work: asked.append(work) or threads)
    n, zero = lanes(float), np.zeros(1)
    x, w, b, tables, size = contraction_of(9, 5, 3, 2, float, rng)
    y = np.full(size, np.nan)
    products.contract(x, w, b, zero, y, *tables[:3], steps=tables[3], blocks=2, lanes=n)
    np.testing.assert_array_equal(y, contracted(x, w, b, 0.0, tables, blocks=2, size=size))
    x, w, tables, y = scattering_of(4, 3, 5, 2, float, rng)
    want = y.copy()
    scatter(x, w, want, tables, 2, 1)
    products.scatter(x, w, zero, y, *tables[:3], steps=tables[3], blocks=2, lanes=n)
    np.testing.assert_array_equal(y, want)
    x, d, tables = correlation_of(5, 3, 7, 2, float, rng)
    g, sums = np.full((3, 7), np.nan), np.full(products.tile_room(3, 7), np.nan)
    products.correlate(x, d, zero, g, *tables[:3], steps=tables[3], blocks=2, lanes=n, sums=sums)
    np.testing.assert_array_equal(g, correlate(x, d, tables, blocks=2, threads=1))
    assert asked == [9 * 5 * 3 * 2 * n, 4 * 3 * 5 * 2 * n, 5 * 3 * 7 * 2 * n]
