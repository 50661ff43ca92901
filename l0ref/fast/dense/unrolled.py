"""Convolution by columns: images are unrolled into columns, and one matrix product computes the outputs.

    y[f, (n p q)] = sum_(c r s) k[f, (c r s)] col[(c r s), (n p q)]

col[(c r s), (n p q)] is the pixel under place (r, s) of window (p, q) of image n. A kernel copies it, run by run along
q; `products.matmul` takes the products. The cotangent of k is a product with the same columns, and the cotangent of x
a product that gives columns, which a second kernel adds back onto the pixels: the transpose of the copy.

Why it is fast: only a few images at a time are unrolled, so that their columns are still in the processor's cache when
they are read. Unrolled all at once, 128 images of LeNet-5 would take 16 MB for the second convolution alone, and every
step would wait for memory. One buffer serves all blocks of a call; unrolling once more in the backward pass is cheaper
than keeping the columns. The padding is a border of zeros around a copy of the images, made once.

Axis letters as in `l0ref.ops.windows`; g is a group of channels and filters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from l0ref.autodiff.op import Saved
from l0ref.fast.machine.policy import kernel
from l0ref.fast.products.matmul import product
from l0ref.ops.windows import Pair, Windows
from l0ref.validate import Array

# Entries of the columns and outputs of one block of images: a megabyte of float32, the size of an L2 cache.
BLOCK = 2**18


@kernel
def unroll(images, stride, dilation, columns):
    """columns[c,r,s,n,p,q] = images[n, c, p stride + r dilation, q stride + s dilation]."""
    (channels, rows, cols, count, height, width), (down, right) = columns.shape, stride
    taps_down, taps_right = dilation
    for c in range(channels):
        for r in range(rows):
            for s in range(cols):
                left = s * taps_right
                for n in range(count):
                    for p in range(height):
                        h = p * down + r * taps_down
                        run = columns[c, r, s, n, p]
                        if right == 1:
                            pixels = images[n, c, h, left : left + width]
                            for q in range(width):
                                run[q] = pixels[q]
                        else:
                            row = images[n, c, h]
                            for q in range(width):
                                run[q] = row[left + q * right]


@kernel
def roll_up(columns, stride, dilation, images):
    """images[n,c,h,w] = sum of columns[c,r,s,n,p,q] over all places that lie on pixel (h, w): transpose of `unroll`."""
    (channels, rows, cols, count, height, width), (down, right) = columns.shape, stride
    taps_down, taps_right = dilation
    images[...] = 0
    for c in range(channels):
        for r in range(rows):
            for s in range(cols):
                left = s * taps_right
                for n in range(count):
                    for p in range(height):
                        h = p * down + r * taps_down
                        run = columns[c, r, s, n, p]
                        if right == 1:
                            pixels = images[n, c, h, left : left + width]
                            for q in range(width):
                                pixels[q] += run[q]
                        else:
                            row = images[n, c, h]
                            for q in range(width):
                                row[left + q * right] += run[q]


@dataclass(frozen=True)
class Blocks:
    """One convolution, taken a few images at a time.

    x, k  shapes of the images (N, C, H, W) and of the kernels (F, C/G, R, S)
    """

    x: tuple[int, ...]
    k: tuple[int, ...]
    windows: Windows
    groups: int

    @property
    def grid(self) -> Pair:
        """P and Q: the numbers of windows below and beside each other."""
        height, width = (self.x[2 + i] + 2 * self.windows.padding[i] - self.windows.span[i] for i in (0, 1))
        return height // self.windows.stride[0] + 1, width // self.windows.stride[1] + 1

    @property
    def most(self) -> int:
        """Images in a block: at least one, and no more than keep columns and outputs in the cache."""
        each = prod(self.grid) * (self.x[1] * prod(self.k[2:]) + self.k[0])
        return min(max(1, BLOCK // each), self.x[0])

    def __iter__(self) -> Iterator[slice]:
        """The blocks, as slices of the batch."""
        return (slice(i, min(i + self.most, self.x[0])) for i in range(0, self.x[0], self.most or 1))

    def memory(self, dtype: Any) -> tuple[Array, Array]:
        """Room for one block: its images inside a border of zeros, and its columns."""
        (top, left), (_, c, h, w) = self.windows.padding, self.x
        size = self.most * c * prod(self.k[2:]) * prod(self.grid)
        return np.zeros((self.most, c, h + 2 * top, w + 2 * left), dtype), np.empty(size, dtype)

    def inside(self, padded: Array) -> Array:
        """The images without their border: a view."""
        (top, left), (h, w) = self.windows.padding, self.x[2:]
        return padded[:, :, top : top + h, left : left + w]

    def columns(self, memory: Array, n: int) -> Array:
        """Room for the columns of n images: crsnpq, without gaps."""
        shape = (self.x[1], *self.k[2:], n, *self.grid)
        return memory[: prod(shape)].reshape(shape)

    def unrolled(self, memory: tuple[Array, Array], images: Array) -> Array:
        """The columns of some images: a matrix (crs)(npq) for each group."""
        padded, columns = memory[0][: len(images)], self.columns(memory[1], len(images))
        self.inside(padded)[...] = images
        unroll(padded, self.windows.stride, self.windows.dilation, columns)
        return self.by_group(columns, prod(self.k[1:]))

    def by_group(self, a: Array, rows: int) -> Array:
        """One matrix of `rows` rows for each group."""
        matrices: Array = a.reshape(self.groups, rows, a.size // (self.groups * rows))
        return matrices


def conv2d_forward(
    x: Array, k: Array, b: Array | None = None, *, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> tuple[Array, Saved]:
    """Value of `l0ref.ops.convolution.Conv2d`."""
    blocks = Blocks(x.shape, k.shape, Windows(k.shape[2:], stride, padding, dilation), groups)
    memory = blocks.memory(x.dtype)
    filters = blocks.by_group(k, len(k) // groups)  # gf(crs)
    bias = np.zeros(len(k), x.dtype) if b is None else b
    y = np.empty((len(x), len(k), *blocks.grid), x.dtype)
    for block in blocks:
        z = product(filters, blocks.unrolled(memory, x[block]))  # gf(npq)
        part = y[block].swapaxes(0, 1)  # fnpq
        np.add(z.reshape(part.shape), bias[:, None, None, None], out=part)
    return y, (x, k, b is not None, blocks)


def conv2d_vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
    """Cotangents of `l0ref.ops.convolution.Conv2d`."""
    blocks: Blocks
    x, k, has_bias, blocks = saved
    rows = len(k) // blocks.groups

    def z_bar(block: slice) -> Array:
        return blocks.by_group(y_bar[block].swapaxes(0, 1), rows)  # gf(npq)

    def x_bar() -> Array:
        filters = blocks.by_group(k, rows).swapaxes(1, 2)  # g(crs)f
        padded, memory = blocks.memory(x.dtype)
        out = np.empty(x.shape, x.dtype)
        for block in blocks:
            images, columns = padded[: len(x[block])], blocks.columns(memory, len(x[block]))
            product(filters, z_bar(block), out=blocks.by_group(columns, filters.shape[1]))
            roll_up(columns, blocks.windows.stride, blocks.windows.dilation, images)
            out[block] = blocks.inside(images)
        return out

    def k_bar() -> Array:
        memory = blocks.memory(x.dtype)
        out = np.zeros((blocks.groups, k[0].size, rows), x.dtype)  # g(crs)f: faster on the long side
        for block in blocks:
            out += product(blocks.unrolled(memory, x[block]), z_bar(block).swapaxes(1, 2))
        filters_bar: Array = out.swapaxes(1, 2).reshape(k.shape)
        return filters_bar

    cotangents = (x_bar, k_bar, lambda: y_bar.sum(axis=(0, 2, 3)))
    return cotangents if has_bias else cotangents[:2]
