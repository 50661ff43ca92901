"""Compiled twin of `Conv2d`: direct sums of products over blocks of images; nothing is unrolled.

Images are laid out in blocks (`images`), the sums taken by the kernels of `contraction`, the result laid back. The
layouts cost a read and a write of every pixel; a 3 x 3 convolution of 64 channels costs 576 multiply-adds for each.
A few images, which would leave most lanes of a block empty, and more than one group of channels are left to `unrolled`.

Why it is fast: see `contraction`. The layouts live in memory that is used again at the next call, and are made once
more in the backward pass, which takes less time than asking for memory to keep them in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf, prod
from typing import Any

import numpy as np

from l0ref.autodiff.op import Saved
from l0ref.fast import images, unrolled
from l0ref.fast.chain.places import Table, table
from l0ref.fast.chain.products import contract, correlate, scatter, tile_room
from l0ref.fast.policy import threads_for
from l0ref.fast.scratch import scratch
from l0ref.fast.target import lanes
from l0ref.ops.windows import Pair, Windows
from l0ref.validate import Array

WASTE = 1.3  # pixels for each window up to which gathering x_bar is faster than scattering it


class Layout:
    """Where the pixels of images (C, H, W) stand in blocks with a border."""

    def __init__(self, shape: tuple[int, int, int], border: Pair, *, count: int, dtype: Any) -> None:
        self.count, self.dtype, self.lanes = count, np.dtype(dtype), lanes(dtype)
        (channels, height, width), (top, left) = shape, border
        self.border, self.image = border, prod(shape)
        self.framed = (channels, height + 2 * top, width + 2 * left)
        self.step = prod(self.framed) * self.lanes
        self.blocks = -(-count // self.lanes)
        self.pixels = np.arange(prod(self.framed)).reshape(self.framed) * self.lanes
        inside = self.pixels[:, top : top + height, left : left + width]
        if border == (0, 0):
            self.rows, self.width = table([0], [0]), self.image
        else:
            self.rows, self.width = table(np.arange(0, self.image, width), inside[:, :, 0].ravel()), width
        image_steps = tuple(range(0, self.image * self.lanes, self.image))
        lane_steps = tuple(range(0, self.lanes**2, self.lanes))
        self.steps = (image_steps, lane_steps, np.array([self.image, self.step]))

    def lay(self, x: Array, blocks: Array) -> None:
        """Images (N, C, H, W) into blocks whose border is zero."""
        flat, threads = np.ascontiguousarray(x).reshape(-1), threads_for(10 * x.size)
        images.to_blocks(flat, blocks, self.rows, self.width, *self.steps, self.count, threads)

    @contextmanager
    def laid(self, x: Array) -> Iterator[Array]:
        """Images (N, C, H, W) in blocks, on borrowed memory."""
        with scratch(self.blocks * self.step, self.dtype) as blocks:
            if self.border != (0, 0):
                blocks[...] = 0
            self.lay(x, blocks)
            yield blocks

    def back(self, blocks: Array, x: Array) -> None:
        """Blocks into images (N, C, H, W)."""
        threads = threads_for(10 * x.size)
        images.to_images(blocks, x.reshape(-1), self.rows, self.width, *self.steps, self.count, threads)


class Direct:
    """The tables of one convolution; the three products use them."""

    def __init__(self, x: tuple[int, ...], k: tuple[int, ...], windows: Windows, dtype: Any) -> None:
        self.windows, self.dtype = windows, dtype
        self.x = Layout((x[1], x[2], x[3]), windows.padding, count=x[0], dtype=dtype)
        filters, self.taps_number = k[0], prod(k[1:])
        down, beside = windows.stride
        rows, cols = ((self.x.framed[1 + i] - windows.span[i]) // windows.stride[i] + 1 for i in (0, 1))
        self.y = Layout((filters, rows, cols), (0, 0), count=x[0], dtype=dtype)
        self.first = self.x.pixels[0, : rows * down : down, : cols * beside : beside]  # of each window
        r, s = (np.arange(n) * d for n, d in zip(windows.size, windows.dilation, strict=True))
        self.window = self.x.pixels[:, r[:, None], s]  # the first one, over all channels
        self.out = np.arange(rows * cols) * self.y.lanes
        self.plane = np.arange(filters) * rows * cols * self.y.lanes
        self.filters, self.taps = np.arange(filters), np.arange(self.taps_number)

    def run(self, *, back: bool = False) -> dict[str, Any]:
        """Options of the products: blocks, lanes, and the way from one block to the next in x and y, or y and x."""
        steps = (self.y.step, self.x.step) if back else (self.x.step, self.y.step)
        return {"steps": np.array(steps), "blocks": self.x.blocks, "lanes": self.x.lanes}

    def forward_tables(self) -> tuple[Table, Table, Table]:
        """Columns, rows and taps of y from x and k."""
        rows = table(self.filters * self.taps_number, self.plane, self.filters)
        return table(self.first.ravel(), self.out), rows, table(self.window, self.taps.reshape(self.window.shape))

    def x_tables(self) -> tuple[Table, Table, Table]:
        """Columns, rows and taps of x_bar from y_bar and k."""
        rows = table(self.taps.reshape(self.window.shape), self.window, 0)
        return table(self.out, self.first.ravel()), rows, table(self.plane, self.filters * self.taps_number)


def conv2d_forward(
    x: Array, k: Array, b: Array | None = None, *, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Any:
    """Value of `l0ref.ops.convolution.Conv2d`."""
    if groups != 1 or 2 * len(x) < lanes(x.dtype):
        y, saved = unrolled.conv2d_forward(x, k, b, stride=stride, padding=padding, dilation=dilation, groups=groups)
        return y, (unrolled.conv2d_vjp, saved)
    direct = Direct(x.shape, k.shape, Windows((k.shape[2], k.shape[3]), stride, padding, dilation), x.dtype)
    layout = direct.y
    bias = np.zeros(len(k), x.dtype) if b is None else np.ascontiguousarray(b)
    y = np.empty((len(x), *layout.framed), x.dtype)
    floor = np.array([-inf], x.dtype)
    with direct.x.laid(x) as x_blocks, scratch(layout.blocks * layout.step, x.dtype) as y_blocks:
        weights = np.ascontiguousarray(k).reshape(-1)
        contract(x_blocks, weights, bias, floor, y_blocks, *direct.forward_tables(), **direct.run())
        layout.back(y_blocks, y)
    return y, (_vjp, (x, k, b is not None, direct))


def conv2d_vjp(saved: Saved, y_bar: Array) -> Any:
    """Cotangents of `l0ref.ops.convolution.Conv2d`."""
    vjp, rest = saved
    return vjp(rest, y_bar)


def _vjp(saved: Saved, y_bar: Array) -> tuple[Any, ...]:
    direct: Direct
    x, k, has_bias, direct = saved
    zero = np.zeros(1, x.dtype)

    def x_bar() -> Array:
        if gathers(x.shape, y_bar.shape, direct.windows):
            return _gathered(k, y_bar, x.shape, direct.windows)
        out, layout = np.empty(x.shape, x.dtype), direct.x
        with direct.y.laid(y_bar) as y_blocks, scratch(layout.blocks * layout.step, x.dtype) as x_blocks:
            x_blocks[...] = 0
            weights = np.ascontiguousarray(k).reshape(-1)
            scatter(y_blocks, weights, zero, x_blocks, *direct.x_tables(), **direct.run(back=True))
            layout.back(x_blocks, out)
        return out

    def k_bar() -> Array:
        out = np.empty((len(k), direct.taps_number), x.dtype)
        tables = table(direct.first.ravel(), direct.out), table(direct.plane, 0), direct.window.ravel()
        room = scratch(tile_room(*out.shape), x.dtype)
        with direct.x.laid(x) as x_blocks, direct.y.laid(y_bar) as y_blocks, room as sums:
            correlate(x_blocks, y_blocks, zero, out, *tables, **direct.run(), sums=sums)
        return out.reshape(k.shape)

    cotangents = (x_bar, k_bar, lambda: y_bar.sum(axis=(0, 2, 3)))
    return cotangents if has_bias else cotangents[:2]


def gathers(x: tuple[int, ...], y: tuple[int, ...], windows: Windows) -> bool:
    """Whether x_bar is better gathered, pixel by pixel, from the windows that reach it, than scattered.

    Gathering writes each pixel once, but goes through windows that reach beyond y, where there is nothing.
    """
    inside = all(windows.padding[i] < windows.span[i] for i in (0, 1))
    return inside and windows.stride == (1, 1) and prod(x[2:]) <= WASTE * prod(y[2:])


def _gathered(k: Array, y_bar: Array, shape: tuple[int, ...], windows: Windows) -> Array:
    """x_bar[n,c,h,w] = sum_frs k[f,c,r,s] y_bar[n, f, h + top - r dilation, ...]: a convolution of y_bar in a frame."""
    (n, channels, height, width), (filters, _, rows, cols) = shape, k.shape
    border = tuple(windows.span[i] - 1 - windows.padding[i] for i in (0, 1))
    framed = Layout(y_bar.shape[1:], border, count=n, dtype=k.dtype)  # type: ignore[arg-type]
    plain = Layout((channels, height, width), (0, 0), count=n, dtype=k.dtype)
    c, f, size = np.arange(channels), np.arange(filters)[:, None, None], rows * cols
    r, s = np.arange(rows)[:, None], np.arange(cols)
    down, beside = (rows - 1 - r) * windows.dilation[0], (cols - 1 - s) * windows.dilation[1]
    taps = table(framed.pixels[f, down, beside], (f * channels * rows + r) * cols + s)
    columns = table(framed.pixels[0, :height, :width].ravel(), plain.pixels[0].ravel())
    row = table(c * size, c * height * width * plain.lanes, 0)
    run: dict[str, Any] = {"steps": np.array([framed.step, plain.step]), "blocks": plain.blocks, "lanes": plain.lanes}
    out = np.empty(shape, k.dtype)
    free = np.zeros(1, k.dtype), np.array([-inf], k.dtype)
    with framed.laid(y_bar) as y_blocks, scratch(plain.blocks * plain.step, k.dtype) as x_blocks:
        contract(y_blocks, np.ascontiguousarray(k).reshape(-1), *free, x_blocks, columns, row, taps, **run)
        plain.back(x_blocks, out)
    return out
