"""Pooling in a chain as a stage of its own: the largest of 2 x 2 pixels, or the mean of each window."""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.fast.chain import gates
from l0ref.fast.chain.places import Activation
from l0ref.fast.machine.policy import MOVE, threads_for
from l0ref.fast.products.launch import contract, scatter
from l0ref.fast.products.windows import window_tables
from l0ref.ops.windows import Windows
from l0ref.validate import Array


class LargestStage:
    """y = the largest of adjacent windows of 2 x 2; x and y have no frames, and winner is as `gates.pool` writes it."""

    def __init__(self, x: Activation) -> None:
        (channels, height, width), self.x = x.shape, x
        self.y = x.like((channels, height // 2, width // 2))
        self.y.fix()
        self.winner = np.zeros(self.y.planes(x.blocks).shape, x.dtype)

    def forward(self, *_: Array, count: int) -> None:
        """Fill y for the first `count` samples."""
        x, blocks = self.x, -(-count // self.x.lanes)
        y, threads = self.y.planes(blocks), threads_for(MOVE * count * x.entries)
        gates.pool(x.planes(blocks), y, self.winner[: len(y)], x.lanes, threads)

    def backward(self, *_: Array, count: int) -> None:
        """Fill the cotangent of x, if it is wanted, from that of y."""
        x, blocks = self.x, -(-count // self.x.lanes)
        if not x.is_data:
            bar, threads = self.y.planes(blocks, bar=True), threads_for(MOVE * count * x.entries)
            gates.unpool(bar, self.winner[: len(bar)], x.planes(blocks, bar=True), (0, 0), x.lanes, threads)


class MeanStage:
    """y = mean of each window, none of which reaches beyond the image.

    A convolution of each channel with equal weights: the kernels take a channel for a block with a single one.
    """

    def __init__(self, x: Activation, windows: Windows) -> None:
        (channels, *image), self.x = x.shape, x
        self.windows = w = windows.stepping((image[0], image[1]))
        rows, cols = ((image[i] - w.size[i]) // w.stride[i] + 1 for i in (0, 1))
        self.y = x.like((channels, rows, cols))
        self.weight = np.full(w.size[0] * w.size[1], 1 / (w.size[0] * w.size[1]), x.dtype)
        self.zero, self.no_floor = np.zeros(1, x.dtype), np.array([-np.inf], x.dtype)

    def forward(self, *_: Array, count: int) -> None:
        """Fill y for the first `count` samples."""
        x, y = self.x, self.y
        tables, run = self._run(x, y, count)
        contract(x.value, self.weight, self.zero, self.no_floor, y.value, *tables.value, **run)

    def backward(self, *_: Array, count: int) -> None:
        """Fill the cotangent of x, if it is wanted, from that of y."""
        x, y = self.x, self.y
        if not x.is_data:
            tables, run = self._run(y, x, count)
            x.bar[: -(-count // x.lanes) * x.step] = 0
            scatter(y.bar, self.weight, self.zero, x.bar, *tables.inputs, **run)

    def _run(self, source: Activation, target: Activation, count: int) -> tuple[Any, dict[str, Any]]:
        x, y, channels = self.x, self.y, self.x.shape[0]
        framed, grid, target_place = (1, *x.framed[1:]), (y.shape[1], y.shape[2]), (y.framed[1:], y.frame)
        if not hasattr(self, "tables"):  # frames are known when samples come
            options: dict[str, Any] = {"lanes": x.lanes, "inset": x.frame, "target": target_place}
            self.tables = window_tables(framed, 1, grid, self.windows, **options)
        steps = np.array([source.step, target.step]) // channels
        return self.tables, {"steps": steps, "blocks": -(-count // x.lanes) * channels, "lanes": x.lanes}
