"""A convolution in a chain, with or without a ReLU and a 2 x 2 max-pool: y = pool(max(0, k * x + b)).

Windows of 3 x 3 with many channels go through Winograd's tiles. Where stride is 1 the cotangent of x is itself a
convolution, of the cotangent of z inside a frame of zeros, and writes each pixel once; otherwise it is scattered.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from l0ref.fast.chain import gates
from l0ref.fast.chain.images import ImageStage
from l0ref.fast.chain.places import Activation
from l0ref.fast.dense import convolution, winograd
from l0ref.fast.machine.policy import threads_for
from l0ref.fast.machine.scratch import room
from l0ref.fast.products.launch import contract, correlate, scatter, tile_room
from l0ref.fast.products.windows import window_tables
from l0ref.ops.windows import Pair, Windows
from l0ref.validate import Array


class ConvolutionStage(ImageStage):
    """One layer; k is (F, C / groups, R, S), flat. Groups run one after another, each as a convolution of its own.

    d  holds the cotangent of z in its `bar`: z itself, or another activation, with a frame, if a max-pool follows
    """

    def __init__(
        self, x: Activation, filters: int, windows: Windows, *, groups: int = 1, relu: bool, pooled: bool
    ) -> None:
        super().__init__(x, filters, windows, relu=relu, pooled=pooled)
        w = self.windows
        self.no_floor = np.array([-np.inf], x.dtype)
        self._plans: dict[tuple[int, int, bool], Any] = {}
        self.padding = w.padding
        self.groups, self.channels = groups, x.shape[0] // groups
        self.zero = np.zeros(max(x.shape[0], filters), x.dtype)
        self.taps = self.channels * prod(w.size)
        count = x.blocks * x.lanes
        sizes, kernel = (count, *x.shape), (filters, self.channels, *w.size)
        self.gathers = not x.is_data and convolution.gathers(sizes, (count, *self.z.shape), w)
        self.border = (w.span[0] - 1 - w.padding[0], w.span[1] - 1 - w.padding[1]) if self.gathers else (0, 0)
        self.d = self.z.like(frame=self.border) if pooled else self.z.framed_by(self.border)
        self.has_tiles = groups == 1 and winograd.pays(sizes, kernel, w) and not any(n % 2 for n in self.z.shape[1:])
        self.has_back_tiles = self.has_tiles and self.gathers and not any(n % 2 for n in x.shape[1:])

    def slopes(self, wants_x: bool) -> tuple[Activation, Pair]:
        """Return d, and the corner of it where z begins."""
        return self.d, self.d.frame

    def _fill(self, weight: Array, bias: Array, blocks: int) -> None:
        x, z = self.framed, self.z
        if self.has_tiles:
            self._plan(x, z, self.padding, tiled=True).convolve(
                x.value, weight, bias, self.floor, z.value, blocks=blocks
            )
        else:
            tables, run = self._plan(x, z, self.padding, tiled=False).value, self._run(x, z, blocks)
            for a, c, f, k in self._slices(x, z):
                contract(x.value[a:], weight[k:], bias[f:], self.floor, z.value[c:], *tables, **run)
        if self.pooled:
            winner, threads = self.winner[: blocks * self.filters], threads_for(blocks * z.step)
            gates.pool(z.planes(blocks), self.y.planes(blocks), winner, threads)

    def _weight_bar(self, weight_bar: Array, blocks: int, wants_x: bool) -> None:
        x, d = self.framed, self.d
        if self.has_tiles and (tiles := self._plan(x, d, self.padding, tiled=True)).has_many(blocks):
            tiles.correlate(x.value, d.bar, weight_bar, blocks=blocks)
            return
        bars = weight_bar.reshape(self.groups, -1, self.taps)
        sums = room("tiles", tile_room(bars.shape[1], self.taps), x.dtype)
        tables, run = self._plan(x, d, self.padding, tiled=False).weight, self._run(x, d, blocks)
        for g, (a, c, _, _) in zip(bars, self._slices(x, d), strict=True):
            correlate(x.value[a:], d.bar[c:], self.zero, g, *tables, **run, sums=sums)

    def _x_bar(self, weight: Array, blocks: int) -> None:
        x, d, size = self.x, self.d, self.windows.size
        if not self.gathers:
            self._scatter(weight, blocks)
            return
        turned, shape = room("turned", weight.size, weight.dtype), (self.groups, -1, self.channels, *size)
        kernel = weight.reshape(shape)[..., ::-1, ::-1].swapaxes(1, 2)
        np.copyto(turned.reshape(kernel.shape), kernel)
        plan = self._plan(d, x, self.border, tiled=self.has_back_tiles)
        if self.has_back_tiles:
            plan.convolve(d.bar, turned, self.zero, self.no_floor, x.bar, blocks=blocks)
            return
        run = self._run(d, x, blocks)
        for c, a, _, k in self._slices(d, x):
            contract(d.bar[c:], turned[k:], self.zero, self.no_floor, x.bar[a:], *plan.value, **run)

    def _scatter(self, weight: Array, blocks: int) -> None:
        """Add to overlapping windows of x; drop the part on padding."""
        x, d = self.framed, self.d
        bars, tables = x.planes(blocks, bar=True), self._plan(x, d, self.padding, tiled=False).inputs
        bars[...] = 0
        run = self._run(d, x, blocks)
        for c, a, _, k in self._slices(d, x):
            scatter(d.bar[c:], weight[k:], self.zero, x.bar[a:], *tables, **run)
        (_, height, width), (top, left) = x.shape, x.frame
        if x is not self.x:
            self.x.inside(blocks, bar=True)[...] = x.inside(blocks, bar=True)
        elif self.padding != (0, 0):
            bars[:, :top], bars[:, top + height :] = 0, 0
            bars[:, :, : left * x.lanes], bars[:, :, (left + width) * x.lanes :] = 0, 0

    def _run(self, source: Activation, target: Activation, blocks: int) -> dict[str, Any]:
        return {"steps": np.array([source.step, target.step]), "blocks": blocks, "lanes": source.lanes}

    def _slices(self, source: Activation, target: Activation) -> Iterator[tuple[int, int, int, int]]:
        """Offsets of each group in the first block of two activations, among the filters and among the weights."""
        each = self.filters // self.groups
        for n in range(self.groups):
            yield n * source.step // self.groups, n * target.step // self.groups, n * each, n * each * self.taps

    def _plan(self, x: Activation, z: Activation, padding: Pair, *, tiled: bool) -> Any:
        """The tables of a convolution from x to z; in the backward direction, x or z holds a cotangent."""
        key, inset = (id(x), id(z), tiled), (x.frame[0] - padding[0], x.frame[1] - padding[1])
        if key not in self._plans:
            if tiled:
                places, steps = (x.pixels(inset), z.pixels(z.frame)), (x.step, z.step)
                self._plans[key] = winograd.Tiles(*places, steps, lanes=x.lanes, dtype=x.dtype)
            else:
                sizes = (x.framed[0] // self.groups, *x.framed[1:]), z.shape[0] // self.groups, z.shape[1:]
                options: dict[str, Any] = {"lanes": x.lanes, "inset": inset, "target": (z.framed[1:], z.frame)}
                self._plans[key] = window_tables(*sizes, self.windows, **options)
        return self._plans[key]
