"""The product of matrices, y = a b, on Numba's threads instead of those of BLAS.

    y[n, m] = sum_k a[n, k] b[k, m]

The threads of BLAS spin for 26 ms after a product, and occupy the processors meanwhile. So BLAS computes only the
products for which it uses one thread, and the larger ones are computed here, according to the layout of b in memory,
and how often it is read:

    across   the rows of b are contiguous, as those of W in y_bar W: the lanes of a vector run over m
    laid     the columns of b are contiguous, as those of W^T in x W^T: they are copied into blocks, then read as above
    along    the same for a few rows of a or columns of b: the lanes run over k, and are added up at the end

Why it is fast: `height` x COLUMNS vectors of sums stay in registers, as in `products.contraction`. A thread goes
through all rows of a with a few columns of b, which stay in the second cache meanwhile.

Every sum is taken by one thread, in an order that depends on sizes and layout alone: the result does not depend on
the number of threads.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import prange

from l0ref.fast.machine.lanes import COLUMNS, ROWS, filled, load, outer, shift, store, totals
from l0ref.fast.machine.policy import MOVE, flat, kernel, parallel_kernel, threads_for_call
from l0ref.fast.machine.scratch import room
from l0ref.fast.machine.tables import Table, table
from l0ref.fast.machine.target import lanes
from l0ref.fast.products.contraction import ACROSS, DOWN, places_of, tile
from l0ref.fast.products.heights import height_for
from l0ref.fast.products.layout import block_of_rows, steps_of
from l0ref.validate import Array

SMALL = 2**18  # multiply-adds up to which OpenBLAS uses one thread for a product of matrices
SMALL_VECTOR = 460_799  # the same of one with a vector, since version 0.3.27
SMALL_DOT = 10_000  # and of two vectors
# A transposed b is read along k, not laid out in blocks, if sums have LONG terms, and a has fewer than FEW rows or the
# columns of b are no more than THIN vectors, which would leave tiles half empty.
LONG, FEW, THIN = 256, 16, 2
ZERO = {dtype: np.zeros(1, dtype) for dtype in "fd"}


@kernel
def across_part(a, b, zero, y, tables, height, first, last):
    """Tiles first ... last - 1 of `across`, counted column by column."""
    rows, columns, taps = tables
    down = (rows.shape[1] + len(height) - 1) // len(height)
    for t in range(first, last):
        i, p = t % down * len(height), t // down * COLUMNS
        at = places_of(columns[0], p, ACROSS)
        sums = tile(b, a, filled(zero, places_of(rows[2], i, height), at), at, places_of(rows[0], i, height), taps)
        store(y, places_of(columns[1], p, ACROSS), places_of(rows[1], i, height), sums)


@parallel_kernel
def across(a, b, zero, y, tables, height, threads):
    """Fill y; all arrays are flat.

    tables  rows  offsets in a, in y and zeros, (3, N)    columns  offsets in b and in y, one for each vector, (2, P)
            taps  offsets in b and in a, (2, K)
    height  0, 1, 2, ...: as many as a tile has rows
    """
    rows, columns = tables[0], tables[1]
    tiles = ((rows.shape[1] + len(height) - 1) // len(height)) * ((columns.shape[1] + COLUMNS - 1) // COLUMNS)
    for n in prange(threads):
        across_part(a, b, zero, y, tables, height, n * tiles // threads, (n + 1) * tiles // threads)


@parallel_kernel
def lay(rows, blocks, starts, size, row_steps, lane_steps, threads):
    """Fill one block, see `products.layout`, from the rows of `size` numbers that begin with each of the starts."""
    step = size * len(lane_steps)
    for n in prange(threads):
        for p in range(n * starts.size // threads, (n + 1) * starts.size // threads):
            begin = starts[p] * size
            block_of_rows(rows[begin : begin + step], blocks[p * step :], size, np.int64(0), row_steps, lane_steps)


@kernel
def dots(a, b, sums, rows, columns, size, lanes):
    """sums_pi[l] + sum_k a[rows_i + k + l] b[columns_p + k + l], with k = 0, lanes, 2 lanes, ... below size."""
    for k in range(0, size, lanes):
        sums = outer(sums, load(b, shift(columns, k)), load(a, shift(rows, k)))
    return sums


@kernel
def along_part(a, b, zero, y, sums, parts, tables, sizes, first, last):
    """Tiles first ... last - 1 of `along`, counted column by column. sums: room for the totals of a tile."""
    rows, columns = tables
    whole, rest, lanes = sizes
    down = (rows.shape[1] + ROWS - 1) // ROWS
    for t in range(first, last):
        i, p = t % down * ROWS, t // down * COLUMNS
        row, column = places_of(rows[0], i, DOWN), places_of(columns[0], p, ACROSS)
        tile_sums = dots(a[0], b[0], filled(zero, places_of(rows[3], i, DOWN), column), row, column, whole, lanes)
        row, column = places_of(rows[1], i, DOWN), places_of(columns[1], p, ACROSS)
        store(sums, (0,), parts, totals(dots(a[1], b[1], tile_sums, row, column, rest, lanes)))
        for j in range(min(COLUMNS, columns.shape[1] - p)):
            for m in range(min(ROWS, rows.shape[1] - i)):
                y[rows[2, i + m] + columns[2, p + j]] = sums[j * ROWS + m]


@parallel_kernel
def along(a, b, zero, y, sums, parts, tables, sizes, threads):
    """Fill y; all arrays are flat.

    a, b    the matrices, and the rest of each row after its last whole vector, padded with zeros
    sums    room for the totals of one tile for each thread
    parts   0, lanes, 2 lanes, ...: offsets of the vectors of a tile's totals
    tables  rows     offsets in a, in its rests, in y, and zeros, (4, N)
            columns  offsets in b, in its rests, and in y, (3, M)
    sizes   numbers of a row in whole vectors; of a rest, which may be 0; of a vector
    """
    rows, columns = tables[0], tables[1]
    tiles = ((rows.shape[1] + ROWS - 1) // ROWS) * ((columns.shape[1] + COLUMNS - 1) // COLUMNS)
    for n in prange(threads):
        own = sums[n * ROWS * COLUMNS : (n + 1) * ROWS * COLUMNS]
        along_part(a, b, zero, y, own, parts, tables, sizes, n * tiles // threads, (n + 1) * tiles // threads)


def product(a: Array, b: Array, out: Array | None = None) -> Array:
    """Return a b, (..., N, M), for a (..., N, K) and b (..., K, M); the leading axes broadcast.

    out  the result, an array in C order
    """
    (n, k), m = a.shape[-2:], b.shape[-1]
    if n * k * m <= (SMALL_DOT if n == m == 1 else SMALL_VECTOR if 1 in (n, m) else SMALL):
        return np.matmul(a, b, out=out)
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) if a.ndim + b.ndim > 4 else ()
    y = np.empty((*lead, n, m), a.dtype) if out is None else out
    if not lead:
        _fill(a, b, y)
        return y
    left, right = (np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (a, b))
    for i in np.ndindex(lead):
        _fill(left[i], right[i], y[i])
    return y


def _fill(a: Array, b: Array, y: Array) -> None:
    """y = a b for three matrices."""
    (n, k), m, width = a.shape, b.shape[1], lanes(a.dtype)
    if m < width or (_is_turned(b) and k >= LONG and (n < FEW or m <= THIN * width)):
        _along(*((a, b.T, y) if a.size <= b.size else (b.T, a, y.T)))
    else:
        _across(a, b, y, width)


def _across(a: Array, b: Array, y: Array, width: int) -> None:
    a = a if a.flags.c_contiguous or a.flags.f_contiguous else a.copy()
    (n, k), m, turns = a.shape, b.shape[1], _is_turned(b)
    tables = _across_tables(n, k, m, *(step // a.itemsize for step in a.strides), width, turns)
    numbers = flat(a if a.flags.c_contiguous else a.T), _laid(b.T, width) if turns else flat(b)
    threads = threads_for_call(n * k * m)
    across(*numbers, ZERO[a.dtype.char], y.reshape(-1, copy=False), tables, height_for(n), threads)


def _is_turned(b: Array) -> bool:
    """Whether the columns of b are contiguous, and its rows are not."""
    return b.flags.f_contiguous and not b.flags.c_contiguous


def _laid(b: Array, width: int) -> Array:
    """The rows of b in blocks; the last block ends with the last row."""
    m, k = b.shape
    starts = _starts(m, width)
    blocks = room("laid", starts.size * width * k, b.dtype)
    lay(flat(b), blocks, starts, k, *steps_of(k, width), threads_for_call(MOVE * b.size))
    return flat(blocks)


def _along(a: Array, b: Array, y: Array) -> None:
    """y = a b^T, where y may be a transposed array."""
    (n, k), m, width = a.shape, len(b), lanes(a.dtype)
    threads = threads_for_call(n * k * m)
    sums, parts = room("totals", threads * ROWS * COLUMNS, a.dtype), tuple(range(0, ROWS * COLUMNS, width))
    tables = _along_tables(n, k, m, *(step // y.itemsize for step in y.strides), width)
    pairs = (_with_rests(x, width, name) for x, name in ((a, "left"), (b, "right")))
    numbers, sizes = y if y.flags.c_contiguous else y.T, (k - k % width, width if k % width else 0, width)
    along(*pairs, ZERO[a.dtype.char], numbers.reshape(-1, copy=False), sums, parts, tables, sizes, threads)


def _with_rests(x: Array, width: int, name: str) -> tuple[Array, Array]:
    """Return x, and the last entries of each row that fill no vector, with zeros after them."""
    rest = x.shape[1] % width
    if rest == 0:
        return flat(x), flat(x[:0])
    rests = room(name, len(x) * width, x.dtype).reshape(len(x), width)
    rests[:, :rest], rests[:, rest:] = x[:, -rest:], 0
    return flat(x), flat(rests)


def _starts(m: int, width: int) -> Table:
    return np.minimum(np.arange(0, m, width), m - width)


@lru_cache(maxsize=16)  # as long as the operands
def _across_tables(
    n: int, k: int, m: int, down: int, right: int, width: int, turned: bool
) -> tuple[Table, Table, Table]:
    row, tap, starts = np.arange(n), np.arange(k), _starts(m, width)
    columns = table(np.arange(starts.size) * width * k if turned else starts, starts)
    return table(row * down, row * m, 0), columns, table(tap * (width if turned else m), tap * right)


@lru_cache(maxsize=16)
def _along_tables(n: int, k: int, m: int, down: int, right: int, width: int) -> tuple[Table, Table]:
    row, column = np.arange(n), np.arange(m)
    return table(row * k, row * width, row * down, 0), table(column * k, column * width, column * right)
