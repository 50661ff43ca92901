"""What goes through a network: what enters and leaves every layer with weights, on the tape.

    entering[layer]    its input
    leaving[layer]     its output, before batch normalisation and activation
    activated[axis]    output of the last activation that the units of an axis go through, or `leaving` if there is none

`columns` turns an input into the numbers each row of weights is multiplied by: y = columns w + b.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from l0ref import ops
from l0ref.autodiff.tensor import Tensor
from l0ref.data import Dataset
from l0ref.errors import ArgumentError
from l0ref.nn import Conv2d, Layer, Linear, Model, Residual
from l0ref.nn.activations import ELEMENTWISE
from l0ref.ops.windows import Windows
from l0ref.pruning.axes import coupled_axes
from l0ref.validate import Array, pair

CHUNK = 256  # samples on the tape at a time


@dataclass
class Signals:
    """Tensors of one forward pass in evaluation mode; see the text of the module."""

    logits: Tensor
    params: Mapping[str, Tensor]
    entering: dict[str, Tensor] = field(default_factory=dict)
    leaving: dict[str, Tensor] = field(default_factory=dict)
    activated: dict[str, Tensor] = field(default_factory=dict)


def signals(model: Model, x: Array) -> Signals:
    """Run a model over x and return what it computed on the way."""
    params = {key: Tensor(p) for key, p in model.params.items()}
    walk = _Walk(model, Signals(Tensor(x), params))
    walk.found.logits = walk.through(model.architecture, walk.found.logits)
    return walk.found


def chunks(data: Dataset) -> Iterator[Dataset]:
    """Yield the samples of a data set, a few at a time."""
    return (data.take(np.arange(i, min(i + CHUNK, len(data)))) for i in range(0, len(data), CHUNK))


def weighted_layers(model: Model) -> dict[str, Linear | Conv2d]:
    """Return the layers with weights by name, in order."""
    return {use.layer.name: use.layer for use in coupled_axes(model).uses if isinstance(use.layer, Linear | Conv2d)}


def columns(layer: Layer, x: Array) -> Array:
    """Return (N, P, K): for each sample and each of the P places of the output, what a row of K weights meets.

    P is 1 for a Linear layer. Of a convolution, K = C R S in the order of its weights.
    """
    if isinstance(layer, Linear):
        return x[:, None, :]
    if not isinstance(layer, Conv2d) or layer.groups != 1:
        raise ArgumentError(f"layer {layer.name!r} has groups, whose rows meet different inputs; use another method")
    size, stride, padding, dilation = (
        pair(name, getattr(layer, name)) for name in ("kernel_size", "stride", "padding", "dilation")
    )
    win = Windows(size, stride, padding, dilation).of(x)  # ncpqrs
    n, c, p, q, r, s = win.shape
    return np.ascontiguousarray(win.transpose(0, 2, 3, 1, 4, 5)).reshape(n, p * q, c * r * s)


def with_ones(cols: Array) -> Array:
    """Return columns with a last one of ones, which the bias is multiplied by."""
    return np.concatenate([cols, np.ones((*cols.shape[:2], 1), cols.dtype)], axis=2)


class _Walk:
    """Goes through the layers and notes tensors; `axis` is that of the units it carries."""

    def __init__(self, model: Model, found: Signals) -> None:
        self.model, self.found, self.axes = model, found, coupled_axes(model)
        self.axis: str | None = None

    def through(self, layers: Sequence[Layer], x: Tensor) -> Tensor:
        for layer in layers:
            x = self.step(layer, x)
        return x

    def step(self, layer: Layer, x: Tensor) -> Tensor:
        if isinstance(layer, Residual):
            start = self.axis
            main = self.through(layer.body, x)
            end, self.axis = self.axis, start
            side = self.through(layer.shortcut, x)
            self.axis = end
            return ops.add(main, side)
        y, _ = layer.forward(x, self.found.params, self.model.buffers, training=False, rng=None)
        if isinstance(layer, Linear | Conv2d):
            self.found.entering[layer.name], self.found.leaving[layer.name] = x, y
            self.axis = self.axes.of(layer.name)
            self.found.activated.setdefault(self.axis, y)
        elif isinstance(layer, ELEMENTWISE) and self.axis is not None:
            self.found.activated[self.axis] = y
        return y
