"""A batch of activations in blocks and back, for the products with sparse matrices.

Two layouts are read and written: samples by features, (N, D), that of layers, and features by samples, (D, N), that of
matrix products. The blocks are those of `l0ref.fast.blocks`, as many samples as a vector has lanes, with zeros behind
the last sample. They live in memory that is lent for a call and begins at a multiple of 64 bytes.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import numpy as np
from numba import prange

from l0ref.fast.blocks import block_of_rows, rows_of_block
from l0ref.fast.lanes import load, store
from l0ref.fast.policy import kernel, parallel_kernel, threads_for
from l0ref.fast.target import lanes
from l0ref.validate import Array

LINE = 64  # bytes of a line of the cache
MOVE = 10  # multiply-adds that take as long as moving a number

_rooms = threading.local()


@kernel
def rows_to_block(rows, block, tail, size, row_steps, lane_steps, n):  # type: ignore[no-untyped-def]
    """Block n from rows of `size` numbers. tail: room for a block; row_steps, lane_steps: see `steps_of`."""
    begin, end = n * len(lane_steps) * size, (n + 1) * len(lane_steps) * size
    if end <= rows.size:
        block_of_rows(rows[begin:end], block, size, 0, row_steps, lane_steps)
    else:
        tail[: rows.size - begin] = rows[begin:]
        tail[rows.size - begin : end - begin] = 0
        block_of_rows(tail, block, size, 0, row_steps, lane_steps)


@kernel
def block_to_rows(block, rows, tail, size, row_steps, lane_steps, n):  # type: ignore[no-untyped-def]
    """The way back of `rows_to_block`."""
    begin, end = n * len(lane_steps) * size, (n + 1) * len(lane_steps) * size
    if end <= rows.size:
        rows_of_block(block, rows[begin:end], size, 0, row_steps, lane_steps)
    else:
        rows_of_block(block, tail, size, 0, row_steps, lane_steps)
        rows[begin:] = tail[: rows.size - begin]


@kernel
def columns_to_blocks(x, blocks, count, lane_steps, first, last):  # type: ignore[no-untyped-def]
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
def blocks_to_columns(blocks, x, count, lane_steps, first, last):  # type: ignore[no-untyped-def]
    """The way back of `columns_to_blocks`."""
    lanes = len(lane_steps)
    size, whole = x.size // count, count // lanes
    for d in range(first, last):
        for n in range(whole):
            store(x, (d * count + n * lanes,), (0,), load(blocks, ((n * size + d) * lanes,)))
        for sample in range(whole * lanes, count):
            x[d * count + sample] = blocks[(whole * size + d) * lanes + sample - whole * lanes]


@kernel
def to_blocks_part(x, blocks, tail, sizes, row_steps, lane_steps, first, last):  # type: ignore[no-untyped-def]
    """Blocks first ... last - 1 from rows or, if sizes gives a count of samples, features from columns.

    sizes  features, count or 0
    """
    if sizes[1]:
        columns_to_blocks(x, blocks, sizes[1], lane_steps, first, last)
    else:
        step = len(lane_steps) * sizes[0]
        for n in range(first, last):
            rows_to_block(x, blocks[n * step : (n + 1) * step], tail, sizes[0], row_steps, lane_steps, n)


@kernel
def from_blocks_part(blocks, x, tail, sizes, row_steps, lane_steps, first, last):  # type: ignore[no-untyped-def]
    """The way back of `to_blocks_part`."""
    if sizes[1]:
        blocks_to_columns(blocks, x, sizes[1], lane_steps, first, last)
    else:
        step = len(lane_steps) * sizes[0]
        for n in range(first, last):
            block_to_rows(blocks[n * step : (n + 1) * step], x, tail, sizes[0], row_steps, lane_steps, n)


@parallel_kernel
def to_blocks(x, blocks, tail, sizes, row_steps, lane_steps, units, threads):  # type: ignore[no-untyped-def]
    """`to_blocks_part` of all units: blocks, or features."""
    for n in prange(threads):
        first, last = n * units // threads, (n + 1) * units // threads
        to_blocks_part(x, blocks, tail, sizes, row_steps, lane_steps, first, last)


@parallel_kernel
def from_blocks(blocks, x, tail, sizes, row_steps, lane_steps, units, threads):  # type: ignore[no-untyped-def]
    """`from_blocks_part` of all units: blocks, or features."""
    for n in prange(threads):
        first, last = n * units // threads, (n + 1) * units // threads
        from_blocks_part(blocks, x, tail, sizes, row_steps, lane_steps, first, last)


def laid(x: Array, *, rows: bool, into: str) -> Array:
    """Return activations in blocks, in the `room` of this name."""
    features, count = x.shape[::-1] if rows else x.shape
    width = lanes(x.dtype)
    blocks = room(into, blocks_for(count, width) * features * width, x.dtype)
    _move(to_blocks, flat(x), blocks, x.shape, rows)
    return flat(blocks)


def bring_back(blocks: Array, x: Array, *, rows: bool) -> None:
    """Fill x from its blocks."""
    _move(from_blocks, flat(blocks), x.reshape(-1), x.shape, rows)


def _move(move: Any, source: Array, target: Array, shape: tuple[int, ...], rows: bool) -> None:
    width = lanes(source.dtype)
    features, count = shape[::-1] if rows else shape
    tail = room("tail", features * width, source.dtype) if count % width else target[:0]
    units = blocks_for(count, width) if rows else features
    sizes = features, 0 if rows else count
    move(source, target, tail, sizes, *steps_of(features, width), units, threads_for(MOVE * features * count))


def blocks_for(count: int, width: int) -> int:
    """Return how many blocks of `width` samples so many samples fill."""
    return -(-count // width)


def room(name: str, size: int, dtype: Any) -> Array:
    """Return a flat array that begins at a multiple of LINE bytes, and holds what the last one of this name held."""
    kept: Array | None = _rooms.__dict__.get(name + dtype.char)
    if kept is None or kept.size < size:
        kept = _rooms.__dict__[name + dtype.char] = zeros(size, dtype)
    return kept[:size]


def zeros(size: int, dtype: Any) -> Array:
    """Return a fresh flat array of zeros that begins at a multiple of LINE bytes."""
    itemsize = np.dtype(dtype).itemsize
    memory = np.zeros(size * itemsize + LINE, np.uint8)
    start = -memory.__array_interface__["data"][0] % LINE
    return memory[start : start + size * itemsize].view(dtype)


def flat(x: Array) -> Array:
    """Return x as one axis that cannot be written, whichever it was: a kernel is compiled once for all inputs."""
    view = x.ravel()
    view.setflags(write=False)
    return view


@cache
def steps_of(features: int, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the way to each row, and to each lane, of a block, as `l0ref.fast.blocks` reads them."""
    return tuple(features * i for i in range(count)), tuple(count * i for i in range(count))
