"""The kernels of `sparse.entries` and `vector` for a matrix stored in tiles of b_r x b_c entries.

The tiles are given in the same way as entries: rows of tiles, and for each tile its column of tiles; its values are
stored row by row. Where the matrix ends within a tile, the rest of the tile is not read, and `sample` does not write
it.

    sizes  (M, D) of the matrix, (b_r, b_c) of a tile
    steps  distances between features in x and in y

Why it is fast: ROWS rows of a tile use the same vectors of x, and a group of blocks the same entries, so that each
number loaded is used four times, and the second cache no longer bounds the speed: 1.2 to 1.4 cycles for the
multiply-add of a vector, of which the processor does one a cycle. For a single sample and tiles of one column whose
rows fill whole vectors, the sums of these rows are vectors, and one number of x is read for each tile: nothing is
gathered.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from l0ref.fast.machine.lanes import at_least, at_most, filled, load, outer, pick, shift, spread, store, totals
from l0ref.fast.machine.policy import kernel, parallel_kernel
from l0ref.fast.machine.target import REGISTERS
from l0ref.fast.sparse.entries import share

ROWS = 4  # rows, and in `sample` columns too, of a tile that are taken at a time
GROUP = 4 if REGISTERS == 32 else 2  # blocks of samples that are multiplied by a tile at a time


@kernel
def contract_rows(x, w, b, floor, y, starts, rows, sizes, first, last):
    """Rows of tiles first ... last - 1 of one group, ROWS rows of a tile at a time, or the rows left over one by one.

    starts  offsets of the blocks of the group in x and in y
    rows    of a few rows: their numbers, and their offsets in a tile and in y
    sizes   M, D, b_r, b_c and the steps
    """
    (values, indptr, columns), (at, to) = w, starts
    m, d, tall, wide, width, step = sizes
    numbers, inside, below = rows
    for i in range(first, last):
        height = min(tall, m - i * tall)
        whole = height - height % ROWS
        begin, end = (0, whole) if len(numbers) == ROWS else (whole, height)
        for r in range(begin, end, len(numbers)):
            sums = filled(b, shift(numbers, i * tall + r), at)
            for k in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
                column, tile = np.int64(columns[k]) * wide, shift(inside, (np.int64(k) * tall + r) * wide)
                for c in range(min(wide, d - column)):
                    sums = outer(sums, load(x, shift(at, (column + c) * width)), spread(values, shift(tile, c)))
            store(y, to, shift(below, (i * tall + r) * step), at_least(sums, floor, 0))


@kernel
def contract_group(x, w, b, floor, y, at, to, sizes, first, last):
    """Rows of tiles first ... last - 1 of one group."""
    _, _, _, wide, _, step = sizes
    rows = (0, 1, 2, 3), (0, wide, 2 * wide, 3 * wide), (0, step, 2 * step, 3 * step)
    contract_rows(x, w, b, floor, y, (at, to), rows, sizes, first, last)
    contract_rows(x, w, b, floor, y, (at, to), ((0,), (0,), (0,)), sizes, first, last)


@kernel
def contract_tiles(x, w, b, floor, y, blocks, sizes, first, last):
    """Rows of tiles first ... last - 1 of `contract`, counted group by group. A group repeats the last block."""
    (_, indptr, _), (number, s, t) = w, blocks
    rows = indptr.size - 1
    while first < last:
        group, row = first // rows * GROUP, first % rows
        end, rest = min(rows, row + last - first), min(GROUP, number - group)
        at, to = group * s, group * t
        if rest > 2:
            four = shift(at_most((0, s, 2 * s, 3 * s), (rest - 1) * s), at)
            fours = shift(at_most((0, t, 2 * t, 3 * t), (rest - 1) * t), to)
            contract_group(x, w, b, floor, y, four, fours, sizes, row, end)
        elif rest == 2:
            contract_group(x, w, b, floor, y, (at, at + s), (to, to + t), sizes, row, end)
        else:
            contract_group(x, w, b, floor, y, (at,), (to,), sizes, row, end)
        first += end - row


@parallel_kernel
def contract(x, w, b, floor, y, blocks, sizes, threads):
    """Fill y.

    w       values, indptr, columns of tiles      b  one number for each row      sizes  M, D, b_r, b_c and the steps
    floor   array of one number: 0 for a ReLU, -inf for none
    blocks  their number, and the distances between them in x and in y
    """
    (_, indptr, _), (number, _, _) = w, blocks
    groups = (number + GROUP - 1) // GROUP
    for n in prange(threads):
        first, last = share(indptr, groups, n, threads), share(indptr, groups, n + 1, threads)
        contract_tiles(x, w, b, floor, y, blocks, sizes, first, last)


@kernel
def stored_columns(w, places, i, sizes):
    """Fill places with the offsets in x of the stored columns of a row of tiles, in order; return their number."""
    indptr, columns = w
    _, most, _, wide, width, _ = sizes
    j = 0
    for k in range(np.int64(indptr[i]), np.int64(indptr[i + 1])):
        for c in range(wide):
            places[j] = min(np.int64(columns[k]) * wide + c, most - 1) * width
            j += 1
    return j


@kernel
def write_tiles(totals_, g, places, at, first, sizes):
    """Write ROWS x ROWS totals into g, except into padding.

    places  of the stored columns of these tiles, of which the last one repeats where the matrix ends
    at      row within the tiles, rows left, first of the columns, columns left
    first   the first of these tiles
    """
    _, _, tall, wide, _, _ = sizes
    r, height, j, number = at
    k, c = first + j // wide, j % wide
    for e in range(j, min(j + ROWS, number)):
        if c == 0 or places[e] != places[e - 1]:
            for p in range(min(ROWS, height - r)):
                g[(k * tall + r + p) * wide + c] = totals_[p * ROWS + e - j]
        c += 1
        if c == wide:
            k, c = k + 1, 0


@kernel
def sample_part(x, d, w, room, g, parts, blocks, sizes, first, last):
    """Rows of tiles first ... last - 1 of `sample`: ROWS rows at a time of as many stored columns, of any tiles."""
    (sums, places), (indptr, _), zeros, lanes = room, w, (0, 0, 0, 0), parts[0]
    (m, _, tall, _, _, step), (number_of_blocks, x_step, d_step) = sizes, blocks
    sums[:lanes] = 0
    for i in range(first, last):
        number = stored_columns(w, places, i, sizes)
        height = min(tall, m - i * tall)
        for r in range(0, height, ROWS):
            q = at_most((r, r + 1, r + 2, r + 3), height - 1)
            to = shift((q[0] * step, q[1] * step, q[2] * step, q[3] * step), i * tall * step)
            for j in range(0, number, ROWS):
                at = pick(places, at_most((j, j + 1, j + 2, j + 3), number - 1))
                total = filled(sums, zeros, zeros)
                for block in range(number_of_blocks):
                    below = load(x, shift(at, block * x_step))
                    total = outer(total, load(d, shift(to, block * d_step)), below)
                store(sums, parts, (0,), totals(total))
                write_tiles(sums[lanes:], g, places, (r, height, j, number), np.int64(indptr[i]), sizes)


@parallel_kernel
def sample(x, d, w, room, g, parts, blocks, sizes, threads):
    """Fill g, which is zero; blocks and sizes as in `contract`, with d for y.

    w      indptr, columns of tiles
    room   ROWS x ROWS numbers and a vector for each thread; whole numbers, for the columns of a row of tiles
    parts  lanes, 2 lanes, ...: offsets of the vectors of ROWS x ROWS totals
    """
    (sums, places), (indptr, _) = room, w
    here, there = sums.size // threads, places.size // threads
    for n in prange(threads):
        mine = sums[n * here : (n + 1) * here], places[n * there : (n + 1) * there]
        first, last = share(indptr, np.int64(1), n, threads), share(indptr, np.int64(1), n + 1, threads)
        sample_part(x, d, w, mine, g, parts, blocks, sizes, first, last)


@kernel
def multiply_vectors(w, x, b, y, tall, lanes, first, last):
    """`multiply_part` for tiles of one column and as many rows as fill vectors, all inside the matrix."""
    values, indptr, columns = w
    for i in range(first, last):
        for r in range(0, tall, lanes):
            sums = load(b, (i * tall + r,))
            for k in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
                sums = outer(sums, load(values, (np.int64(k) * tall + r,)), spread(x, (int(columns[k]),)))
            store(y, (i * tall + r,), (0,), sums)


@kernel
def multiply_part(w, x, b, y, sizes, lanes, first, last):
    """Rows of tiles first ... last - 1 times a single sample x. sizes: M, D, b_r, b_c."""
    values, indptr, columns = w
    m, d, tall, wide = sizes
    whole = min(last, m // tall) if wide == 1 and tall % lanes == 0 else first
    multiply_vectors(w, x, b, y, tall, lanes, first, whole)
    for i in range(max(first, whole), last):
        for r in range(min(tall, m - i * tall)):
            total = b[i * tall + r]
            for k in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
                column, tile = np.int64(columns[k]) * wide, (np.int64(k) * tall + r) * wide
                for c in range(np.uint64(min(wide, d - column))):
                    total += values[np.uint64(tile) + c] * x[np.uint64(column) + c]
            y[i * tall + r] = total


@parallel_kernel
def multiply(w, x, b, y, sizes, lanes, threads):
    """y = W x + b."""
    _, indptr, _ = w
    for n in prange(threads):
        multiply_part(
            w, x, b, y, sizes, lanes, share(indptr, np.int64(1), n, threads), share(indptr, np.int64(1), n + 1, threads)
        )


@kernel
def outer_at(w, d, x, g, sizes):
    """g = d x^T at the stored tiles; g is zero. sizes: b_r, b_c."""
    indptr, columns = w
    tall, wide = sizes
    for i in range(indptr.size - 1):
        for k in range(np.int64(indptr[i]), np.int64(indptr[i + 1])):
            column = np.int64(columns[k]) * wide
            for r in range(min(tall, d.size - i * tall)):
                for c in range(min(wide, x.size - column)):
                    g[(k * tall + r) * wide + c] = d[i * tall + r] * x[column + c]


@kernel
def turned(values, order, out, tall, wide):
    """Tile k of out is tile order_k of values, tall x wide, with its rows as columns."""
    for k in range(order.size):
        source, target = np.uint64(order[k] * tall * wide), np.uint64(k * tall * wide)
        for r in range(tall):
            for c in range(wide):
                out[target + np.uint64(c * tall + r)] = values[source + np.uint64(r * wide + c)]
