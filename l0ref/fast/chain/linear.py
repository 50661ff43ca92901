"""A linear layer in a chain, with or without a ReLU: y = max(0, x W^T + b)."""

from __future__ import annotations

from functools import cache
from math import inf

import numpy as np

from l0ref.fast import blocks as layout
from l0ref.fast import gates
from l0ref.fast.chain.places import Activation, Table, table
from l0ref.fast.chain.products import contract
from l0ref.fast.policy import threads_for
from l0ref.validate import Array


class LinearStage:
    """One layer; W (outputs, inputs) and b (outputs) are given anew at every call, flat.

    x, y  activations before and after; the cotangent of y is overwritten by `backward`
    """

    def __init__(self, x: Activation, outputs: int, *, relu: bool) -> None:
        self.x, self.relu = x, relu
        self.y = Activation((outputs, 1, 1), blocks=x.blocks, dtype=x.dtype)
        self.floor = np.array([0.0 if relu else -inf], x.dtype)
        self.zero = np.zeros(1, x.dtype)
        self.room = np.empty(x.lanes, x.dtype)
        self.no_floor = np.array([-inf], x.dtype)
        self.inputs, self.outputs = x.entries, outputs
        self.forward_tables, self.inputs_tables, self.weight_tables = map(
            cache, (self._forward_tables, self._inputs_tables, self._weight_tables)
        )

    def forward(self, weight: Array, bias: Array, *, count: int) -> None:
        """Fill y for the first `count` samples."""
        x, y = self.x, self.y
        contract(x.value, weight, bias, self.floor, y.value, *self.forward_tables(self._blocks(count)), lanes=x.lanes)

    def backward(
        self, weight: Array, weight_bar: Array, bias_bar: Array, *, count: int, wants_x: bool, has_rows: bool
    ) -> None:
        """Fill the cotangents of W and b, and that of x if it is wanted, from that of y.

        has_rows  whether x.rows holds x already
        """
        x, y, blocks = self.x, self.y, self._blocks(count)
        shape = (-1, self.outputs, x.lanes)
        gates.gate(y.value.reshape(shape)[:blocks], y.bar.reshape(shape)[:blocks], self.floor, bias_bar, self.room)
        if not has_rows:
            threads = threads_for(10 * count * self.inputs)
            layout.to_rows(x.value, x.rows, self.inputs, blocks, x.row_steps, x.lane_steps, threads)
        free = (self.zero, self.no_floor)
        contract(x.rows, y.bar, *free, weight_bar, *self.weight_tables(count), lanes=x.lanes)
        if wants_x:
            contract(y.bar, weight, *free, x.bar, *self.inputs_tables(blocks), lanes=x.lanes)

    def _blocks(self, count: int) -> int:
        return -(-count // self.x.lanes)

    def _forward_tables(self, blocks: int) -> tuple[Table, Table, Table]:
        block, entry, output, lanes = np.arange(blocks), np.arange(self.inputs), np.arange(self.outputs), self.x.lanes
        columns = table(block * self.x.step, block * self.y.step)
        rows = table(output * self.inputs, output * lanes, output)
        return columns, rows, table(entry * lanes, entry)

    def _inputs_tables(self, blocks: int) -> tuple[Table, Table, Table]:
        block, entry, output, lanes = np.arange(blocks), np.arange(self.inputs), np.arange(self.outputs), self.x.lanes
        columns = table(block * self.y.step, block * self.x.step)
        rows = table(entry, entry * lanes, 0)
        return columns, rows, table(output * lanes, output * self.inputs)

    def _weight_tables(self, count: int) -> tuple[Table, Table, Table]:
        sample, output, lanes = np.arange(count), np.arange(self.outputs), self.x.lanes
        vectors = np.minimum(np.arange(0, self.inputs, lanes), self.inputs - lanes)
        rows = table(output * lanes, output * self.inputs, 0)
        taps = table(sample * self.inputs, sample // lanes * self.y.step + sample % lanes)
        return table(vectors, vectors), rows, taps
