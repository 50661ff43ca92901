"""Images (N, C, H, W) into blocks of `l0ref.fast.blocks`, with a border of zeros around each, and back.

Why it is fast: a row of pixels of as many images as a vector has lanes is transposed inside the registers, so that
laying out a batch costs little more than copying it. Without a border all pixels of an image count as one row.
"""

from __future__ import annotations

from numba import prange

from l0ref.fast.lanes import load, shift, store, transposed
from l0ref.fast.policy import kernel, parallel_kernel


@kernel
def image_rows(x, blocks, rows, width, image_steps, lane_steps, sizes, block, count):  # type: ignore[no-untyped-def]
    """Rows of pixels of one block of images; arguments as in `to_blocks`."""
    lanes, first = len(lane_steps), block * len(lane_steps)
    for r in range(rows.shape[1]):
        source, target = rows[0, r] + first * sizes[0], rows[1, r] + block * sizes[1]
        if width >= lanes and first + lanes <= count:
            for w in range(0, width, lanes):
                at = min(w, width - lanes)
                part = transposed(load(x, shift(image_steps, source + at)))
                store(blocks, shift(lane_steps, target + at * lanes), (0,), part)
        else:
            for w in range(width):
                for k in range(lanes):
                    inside = first + k < count
                    blocks[target + w * lanes + k] = x[source + k * sizes[0] + w] if inside else x.dtype.type(0)


@kernel
def pixel_rows(blocks, x, rows, width, image_steps, lane_steps, sizes, block, count):  # type: ignore[no-untyped-def]
    """The way back of `image_rows`."""
    lanes, first = len(lane_steps), block * len(lane_steps)
    for r in range(rows.shape[1]):
        target, source = rows[0, r] + first * sizes[0], rows[1, r] + block * sizes[1]
        if width >= lanes and first + lanes <= count:
            for w in range(0, width, lanes):
                at = min(w, width - lanes)
                part = transposed(load(blocks, shift(lane_steps, source + at * lanes)))
                store(x, shift(image_steps, target + at), (0,), part)
        else:
            for k in range(min(lanes, count - first)):
                for w in range(width):
                    x[target + k * sizes[0] + w] = blocks[source + w * lanes + k]


@parallel_kernel
def to_blocks(x, blocks, rows, width, image_steps, lane_steps, sizes, count, threads):  # type: ignore[no-untyped-def]
    """Fill the inside of blocks from `count` images.

    rows         where each row of pixels begins in the first image and in the first block, (2, rows)
    width        pixels of a row
    image_steps  offsets of the images of a block       lane_steps  offsets of as many pixels in it
    sizes        numbers of an image and of a block
    """
    number = (count + len(lane_steps) - 1) // len(lane_steps)
    for n in prange(threads):
        for block in range(n * number // threads, (n + 1) * number // threads):
            image_rows(x, blocks, rows, width, image_steps, lane_steps, sizes, block, count)


@parallel_kernel
def to_images(blocks, x, rows, width, image_steps, lane_steps, sizes, count, threads):  # type: ignore[no-untyped-def]
    """Fill `count` images from the inside of blocks; arguments as in `to_blocks`."""
    number = (count + len(lane_steps) - 1) // len(lane_steps)
    for n in prange(threads):
        for block in range(n * number // threads, (n + 1) * number // threads):
            pixel_rows(blocks, x, rows, width, image_steps, lane_steps, sizes, block, count)
