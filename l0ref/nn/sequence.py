"""Layers one after another, and the residual block that adds a shortcut around some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from l0ref import ops
from l0ref.autodiff.tensor import Tensor
from l0ref.errors import ConfigError
from l0ref.nn.layer import Layer, Result, Shape, Weight
from l0ref.validate import Array


def run(
    layers: Sequence[Layer],
    x: Tensor,
    params: Mapping[str, Tensor],
    buffers: Mapping[str, Array],
    *,
    training: bool,
    rng: np.random.Generator | None,
) -> Result:
    """Apply the layers in turn; return the last result and all buffers that changed."""
    changed: dict[str, Array] = {}
    for layer in layers:
        x, new = layer.forward(x, params, buffers, training=training, rng=rng)
        changed |= new
    return x, changed


def shapes(layers: Sequence[Layer], shape: Shape) -> list[Shape]:
    """Shapes between the layers: that of the input first, then the output of each layer."""
    found = [shape]
    for layer in layers:
        found.append(layer.output_shape(found[-1]))
    return found


def leaves(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Every layer in order, those inside residual blocks in place of their block."""
    for layer in layers:
        yield from leaves((*layer.body, *layer.shortcut)) if isinstance(layer, Residual) else (layer,)


def mapped(layers: Sequence[Layer], change: Callable[[Layer], Layer]) -> tuple[Layer, ...]:
    """The layers after `change` was applied to each of `leaves`, inside residual blocks too."""
    return tuple(
        replace(layer, body=mapped(layer.body, change), shortcut=mapped(layer.shortcut, change))
        if isinstance(layer, Residual)
        else change(layer)
        for layer in layers
    )


@dataclass(frozen=True)
class Residual(Layer):
    """y = body(x) + shortcut(x); an empty shortcut is the identity.

    Where the body changes the shape of x, a 1x1 convolution (with stride) as shortcut projects x. The
    names of the inner layers are full names, so that parameters stay in one flat dict.
    """

    body: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()

    def __post_init__(self) -> None:
        if not self.body:
            raise ConfigError(f"residual block {self.name!r} has an empty body; give it at least one layer")

    @property
    def parts(self) -> tuple[Layer, ...]:
        """Layers of the body, then of the shortcut."""
        return (*self.body, *self.shortcut)

    def parameters(self, *, rng: np.random.Generator, dtype: Any) -> dict[str, Array]:
        """Parameters of all inner layers."""
        return {k: v for part in self.parts for k, v in part.parameters(rng=rng, dtype=dtype).items()}

    def buffers(self, *, dtype: Any) -> dict[str, Array]:
        """Buffers of all inner layers."""
        return {k: v for part in self.parts for k, v in part.buffers(dtype=dtype).items()}

    def forward(
        self,
        x: Tensor,
        params: Mapping[str, Tensor],
        buffers: Mapping[str, Array],
        *,
        training: bool,
        rng: np.random.Generator | None,
    ) -> Result:
        """Apply body and shortcut to the same input and add the two."""
        main, changed = run(self.body, x, params, buffers, training=training, rng=rng)
        side, changed_too = run(self.shortcut, x, params, buffers, training=training, rng=rng)
        return ops.add(main, side), changed | changed_too

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the body's result, which the shortcut's must equal."""
        main, side = shapes(self.body, shape)[-1], shapes(self.shortcut, shape)[-1]
        if main != side:
            raise self.misfit(shape, f"equal shapes from body and shortcut, not {main} and {side}")
        return main

    def positions(self, shape: Shape) -> dict[str, int]:
        """Uses of the weights of all inner layers."""
        found: dict[str, int] = {}
        for layers in (self.body, self.shortcut):
            for layer, inner in zip(layers, shapes(layers, shape), strict=False):
                found |= layer.positions(inner)
        return found

    def weights(self) -> dict[str, Weight]:
        """Weights of all inner layers."""
        return {k: v for part in self.parts for k, v in part.weights().items()}
