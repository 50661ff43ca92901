"""Pooling in a chain as a stage of its own: the largest number, or the mean, of each window."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from l0ref.fast.chain import gates, window_pools
from l0ref.fast.chain.places import Activation, Shape
from l0ref.fast.machine.policy import MOVE, threads_for
from l0ref.fast.machine.tables import Table, table
from l0ref.ops.windows import Windows
from l0ref.validate import Array


class HalvingStage:
    """y = the largest of adjacent windows of 2 x 2; x and y have no frames; for winner see `gates.pool`."""

    def __init__(self, x: Activation) -> None:
        (channels, height, width), self.x = x.shape, x
        self.y = x.like((channels, height // 2, width // 2))
        self.y.fix()
        self.winner = np.zeros(self.y.planes(x.blocks).shape, x.dtype)

    def forward(self, *_: Array, count: int) -> None:
        """Fill y for the first `count` samples."""
        x, blocks = self.x, -(-count // self.x.lanes)
        y, threads = self.y.planes(blocks), threads_for(MOVE * count * x.entries)
        gates.pool(x.planes(blocks), y, self.winner[: len(y)], threads)

    def backward(self, *_: Array, count: int) -> None:
        """Fill the cotangent of x, if it is wanted, from that of y."""
        x, blocks = self.x, -(-count // self.x.lanes)
        if not x.is_data:
            bar, threads = self.y.planes(blocks, bar=True), threads_for(MOVE * count * x.entries)
            gates.unpool(bar, self.winner[: len(bar)], x.planes(blocks, bar=True), (0, 0), threads)


class PoolStage:
    """y = the largest number of each window; or its sum times a share (P, Q), which is 1 / m of `ops.AvgPool2d`."""

    def __init__(self, x: Activation, windows: Windows, share: Array | None = None) -> None:
        (channels, height, width), self.x, self.windows = x.shape, x, windows
        self.y = x.like((channels, *windows.grid((height, width))))
        self.share = np.zeros(0, x.dtype) if share is None else share.astype(x.dtype).reshape(-1)
        self.zero = np.zeros(1, x.dtype)

    def forward(self, *_: Array, count: int) -> None:
        """Fill y for the first `count` samples."""
        window_pools.pool(self.x.value, self.y.value, *self._run(count))

    def backward(self, *_: Array, count: int) -> None:
        """Fill the cotangent of x, if it is wanted, from that of y."""
        if not self.x.is_data:
            window_pools.unpool(self.x.bar, self.y.bar, *self._run(count))

    def _run(self, count: int) -> tuple[Any, ...]:
        x, channels = self.x, self.x.shape[0]
        planes, threads = -(-count // x.lanes) * channels, threads_for(MOVE * count * x.entries)
        return self._winner, self.share, self.zero, *self._tables, planes, threads

    @cached_property
    def _winner(self) -> Array:
        return np.zeros(0 if self.share.size else self.y.value.size, self.x.dtype)

    @cached_property
    def _tables(self) -> tuple[Table, Table]:
        """Windows and steps of the kernels; made on first use, when frames are final."""
        x, y, w = self.x, self.y, self.windows
        starts, counts, places = [], [], []
        for i in (0, 1):
            at = np.arange(y.shape[1 + i]) * w.stride[i] - w.padding[i]
            before = np.maximum(-(at // w.dilation[i]), 0)  # places on the padding before the image
            inside = np.minimum(w.size[i], -((at - x.shape[1 + i]) // w.dilation[i])) - before
            starts.append(at + before * w.dilation[i])
            counts.append(inside)
            places.append(before)
        windows = table(
            x.pixels(x.frame)[0][np.ix_(*starts)],
            y.pixels(y.frame)[0],
            *np.ix_(*counts),
            places[0][:, None] * w.size[1] + places[1],
        )
        planes = x.step // x.shape[0], y.step // y.shape[0]
        below, beside = w.dilation[0] * x.framed[2] * x.lanes, w.dilation[1] * x.lanes
        return windows, np.array([*planes, below, beside, w.size[1]])


def shares(layer: Any, shape: Shape) -> Array:
    """Return 1 / m of each window of an average pooling: its result for an image of ones / its number of pixels."""
    image = shape[1], shape[2]
    pixels = layer.windows(shape).on_image(image).sum(axis=(4, 5))
    share: Array = layer.forward(np.ones((1, 1, *image)))[0].data / pixels
    return share
