"""The base of all layers: a frozen description that says which arrays a layer needs and how to apply them.

A layer holds no arrays. Its parameters and buffers live in the Model, in flat dicts under
``<layer name>.weight`` and the like, and are handed to `forward`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple, Self

import numpy as np

from l0ref.autodiff.tensor import Tensor
from l0ref.errors import ArgumentError, ConfigError, ShapeError
from l0ref.sparse import BlockPattern, Pattern
from l0ref.validate import Array

AnyPattern = Pattern | BlockPattern


class Weight(NamedTuple):
    """Kind and size of one weight array.

    kind  "linear" or "conv"
    size  number of weights, those that a sparse layer does not store included
    """

    kind: str
    size: int


LAYERS: dict[str, type[Layer]] = {}
Shape = tuple[int, ...]
Result = tuple[Tensor, dict[str, Array]]  # what a layer's `forward` returns: outputs, and the buffers that changed


@dataclass(frozen=True)
class Layer:
    """Base of all layers; subclassing registers it, so that an architecture can be read back from JSON.

    A subclass is a frozen dataclass whose fields are numbers, strings, pairs, or tuples of layers.
    """

    name: str

    def __new__(cls, *args: Any, **fields: Any) -> Self:
        """Refuse a layer without a name before anything else: PyTorch's layers have none and take a size first."""
        name = args[0] if args else fields.get("name", "")
        if not isinstance(name, str):
            raise ArgumentError(
                f"name={name!r} of a {cls.__name__} must be a string; name the layer first, as in "
                f"{cls.__name__}('layer1', {', '.join(map(repr, args)) or '...'})"
            )
        return super().__new__(cls)

    def __init_subclass__(cls) -> None:
        if cls.__name__ in LAYERS:
            raise TypeError(f"layer {cls.__name__!r} is already registered; choose another class name")
        if not cls.__name__.startswith("_"):  # the common base of several layers is not a layer itself
            LAYERS[cls.__name__] = cls

    def parameters(self, *, rng: np.random.Generator, dtype: Any) -> dict[str, Array]:
        """Freshly drawn parameters, by full name; none by default."""
        return {}

    def buffers(self, *, dtype: Any) -> dict[str, Array]:
        """Arrays that training updates without a gradient (running statistics); none by default."""
        return {}

    def forward(
        self,
        x: Tensor,
        params: Mapping[str, Tensor],
        buffers: Mapping[str, Array],
        *,
        training: bool,
        rng: np.random.Generator | None,
    ) -> Result:
        """Apply the layer to a batch; return the result and the buffers that changed."""
        raise NotImplementedError(f"layer {type(self).__name__} defines no forward; write one")

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of the result for an input of `shape`, both without the batch axis; refuse one that does not fit."""
        return shape

    def weights(self) -> dict[str, Weight]:
        """Weight arrays, by full name; none by default.

        These are the arrays that are penalised, pruned and counted: weights of linear and convolution layers, never
        biases or batch normalisation.
        """
        return {}

    def positions(self, shape: Shape) -> dict[str, int]:
        """How often each weight is used in one forward pass over an input of `shape`, by weight array.

        Once for every position of the output grid, which is once for a linear layer.
        """
        return {key: prod(self.output_shape(shape)[1:]) for key in self.weights()}

    def misfit(self, shape: Shape, expected: str) -> ShapeError:
        """Return the error for an input this layer cannot take."""
        return ShapeError(
            f"layer {self.name!r} ({type(self).__name__}) got an input of shape {shape}, expected {expected}"
        )


def to_json(layer: Layer) -> dict[str, Any]:
    """Return the description of a layer as JSON-able values; `from_json` reads it back.

    A pattern is represented by the name of its weight, since its arrays are not JSON.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Layer):
            return to_json(value)
        if isinstance(value, Pattern | BlockPattern):
            return f"{layer.name}.weight"
        return [plain(v) for v in value] if isinstance(value, tuple) else value

    fields = {f.name: plain(getattr(layer, f.name)) for f in dataclasses.fields(layer)}
    return {"kind": type(layer).__name__, **fields}


def from_json(description: Mapping[str, Any], *, patterns: Mapping[str, AnyPattern] | None = None) -> Layer:
    """Build a layer from its JSON description; an unknown kind or field is an error.

    patterns  those of sparse layers, by the name of the weight
    """
    fields = dict(description)
    kind = fields.pop("kind", None)
    if kind not in LAYERS:
        raise ConfigError(f"kind={kind!r} is not a layer; known are {', '.join(sorted(LAYERS))}")
    known = {f.name for f in dataclasses.fields(LAYERS[kind])}
    if unknown := sorted(set(fields) - known):
        raise ConfigError(f"{kind} has no field {unknown[0]!r}; it has {', '.join(sorted(known))}")

    def value(v: Any) -> Any:
        if isinstance(v, Mapping):
            return from_json(v, patterns=patterns)
        return tuple(value(u) for u in v) if isinstance(v, list) else v

    if "pattern" in fields:
        if (key := fields["pattern"]) not in (patterns or {}):
            raise ConfigError(f"patterns lacks {key!r}, which {kind} {description.get('name')!r} needs; pass it along")
        fields["pattern"] = (patterns or {})[key]
    try:
        return LAYERS[kind](**{name: value(v) for name, v in fields.items()})
    except TypeError as error:
        raise ConfigError(f"{kind} {description.get('name')!r} is incomplete: {error}; give every field") from None
