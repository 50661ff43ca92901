"""The steps around the product of every convolution of a chain: padding before it, ReLU and 2 x 2 max-pool after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import inf

import numpy as np

from l0ref.fast.chain import gates
from l0ref.fast.chain.places import Activation
from l0ref.fast.machine.policy import threads_for
from l0ref.ops.windows import Pair, Windows
from l0ref.validate import Array


class ImageStage(ABC):
    """One layer, y = pool(max(0, k * x + b)); the weights k and b (F) are given anew at every call, flat.

    x, y    activations before and after; the cotangent of y is overwritten by `backward`
    framed  x inside its padding; x itself where there is none
    z       the convolution, which is y itself where no max-pool follows
    winner  which of its four pixels each number of y is, as `gates.pool` writes it

    A subclass has the products.
    """

    def __init__(self, x: Activation, filters: int, windows: Windows, *, relu: bool, pooled: bool) -> None:
        (channels, height, width), (top, left) = x.shape, windows.padding
        self.windows = windows.stepping((height, width))
        self.x, self.filters, self.relu, self.pooled = x, filters, relu, pooled
        around = (channels, height + 2 * top, width + 2 * left)
        self.framed = x if around == x.shape else Activation(around, blocks=x.blocks, dtype=x.dtype)
        rows, cols = ((around[1 + i] - windows.span[i]) // windows.stride[i] + 1 for i in (0, 1))
        self.z = Activation((filters, rows, cols), blocks=x.blocks, dtype=x.dtype)
        halved = (filters, rows // 2, cols // 2)
        self.y = Activation(halved, blocks=x.blocks, dtype=x.dtype) if pooled else self.z
        self.winner = np.zeros(self.y.planes(x.blocks).shape if pooled else 0, x.dtype)
        self.floor = np.array([0.0 if relu else -inf], x.dtype)
        self.room = np.empty(self.y.step // filters, x.dtype)

    def forward(self, weight: Array, bias: Array, *, count: int) -> None:
        """Fill y for the first `count` samples."""
        x, blocks = self.framed, -(-count // self.x.lanes)
        if x is not self.x:
            self._inside(x.planes(blocks))[...] = self.x.planes(blocks)
        self._fill(weight, bias, blocks)

    def backward(
        self, weight: Array, weight_bar: Array, bias_bar: Array, *, count: int, wants_x: bool, has_rows: bool
    ) -> None:
        """Fill the cotangents of k and b, and that of x if it is wanted, from that of y."""
        blocks = -(-count // self.x.lanes)
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
        """Return where the cotangent of z is: an activation, and the corner of it where z begins."""
        return self.z, (0, 0)

    def _gate(self, blocks: int, bias_bar: Array, wants_x: bool) -> None:
        """The cotangent of the convolution from that of y, and that of the bias."""
        y, (slopes, (top, left)), lanes = self.y, self.slopes(wants_x), self.x.lanes
        shape = (-1, self.filters, y.step // self.filters)
        gates.gate(y.value.reshape(shape)[:blocks], y.bar.reshape(shape)[:blocks], self.floor, bias_bar, self.room)
        bars = y.planes(blocks, bar=True), slopes.planes(blocks, bar=True)
        if self.pooled:
            winner, threads = self.winner[: blocks * self.filters], threads_for(blocks * self.z.step)
            gates.unpool(bars[0], winner, bars[1], (top, left), lanes, threads)
        elif slopes is not y:
            _, height, width = y.shape
            bars[1][:, top : top + height, left * lanes : (left + width) * lanes] = bars[0]

    def _inside(self, planes: Array) -> Array:
        """The images without their padding: a view."""
        (top, left), (_, height, width), lanes = self.windows.padding, self.x.shape, self.x.lanes
        return planes[:, top : top + height, left * lanes : (left + width) * lanes]
