"""Layout of the activations of a chain: in blocks of as many samples as a vector has lanes."""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Any

from l0ref.fast.machine.scratch import zeros
from l0ref.fast.machine.target import lanes
from l0ref.validate import Array

Shape = tuple[int, int, int]


class Activation:
    """The array between two stages, for a number of blocks of samples.

    shape  of one sample: (channels, height, width)
    value  (blocks, *shape, lanes), flat
    bar    its cotangent, of the same shape
    rows   the same numbers, a sample after another: (blocks lanes, entries), flat

    Each is made when it is first asked for, and begins with a line of the cache.
    """

    def __init__(self, shape: Shape, *, blocks: int, dtype: Any) -> None:
        self.shape, self.blocks, self.dtype = shape, blocks, dtype
        self.lanes = lanes(dtype)
        self.entries = prod(shape)
        self.step = self.entries * self.lanes  # from one block to the next

    @cached_property
    def value(self) -> Array:
        return zeros(self.blocks * self.step, self.dtype)

    @cached_property
    def bar(self) -> Array:
        return zeros(self.blocks * self.step, self.dtype)

    @cached_property
    def rows(self) -> Array:
        return zeros(self.blocks * self.step, self.dtype)

    @cached_property
    def row_steps(self) -> tuple[int, ...]:
        """Offsets of the samples of a block in `rows`."""
        return tuple(range(0, self.step, self.entries))

    @cached_property
    def lane_steps(self) -> tuple[int, ...]:
        """Offsets of as many features in `value`."""
        return tuple(range(0, self.lanes**2, self.lanes))

    def planes(self, blocks: int, *, bar: bool = False) -> Array:
        """Return the images of the first blocks, or their cotangents: (blocks channels, height, width lanes)."""
        channels, height, width = self.shape
        every = (self.bar if bar else self.value).reshape(-1, height, width * self.lanes)
        return every[: blocks * channels]
