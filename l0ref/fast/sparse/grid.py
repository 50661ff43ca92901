"""Kernels for products with a sparse matrix over a grid of vectors: the pixels of an image, row by row.

The matrix is given as in `sparse.entries`. With p counting the vectors of all rows of all blocks,

    contract   y[to_p + i step + l]  =  max(floor, b_i + sum_k values_k x[at_p + places_k width + l])
    sample     g_k  =  sum_p sum_l d[to_p + i step + l] x[at_p + places_k width + l],   i the row of k

where at_p and to_p are evenly spaced along a row of vectors, from row to row, and from block to block:

    grid    rows, vectors of a row; distances between rows in x and in y (or d); distances between vectors in both
    steps   width: numbers of a place in x; distance between rows of the matrix in y; lanes
    blocks  their number; distances between them in x and in y; offsets of the first vector in x and in y

so a stride of the convolution only changes the distance between vectors of x.

Why it is fast: up to eight vectors of a row share each entry that is read, and their pixels are adjacent.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from l0ref.fast.machine.policy import kernel, parallel_kernel
from l0ref.fast.sparse.entries import contract_vectors, sample_vectors, write_totals


@kernel
def contract_row(x, w, b, floor, y, grid, steps, at, to):
    """One row of vectors of `contract`, the first of which is at `at` in x and at `to` in y."""
    (_, indptr, _), (_, vectors, _, _, next_x, next_y) = w, grid
    contract_vectors(x, w, b, floor, y, (vectors, next_x, next_y, at, to), steps, np.int64(0), indptr.size - 1)


@kernel
def contract_part(x, w, b, floor, y, blocks, grid, steps, first, last):
    """Rows of vectors first ... last - 1 of `contract`, counted block by block."""
    (_, x_step, y_step, x_first, y_first), (rows, _, x_row, y_row, _, _) = blocks, grid
    for n in range(first, last):
        block, r = n // rows, n % rows
        at, to = x_first + block * x_step + r * x_row, y_first + block * y_step + r * y_row
        contract_row(x, w, b, floor, y, grid, steps, at, to)


@parallel_kernel
def contract(x, w, b, floor, y, blocks, grid, steps, threads):
    """Fill y.

    w      values, indptr, places      b  one number for each row of the matrix
    floor  array of one number: 0 for a ReLU, -inf for none
    """
    (number, _, _, _, _), (height, _, _, _, _, _) = blocks, grid
    rows = number * height
    for n in prange(threads):
        contract_part(x, w, b, floor, y, blocks, grid, steps, n * rows // threads, (n + 1) * rows // threads)


@kernel
def sample_row(x, d, w, sums, grid, steps, at, to, row):
    """Add one row of vectors to the sums of some entries, the first of which lies in `row`. w: see `sample_rows`."""
    _, vectors, _, _, next_x, next_d = grid
    sample_vectors(x, d, w, sums, (vectors, next_x, next_d, at, to), steps, row, False)


@kernel
def sample_part(x, d, w, room, g, blocks, grid, steps, first, last):
    """Entries first ... last - 1 of `sample`. room: for their sums, and lane_steps."""
    (indptr, places), (sums, lane_steps), row = w, room, 0
    (number, x_step, d_step, x_first, d_first), (rows, _, x_row, d_row, _, _) = blocks, grid
    sums[: (last - first + 1) * len(lane_steps)] = 0
    while row < indptr.size - 2 and indptr[row + 1] <= first:
        row += 1
    for block in range(number):
        for r in range(rows):
            at, to = x_first + block * x_step + r * x_row, d_first + block * d_step + r * d_row
            sample_row(x, d, (indptr, places, first, last), sums, grid, steps, at, to, row)
    write_totals(sums, g, lane_steps, first, last)


@parallel_kernel
def sample(x, d, w, sums, g, lane_steps, blocks, grid, steps, threads):
    """Fill g.

    w           indptr, places          sums  `sums_room` numbers
    lane_steps  0, lanes, 2 lanes, ... as many as lanes
    """
    lanes = len(lane_steps)
    for n in prange(threads):
        first, last = n * g.size // threads, (n + 1) * g.size // threads
        mine = sums[(first + n * (1 + lanes)) * lanes : (last + (n + 1) * (1 + lanes)) * lanes]
        sample_part(x, d, w, (mine, lane_steps), g, blocks, grid, steps, first, last)


def sums_room(entries: int, lanes: int, threads: int) -> int:
    """Numbers of the sums of `sample`: a vector for each entry, and 1 + lanes more for each thread."""
    return (entries + (1 + lanes) * threads) * lanes
