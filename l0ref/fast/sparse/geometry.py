"""Geometry of a convolution with a sparse kernel: the tables that `sparse.planes` reads.

Axis letters as in `l0ref.ops.windows`. A and B are the rows and columns of a plane of x: P and Q plus the
reach of a window beyond its first pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.fast.machine.policy import LOADED, MOVE
from l0ref.fast.machine.tables import Table
from l0ref.ops.windows import Pair, Windows
from l0ref.sparse.checks import INT32_MAX
from l0ref.sparse.convolution import Shape, weight_positions
from l0ref.sparse.pattern import Pattern

Grid = tuple[int, int, int, int, int, int]
KEPT = 32  # convolutions whose tables are kept: those of a network's layers


@dataclass(frozen=True)
class Frame:
    """The layout of the pixels of images (C, H, W) in planes.

    Pixel (h, w) is at ((h + border) // stride, the same with w) of the plane of its remainders, if that is inside
    the grid. Each channel has prod(stride) planes.

        grid   rows and columns of a plane that hold pixels
        pitch  pixels from one row of a plane to the next
        plane  pixels from one plane to the next
    """

    image: Shape
    stride: Pair
    border: Pair
    grid: Pair
    pitch: int
    plane: int

    @property
    def planes(self) -> int:
        """Number of planes."""
        return self.image[0] * prod(self.stride)

    @property
    def same(self) -> bool:
        """Whether the planes equal the images."""
        whole = (self.stride, self.border, self.grid) == ((1, 1), (0, 0), self.image[1:])
        return whole and (self.pitch, self.plane) == (self.grid[1], prod(self.grid))

    def runs(self, unit: int) -> Table:
        """Return the start of each row of pixels in an image and in the planes, and its length, (3, R).

        unit  numbers of a pixel
        """
        pixels = np.array([[0], [0], [prod(self.image)]]) if self.same else self._runs()
        table: Table = pixels * np.array([[unit], [unit], [1]])
        return table

    def sizes(self, unit: int, lanes: int) -> tuple[int, ...]:
        """Return the sizes that the kernels read."""
        size = prod(self.image)
        whole = int(self.runs(1)[2].sum()) == size
        return size, unit, self.stride[1], int(self.same and unit > 1), int(whole), lanes

    def _runs(self) -> Table:
        (down, right), (top, left), (channels, height, width) = self.stride, self.border, self.image
        parts = []
        for a, b in np.ndindex(down, right):
            rows = inside(a, down, top, height, self.grid[0])
            columns = inside(b, right, left, width, self.grid[1])
            c, i = (axis.ravel() for axis in np.meshgrid(np.arange(channels), np.array(rows, int), indexing="ij"))
            image = (c * height + i * down + a - top) * width + columns.start * right + b - left
            plane = ((c * down + a) * right + b) * self.plane + i * self.pitch + columns.start
            parts.append(np.stack([image, plane, np.full(c.size, len(columns))]))
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, eq=False)
class Pass:
    """One product: planes of `source`, weights at `places` of the rows `indptr`, planes of `target`.

    unit   numbers of a pixel: 1, or the lanes of a vector
    grid   of vectors; see `sparse.grid`
    order  positions of the weights in the pattern; None: in its order
    """

    source: Frame
    target: Frame
    indptr: NDArray[Any]
    places: NDArray[Any]
    unit: int
    lanes: int
    grid: Grid
    order: NDArray[Any] | None = None

    @cached_property
    def tables(self) -> tuple[Table, ...]:
        """Tables of both frames that the kernels read: runs, and the steps of a block."""
        number = np.arange(self.lanes)
        rows = (prod(frame.image) * number for frame in (self.source, self.target))
        return self.source.runs(self.unit), self.target.runs(self.unit), *rows, self.lanes * number

    @cached_property
    def room(self) -> tuple[int, int, int]:
        """Numbers of the planes of both frames, of one unit, and of its images as a block, in whole vectors."""
        vector = self.lanes  # one more after the source: the last vector of a row of windows may reach beyond it
        source = self.source.planes * self.source.plane * self.unit + vector
        block = max(prod(self.source.image), prod(self.target.image)) * self.unit
        sizes = source, self.target.planes * self.target.plane * self.unit, block
        first, second, third = (-(-size // vector) * vector for size in sizes)
        return first, second, third

    @cached_property
    def _layout(self) -> tuple[tuple[int, ...], ...]:
        frames = self.source.sizes(self.unit, self.lanes), self.target.sizes(self.unit, self.lanes)
        return *frames, self.grid, (self.unit, self.target.plane * self.unit, self.lanes)

    def layout(self, *memory: int) -> tuple[int, ...]:
        """Return all sizes as the kernels unpack them."""
        x_sizes, y_sizes, grid, steps = self._layout
        return *x_sizes, *y_sizes, *memory, *grid, *steps

    def units(self, images: int) -> int:
        """Number of units in a number of images."""
        return -(-images // self.unit)

    def work(self, images: int) -> int:
        """Cost in multiply-adds, the layout of the planes of both frames included."""
        vectors = LOADED * self.places.size * self.grid[0] * self.grid[1]
        numbers = MOVE * (prod(self.source.image) + prod(self.target.image))
        return vectors * self.lanes * self.units(images) + numbers * images


@dataclass(frozen=True)
class Geometry:
    """A convolution of images (C, H, W) by a kernel (F, C/groups, R, S) with a pattern."""

    pattern: Pattern
    kernel: Shape
    windows: Windows
    image: Shape
    groups: int
    lanes: int

    @property
    def reach(self) -> Pair:
        """Rows and columns of planes of x from the first pixel of a window to the last."""
        (r, s), windows = self.kernel[2:], self.windows
        return (
            (r - 1) * windows.dilation[0] // windows.stride[0],
            (s - 1) * windows.dilation[1] // windows.stride[1],
        )

    @property
    def windows_on(self) -> Pair:
        """Rows P and columns Q of windows."""
        span, stride, padding = self.windows.span, self.windows.stride, self.windows.padding
        p, q = ((self.image[1 + i] + 2 * padding[i] - span[i]) // stride[i] + 1 for i in (0, 1))
        return p, q

    def forward(self, unit: int) -> Pass:
        """The pass that computes y from x and the weights."""
        (p, q), (a, b) = self.windows_on, self._grid()
        source = Frame(self.image, self.windows.stride, self.windows.padding, (a, b), b, a * b)
        _, plane, down, right = self._entries()
        places = plane * a * b + down * b + right
        target, rows = self._target((self.kernel[0], p, q), ((1, 1), (0, 0)), (p, q), b, unit)
        return Pass(source, target, self.pattern.indptr, narrow(places), unit, self.lanes, rows)

    def backward(self, unit: int) -> Pass:
        """The pass that computes x_bar from y_bar: the row of a plane of x holds the weights that reach it."""
        (p, q), (a, b), (tall, wide) = self.windows_on, self._grid(), self.reach
        pitch = q + 2 * wide
        plane_of_y = (p + 2 * tall) * pitch
        source = Frame((self.kernel[0], p, q), (1, 1), (tall, wide), (p + 2 * tall, pitch), pitch, plane_of_y)
        f, plane, down, right = self._entries()
        order = np.argsort(plane, kind="stable")
        planes = self.image[0] * prod(self.windows.stride)
        indptr = np.concatenate([[0], np.bincount(plane, minlength=planes).cumsum()])
        places = (f * plane_of_y + (tall - down) * pitch + wide - right)[order]
        style = self.windows.stride, self.windows.padding
        target, rows = self._target(self.image, style, (a, b), pitch, unit)
        return Pass(source, target, narrow(indptr), narrow(places), unit, self.lanes, rows, narrow(order))

    def _grid(self) -> Pair:
        return self.windows_on[0] + self.reach[0], self.windows_on[1] + self.reach[1]

    def _entries(self) -> tuple[Table, Table, Table, Table]:
        """Filter, plane of x, row and column in it, of the first pixel under each weight."""
        f, c, top, left = weight_positions(self.pattern, self.kernel, self.windows, self.groups)
        down, right = self.windows.stride
        plane = (c * down + top % down) * right + left % right
        return f, plane, top // down, left // right

    def _target(self, image: Shape, style: tuple[Pair, Pair], grid: Pair, pitch: int, unit: int) -> tuple[Frame, Grid]:
        """Planes to be filled, from planes whose rows are `pitch` pixels apart, and their grid of vectors."""
        (height, width), lanes = grid, self.lanes
        if unit == 1:  # all rows at once, with the gaps between them
            vectors = -(-((height - 1) * pitch + width) // lanes)
            return Frame(image, *style, grid, pitch, vectors * lanes), (1, vectors, 0, 0, lanes, lanes)
        whole, apart = (1, height * width, 0, 0), (height, width, pitch * lanes, width * lanes)
        rows = (*(whole if width == pitch else apart), lanes, lanes)
        return Frame(image, *style, grid, width, height * width), rows


@lru_cache(maxsize=KEPT)
def passes(geometry: Geometry, unit: int) -> tuple[Pass, Pass]:
    """Return the forward and the backward pass for pixels of `unit` numbers."""
    return geometry.forward(unit), geometry.backward(unit)


def inside(phase: int, stride: int, border: int, size: int, most: int) -> range:
    """Return the range of `most` cells of a phase, `stride` pixels apart, that lie on `size` pixels after a border."""
    first = max(0, -(-(border - phase) // stride))
    return range(first, max(first, min(most, (size - 1 + border - phase) // stride + 1)))


def narrow(numbers: Table) -> NDArray[Any]:
    """Return the numbers as int32 if they fit, which halves the bytes to read; read-only, as those of patterns."""
    narrowed: NDArray[Any] = numbers.astype(np.int32 if int(numbers.max(initial=0)) <= INT32_MAX else np.int64)
    narrowed.setflags(write=False)
    return narrowed
