"""A linear layer in a chain, with or without a ReLU: y = max(0, x W^T + b)."""

from __future__ import annotations

from functools import cache, partial
from math import inf

import numpy as np

from l0ref.fast.chain import gates
from l0ref.fast.chain.places import Activation
from l0ref.fast.machine.policy import MOVE, threads_for
from l0ref.fast.machine.tables import Table, table
from l0ref.fast.products import layout
from l0ref.fast.products.launch import contract
from l0ref.validate import Array


class LinearStage:
    """One layer; W (outputs, inputs) and b (outputs) are passed to every call, flat.

    x, y  activations before and after; the cotangent of y is overwritten by `backward`
    """

    def __init__(self, x: Activation, outputs: int, *, relu: bool) -> None:
        self.x, self.relu = x, relu
        self.y = Activation((outputs, 1, 1), blocks=x.blocks, dtype=x.dtype)
        self.floor = np.array([0.0 if relu else -inf], x.dtype)
        self.zero = np.zeros(1, x.dtype)
        self.room, self.spare = np.empty(x.lanes, x.dtype), np.empty(outputs, x.dtype)
        self.no_floor = np.array([-inf], x.dtype)
        self.inputs, self.outputs = x.entries, outputs
        sizes = self.inputs, self.outputs, x.lanes  # not the stage, to avoid a reference cycle
        self.forward_tables = cache(partial(_forward_tables, *sizes))
        self.inputs_tables = cache(partial(_inputs_tables, *sizes))
        self.weight_tables = cache(partial(_weight_tables, *sizes))

    def forward(self, weight: Array, bias: Array, *, count: int) -> None:
        """Fill y for the first `count` samples."""
        x, y = self.x, self.y
        contract(x.value, weight, bias, self.floor, y.value, *self.forward_tables(self._blocks(count)), lanes=x.lanes)

    def backward(self, weight: Array, weight_bar: Array, bias_bar: Array, *, count: int) -> None:
        """Fill the cotangents of W and b, and that of x if it is wanted, from that of y."""
        x, y, blocks = self.x, self.y, self._blocks(count)
        shape = (-1, self.outputs, x.lanes)
        bias_bar = bias_bar if bias_bar.size else self.spare
        gates.gate(y.value.reshape(shape)[:blocks], y.bar.reshape(shape)[:blocks], self.floor, bias_bar, self.room)
        if not x.is_data:  # samples have their rows from the start
            threads = threads_for(MOVE * count * self.inputs)
            layout.to_rows(x.value, x.rows, self.inputs, blocks, x.row_steps, x.lane_steps, threads)
        free = (self.zero, self.no_floor)
        contract(x.rows, y.bar, *free, weight_bar, *self.weight_tables(count), lanes=x.lanes)
        if not x.is_data:
            contract(y.bar, weight, *free, x.bar, *self.inputs_tables(blocks), lanes=x.lanes)

    def _blocks(self, count: int) -> int:
        return -(-count // self.x.lanes)


def _forward_tables(inputs: int, outputs: int, lanes: int, blocks: int) -> tuple[Table, Table, Table]:
    block, entry, output = np.arange(blocks) * lanes, np.arange(inputs), np.arange(outputs)
    columns = table(block * inputs, block * outputs)
    rows = table(output * inputs, output * lanes, output)
    return columns, rows, table(entry * lanes, entry)


def _inputs_tables(inputs: int, outputs: int, lanes: int, blocks: int) -> tuple[Table, Table, Table]:
    block, entry, output = np.arange(blocks) * lanes, np.arange(inputs), np.arange(outputs)
    columns = table(block * outputs, block * inputs)
    rows = table(entry, entry * lanes, 0)
    return columns, rows, table(output * lanes, output * inputs)


def _weight_tables(inputs: int, outputs: int, lanes: int, count: int) -> tuple[Table, Table, Table]:
    sample, output = np.arange(count), np.arange(outputs)
    vectors = np.minimum(np.arange(0, inputs, lanes), inputs - lanes)
    rows = table(output * lanes, output * inputs, 0)
    taps = table(sample * inputs, sample // lanes * lanes * outputs + sample % lanes)
    return table(vectors, vectors), rows, taps
