"""The chain itself: a sequence of stages, and the loss after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from l0ref.fast.chain import gates
from l0ref.fast.chain.branches import DropoutStage
from l0ref.fast.chain.normalization import Norm, NormalizationStage
from l0ref.fast.chain.places import Activation
from l0ref.fast.machine.policy import MOVE, flat, threads_for
from l0ref.fast.products import layout
from l0ref.validate import Array


class Stage(Protocol):
    """A layer, with the ReLU and the pooling that it includes."""

    x: Activation
    y: Activation

    def forward(self, weight: Array, bias: Array, *, count: int) -> None: ...

    def backward(self, weight: Array, weight_bar: Array, bias_bar: Array, *, count: int) -> None: ...


class Link(NamedTuple):
    """A stage, the names of its two parameters ("" for none), and the normalisation that is folded into them."""

    stage: Stage
    weight: str = ""
    bias: str = ""
    norm: Norm | None = None


class Chain:
    """A sequence of stages, for as many samples as the first activation has room for.

    Parameters and gradients have the chain's dtype; gradients are contiguous. A stage without bias gets zeros. `wanted`
    is the number of samples it was made for, of which `logits` takes `capacity` at a time.
    """

    def __init__(self, links: Sequence[Link], x: Activation, y: Activation, wanted: int) -> None:
        self.links, self.x, self.y, self.wanted = tuple(links), x, y, wanted
        self.losses = np.zeros(self.x.blocks * self.x.lanes)
        self.capacity = self.x.blocks * self.x.lanes
        self.nothing = flat(np.zeros(0, x.dtype))
        self.zeros = flat(np.zeros(max(link.stage.y.shape[0] for link in links), x.dtype))
        self.norms = [link.stage for link in links if isinstance(link.stage, NormalizationStage)]
        self.dropouts = [link.stage for link in links if isinstance(link.stage, DropoutStage)]

    def logits(self, arrays: Mapping[str, Array], data: Array, order: Array) -> Array:
        """Return the scores of the samples data[order], (count, classes), as a fresh array.

        arrays  parameters, and running statistics where there are normalisations
        """
        y, scores = self.y, np.empty((len(order), self.y.entries), self.y.dtype)
        given = [self._given(link, arrays) for link in self.links]
        for first in range(0, len(order), self.capacity):
            part = order[first : first + self.capacity]
            self._forward(given, data, part)
            blocks, threads = -(-len(part) // y.lanes), threads_for(MOVE * len(part) * y.entries)
            layout.to_rows(y.value, y.rows, y.entries, blocks, y.row_steps, y.lane_steps, threads)
            scores[first : first + len(part)] = y.rows[: len(part) * y.entries].reshape(len(part), y.entries)
        return scores

    def gradient(
        self,
        params: Mapping[str, Array],
        grads: Mapping[str, Array],
        data: Array,
        order: Array,
        target: Array,
        *,
        label_smoothing: float = 0.0,
        soft: tuple[Array, float, float] | None = None,
    ) -> float:
        """Fill grads with the gradient of the mean loss over data[order]; return that mean.

        target  class labels (count), for the cross-entropy; floats (count, outputs), for the squared error
        soft    a teacher's probabilities (count, classes), temperature and weight: `l0ref.distillation.Soft`
        """
        count = len(order)
        given = [self._given(link, params) for link in self.links]
        self._forward(given, data, order)
        shape = (-1, self.y.entries, self.y.lanes)
        scores, slopes = self.y.value.reshape(shape), self.y.bar.reshape(shape)
        blocks = -(-count // self.y.lanes)
        if target.dtype.kind == "f":
            gates.squared_error_blocks(scores[:blocks], target, slopes[:blocks], self.losses)
        else:
            gates.cross_entropy_blocks(scores[:blocks], target, label_smoothing, slopes[:blocks], self.losses)
        if soft is not None:
            q, temperature, share = soft
            gates.soften_blocks(scores, np.ascontiguousarray(q), temperature, share, slopes, self.losses)
        for (stage, *names, _), (weight, _) in zip(reversed(self.links), reversed(given), strict=True):
            bars = (grads[name].reshape(-1) if name else self.nothing for name in names)
            stage.backward(weight, *bars, count=count)
        return float(self.losses[:count].mean())

    def moved(self, buffers: Mapping[str, Array]) -> dict[str, Array]:
        """Return the running statistics after the last batch; fresh arrays."""
        new: dict[str, Array] = dict(buffers)
        for stage in self.norms:
            new |= stage.moved(buffers)
        return new

    def draw_from(self, rng: np.random.Generator) -> None:
        """Let dropout draw from `rng`."""
        for stage in self.dropouts:
            stage.rng = rng

    def _forward(self, given: Sequence[tuple[Array, Array]], data: Array, order: Array) -> None:
        x = self.x
        threads = threads_for(MOVE * len(order) * x.entries)
        steps = (x.row_steps, x.lane_steps)
        layout.gather(flat(data), flat(order), x.rows, x.value, x.entries, *steps, threads)
        for link, (weight, bias) in zip(self.links, given, strict=True):
            link.stage.forward(weight, bias, count=len(order))

    def _given(self, link: Link, arrays: Mapping[str, Array]) -> tuple[Array, Array]:
        """Weight and bias of a stage, flat."""
        stage, norm = link.stage, link.norm
        weight = flat(arrays[link.weight]) if link.weight else self.nothing
        bias = flat(arrays[link.bias]) if link.bias else self.zeros[: stage.y.shape[0]]
        if norm is None:
            return weight, bias
        factor, shift = norm.line(arrays)
        if not link.weight:
            return flat(factor), flat(shift)
        return flat(weight.reshape(factor.size, -1) * factor[:, None]), flat(bias * factor + shift)
