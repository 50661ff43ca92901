"""A convolution in a chain, with or without a ReLU and a 2 x 2 max-pool: y = pool(max(0, k * x + b))."""

from __future__ import annotations

from math import inf, prod
from typing import Any

import numpy as np

from l0ref.fast import gates
from l0ref.fast.chain.places import Activation, table
from l0ref.fast.chain.products import contract, correlate, scatter, tile_room
from l0ref.fast.policy import threads_for
from l0ref.ops.windows import Windows
from l0ref.validate import Array


class ConvolutionStage:
    """One layer; k (F, C, R, S) and b (F) are given anew at every call, flat.

    x, y    activations before and after; the cotangent of y is overwritten by `backward`
    framed  x inside its padding; x itself where there is none
    z       the convolution, which is y itself where no max-pool follows
    """

    def __init__(self, x: Activation, filters: int, windows: Windows, *, relu: bool, pooled: bool) -> None:
        self.x, self.windows, self.filters, self.relu, self.pooled = x, windows, filters, relu, pooled
        (channels, height, width), (top, left) = x.shape, windows.padding
        around = (channels, height + 2 * top, width + 2 * left)
        self.framed = x if around == x.shape else Activation(around, blocks=x.blocks, dtype=x.dtype)
        rows, cols = ((around[1 + i] - windows.span[i]) // windows.stride[i] + 1 for i in (0, 1))
        self.z = Activation((filters, rows, cols), blocks=x.blocks, dtype=x.dtype)
        halved = (filters, rows // 2, cols // 2)
        self.y = Activation(halved, blocks=x.blocks, dtype=x.dtype) if pooled else self.z
        self.winner = np.zeros(self.y.planes(x.blocks).shape if pooled else 0, x.dtype)
        self.floor = np.array([0.0 if relu else -inf], x.dtype)
        self.zero = np.zeros(1, x.dtype)
        self.room = np.empty(self.y.step // filters, x.dtype)
        self.taps = channels * prod(windows.size)
        self.sums = np.empty(tile_room(filters, self.taps), x.dtype)
        self.steps = np.array([self.framed.step, self.z.step])
        self._make_tables()

    def _make_tables(self) -> None:
        lanes, (down, beside) = self.x.lanes, self.windows.stride
        filters, taps, plane = np.arange(self.filters), np.arange(self.taps), self.z.step // self.filters
        pixels = np.arange(self.framed.entries).reshape(self.framed.shape) * lanes
        rows, cols = (n * step for n, step in zip(self.z.shape[1:], (down, beside), strict=True))
        first = pixels[0, :rows:down, :cols:beside]  # of each window
        r, s = (np.arange(n) * d for n, d in zip(self.windows.size, self.windows.dilation, strict=True))
        window = pixels[:, r[:, None], s]  # the first one, over all channels
        out = np.arange(first.size) * lanes
        self.forward_tables = (
            table(first.ravel(), out),
            table(filters * self.taps, filters * plane, filters),
            table(window.ravel(), taps),
        )
        self.inputs_tables = (
            table(out, first.ravel()),
            table(taps, window.ravel(), 0),
            table(filters * plane, filters * self.taps),
        )
        self.weight_tables = table(first.ravel(), out), table(filters * plane, 0), window.ravel()

    def forward(self, weight: Array, bias: Array, *, count: int) -> None:
        """Fill y for the first `count` samples."""
        x, z, blocks = self.framed, self.z, -(-count // self.x.lanes)
        if x is not self.x:
            self._inside(x.planes(blocks))[...] = self.x.planes(blocks)
        contract(
            x.value,
            weight,
            bias,
            self.floor,
            z.value,
            *self.forward_tables,
            steps=self.steps,
            blocks=blocks,
            lanes=x.lanes,
        )
        if self.pooled:
            winner, threads = self.winner[: blocks * self.filters], threads_for(blocks * z.step)
            gates.pool(z.planes(blocks), self.y.planes(blocks), winner, x.lanes, threads)

    def backward(
        self, weight: Array, weight_bar: Array, bias_bar: Array, *, count: int, wants_x: bool, has_rows: bool
    ) -> None:
        """Fill the cotangents of k and b, and that of x if it is wanted, from that of y."""
        x, z, blocks = self.framed, self.z, -(-count // self.x.lanes)
        self._gate(blocks, bias_bar)
        g = weight_bar.reshape(self.filters, self.taps)
        run: dict[str, Any] = {"steps": self.steps, "blocks": blocks, "lanes": x.lanes}
        correlate(x.value, z.bar, self.zero, g, *self.weight_tables, **run, sums=self.sums)
        if wants_x:
            x.bar[: blocks * x.step] = 0
            run["steps"] = self.steps[::-1].copy()
            scatter(z.bar, weight, self.zero, x.bar, *self.inputs_tables, **run)
            if x is not self.x:
                self.x.planes(blocks, bar=True)[...] = self._inside(x.planes(blocks, bar=True))

    def _gate(self, blocks: int, bias_bar: Array) -> None:
        """The cotangent of the convolution from that of y, and that of the bias."""
        y, z = self.y, self.z
        shape = (-1, self.filters, y.step // self.filters)
        gates.gate(y.value.reshape(shape)[:blocks], y.bar.reshape(shape)[:blocks], self.floor, bias_bar, self.room)
        if self.pooled:
            planes = y.planes(blocks, bar=True), self.winner[: blocks * self.filters], z.planes(blocks, bar=True)
            gates.unpool(*planes, self.x.lanes, threads_for(blocks * z.step))

    def _inside(self, planes: Array) -> Array:
        """The images without their padding: a view."""
        (top, left), (_, height, width), lanes = self.windows.padding, self.x.shape, self.x.lanes
        return planes[:, top : top + height, left * lanes : (left + width) * lanes]
