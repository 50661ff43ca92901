"""Activations in blocks: as many samples as a vector has lanes, with the sample as the last axis.

    rows    (n, D), one sample after another, as in data sets
    blocks  (B, D, lanes), B = ceil(n / lanes): entry [b, d, l] is feature d of sample b lanes + l

Lanes beyond the last sample hold zeros. All arrays are flat. `steps` is (0, s, 2 s, ...), one number per lane.

Why it is fast: lanes x lanes numbers at a time are transposed inside the registers.
"""

from __future__ import annotations

from functools import cache

from numba import prange

from l0ref.fast.machine.lanes import load, shift, store, transposed
from l0ref.fast.machine.policy import kernel, parallel_kernel


@kernel
def block_of_rows(rows, blocks, size, block, row_steps, lane_steps):
    """One block from its rows."""
    lanes = len(lane_steps)
    if size >= lanes:
        for d in range(0, size + lanes - 1, lanes):
            at = min(d, size - lanes)
            part = load(rows, shift(row_steps, block * lanes * size + at))
            store(blocks, shift(lane_steps, (block * size + at) * lanes), (0,), transposed(part))
    else:
        for d in range(size):
            for k in range(lanes):
                blocks[(block * size + d) * lanes + k] = rows[(block * lanes + k) * size + d]


@kernel
def rows_of_block(blocks, rows, size, block, row_steps, lane_steps):
    """The rows of one block."""
    lanes = len(lane_steps)
    if size >= lanes:
        for d in range(0, size + lanes - 1, lanes):
            at = min(d, size - lanes)
            part = load(blocks, shift(lane_steps, (block * size + at) * lanes))
            store(rows, shift(row_steps, block * lanes * size + at), (0,), transposed(part))
    else:
        for d in range(size):
            for k in range(lanes):
                rows[(block * lanes + k) * size + d] = blocks[(block * size + d) * lanes + k]


@kernel
def gather_part(data, order, rows, blocks, size, row_steps, lane_steps, first, last):
    """Blocks first ... last - 1 of `gather`."""
    lanes = len(lane_steps)
    for block in range(first, last):
        for n in range(block * lanes, (block + 1) * lanes):
            row = rows[n * size : (n + 1) * size]
            if n < order.size:
                source = data[order[n] * size : (order[n] + 1) * size]
                for d in range(size):
                    row[d] = source[d]
            else:
                for d in range(size):
                    row[d] = 0
        block_of_rows(rows, blocks, size, block, row_steps, lane_steps)


@parallel_kernel
def gather(data, order, rows, blocks, size, row_steps, lane_steps, threads):
    """Fill rows and blocks with the samples order[0], order[1], ... of data."""
    count = (order.size + len(lane_steps) - 1) // len(lane_steps)
    for n in prange(threads):
        first, last = n * count // threads, (n + 1) * count // threads
        gather_part(data, order, rows, blocks, size, row_steps, lane_steps, first, last)


@parallel_kernel
def to_rows(blocks, rows, size, count, row_steps, lane_steps, threads):
    """Fill rows from `count` blocks."""
    for n in prange(threads):
        for block in range(n * count // threads, (n + 1) * count // threads):
            rows_of_block(blocks, rows, size, block, row_steps, lane_steps)


@cache
def steps_of(features: int, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the offsets of the rows, and of the lanes, of a block, as the kernels read them."""
    return tuple(features * i for i in range(count)), tuple(count * i for i in range(count))
