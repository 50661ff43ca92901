"""The kernels of `products.contraction`, each on a number of threads that fits its work."""

from __future__ import annotations

import numpy as np

from l0ref.fast.machine.policy import flat, threads_for
from l0ref.fast.machine.scratch import room
from l0ref.fast.machine.tables import Table
from l0ref.fast.machine.target import COLUMNS, ROWS
from l0ref.fast.products import contraction as kernels
from l0ref.fast.products.heights import height_for
from l0ref.validate import Array

NO_STEPS = np.zeros(2, np.int64)


def contract(
    x: Array,
    w: Array,
    b: Array,
    floor: Array,
    y: Array,
    columns: Table,
    rows: Table,
    taps: Table,
    *,
    steps: Table = NO_STEPS,
    blocks: int = 1,
    lanes: int,
) -> None:
    """Fill y; see the kernel of this name."""
    threads = threads_for(blocks * columns.shape[1] * rows.shape[1] * taps.shape[1] * lanes)
    tables, height = (columns, rows, taps, steps), height_for(rows.shape[1])
    kernels.contract(flat(x), flat(w), flat(b), floor, y, tables, height, blocks, threads)


def scatter(
    x: Array,
    w: Array,
    zero: Array,
    y: Array,
    columns: Table,
    rows: Table,
    taps: Table,
    *,
    steps: Table,
    blocks: int,
    lanes: int,
) -> None:
    """Add to y; see the kernel of this name."""
    threads = threads_for(blocks * columns.shape[1] * rows.shape[1] * taps.shape[1] * lanes)
    parts = tuple(range(0, COLUMNS * lanes, lanes))
    side_by_side = room("scatter", threads * taps.shape[1] * COLUMNS * lanes, x.dtype)
    kernels.scatter(flat(x), flat(w), flat(zero), y, (columns, rows, taps, steps), side_by_side, parts, blocks, threads)


def correlate(
    x: Array,
    d: Array,
    zero: Array,
    g: Array,
    columns: Table,
    rows: Table,
    taps: Table,
    *,
    steps: Table,
    blocks: int,
    lanes: int,
    sums: Array,
) -> None:
    """Fill g, (rows, taps); sums is room for its tiles, `tile_room` numbers."""
    parts = tuple(range(0, ROWS * COLUMNS, lanes))
    threads = threads_for(blocks * columns.shape[1] * g.size * lanes)
    kernels.correlate(flat(x), flat(d), flat(zero), sums, parts, (columns, rows, taps, steps), blocks, threads)
    kernels.untiled(sums, g)


def tile_room(rows: int, taps: int) -> int:
    """Numbers that the tiles of a correlation take."""
    return -(-rows // ROWS) * ROWS * -(-taps // COLUMNS) * COLUMNS
