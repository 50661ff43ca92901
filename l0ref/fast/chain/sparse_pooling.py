"""Kernel for a convolution with a sparse weight and the 2 x 2 max-pool after it, in one pass.

The arguments are those of `sparse.grid`.

Why it is fast: two rows of the convolution are pooled while they are in the second cache. Written in full, they would
go to memory and back, which took as long as the products of the first layer of LeNet-5, 24 x 24 pixels and 25 weights.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from l0ref.fast.chain.gates import pool_row
from l0ref.fast.machine.policy import kernel, parallel_kernel
from l0ref.fast.sparse.grid import contract_row


@kernel
def contract_pooled_part(x, w, b, floor, out, blocks, grid, steps, first, last):
    """Rows first ... last - 1 of `contract_pooled`, counted block by block."""
    (y, winner, room), (_, x_step, _, x_first, _) = out, blocks
    (height, vectors, x_row, _, _, _), (_, _, lanes) = grid, steps
    rows, filters, wide, narrow = height // 2, b.size, vectors * lanes, vectors * lanes // 2
    for n in range(first, last):
        block, p = n // rows, n % rows
        at = x_first + block * x_step + 2 * p * x_row
        contract_row(x, w, b, floor, room, grid, steps, at, np.int64(0))
        contract_row(x, w, b, floor, room, grid, steps, at + x_row, wide)
        for f in range(filters):
            upper, to = 2 * f * wide, ((block * filters + f) * rows + p) * narrow
            lower, end = upper + wide, to + narrow
            pool_row(room[upper:lower], room[lower : lower + wide], y[to:end], winner[to:end])


@parallel_kernel
def contract_pooled(x, w, b, floor, out, blocks, grid, steps, threads):
    """Fill y and winner as `gates.pool` does from the result of `sparse.grid.contract`, of which two rows are kept.

    out     y, winner, and room for these rows, for each row of the matrix and each thread
    grid    has an even number of vectors in a row; its distance between rows of y is not read
    steps   from one row of the matrix to the next: 2 rows of vectors
    """
    (y, winner, room), (count, _, _, _, _), (height, _, _, _, _, _) = out, blocks, grid
    rows = count * (height // 2)
    size = room.size // threads
    for n in prange(threads):
        first, last = n * rows // threads, (n + 1) * rows // threads
        mine = y, winner, room[n * size : (n + 1) * size]
        contract_pooled_part(x, w, b, floor, mine, blocks, grid, steps, first, last)
