"""The steps around the product of every convolution of a chain: padding before it, ReLU and 2 x 2 max-pool after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf

import numpy as np

from l0ref.fast.chain import gates
from l0ref.fast.chain.places import Activation
from l0ref.fast.machine.policy import threads_for
from l0ref.fast.machine.scratch import room
from l0ref.ops.windows import Pair, Windows
from l0ref.validate import Array


class ImageStage(ABC):
    """One layer, y = pool(max(0, k * x + b)); the weights k and b (F) are passed to every call, flat.

    x, y    activations before and after; the cotangent of y is overwritten by `backward`
    framed  x inside its padding; x itself if there is none, or if x can have a frame
    z       the convolution, which is y itself where no max-pool follows
    winner  the place of each number of y among its four pixels, as `gates.pool` writes it

    A subclass computes the products.
    """

    def __init__(self, x: Activation, filters: int, windows: Windows, *, relu: bool, pooled: bool) -> None:
        (_, height, width), padding = x.shape, windows.padding
        self.windows = windows.stepping((height, width))
        self.x, self.filters, self.relu, self.pooled = x, filters, relu, pooled
        self.framed = x.framed_by(padding)
        around = height + 2 * padding[0], width + 2 * padding[1]
        rows, cols = ((around[i] - windows.span[i]) // windows.stride[i] + 1 for i in (0, 1))
        self.z = x.like((filters, rows, cols))
        self.y = self.z
        if pooled:
            self.y = x.like((filters, rows // 2, cols // 2))
            self.y.fix()
        self.winner = np.zeros(self.y.planes(x.blocks).shape if pooled else 0, x.dtype)
        self.floor = np.array([0.0 if relu else -inf], x.dtype)

    def forward(self, weight: Array, bias: Array, *, count: int) -> None:
        """Fill y for the first `count` samples."""
        x, blocks = self.framed, -(-count // self.x.lanes)
        if x is not self.x:
            x.inside(blocks)[...] = self.x.inside(blocks)
        self._fill(weight, bias, blocks)

    def backward(self, weight: Array, weight_bar: Array, bias_bar: Array, *, count: int) -> None:
        """Fill the cotangents of k and b, and that of x if it is wanted, from that of y; that of b may be empty."""
        blocks, wants_x = -(-count // self.x.lanes), not self.x.is_data
        self._gate(blocks, bias_bar, wants_x)
        self._weight_bar(weight_bar, blocks, wants_x)
        if wants_x:
            self._x_bar(weight, blocks)

    @abstractmethod
    def _fill(self, weight: Array, bias: Array, blocks: int) -> None:
        """Fill y, and winner where there is a max-pool."""

    @abstractmethod
    def _weight_bar(self, weight_bar: Array, blocks: int, wants_x: bool) -> None:
        """Fill the cotangent of k from that of z."""

    @abstractmethod
    def _x_bar(self, weight: Array, blocks: int) -> None:
        """Fill the cotangent of x from that of z."""

    def slopes(self, wants_x: bool) -> tuple[Activation, Pair]:
        """Return the activation that holds the cotangent of z, and the corner of it where z begins."""
        return self.z, self.z.frame

    def _gate(self, blocks: int, bias_bar: Array, wants_x: bool) -> None:
        """The cotangent of the convolution from that of y, and that of the bias."""
        y, (slopes, (top, left)), lanes = self.y, self.slopes(wants_x), self.x.lanes
        if self.relu or bias_bar.size:
            size = y.step // self.filters
            shape, sums = (-1, self.filters, size), room("gate", size, y.dtype)
            bias_bar = bias_bar if bias_bar.size else room("no bias", self.filters, y.dtype)
            value, bar = y.value.reshape(shape)[:blocks], y.bar.reshape(shape)[:blocks]
            gates.gate(value, bar, self.floor, bias_bar, sums)
        if self.pooled:
            winner, threads = self.winner[: blocks * self.filters], threads_for(blocks * self.z.step)
            gates.unpool(y.planes(blocks, bar=True), winner, slopes.planes(blocks, bar=True), (top, left), threads)
        elif slopes is not y:
            _, height, width = y.shape
            to = slopes.planes(blocks, bar=True)[:, top : top + height, left * lanes : (left + width) * lanes]
            to[...] = y.inside(blocks, bar=True)
