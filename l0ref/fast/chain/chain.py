"""The chain itself: stages in a row, and the loss behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from l0ref.fast.chain import gates
from l0ref.fast.chain.places import Activation
from l0ref.fast.machine.policy import MOVE, threads_for
from l0ref.fast.products import layout
from l0ref.validate import Array


class Stage(Protocol):
    """A layer with weights, and what follows it up to the next one."""

    x: Activation
    y: Activation

    def forward(self, weight: Array, bias: Array, *, count: int) -> None: ...

    def backward(
        self, weight: Array, weight_bar: Array, bias_bar: Array, *, count: int, wants_x: bool, has_rows: bool
    ) -> None: ...


class Link(NamedTuple):
    """A stage and the names of its two parameters."""

    stage: Stage
    weight: str
    bias: str


class Chain:
    """Stages in a row, for up to as many samples as the first activation has room for.

    Parameters and gradients have the chain's dtype, gradients no gaps.
    """

    def __init__(self, links: Sequence[Link]) -> None:
        self.links = tuple(links)
        self.x, self.y = links[0].stage.x, links[-1].stage.y
        self.losses = np.zeros(self.x.blocks * self.x.lanes)
        self.capacity = self.x.blocks * self.x.lanes

    def logits(self, params: Mapping[str, Array], data: Array, order: Array) -> Array:
        """Return the scores of the samples data[order], (count, classes), as a fresh array."""
        self._forward(params, data, order)
        y, count = self.y, len(order)
        blocks, threads = -(-count // y.lanes), threads_for(MOVE * count * y.entries)
        layout.to_rows(y.value, y.rows, y.entries, blocks, y.row_steps, y.lane_steps, threads)
        return y.rows[: count * y.entries].reshape(count, y.entries).copy()

    def gradient(
        self,
        params: Mapping[str, Array],
        grads: Mapping[str, Array],
        data: Array,
        order: Array,
        target: Array,
        *,
        label_smoothing: float = 0.0,
    ) -> float:
        """Fill grads with the gradient of the mean cross-entropy over data[order]; return that mean."""
        count = len(order)
        self._forward(params, data, order)
        shape = (-1, self.y.entries, self.y.lanes)
        scores, slopes = self.y.value.reshape(shape), self.y.bar.reshape(shape)
        blocks = -(-count // self.y.lanes)
        gates.cross_entropy_blocks(scores[:blocks], target, label_smoothing, slopes[:blocks], self.losses)
        for i, (stage, weight, bias) in reversed(list(enumerate(self.links))):
            bars = (grads[weight].reshape(-1), grads[bias].reshape(-1))
            is_first = i == 0
            stage.backward(_flat(params[weight]), *bars, count=count, wants_x=not is_first, has_rows=is_first)
        return float(self.losses[:count].mean())

    def _forward(self, params: Mapping[str, Array], data: Array, order: Array) -> None:
        x = self.x
        threads = threads_for(MOVE * len(order) * x.entries)
        steps = (x.row_steps, x.lane_steps)
        layout.gather(data.reshape(-1), order, x.rows, x.value, x.entries, *steps, threads)
        for stage, weight, bias in self.links:
            stage.forward(_flat(params[weight]), _flat(params[bias]), count=len(order))


def _flat(a: Array) -> Array:
    """The numbers of an array, one after another: a copy if there are gaps between them."""
    flat: Array = a.ravel()
    return flat
