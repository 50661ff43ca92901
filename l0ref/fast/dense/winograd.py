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

Rounding: A and B hold 0, 1 and -1, and G halves. m sums pixels before it multiplies, and outputs are differences of
such sums; but a sum has as many terms as channels, and not 9 times as many. Measured in float32 on random images and
weights, the root mean square error of y was 1.9 times that of direct sums for 1 channel, 0.6 to 0.8 times for 32 to
128. An infinite pixel makes all outputs of its tiles undefined, also those it does not reach.

Ref      Winograd, Arithmetic Complexity of Computations, 1980; Lavin, Gray, Fast Algorithms for Convolutional Neural
         Networks, CVPR 2016.
Departs  Row 4 of B^T and column 4 of A^T have the other sign, which spares A y_bar A^T a negation.
"""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from l0ref.fast.dense import winograd_tiles as kernels
from l0ref.fast.dense.images import Layout
from l0ref.fast.machine.policy import threads_for
from l0ref.fast.machine.scratch import scratch
from l0ref.fast.machine.tables import Table, table
from l0ref.fast.machine.target import COLUMNS, ROWS
from l0ref.fast.products.contraction import untiled
from l0ref.fast.products.launch import tile_room
from l0ref.ops.windows import Windows
from l0ref.validate import Array

TILES = 32  # of a strip, for the cotangent of k: 4 MB of frequencies, for 64 channels and filters
SHARES = 8  # sums of strips that are taken apart from each other, and then added: work for as many threads
LEAST = 32  # channels, and filters, from which on it is faster than direct sums
WASTE = 1.15  # outputs of whole tiles for each one that is wanted, up to which it is
MANY = 128  # tiles of all blocks from which on the cotangent of k is faster, too
G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


class Winograd:
    """The tables of one convolution, for its value and for the cotangent of k."""

    def __init__(self, x: tuple[int, ...], filters: int, windows: Windows, dtype: Any) -> None:
        (count, channels, *image), padding = x, windows.padding
        size = [n + 2 * p - 2 for n, p in zip(image, padding, strict=True)]
        beyond = size[0] % 2, size[1] % 2  # tiles are whole
        self.channels, self.filters, self.dtype = channels, filters, np.dtype(dtype)
        self.x = Layout(x[1:], padding, beyond, count=count, dtype=dtype)
        self.y = Layout((filters, *size), (0, 0), beyond, count=count, dtype=dtype)
        self.lanes, self.steps = self.x.lanes, np.array([self.x.step, self.y.step])
        rows, cols = self.y.framed[1:]
        self.starts = table(*(a.pixels()[0, :rows:2, :cols:2].ravel() for a in (self.x, self.y)))
        self.images = np.array([self._image(self.x), self._image(self.y)])
        self.zero = np.zeros(1, dtype)

    def forward(self, x: Array, k: Array, b: Array | None) -> Array:
        """Return y (N, F, P, Q)."""
        u = (G @ k @ G.T).astype(k.dtype).transpose(3, 2, 0, 1).ravel()
        b = np.zeros(self.filters, self.dtype) if b is None else np.ascontiguousarray(b)
        threads = self._threads()
        v, m = (scratch(threads * 16 * n * COLUMNS * self.lanes, self.dtype) for n in (self.channels, self.filters))
        with self.x.laid(x) as x_blocks, self.y.room() as y_blocks, v as v_room, m as m_room:
            tables = self.starts, *self._product_tables, self.steps, self.images
            bias, room = (b, self.zero), (v_room, m_room)
            kernels.convolve(x_blocks, u, bias, y_blocks, room, tables, self.x.blocks, threads)
            return self.y.back(y_blocks)

    def weight_cotangent(self, x: Array, y_bar: Array) -> Array:
        """Return k_bar (F, C, 3, 3)."""
        threads = self._threads()
        v, d = (scratch(threads * 16 * n * TILES * self.lanes, self.dtype) for n in (self.channels, self.filters))
        sums = np.empty((SHARES, 16, tile_room(self.filters, self.channels)), self.dtype)
        parts = tuple(range(0, ROWS * COLUMNS, self.lanes))
        with self.x.laid(x) as x_blocks, self.y.laid(y_bar) as y_blocks, v as v_room, d as d_room:
            tables = self.starts, *self._sum_tables, self.steps, self.images
            rest = (v_room, d_room), tables, parts, SHARES, self.x.blocks, threads
            kernels.correlate(x_blocks, y_blocks, self.zero, sums.reshape(-1), *rest)
        entries = np.empty((16, self.filters, self.channels), self.dtype)
        for tiles, entry in zip(sums.sum(axis=0), entries, strict=True):
            untiled(tiles, entry)
        k_bar: Array = G.T @ entries.reshape(4, 4, self.filters, self.channels).transpose(2, 3, 1, 0) @ G
        return k_bar.astype(self.dtype)

    @property
    def has_many_tiles(self) -> bool:
        """Whether the cotangent of k is faster than as direct sums."""
        return bool(self.x.blocks * self.starts.shape[1] >= MANY)

    def _threads(self) -> int:
        return threads_for(16 * self.x.blocks * self.starts.shape[1] * self.channels * self.filters * self.lanes)

    def _image(self, layout: Layout) -> tuple[int, int, int, int]:
        channels, rows, cols = layout.framed
        return channels, rows * cols * self.lanes, cols * self.lanes, self.lanes

    @cached_property
    def _product_tables(self) -> tuple[Table, Table]:
        c, f, step = np.arange(self.channels), np.arange(self.filters), COLUMNS * self.lanes
        return table(f * self.channels, f * step, 0), table(c * step, c)

    @cached_property
    def _sum_tables(self) -> tuple[Table, Table, Table]:
        t, c, f, step = np.arange(TILES), np.arange(self.channels), np.arange(self.filters), TILES * self.lanes
        return table(t * self.lanes, t * self.lanes), table(f * step, 0), c * step


def pays(x: tuple[int, ...], k: tuple[int, ...], windows: Windows) -> bool:
    """Whether a convolution of images x (N, C, H, W) with k (F, C, R, S) is faster in tiles than as direct sums."""
    if windows.size != (3, 3) or (windows.stride, windows.dilation) != ((1, 1), (1, 1)) or min(k[:2]) < LEAST:
        return False
    size = [n + 2 * p - 2 for n, p in zip(x[2:], windows.padding, strict=True)]
    return prod(n + n % 2 for n in size) <= WASTE * prod(size)
