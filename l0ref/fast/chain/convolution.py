"""A convolution in a chain, with or without a ReLU and a 2 x 2 max-pool: y = pool(max(0, k * x + b))."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from l0ref.fast.chain import gates
from l0ref.fast.chain.images import ImageStage
from l0ref.fast.chain.places import Activation
from l0ref.fast.machine.policy import threads_for
from l0ref.fast.products.launch import contract, correlate, scatter, tile_room
from l0ref.fast.products.windows import window_tables
from l0ref.ops.windows import Windows
from l0ref.validate import Array


class ConvolutionStage(ImageStage):
    """One layer; k is (F, C, R, S), flat."""

    def __init__(self, x: Activation, filters: int, windows: Windows, *, relu: bool, pooled: bool) -> None:
        super().__init__(x, filters, windows, relu=relu, pooled=pooled)
        self.zero = np.zeros(1, x.dtype)
        self.taps = x.shape[0] * prod(windows.size)
        self.sums = np.empty(tile_room(filters, self.taps), x.dtype)
        self.steps = np.array([self.framed.step, self.z.step])
        _, rows, cols = self.z.shape
        self.tables = window_tables(self.framed.shape, filters, (rows, cols), self.windows, lanes=x.lanes)

    def _fill(self, weight: Array, bias: Array, blocks: int) -> None:
        x, z, tables = self.framed, self.z, self.tables.value
        run: dict[str, Any] = {"steps": self.steps, "blocks": blocks, "lanes": x.lanes}
        contract(x.value, weight, bias, self.floor, z.value, *tables, **run)
        if self.pooled:
            winner, threads = self.winner[: blocks * self.filters], threads_for(blocks * z.step)
            gates.pool(z.planes(blocks), self.y.planes(blocks), winner, x.lanes, threads)

    def _weight_bar(self, weight_bar: Array, blocks: int, wants_x: bool) -> None:
        x, g = self.framed, weight_bar.reshape(self.filters, self.taps)
        run: dict[str, Any] = {"steps": self.steps, "blocks": blocks, "lanes": x.lanes}
        correlate(x.value, self.z.bar, self.zero, g, *self.tables.weight, **run, sums=self.sums)

    def _x_bar(self, weight: Array, blocks: int) -> None:
        x = self.framed
        x.bar[: blocks * x.step] = 0
        run: dict[str, Any] = {"steps": self.steps[::-1].copy(), "blocks": blocks, "lanes": x.lanes}
        scatter(self.z.bar, weight, self.zero, x.bar, *self.tables.inputs, **run)
        if x is not self.x:
            self.x.planes(blocks, bar=True)[...] = self._inside(x.planes(blocks, bar=True))
