"""Convolution with 3 x 3 weights by Winograd's minimal filtering F(2 x 2, 3 x 3): 16 products instead of 36.

A tile of 4 x 4 pixels d gives 2 x 2 outputs, where . multiplies entry by entry:

    y  =  A^T [ (G k G^T) . (B^T d B) ] A

    B^T =  1  0 -1  0        G =   1    0    0        A^T =  1  1  1  0
           0  1  1  0             1/2  1/2  1/2              0  1 -1  1
           0 -1  1  0             1/2 -1/2  1/2
           0 -1  0  1              0    0    1

Summed over channels, each of the 16 entries ("frequencies") is a matrix product. The cotangent of k follows from the
same equation: G^T [ sum over tiles of (A y_bar A^T) . (B^T d B) ] G. That of x is a convolution of y_bar.

Why it is fast: a processor that does one fused multiply-add in every cycle is beaten only by doing fewer of them. The
rest is in `winograd_tiles`.

Rounding: A and B hold 0, 1 and -1, and G halves. Products are taken of sums of pixels, and outputs are differences of
such products; but a sum has only as many terms as channels, not 9 times as many. Measured in float32 on random images
and weights, the root mean square error of y was 1.9 times that of direct sums for 1 channel, 0.6 to 0.8 times for 32 to
128. An infinite pixel makes all outputs of its tiles undefined, even those whose window does not contain it.

Ref      Winograd, Arithmetic Complexity of Computations, 1980; Lavin, Gray, Fast Algorithms for Convolutional Neural
         Networks, CVPR 2016.
Departs  Row 4 of B^T and column 4 of A^T have the other sign, which spares A y_bar A^T a negation.
"""

from __future__ import annotations

from functools import cached_property
from math import inf, prod
from typing import Any

import numpy as np

from l0ref.fast.dense import winograd_tiles as kernels
from l0ref.fast.dense.images import Layout
from l0ref.fast.machine.policy import flat, threads_for
from l0ref.fast.machine.scratch import room, scratch
from l0ref.fast.machine.tables import Table, table
from l0ref.fast.machine.target import COLUMNS, ROWS
from l0ref.fast.products.contraction import untiled
from l0ref.fast.products.heights import height_for
from l0ref.fast.products.launch import tile_room
from l0ref.ops.windows import Windows
from l0ref.validate import Array

TILES = 8  # of a strip, for the cotangent of k: 1 MB of frequencies for 64 channels and filters, half of a second cache
SHARES = 8  # partial sums of strips, which are added at the end: work for as many threads
LEAST = 32  # channels, and filters, from which it is faster than direct sums
WASTE = 1.15  # outputs of whole tiles per output needed, up to which it is faster
MANY = 128  # tiles of all blocks from which the cotangent of k is faster, too


def frequencies(k: Array) -> Array:
    """G k G^T of weights k (F, C, 3, 3), as (16, F, C) with entry (i, j) at 4 j + i."""

    def g_times(a: Array, b: Array, c: Array) -> tuple[Array, ...]:
        half, other = (a + c) / 2, b / 2
        return a, half + other, half - other, c

    rows = g_times(*k.transpose(2, 3, 0, 1))
    return np.concatenate(g_times(*np.stack(rows, axis=1)))


def slopes_of_weights(e: Array) -> Array:
    """G^T e G of frequencies e, as they stand in `frequencies`: (F, C, 3, 3)."""

    def g_back(a: Array, b: Array, c: Array, d: Array) -> tuple[Array, ...]:
        half, other = (b + c) / 2, (b - c) / 2
        return a + half, other, half + d

    columns = g_back(*e.reshape(4, 4, *e.shape[1:]))
    return np.stack(g_back(*np.stack(columns, axis=1))).transpose(2, 3, 0, 1)


class Tiles:
    """The tables of one convolution over blocks of images, for its value and for the cotangent of k.

    x, y   offsets of the pixels of a block, (channels, rows, columns): x from the first tile on, y those of the outputs
    steps  numbers from one block to the next, in x and in y
    """

    def __init__(self, x: Any, y: Any, steps: tuple[int, int], *, lanes: int, dtype: Any) -> None:
        self.channels, self.filters, self.dtype, self.lanes = len(x), len(y), np.dtype(dtype), lanes
        _, rows, cols = y.shape
        self.starts, self.steps = table(*(a[0, :rows:2, :cols:2].ravel() for a in (x, y))), np.array(steps)
        sides = zip((x, y), steps, strict=True)
        self.images = np.array([(len(a), step // len(a), a[0, 1, 0] - a[0, 0, 0], lanes) for a, step in sides])
        self.zero = np.zeros(1, dtype)

    def convolve(self, x: Array, k: Array, b: Array, floor: Array, y: Array, *, blocks: int) -> None:
        """Fill the first blocks of y, flat, from x and k (F, C, 3, 3); floor as in `products.contraction`."""
        threads, u = self._threads(blocks), frequencies(k.reshape(self.filters, self.channels, 3, 3)).reshape(-1)
        v, m = (scratch(threads * 16 * n * COLUMNS * self.lanes, self.dtype) for n in (self.channels, self.filters))
        with v as v_room, m as m_room:
            tables = self.starts, *self._product_tables, self.steps, self.images
            height, bias = height_for(self.filters), (flat(b), flat(self.zero), floor)
            kernels.convolve(x, u, bias, y, (v_room, m_room), tables, height, blocks, threads)

    def correlate(self, x: Array, y_bar: Array, k_bar: Array, *, blocks: int) -> None:
        """Fill k_bar (F, C, 3, 3) from the first blocks of x and of the cotangent of y."""
        threads, size = self._threads(blocks), SHARES * 16 * tile_room(self.filters, self.channels)
        v, d = (scratch(threads * 16 * n * TILES * self.lanes, self.dtype) for n in (self.channels, self.filters))
        sums, parts = room("shares", size, self.dtype), tuple(range(0, ROWS * COLUMNS, self.lanes))
        with v as v_room, d as d_room:
            tables = self.starts, *self._sum_tables, self.steps, self.images
            kernels.correlate(x, y_bar, self.zero, sums, (v_room, d_room), tables, parts, SHARES, blocks, threads)
        entries = np.empty((16, self.filters, self.channels), self.dtype)
        for tiles, entry in zip(sums.reshape(SHARES, 16, -1).sum(axis=0), entries, strict=True):
            untiled(tiles, entry)
        k_bar.reshape(self.filters, self.channels, 3, 3)[...] = slopes_of_weights(entries)

    def has_many(self, blocks: int) -> bool:
        """Return whether the cotangent of k is faster than as direct sums."""
        return bool(blocks * self.starts.shape[1] >= MANY)

    def _threads(self, blocks: int) -> int:
        return threads_for(16 * blocks * self.starts.shape[1] * self.channels * self.filters * self.lanes)

    @cached_property
    def _product_tables(self) -> tuple[Table, Table]:
        c, f, step = np.arange(self.channels), np.arange(self.filters), COLUMNS * self.lanes
        return table(f * self.channels, f * step, 0), table(c * step, c)

    @cached_property
    def _sum_tables(self) -> tuple[Table, Table, Table]:
        t, c, f, step = np.arange(TILES), np.arange(self.channels), np.arange(self.filters), TILES * self.lanes
        return table(t * self.lanes, t * self.lanes), table(f * step, 0), c * step


class Winograd:
    """One convolution of images, laid out in blocks and padded to whole tiles at each call."""

    def __init__(self, x: tuple[int, ...], filters: int, windows: Windows, dtype: Any) -> None:
        (count, _, *image), padding = x, windows.padding
        size = [n + 2 * p - 2 for n, p in zip(image, padding, strict=True)]
        beyond = size[0] % 2, size[1] % 2  # tiles are whole
        self.x = Layout(x[1:], padding, beyond, count=count, dtype=dtype)
        self.y = Layout((filters, *size), (0, 0), beyond, count=count, dtype=dtype)
        steps = self.x.step, self.y.step
        self.tiles = Tiles(self.x.pixels(), self.y.pixels(), steps, lanes=self.x.lanes, dtype=dtype)

    def forward(self, x: Array, k: Array, b: Array | None) -> Array:
        """Return y (N, F, P, Q)."""
        b, floor = np.zeros(len(k), k.dtype) if b is None else np.ascontiguousarray(b), np.array([-inf], k.dtype)
        with self.x.laid(x) as x_blocks, self.y.room() as y_blocks:
            self.tiles.convolve(x_blocks, np.ascontiguousarray(k), b, floor, y_blocks, blocks=self.x.blocks)
            return self.y.back(y_blocks)

    def weight_cotangent(self, x: Array, y_bar: Array) -> Array:
        """Return k_bar (F, C, 3, 3)."""
        k_bar = np.empty((self.tiles.filters, self.tiles.channels, 3, 3), x.dtype)
        with self.x.laid(x) as x_blocks, self.y.laid(y_bar) as y_blocks:
            self.tiles.correlate(x_blocks, y_blocks, k_bar, blocks=self.x.blocks)
        return k_bar

    @property
    def has_many_tiles(self) -> bool:
        """Whether the cotangent of k is faster than as direct sums."""
        return self.tiles.has_many(self.x.blocks)


def pays(x: tuple[int, ...], k: tuple[int, ...], windows: Windows) -> bool:
    """Whether a convolution of images x (N, C, H, W) with k (F, C, R, S) is faster in tiles than as direct sums."""
    if windows.size != (3, 3) or (windows.stride, windows.dilation) != ((1, 1), (1, 1)) or min(k[:2]) < LEAST:
        return False
    size = [n + 2 * p - 2 for n, p in zip(x[2:], windows.padding, strict=True)]
    return prod(n + n % 2 for n in size) <= WASTE * prod(size)
