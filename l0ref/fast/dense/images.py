"""Images (N, C, H, W) into blocks of `products.layout`, with a frame of zeros around each, and back.

Why it is fast: a row of pixels of as many images as a vector has lanes is transposed inside the registers, so that
laying out a batch costs little more than copying it. Without a frame all pixels of an image form one row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
from numba import prange

from l0ref.fast.machine.lanes import load, shift, store, transposed
from l0ref.fast.machine.policy import MOVE, flat, kernel, parallel_kernel, threads_for
from l0ref.fast.machine.scratch import scratch
from l0ref.fast.machine.tables import table
from l0ref.fast.machine.target import lanes
from l0ref.ops.windows import Pair
from l0ref.validate import Array


@kernel
def image_rows(x, blocks, rows, width, image_steps, lane_steps, sizes, block, count):
    """Rows of pixels of one block of images; arguments as in `to_blocks`."""
    (image_size, block_size), lanes, first = sizes, len(lane_steps), block * len(lane_steps)
    for r in range(rows.shape[1]):
        source, target = rows[0, r] + first * image_size, rows[1, r] + block * block_size
        if width >= lanes and first + lanes <= count:
            for w in range(0, width, lanes):
                at = min(w, width - lanes)
                part = transposed(load(x, shift(image_steps, source + at)))
                store(blocks, shift(lane_steps, target + at * lanes), (0,), part)
        else:
            for w in range(width):
                for k in range(lanes):
                    inside = first + k < count
                    blocks[target + w * lanes + k] = x[source + k * image_size + w] if inside else x.dtype.type(0)


@kernel
def pixel_rows(blocks, x, rows, width, image_steps, lane_steps, sizes, block, count):
    """The inverse of `image_rows`."""
    (image_size, block_size), lanes, first = sizes, len(lane_steps), block * len(lane_steps)
    for r in range(rows.shape[1]):
        target, source = rows[0, r] + first * image_size, rows[1, r] + block * block_size
        if width >= lanes and first + lanes <= count:
            for w in range(0, width, lanes):
                at = min(w, width - lanes)
                part = transposed(load(blocks, shift(lane_steps, source + at * lanes)))
                store(x, shift(image_steps, target + at), (0,), part)
        else:
            for k in range(min(lanes, count - first)):
                for w in range(width):
                    x[target + k * image_size + w] = blocks[source + w * lanes + k]


@parallel_kernel
def to_blocks(x, blocks, rows, width, image_steps, lane_steps, sizes, count, threads):
    """Fill the inside of blocks from `count` images.

    rows         start of each row of pixels in the first image and in the first block, (2, rows)
    width        pixels of a row
    image_steps  offsets of the images of a block       lane_steps  offsets of as many pixels in it
    sizes        numbers of an image and of a block
    """
    number = (count + len(lane_steps) - 1) // len(lane_steps)
    for n in prange(threads):
        for block in range(n * number // threads, (n + 1) * number // threads):
            image_rows(x, blocks, rows, width, image_steps, lane_steps, sizes, block, count)


@parallel_kernel
def to_images(blocks, x, rows, width, image_steps, lane_steps, sizes, count, threads):
    """Fill `count` images from the inside of blocks; arguments as in `to_blocks`."""
    number = (count + len(lane_steps) - 1) // len(lane_steps)
    for n in prange(threads):
        for block in range(n * number // threads, (n + 1) * number // threads):
            pixel_rows(blocks, x, rows, width, image_steps, lane_steps, sizes, block, count)


class Layout:
    """The layout of the pixels of images (C, H, W) in blocks, each image inside a frame of zeros.

    border  rows above and below, columns on either side
    beyond  further rows below, further columns on the right
    """

    def __init__(
        self, shape: tuple[int, ...], border: Pair = (0, 0), beyond: Pair = (0, 0), *, count: int, dtype: Any
    ) -> None:
        self.count, self.dtype, self.lanes = count, np.dtype(dtype), lanes(dtype)
        (channels, height, width), (top, left) = shape, border
        self.inside = channels, height, width
        self.image, self.has_frame = prod(shape), border != (0, 0) or beyond != (0, 0)
        self.framed = (channels, height + 2 * top + beyond[0], width + 2 * left + beyond[1])
        self.step = prod(self.framed) * self.lanes
        self.blocks = -(-count // self.lanes)
        if self.has_frame:
            inside = self.pixels()[:, top : top + height, left : left + width]
            self.rows, self.width = table(np.arange(0, self.image, max(width, 1)), inside[:, :, :1].ravel()), width
        else:
            self.rows, self.width = table([0], [0]), self.image
        image_steps = tuple(self.image * k for k in range(self.lanes))
        lane_steps = tuple(range(0, self.lanes**2, self.lanes))
        self.steps = (image_steps, lane_steps, np.array([self.image, self.step]))

    def pixels(self) -> Any:
        """Return the place of every pixel of the first block, frames included: (C, rows, columns)."""
        return np.arange(prod(self.framed)).reshape(self.framed) * self.lanes

    @contextmanager
    def room(self) -> Iterator[Array]:
        """Yield memory for the blocks; its contents are undefined."""
        with scratch(self.blocks * self.step, self.dtype) as blocks:
            yield blocks

    @contextmanager
    def laid(self, x: Array) -> Iterator[Array]:
        """Images (N, C, H, W) in blocks, on borrowed memory."""
        with self.room() as blocks:
            if self.has_frame:
                blocks[...] = 0
            threads = threads_for(MOVE * x.size)
            to_blocks(flat(x), blocks, self.rows, self.width, *self.steps, self.count, threads)
            yield blocks

    def back(self, blocks: Array) -> Array:
        """Blocks as images (N, C, H, W) without their frames."""
        channels, height, width = self.inside
        x = np.empty((self.count, channels, height, width), self.dtype)
        to_images(blocks, x.reshape(-1), self.rows, self.width, *self.steps, self.count, threads_for(MOVE * x.size))
        return x
