"""The signals of a network: inputs and outputs of every layer with weights, on the tape.

    entering[layer]    x  its input
    leaving[layer]     z  its output, before batch normalisation and activation
    behind[layer]      a  the output of the activation directly behind the layer; z if there is none
    activated[axis]    output of the last activation that the units of an axis go through, or z if there is none

`layerwise.operator.patches` turns x into the rows that the weights are multiplied by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from l0ref import ops
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.errors import ArgumentError
from l0ref.nn import Conv2d, Layer, Linear, Model, Residual
from l0ref.nn.activations import ELEMENTWISE
from l0ref.nn.loss import data_loss
from l0ref.pruning.axes import coupled_axes
from l0ref.validate import Array, count, float_array

CHUNK = 256  # samples on the tape at a time


@dataclass
class Signals:
    """Tensors of one forward pass in evaluation mode, by layer or axis; see the text of the module."""

    logits: Tensor
    params: Mapping[str, Tensor]
    entering: dict[str, Tensor] = field(default_factory=dict)
    leaving: dict[str, Tensor] = field(default_factory=dict)
    behind: dict[str, Tensor] = field(default_factory=dict)
    activated: dict[str, Tensor] = field(default_factory=dict)

    def gradients(self, y: Array) -> dict[str, Array]:
        """Return dL/dz by layer, L the mean cross-entropy of these samples, whose labels are y."""
        return dict(zip(self.leaving, grad(data_loss(self.logits, y), [*self.leaving.values()]), strict=True))


def signals(model: Model, x: Array) -> Signals:
    """Run a model on x in evaluation mode (no dropout, running statistics) and return its signals."""
    params = {key: Tensor(p) for key, p in model.params.items()}
    walk = _Walk(model, Signals(Tensor(x), params))
    walk.found.logits = walk.through(model.architecture, walk.found.logits)
    return walk.found


def trace(model: Model, x: Array, *, chunk: int = CHUNK) -> Iterator[Signals]:
    """Yield the signals of `chunk` samples at a time; memory is in proportion to `chunk`, not to len(x).

    >>> from l0ref import data, nn
    >>> images = data.load("digits", seed=0).test.x
    >>> [s.entering["fc2"].shape for s in trace(nn.digits_mlp(seed=0), images, chunk=300)]
    [(300, 300), (100, 300)]
    """
    x = float_array("x", x)
    model.check_input("x", x)
    count("chunk", chunk, least=1)
    if not len(x):
        raise ArgumentError("x has 0 samples; pass at least one to trace")
    if bad := int((~np.isfinite(x)).sum()):
        raise ArgumentError(f"x has {bad} of {x.size} values NaN or infinite; drop those samples")
    return (signals(model, x[start : start + chunk]) for start in range(0, len(x), chunk))


def weighted_layers(model: Model) -> dict[str, Linear | Conv2d]:
    """Return the layers with weights by name, in order."""
    return {use.layer.name: use.layer for use in coupled_axes(model).uses if isinstance(use.layer, Linear | Conv2d)}


class _Walk:
    """Runs the layers and records tensors.

    axis  the axis of the current activation
    last  the layer with weights directly before, if any
    """

    def __init__(self, model: Model, found: Signals) -> None:
        self.model, self.found, self.axes = model, found, coupled_axes(model)
        self.axis: str | None = None
        self.last: str | None = None

    def through(self, layers: Sequence[Layer], x: Tensor) -> Tensor:
        self.last = None
        for layer in layers:
            x = self.step(layer, x)
        self.last = None
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
        last, self.last = self.last, None
        if isinstance(layer, Linear | Conv2d):
            self.last = layer.name
            for notes, tensor in ((self.found.entering, x), (self.found.leaving, y), (self.found.behind, y)):
                notes[layer.name] = tensor
            self.axis = self.axes.of(layer.name)
            self.found.activated.setdefault(self.axis, y)
        elif isinstance(layer, ELEMENTWISE):
            if last is not None:
                self.found.behind[last] = y
            if self.axis is not None:
                self.found.activated[self.axis] = y
        return y
