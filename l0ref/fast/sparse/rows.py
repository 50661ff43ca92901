"""A sparse matrix times samples in rows, y = x W^T + b with x (N, D) and y (N, M), in one kernel.

Layout by `batch`, products by `entries` or `tiles`, and `batch` again, one group of blocks after another:

    batch    x and y, flat
    blocks   memory for the blocks of x and of y, each followed by a read-only view of it, and for one block; the views
             are for kernels that others give read-only blocks: they would be compiled once more
    x_steps, y_steps, lane_steps   offsets of the rows of a block in x and in y, and of its lanes
    sizes    N, D, M, and whether the blocks of x are filled

Why it is fast: one thread lays out a group, multiplies it and copies the result back, while the group is in the second
cache of its processor; and one call replaces three, each of which took as long as the products of a small layer.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from l0ref.fast.machine.policy import parallel_kernel
from l0ref.fast.sparse.batch import from_blocks_part, to_blocks_part
from l0ref.fast.sparse.entries import PAIR, contract_part
from l0ref.fast.sparse.tiles import GROUP, contract_tiles


@parallel_kernel
def multiply_entries(batch, w, b, floor, blocks, x_steps, y_steps, lane_steps, sizes, threads):
    """Fill y; w as in `entries.contract`."""
    (x_blocks, x_laid, y_blocks, y_done, tail), (count, d, m, filled) = blocks, sizes
    (x, y), (_, indptr, _) = batch, w
    rows, lanes = indptr.size - 1, np.int64(len(lane_steps))
    number = (count + lanes - 1) // lanes
    groups = (number + PAIR - 1) // PAIR
    for n in prange(threads):
        for g in range(n * groups // threads, (n + 1) * groups // threads):
            first, last = g * PAIR, min((g + 1) * PAIR, number)
            if not filled:
                to_blocks_part(x, x_blocks, tail, (d, np.int64(0)), x_steps, lane_steps, first, last)
            at, steps = (number, d * lanes, m * lanes, np.int64(PAIR)), (lanes, lanes)
            contract_part(x_laid, w, b, floor, y_blocks, at, steps, g * rows, (g + 1) * rows)
            from_blocks_part(y_done, y, tail, (m, np.int64(0)), y_steps, lane_steps, first, last)


@parallel_kernel
def multiply_tiles(batch, w, b, floor, blocks, x_steps, y_steps, lane_steps, sizes, threads):
    """Fill y; w as in `tiles.contract`; sizes, and the rows and columns of a tile."""
    (x_blocks, x_laid, y_blocks, y_done, tail), (count, d, m, filled, tall, wide) = blocks, sizes
    (x, y), (_, indptr, _) = batch, w
    rows, lanes = indptr.size - 1, np.int64(len(lane_steps))
    number = (count + lanes - 1) // lanes
    groups = (number + GROUP - 1) // GROUP
    for n in prange(threads):
        for g in range(n * groups // threads, (n + 1) * groups // threads):
            first, last = g * GROUP, min((g + 1) * GROUP, number)
            if not filled:
                to_blocks_part(x, x_blocks, tail, (d, np.int64(0)), x_steps, lane_steps, first, last)
            at, steps = (number, d * lanes, m * lanes), (m, d, tall, wide, lanes, lanes)
            contract_tiles(x_laid, w, b, floor, y_blocks, at, steps, g * rows, (g + 1) * rows)
            from_blocks_part(y_done, y, tail, (m, np.int64(0)), y_steps, lane_steps, first, last)
