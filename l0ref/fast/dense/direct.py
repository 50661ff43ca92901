"""Convolution as direct sums of products over blocks of images; nothing is unrolled.

    y[f,p,q]      = b_f + sum_crs k[f,c,r,s] x[c, p stride + r dilation, q stride + s dilation]
    k_bar[f,c,r,s]      = sum over images, p, q of y_bar[f,p,q] times the same pixel
    x_bar, the pixel    = sum over f and all windows that reach it, of k y_bar: scattered from window to window

Images are laid out in blocks (`images`) and the sums taken by the kernels of `contraction`, whose docstring says why
they are fast. The layouts cost a read and a write of every pixel; a 3 x 3 convolution of 64 channels costs 576
multiply-adds for each. The backward pass repeats them, which takes less time than allocating memory to keep them.
"""

from __future__ import annotations

from math import inf, prod
from typing import Any

import numpy as np

from l0ref.fast.dense.images import Layout
from l0ref.fast.machine.scratch import scratch
from l0ref.fast.products.launch import contract, correlate, scatter, tile_room
from l0ref.fast.products.windows import window_tables
from l0ref.ops.windows import Windows
from l0ref.validate import Array


class Direct:
    """The tables of one convolution, for its value and the cotangents of x and k."""

    def __init__(self, x: tuple[int, ...], filters: int, windows: Windows, dtype: Any) -> None:
        self.dtype, self.shape = np.dtype(dtype), (filters, x[1], *windows.size)
        self.x = Layout(x[1:], windows.padding, count=x[0], dtype=dtype)
        rows, cols = ((self.x.framed[1 + i] - windows.span[i]) // windows.stride[i] + 1 for i in (0, 1))
        self.y = Layout((filters, rows, cols), count=x[0], dtype=dtype)
        self.zero = np.zeros(1, dtype)
        self.run: dict[str, Any] = {"blocks": self.x.blocks, "lanes": self.x.lanes}
        self.steps = np.array([self.x.step, self.y.step])
        self.tables = window_tables(self.x.framed, filters, (rows, cols), windows, lanes=self.x.lanes)

    def forward(self, x: Array, k: Array, bias: Array | None) -> Array:
        """Return y (N, F, P, Q)."""
        b = np.zeros(len(k), x.dtype) if bias is None else np.ascontiguousarray(bias)
        floor, weights = np.array([-inf], x.dtype), np.ascontiguousarray(k).reshape(-1)
        with self.x.laid(x) as x_blocks, self.y.room() as y_blocks:
            contract(x_blocks, weights, b, floor, y_blocks, *self.tables.value, steps=self.steps, **self.run)
            return self.y.back(y_blocks)

    def weight_cotangent(self, x: Array, y_bar: Array) -> Array:
        """Return k_bar (F, C, R, S)."""
        out = np.empty((self.shape[0], prod(self.shape[1:])), self.dtype)
        room = scratch(tile_room(*out.shape), self.dtype)
        with self.x.laid(x) as x_blocks, self.y.laid(y_bar) as y_blocks, room as sums:
            run = {"steps": self.steps, **self.run, "sums": sums}
            correlate(x_blocks, y_blocks, self.zero, out, *self.tables.weight, **run)
        return out.reshape(self.shape)

    def input_cotangent(self, k: Array, y_bar: Array) -> Array:
        """Return x_bar (N, C, H, W)."""
        weights = np.ascontiguousarray(k).reshape(-1)
        with self.y.laid(y_bar) as y_blocks, self.x.room() as x_blocks:
            x_blocks[...] = 0
            run = {"steps": self.steps[::-1].copy(), **self.run}
            scatter(y_blocks, weights, self.zero, x_blocks, *self.tables.inputs, **run)
            return self.x.back(x_blocks)
