"""Pooling in a chain as a stage of its own: the largest pixel or the mean of each window."""

from __future__ import annotations

import numpy as np

from l0ref.fast.chain import windows as kernels
from l0ref.fast.chain.places import Activation
from l0ref.fast.machine.policy import MOVE, threads_for
from l0ref.ops.windows import Windows
from l0ref.validate import Array


class PoolStage:
    """Windows over images x; y has a pixel for each. Ties of the largest go to the first in scan order.

    winner  place of the largest pixel in its window, for each number of y; none where the mean is taken
    """

    def __init__(self, x: Activation, windows: Windows, *, largest: bool) -> None:
        (channels, height, width), self.x, self.largest = x.shape, x, largest
        self.windows = w = windows.stepping((height, width))
        size = height + 2 * w.padding[0], width + 2 * w.padding[1]
        rows, cols = ((size[i] - w.size[i]) // w.stride[i] + 1 for i in (0, 1))
        self.y = x.like((channels, rows, cols))
        self.share = np.array([1 / (w.size[0] * w.size[1])], x.dtype)
        self.winner = np.zeros((x.blocks * channels, rows, cols * x.lanes) if largest else (0, 0, 0), x.dtype)

    def forward(self, _weight: Array, _bias: Array, *, count: int) -> None:
        """Fill y for the first `count` samples."""
        self._run(count, kernels.LARGEST if self.largest else kernels.MEAN, bar=False)

    def backward(self, *_: Array, count: int) -> None:
        """Fill the cotangent of x, if it is wanted, from that of y."""
        if not self.x.is_data:
            self._run(count, kernels.TO_LARGEST if self.largest else kernels.TO_MEAN, bar=True)

    def _run(self, count: int, way: int, *, bar: bool) -> None:
        w, x, y, blocks = self.windows, self.x, self.y, -(-count // self.x.lanes)
        geometry = *y.shape[1:], *w.size, *w.stride, *w.padding, *x.shape[1:], *x.frame, *y.frame
        planes, threads = blocks * x.shape[0], threads_for(MOVE * count * x.entries)
        arrays = (a.planes(blocks, bar=bar) for a in (x, y))
        kernels.pooled(*arrays, self.winner, self.share, geometry, x.lanes, way, planes, threads)
