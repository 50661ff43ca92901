"""Stages without weights: sums of branches, dropout, and copies out of a frame.

Parts without a kernel are NumPy functions on existing memory, bit for bit equal to the truth.
"""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from l0ref.fast.chain import elementwise
from l0ref.fast.chain.places import Activation, Branch
from l0ref.fast.machine.policy import MOVE, flat, threads_for
from l0ref.fast.machine.scratch import room
from l0ref.fast.products import layout
from l0ref.validate import Array


def flags_for(x: Array) -> Any:
    """Return room for a condition on each number of x."""
    return room("flags", x.size, np.dtype(bool)).reshape(x.shape)


class SimpleStage:
    """A stage without weights: y from x alone, of the same shape."""

    def __init__(self, x: Activation) -> None:
        self.x, self.y = x, x.like()

    def forward(self, *_: Array, count: int) -> None:
        """Fill y for the first `count` samples."""
        blocks = -(-count // self.x.lanes)
        self._fill(self.x.inside(blocks), self.y.inside(blocks))

    def backward(self, *_: Array, count: int) -> None:
        """Fill the cotangent of x, if it is wanted, from that of y."""
        if not self.x.is_data:
            a, blocks = (self.x, self.y), -(-count // self.x.lanes)
            self._fill_back(self.x.inside(blocks), *(each.inside(blocks, bar=True) for each in a))

    def _fill(self, x: Array, y: Array) -> None:
        np.copyto(y, x)

    def _fill_back(self, x: Array, x_bar: Array, y_bar: Array) -> None:
        np.copyto(x_bar, y_bar)


class ForkStage(SimpleStage):
    """x goes two ways: as itself, and as `other`; the cotangents of both are added."""

    def __init__(self, x: Activation) -> None:
        self.x, self.y, self.other = x, x, Branch(x)

    def forward(self, *_: Array, count: int) -> None:
        """Both are x."""

    def backward(self, *_: Array, count: int) -> None:
        """Add the other cotangent to that of x."""
        if not self.x.is_data:
            blocks = -(-count // self.x.lanes)
            bar = self.x.planes(blocks, bar=True)
            np.add(bar, self.other.planes(blocks, bar=True), out=bar)


class SumStage:
    """y = x + b, with or without a ReLU."""

    def __init__(self, x: Activation, b: Activation, *, relu: bool) -> None:
        self.x, self.b, self.y = x, b, x.like()
        self.floor = np.array([0.0 if relu else -inf], x.dtype)

    def forward(self, *_: Array, count: int) -> None:
        """Fill y for the first `count` samples."""
        x, b, y = self.x, self.b, self.y
        elementwise.sums(x.value, b.value, y.value, self.floor, *self._run(count))

    def backward(self, *_: Array, count: int) -> None:
        """Fill the cotangents of x and b from that of y."""
        elementwise.split(self.y.value, self.y.bar, self.x.bar, self.b.bar, self.floor, *self._run(count))

    def _run(self, count: int) -> tuple[Any, int, int]:
        x, threads = self.x, threads_for(MOVE * count * self.x.entries)
        return x.geometry(self.b, self.y), -(-count // x.lanes) * x.shape[0], threads


class DropoutStage(SimpleStage):
    """y = x keep, where each number of keep is 0 with probability p, else 1 / (1 - p), as the truth draws it.

    rng  generator of the draws; to be set before the first sample
    """

    def __init__(self, x: Activation, p: float) -> None:
        super().__init__(x)
        self.p, self.keep, self.draws = p, x.like(), np.zeros((x.blocks * x.lanes, x.entries))
        self.scale, self.rng = 1 / (1 - p) if p < 1 else 0.0, np.random.default_rng(0)

    def forward(self, *_: Array, count: int) -> None:
        """Draw a number for each entry of the first `count` samples, and fill y."""
        x, keep, draws = self.x, self.keep, self.draws[:count]
        self.rng.random(out=draws)
        np.multiply(np.greater_equal(draws, self.p, out=draws), self.scale, out=draws)
        kept = room("kept", draws.size, x.dtype).reshape(draws.shape)
        kept[...] = draws
        threads = threads_for(MOVE * draws.size)
        steps = keep.row_steps, keep.lane_steps
        layout.gather(flat(kept), flat(np.arange(count)), keep.rows, keep.value, x.entries, *steps, threads)
        super().forward(count=count)

    def _fill(self, x: Array, y: Array) -> None:
        keep = self.keep.planes(self.x.blocks)[: len(x)]
        np.copyto(y, 0)
        np.multiply(x, keep, out=y, where=np.not_equal(keep, 0, out=flags_for(x)))

    def _fill_back(self, x: Array, x_bar: Array, y_bar: Array) -> None:
        self._fill(y_bar, x_bar)
