"""A convolution with a sparse kernel in a chain, with or without a ReLU and a 2 x 2 max-pool."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l0ref.fast.chain.images import ImageStage
from l0ref.fast.chain.places import Activation
from l0ref.fast.chain.sparse_pooling import contract_pooled
from l0ref.fast.machine.policy import LOADED, flat, threads_for
from l0ref.fast.machine.scratch import room
from l0ref.fast.machine.tables import Table
from l0ref.fast.sparse import grid as sparse_grid
from l0ref.fast.sparse.geometry import Grid, inside, narrow
from l0ref.fast.sparse.operands import no_floor
from l0ref.fast.sparse.vector import reordered
from l0ref.ops.windows import Pair, Windows
from l0ref.sparse.convolution import Shape, weight_positions
from l0ref.sparse.pattern import Pattern
from l0ref.validate import Array


class Phase(NamedTuple):
    """The pixels of x with the same remainders under the stride, and the weights that lie on them.

    indptr, places, order  rows are channels; offset of the cotangent under each weight, and number of the weight
    grid, first            see `sparse.grid`
    """

    indptr: NDArray[Any]
    places: NDArray[Any]
    order: NDArray[Any]
    grid: Grid
    first: tuple[int, int]


class SparseConvolutionStage(ImageStage):
    """One layer; k holds the stored entries of (F, C/groups, R, S), flat.

    The cotangent of x at a pixel sums over the windows that the pixel lies in. Where some of these lie outside of z,
    its cotangent has a border of zeros; so every number is written once and none is accumulated.
    """

    def __init__(
        self, x: Activation, pattern: Pattern, kernel: Shape, windows: Windows, *, groups: int, relu: bool, pooled: bool
    ) -> None:
        super().__init__(x, kernel[0], windows, relu=relu, pooled=pooled)
        self.pattern, self.kernel, self.groups = pattern, kernel, groups
        self.y.fix()
        (_, height, width), (_, c, r, s) = self.framed.framed, self._entries()
        self.places = narrow((c * height + r) * width + s)
        self.zero = flat(np.zeros(x.shape[0], x.dtype))  # as read-only as a bias

    def _fill(self, weight: Array, bias: Array, blocks: int) -> None:
        x, z, grid, threads = self.framed, self.z, self._grid(self.z), self._threads(blocks)
        w, at = (flat(weight), self.pattern.indptr, self.places), (blocks, x.step, z.step, 0, 0)
        if not self.pooled:
            sparse_grid.contract(x.value, w, flat(bias), self.floor, z.value, at, grid, self._steps(z), threads)
            return
        columns, lanes = grid[1] // 2 * 2, x.lanes
        grid, steps = (grid[0], columns, *grid[2:]), (lanes, 2 * columns * lanes, lanes)
        rows = room("rows", threads * self.filters * steps[1], x.dtype)
        out = self.y.value, self.winner.reshape(-1), rows
        contract_pooled(x.value, w, flat(bias), self.floor, out, at, grid, steps, threads)

    def _weight_bar(self, weight_bar: Array, blocks: int, wants_x: bool) -> None:
        x, (d, (top, left)), lanes = self.framed, self.slopes(wants_x), self.x.lanes
        w, at = (self.pattern.indptr, self.places), (blocks, x.step, d.step, 0, (top * d.shape[2] + left) * lanes)
        threads = self._threads(blocks)
        sums = room("sums", sparse_grid.sums_room(self.places.size, lanes, threads), x.dtype)
        lane_steps = tuple(range(0, lanes**2, lanes))
        sparse_grid.sample(x.value, d.bar, w, sums, weight_bar, lane_steps, at, self._grid(d), self._steps(d), threads)

    def _x_bar(self, weight: Array, blocks: int) -> None:
        x, (d, _), values = self.x, self.slopes(True), room("turned", self.places.size, self.x.dtype)
        threads = self._threads(blocks)
        for phase in self._phases:
            mine = values[: phase.order.size]
            reordered(flat(weight), phase.order, mine)
            w, at = (flat(mine), phase.indptr, phase.places), (blocks, d.step, x.step, *phase.first)
            floor = no_floor(x.dtype)
            sparse_grid.contract(d.bar, w, self.zero, floor, x.bar, at, phase.grid, self._steps(x), threads)

    def _threads(self, blocks: int) -> int:
        return threads_for(LOADED * blocks * self.places.size * self.z.step // self.filters)

    def _grid(self, target: Activation) -> Grid:
        """The windows, from x to z or to its cotangent."""
        (down, right), lanes, (_, rows, columns) = self.windows.stride, self.x.lanes, self.z.shape
        return rows, columns, down * self.framed.framed[2] * lanes, target.shape[2] * lanes, right * lanes, lanes

    def _steps(self, target: Activation) -> tuple[int, int, int]:
        return target.lanes, target.step // target.shape[0], target.lanes

    def slopes(self, wants_x: bool) -> tuple[Activation, Pair]:
        """Return the cotangent of z, inside a border where x is wanted."""
        return self._bordered if wants_x else super().slopes(wants_x)

    @cached_property
    def _bordered(self) -> tuple[Activation, Pair]:
        """The cotangent of z inside a border of zeros, which stands for windows beyond z."""
        (_, *sizes), corner = self.z.shape, self._reach
        rows, columns = (max(a, n) + b for a, n, b in zip(self._cells, sizes, corner, strict=True))
        shape = (self.filters, rows, columns)
        return (self.z if shape == self.z.shape else self.x.like(shape)), corner

    @property
    def _reach(self) -> Pair:
        """Rows and columns of windows that a pixel lies in, minus one."""
        down, right = (
            (span - 1) // stride for span, stride in zip(self.windows.span, self.windows.stride, strict=True)
        )
        return down, right

    @property
    def _cells(self) -> Pair:
        """Rows and columns of cells of the size of the stride, over the padded image."""
        down, right = (-(-n // stride) for n, stride in zip(self.framed.framed[1:], self.windows.stride, strict=True))
        return down, right

    def _entries(self) -> tuple[Table, Table, Table, Table]:
        """Filter, channel, row and column in the window of each weight; the last two in pixels."""
        return weight_positions(self.pattern, self.kernel, self.windows, self.groups)

    @cached_property
    def _phases(self) -> list[Phase]:
        entries = self._entries()
        return [phase for a, b in np.ndindex(self.windows.stride) if (phase := self._phase(a, b, *entries))]

    def _phase(self, a: int, b: int, f: Table, c: Table, r: Table, s: Table) -> Phase | None:
        """Pixels whose remainders are a and b, unless there are none."""
        (down, right), (top, left), lanes = self.windows.stride, self.windows.padding, self.x.lanes
        (_, height, width), (tall, wide), (d, _) = self.x.shape, self._reach, self.slopes(True)
        rows = inside(a, down, top, height, self._cells[0])
        columns = inside(b, right, left, width, self._cells[1])
        if not rows or not columns:
            return None
        mine = np.flatnonzero((r % down == a) & (s % right == b))
        order = mine[np.argsort(c[mine], kind="stable")]
        above, before = tall - r[order] // down, wide - s[order] // right
        places = (f[order] * d.shape[1] + above) * d.shape[2] + before
        indptr = np.concatenate([[0], np.bincount(c[order], minlength=self.x.shape[0]).cumsum()])
        first = rows.start * d.shape[2] + columns.start, (rows.start * down + a - top) * width
        grid = (len(rows), len(columns), d.shape[2] * lanes, down * width * lanes, lanes, right * lanes)
        at = first[0] * lanes, (first[1] + columns.start * right + b - left) * lanes
        return Phase(narrow(indptr), narrow(places), narrow(order), grid, at)
