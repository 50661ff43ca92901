"""A batch of activations, into blocks and back, for the products with sparse matrices.

Two layouts are read and written: samples by features, (N, D), that of layers, and features by samples, (D, N), that of
matrix products. The blocks are those of `products.layout`, as many samples as a vector has lanes, with zeros after
the last sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from l0ref.fast.machine.lanes import load, store
from l0ref.fast.machine.policy import MOVE, flat, kernel, parallel_kernel, threads_for_call
from l0ref.fast.machine.scratch import Loan, fits_vectors, room
from l0ref.fast.machine.target import lanes
from l0ref.fast.products.layout import block_of_rows, rows_of_block, steps_of
from l0ref.validate import Array

Numbers = tuple[int, ...]
Rows = tuple[tuple[Array, ...], tuple[Array, ...], Numbers, Numbers, Numbers, Numbers]

CACHE = 2**20  # bytes that stay in the second cache while all rows of a matrix read them
SELDOM = 60  # loads of a feature in that cache, up to which laying it out in blocks takes longer than it saves
SELDOM_FAR = 15  # the same outside of it: with 512 or 1024 samples, features evict each other

OFTEN, OFTEN_FAR = 12, 4  # loads of a feature above which a copy for each group may pay, likewise


@kernel
def rows_to_block(rows, block, tail, size, row_steps, lane_steps, n):
    """Block n from rows of `size` numbers. tail: room for a block; row_steps, lane_steps: see `steps_of`."""
    begin, end = n * len(lane_steps) * size, (n + 1) * len(lane_steps) * size
    if end <= rows.size:
        block_of_rows(rows[begin:end], block, size, np.int64(0), row_steps, lane_steps)
    else:
        tail[: rows.size - begin] = rows[begin:]
        tail[rows.size - begin : end - begin] = 0
        block_of_rows(tail, block, size, np.int64(0), row_steps, lane_steps)


@kernel
def block_to_rows(block, rows, tail, size, row_steps, lane_steps, n):
    """The inverse of `rows_to_block`."""
    begin, end = n * len(lane_steps) * size, (n + 1) * len(lane_steps) * size
    if end <= rows.size:
        rows_of_block(block, rows[begin:end], size, np.int64(0), row_steps, lane_steps)
    else:
        rows_of_block(block, tail, size, np.int64(0), row_steps, lane_steps)
        rows[begin:] = tail[: rows.size - begin]


@kernel
def columns_to_blocks(x, blocks, count, lane_steps, first, last):
    """Features first ... last - 1 of all blocks, from features by `count` samples."""
    lanes = len(lane_steps)
    size, whole = x.size // count, count // lanes
    for d in range(first, last):
        for n in range(whole):
            store(blocks, ((n * size + d) * lanes,), (0,), load(x, (d * count + n * lanes,)))
        if whole * lanes < count:
            for k in range(lanes):
                sample = whole * lanes + k
                blocks[(whole * size + d) * lanes + k] = x[d * count + sample] if sample < count else x.dtype.type(0)


@kernel
def blocks_to_columns(blocks, x, count, lane_steps, first, last):
    """The inverse of `columns_to_blocks`."""
    lanes = len(lane_steps)
    size, whole = x.size // count, count // lanes
    for d in range(first, last):
        for n in range(whole):
            store(x, (d * count + n * lanes,), (0,), load(blocks, ((n * size + d) * lanes,)))
        for sample in range(whole * lanes, count):
            x[d * count + sample] = blocks[(whole * size + d) * lanes + sample - whole * lanes]


@kernel
def to_blocks_part(x, blocks, tail, sizes, row_steps, lane_steps, first, last):
    """Blocks first ... last - 1 from rows or, if sizes gives a count of samples, features from columns.

    sizes  features, count or 0
    """
    features, count = sizes
    if count:
        columns_to_blocks(x, blocks, count, lane_steps, first, last)
    else:
        step = len(lane_steps) * features
        for n in range(first, last):
            rows_to_block(x, blocks[n * step : (n + 1) * step], tail, features, row_steps, lane_steps, n)


@kernel
def from_blocks_part(blocks, x, tail, sizes, row_steps, lane_steps, first, last):
    """The inverse of `to_blocks_part`."""
    features, count = sizes
    if count:
        blocks_to_columns(blocks, x, count, lane_steps, first, last)
    else:
        step = len(lane_steps) * features
        for n in range(first, last):
            block_to_rows(blocks[n * step : (n + 1) * step], x, tail, features, row_steps, lane_steps, n)


@parallel_kernel
def to_blocks(x, blocks, tail, sizes, row_steps, lane_steps, units, threads):
    """`to_blocks_part` of all units: blocks, or features."""
    for n in prange(threads):
        first, last = n * units // threads, (n + 1) * units // threads
        to_blocks_part(x, blocks, tail, sizes, row_steps, lane_steps, first, last)


@parallel_kernel
def from_blocks(blocks, x, tail, sizes, row_steps, lane_steps, units, threads):
    """`from_blocks_part` of all units: blocks, or features."""
    for n in prange(threads):
        first, last = n * units // threads, (n + 1) * units // threads
        from_blocks_part(blocks, x, tail, sizes, row_steps, lane_steps, first, last)


class Batch:
    """Activations as the kernels read them; laid out in blocks on first use, and then kept.

    x       (N, D) if `rows`, else (D, N), or (D,) for a single sample
    count   N
    blocks  number of blocks of N samples
    stands  whether the N samples of one feature are whole vectors in place
    laid    the blocks, once they are filled
    """

    __slots__ = ("blocks", "count", "laid", "rows", "stands", "width", "x")

    def __init__(self, x: Array, *, rows: bool = False) -> None:
        self.x, self.rows, self.width = x, rows, lanes(x.dtype)
        self.count = 1 if x.ndim == 1 else x.shape[not rows]
        self.blocks = blocks_for(self.count, self.width)
        self.stands = not rows and self.count % self.width == 0
        self.laid: Loan | None = None

    def read(self, *, loads: float) -> tuple[Array, int, int]:
        """Return the numbers, and the distances between blocks and between features.

        loads  how often a feature will be loaded; if rarely, features are read in place
        """
        if self.stands and loads <= (SELDOM if self.x.nbytes <= CACHE else SELDOM_FAR):
            return flat(self.x), self.width, self.count
        loan = self.memory()
        if self.laid is None:
            _move(to_blocks, flat(self.x), loan.array, self.x.shape, self.rows)
            self.laid = loan
        return flat(loan.array), loan.array.size // self.blocks, self.width

    def is_better_copied(self, *, loads: float) -> bool:
        """Whether a copy of each group of vectors pays, see `sparse.columns`."""
        if self.laid is not None or not is_often(loads, self.x.nbytes):
            return False
        return self.x.nbytes > CACHE or not fits_vectors(self.x)

    def memory(self) -> Loan:
        """Return `laid`, or memory for it: the caller fills it and then sets `laid`."""
        return self.laid or Loan(self.x.size // self.count * self.blocks * self.width, self.x.dtype)

    def on_the_way(self, blocks: Array, y: Array, out: Array) -> Rows:
        """Return the arguments of `sparse.rows` other than the matrix, to fill y and, if x is not laid out, the blocks.

        out  room for the blocks of y
        """
        (count, d), m = self.x.shape, y.shape[1]
        (x_steps, lane_steps), (y_steps, _) = steps_of(d, self.width), steps_of(m, self.width)
        memory = blocks, flat(blocks), out, flat(out), room("tail", max(d, m) * self.width, y.dtype)
        sizes = count, d, m, int(self.laid is not None)
        return (flat(self.x), y.reshape(-1)), memory, x_steps, y_steps, lane_steps, sizes

    def empty(self, features: int) -> Array:
        """Return a fresh array for other features of the same samples."""
        shape = (self.count, features) if self.rows else (features, self.count)[: self.x.ndim]
        return np.empty(shape, self.x.dtype)


def is_often(loads: float, nbytes: int) -> bool:
    """Whether features of activations of `nbytes` bytes are loaded often enough for a copy to pay."""
    return loads > (OFTEN if nbytes <= CACHE else OFTEN_FAR)


def bring_back(blocks: Array, x: Array, *, rows: bool) -> None:
    """Fill x from its blocks."""
    _move(from_blocks, flat(blocks), x.reshape(-1), x.shape, rows)


def _move(move: Any, source: Array, target: Array, shape: tuple[int, ...], rows: bool) -> None:
    width = lanes(source.dtype)
    features, count = shape[::-1] if rows else shape
    tail = room("tail", features * width, source.dtype) if count % width else target[:0]
    units = blocks_for(count, width) if rows else features
    sizes = features, 0 if rows else count
    move(source, target, tail, sizes, *steps_of(features, width), units, threads_for_call(MOVE * features * count))


def blocks_for(count: int, width: int) -> int:
    """Return the number of blocks of `width` samples that hold `count` samples."""
    return -(-count // width)
