"""Layout of the activations of a chain: in blocks of as many samples as a vector has lanes."""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from l0ref.fast.machine.scratch import zeros
from l0ref.fast.machine.target import lanes
from l0ref.ops.windows import Pair
from l0ref.validate import Array

Shape = tuple[int, int, int]


class Activation:
    """The array between two stages, for a number of blocks of samples.

    shape   of one sample: (channels, height, width)
    frame   rows of zeros above and below each image, columns on either side; writers of images do not touch them
    framed  the shape with its frame
    value   (blocks, *framed, lanes), flat
    bar     its cotangent, of the same shape
    rows    the same numbers, one sample after another: (blocks lanes, entries), flat
    is_data whether these are samples, whose cotangent is not needed; they are fixed

    Each array is made on first use and begins with a line of the cache. Until then a frame may grow.
    """

    def __init__(self, shape: Shape, *, blocks: int, dtype: Any, frame: Pair = (0, 0), is_data: bool = False) -> None:
        self.shape, self.blocks, self.dtype, self.frame, self.is_data = shape, blocks, dtype, frame, is_data
        self.lanes = lanes(dtype)
        self.entries = prod(shape)
        self.is_fixed = is_data

    @property
    def framed(self) -> Shape:
        (channels, height, width), (top, left) = self.shape, self.frame
        return channels, height + 2 * top, width + 2 * left

    @property
    def step(self) -> int:
        """Numbers from one block to the next."""
        return prod(self.framed) * self.lanes

    def like(self, shape: Shape | None = None, *, frame: Pair = (0, 0)) -> Activation:
        """Return another activation for as many samples, by default of the same shape."""
        return Activation(shape or self.shape, blocks=self.blocks, dtype=self.dtype, frame=frame)

    def geometry(self, *others: Activation) -> tuple[int, ...]:
        """Return rows of an image, numbers of a row; and for each: numbers of a plane, of a row, offset of the first.

        A flat tuple, the only kind that kernels on several threads accept. Without any frames, an image is one row.
        """
        (_, height, width), every = self.shape, (self, *others)
        rows, numbers = height, width * self.lanes
        if all(a.frame == (0, 0) for a in every):
            rows, numbers = 1, height * width * self.lanes
        places: list[int] = []
        for a in every:
            (_, tall, wide), (top, left) = a.framed, a.frame
            places += [tall * wide * a.lanes, wide * a.lanes, (top * wide + left) * a.lanes]
        return (rows, numbers, *places)

    def framed_by(self, frame: Pair) -> Activation:
        """Return this with a frame at least this wide; if it is fixed, another one, to be filled from this."""
        wide = max(self.frame[0], frame[0]), max(self.frame[1], frame[1])
        if self.is_fixed and wide != self.frame:
            return self.like(frame=frame)
        self.frame = wide
        return self

    def fix(self) -> None:
        """Fix the frame at its present size."""
        self.is_fixed = True

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
        """Return the framed images of the first blocks, or cotangents: (blocks channels, height, width lanes)."""
        channels, height, width = self.framed
        every = (self.bar if bar else self.value).reshape(-1, height, width * self.lanes)
        return every[: blocks * channels]

    def inside(self, blocks: int, *, bar: bool = False) -> Array:
        """Return the same without frames: a view."""
        (_, height, width), (top, left), n = self.shape, self.frame, self.lanes
        return self.planes(blocks, bar=bar)[:, top : top + height, left * n : (left + width) * n]

    def pixels(self, inset: Pair = (0, 0)) -> Any:
        """Return the offset of every pixel of the first block, from `inset` within the frame on: (C, rows, columns)."""
        every = np.arange(prod(self.framed)).reshape(self.framed) * self.lanes
        return every[:, inset[0] : every.shape[1] - inset[0], inset[1] : every.shape[2] - inset[1]]


class Branch(Activation):
    """The same values for another stage, with its own cotangent; or as features (entries, 1, 1), with the same one."""

    def __init__(self, origin: Activation, *, is_flat: bool = False) -> None:
        self.origin, self.is_flat = origin, is_flat
        self.shape = (origin.entries, 1, 1) if is_flat else origin.shape

    def __getattr__(self, name: str) -> Any:
        """All other attributes are those of the origin."""
        return getattr(self.__dict__["origin"], name)

    def framed_by(self, frame: Pair) -> Activation:
        """Return this with a frame at least this wide, or another activation, as the origin does."""
        found = self.origin.framed_by(frame)
        return self if found is self.origin else found

    def fix(self) -> None:
        """Fix the frame at its present size."""
        self.origin.fix()

    @property
    def value(self) -> Array:
        return self.origin.value

    @property
    def rows(self) -> Array:
        return self.origin.rows

    @cached_property
    def bar(self) -> Array:
        return self.origin.bar if self.is_flat else zeros(self.blocks * self.step, self.dtype)
