"""A linear layer with a sparse weight in a chain, with or without a ReLU: y = max(0, x W^T + b)."""

from __future__ import annotations

from functools import cached_property
from math import inf

import numpy as np

from l0ref.fast.chain import gates
from l0ref.fast.chain.places import Activation
from l0ref.fast.machine.policy import flat, threads_for
from l0ref.fast.sparse.operands import Entries, Tiles, no_floor, operand
from l0ref.sparse.by_rows import AnyPattern
from l0ref.validate import Array


class SparseLinearStage:
    """One layer; the stored entries of W (outputs, inputs) and b (outputs) are passed to every call, flat.

    x, y  activations before and after; the cotangent of y is overwritten by `backward`
    """

    def __init__(self, x: Activation, pattern: AnyPattern, *, relu: bool) -> None:
        self.x, self.pattern, self.relu = x, pattern, relu
        self.outputs = pattern.shape[0]
        self.y = Activation((self.outputs, 1, 1), blocks=x.blocks, dtype=x.dtype)
        self.floor = np.array([0.0 if relu else -inf], x.dtype)
        self.zero = flat(np.zeros(x.entries, x.dtype))
        self.room, self.spare = np.empty(x.lanes, x.dtype), np.empty(self.outputs, x.dtype)
        self.matrix = operand(pattern)

    @cached_property
    def transposed(self) -> Entries | Tiles:
        """The kernels for W^T; made for the first cotangent of x."""
        return operand(self.pattern.transpose())

    def forward(self, weight: Array, bias: Array, *, count: int) -> None:
        """Fill y for the first `count` samples."""
        x, y = self.x, self.y
        blocks = -(-count // x.lanes), x.step, y.step
        steps, threads = (x.lanes, x.lanes), self._threads(blocks[0])
        self.matrix.contract(weight, flat(x.value), bias, self.floor, y.value, blocks, steps, threads=threads)

    def backward(self, weight: Array, weight_bar: Array, bias_bar: Array, *, count: int) -> None:
        """Fill the cotangents of the stored entries of W and of b, and that of x if it is wanted, from that of y."""
        x, y, blocks = self.x, self.y, -(-count // self.x.lanes)
        shape = (-1, self.outputs, x.lanes)
        bias_bar = bias_bar if bias_bar.size else self.spare
        gates.gate(y.value.reshape(shape)[:blocks], y.bar.reshape(shape)[:blocks], self.floor, bias_bar, self.room)
        weight_bar[...] = 0  # the part of a tile outside of the matrix is not written
        steps, threads = (x.lanes, x.lanes), self._threads(blocks)
        self.matrix.sample(flat(y.bar), flat(x.value), weight_bar, (blocks, x.step, y.step), steps, threads=threads)
        if not x.is_data:
            values, back, floor = self.matrix.turned(weight), (blocks, y.step, x.step), no_floor(x.dtype)
            self.transposed.contract(values, flat(y.bar), self.zero, floor, x.bar, back, steps, threads=threads)

    def _threads(self, blocks: int) -> int:
        return threads_for(self.matrix.work(blocks * self.x.lanes))
