"""Three kernels for all products of a network: sums of products, whose offsets are given by tables.

    contract    y[columns_p + rows_i + l]  =  max(floor, b_i + sum_t w[rows'_i + taps'_t] x[columns'_p + taps_t + l])
    scatter     the same without b and floor, added to y at those places
    correlate   g[i, t]  =  sum_p sum_l d[rows_i + columns_p + l] x[columns'_p + taps_t + l]

l runs over the lanes of a vector, p over vectors of x ("columns"), i over rows of w, t over the terms of the sum
("taps"). All arrays are flat; the tables give them their meaning. Activations are in blocks of as many samples as a
vector has lanes, with the sample as the last axis. Then

    linear, y = x W^T + b   columns: blocks of samples     rows: outputs          taps: inputs
    its x_bar = y_bar W     columns: blocks of samples     rows: inputs           taps: outputs
    its W_bar = y_bar^T x   columns: vectors of inputs     rows: outputs          taps: samples, one by one
    convolution             columns: places of the output  rows: filters          taps: places of the window, channels
    its x_bar               columns: places of the output  rows: window, channels taps: filters        (scatter)
    its k_bar               columns: places of the output  rows: filters          taps: window, channels (correlate)

and stride, padding and dilation only change the numbers in the tables.

Why it is fast: `height` x COLUMNS sums stay in registers while a tile runs through its taps, so that each number loaded
is used four times or more; the best height depends on the processor (`products.heights`). Since a lane is a sample,
every size of image fills the vectors. Nothing is unrolled into columns; only `scatter` copies what a column of tiles
reads. A tile at the edge repeats its last row or column, which is cheaper than a branch; `scatter`, where each place
must count once, takes single rows and columns there.

Every sum is taken by one thread, in the order of the taps: the result does not depend on the number of threads.
"""

from __future__ import annotations

from numba import prange

from l0ref.fast.machine.lanes import (
    COLUMNS,
    ROWS,
    at_least,
    at_most,
    filled,
    increase,
    load,
    outer,
    pick,
    shift,
    spread,
    store,
    totals,
)
from l0ref.fast.machine.policy import kernel, parallel_kernel

# offsets within a tile; ROWS in `scatter`, where they determine the order of sums, and in `correlate`
DOWN, ACROSS = tuple(range(ROWS)), tuple(range(COLUMNS))
CHUNK = 64  # columns that `correlate` takes at a time: those of ROWS rows stay in the first cache


@kernel
def places_of(table, i, steps):
    """Entries i + steps of a table, steps a tuple; beyond the end of the table, its last entry."""
    return pick(table, at_most(shift(steps, i), table.size - 1))


@kernel
def tile(x, w, sums, columns, rows, taps):
    """sums_pi + sum_t w[rows_i + taps[1, t]] x[columns_p + taps[0, t]]."""
    for t in range(taps.shape[1]):
        sums = outer(sums, load(x, shift(columns, taps[0, t])), spread(w, shift(rows, taps[1, t])))
    return sums


@kernel
def contract_tiles(x, w, b, floor, y, tables, height, first, last):
    """Tiles first ... last - 1 of `contract`, counted block by block, row by row."""
    columns, rows, taps, steps = tables
    across = (columns.shape[1] + COLUMNS - 1) // COLUMNS
    down = (rows.shape[1] + len(height) - 1) // len(height)
    for k in range(first, last):
        block = k // (across * down)
        i, p = k // across % down * len(height), k % across * COLUMNS
        at = shift(places_of(columns[0], p, ACROSS), block * steps[0])
        to = shift(places_of(columns[1], p, ACROSS), block * steps[1])
        sums = tile(x, w, filled(b, places_of(rows[2], i, height), at), at, places_of(rows[0], i, height), taps)
        store(y, to, places_of(rows[1], i, height), at_least(sums, floor, 0))


@parallel_kernel
def contract(x, w, b, floor, y, tables, height, blocks, threads):
    """Fill y.

    height  0, 1, 2, ...: as many as a tile has rows, see `products.heights`
    floor   array of one number: 0 for a ReLU, -inf for none
    tables  columns  offsets in x and in y, (2, P)        rows   offsets in w, in y and in b, (3, M)
            taps     offsets in x and in w, (2, T)        steps  from one block to the next, in x and in y
    """
    columns, rows = tables[0], tables[1]
    across = (columns.shape[1] + COLUMNS - 1) // COLUMNS
    tiles = blocks * across * ((rows.shape[1] + len(height) - 1) // len(height))
    for n in prange(threads):
        first, last = n * tiles // threads, (n + 1) * tiles // threads
        contract_tiles(x, w, b, floor, y, tables, height, first, last)


@kernel
def scatter_block(x, w, zero, y, tables, room, parts, block):
    """One block of `scatter`."""
    columns, rows, taps, steps = tables
    x_from, y_from = block * steps[0], block * steps[1]
    across, down, size = columns.shape[1], rows.shape[1], room.size // max(taps.shape[1], 1)
    for p in range(0, across, COLUMNS):
        at = shift(places_of(columns[0], p, ACROSS), x_from)
        for t in range(taps.shape[1]):
            store(room, shift(parts, t * size), (0,), load(x, shift(at, taps[0, t])))
        for i in range(0, down, ROWS):
            if i + ROWS <= down and p + COLUMNS <= across:
                row = places_of(rows[0], i, DOWN)
                sums = filled(zero, places_of(rows[2], i, DOWN), parts)
                for t in range(taps.shape[1]):
                    sums = outer(sums, load(room, shift(parts, t * size)), spread(w, shift(row, taps[1, t])))
                to = shift(places_of(columns[1], p, ACROSS), y_from)
                increase(y, to, places_of(rows[1], i, DOWN), sums)
            else:
                for q in range(p, min(p + COLUMNS, across)):
                    for j in range(i, min(i + ROWS, down)):
                        one = (columns[0, q] + x_from,)
                        sum_ = tile(x, w, filled(zero, (rows[2, j],), one), one, (rows[0, j],), taps)
                        increase(y, (columns[1, q] + y_from,), (rows[1, j],), sum_)


@parallel_kernel
def scatter(x, w, zero, y, tables, room, parts, blocks, threads):
    """Add to y; arguments as in `contract`. The blocks of y must not overlap: each belongs to one thread.

    room   COLUMNS vectors of each tap for each thread: what a column of tiles reads of x, side by side. In x they may
           be 2048 or 4096 bytes apart, where they evict each other from the first cache
    parts  0, lanes, 2 lanes, ...: offsets of COLUMNS vectors
    """
    size = room.size // threads
    for n in prange(threads):
        mine = room[n * size : (n + 1) * size]
        for block in range(n * blocks // threads, (n + 1) * blocks // threads):
            scatter_block(x, w, zero, y, tables, mine, parts, block)


@kernel
def correlate_run(x, d, zero, sums, parts, tables, starts, run, first, last):
    """Add the terms of columns run[0] ... run[1] - 1, shifted by `starts` in x and d, to tiles first ... last - 1."""
    columns, rows, taps = tables
    across = (taps.size + COLUMNS - 1) // COLUMNS
    none = places_of(rows[1], 0, DOWN)
    for k in range(first, last):
        tap = shift(places_of(taps, k % across * COLUMNS, ACROSS), starts[0])
        row = shift(places_of(rows[0], k // across * ROWS, DOWN), starts[1])
        tile_sums = filled(zero, none, tap)
        for p in range(run[0], run[1]):
            tile_sums = outer(tile_sums, load(x, shift(tap, columns[0, p])), load(d, shift(row, columns[1, p])))
        increase(sums, (k * ROWS * COLUMNS,), parts, totals(tile_sums))


@kernel
def correlate_tiles(x, d, zero, sums, parts, tables, blocks, first, last):
    """Tiles first ... last - 1 of `correlate`, counted row by row."""
    columns, rows, taps, steps = tables
    for k in range(first * ROWS * COLUMNS, last * ROWS * COLUMNS):
        sums[k] = zero[0]
    for block in range(blocks):
        starts = block * steps[0], block * steps[1]
        for begin in range(0, columns.shape[1], CHUNK):
            run = begin, min(begin + CHUNK, columns.shape[1])
            correlate_run(x, d, zero, sums, parts, (columns, rows, taps), starts, run, first, last)


@parallel_kernel
def correlate(x, d, zero, sums, parts, tables, blocks, threads):
    """Fill sums, tile by tile: entry i of row j of a tile follows entry j of column i. See `untiled`.

    tables  columns  offsets in x and in d, (2, P)    rows   offsets in d, and zeros, (2, M)
            taps     offsets in x, (T)                steps  from one block to the next, in x and in d
    parts   0, lanes, 2 lanes, ...: offsets of the vectors of a tile's totals
    """
    rows, taps = tables[1], tables[2]
    tiles = ((taps.size + COLUMNS - 1) // COLUMNS) * ((rows.shape[1] + ROWS - 1) // ROWS)
    for n in prange(threads):
        first, last = n * tiles // threads, (n + 1) * tiles // threads
        correlate_tiles(x, d, zero, sums, parts, tables, blocks, first, last)


@kernel
def untiled(sums, g):
    """g[i, t] from the tiles of `correlate`."""
    across = (g.shape[1] + COLUMNS - 1) // COLUMNS
    for i in range(g.shape[0]):
        for t in range(g.shape[1]):
            k = i // ROWS * across + t // COLUMNS
            g[i, t] = sums[k * ROWS * COLUMNS + t % COLUMNS * ROWS + i % ROWS]
