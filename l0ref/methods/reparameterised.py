"""Reparameterised training: a layer computes with v(w, extra parameters) instead of w, on the tape.

    wrapped    the network with each layer of weights wrapped, and the extra parameters beside its own
    unwrapped  the original layers, with the trained parameters or given arrays
    Priced     a penalty written with operations of the tape, which also computes its gradient

Methods that learn thresholds or gates thus use the ordinary training loop. Compiled chains do not support these layers,
so they train on the tape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from l0ref import ops
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.errors import ShapeError
from l0ref.nn import Conv2d, Layer, Linear, Model
from l0ref.nn.layer import Shape, Weight
from l0ref.nn.sequence import leaves, mapped
from l0ref.penalty import Penalty, PenaltyTerms, Pull
from l0ref.surrogates import L1
from l0ref.validate import Array

Value = Callable[[Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class Reparameterised(Layer):
    """A layer that computes with `effective` arrays; a subclass defines these and the parameters they need."""

    inner: Layer

    def extra(self, *, dtype: Any) -> dict[str, Array]:
        """Return the parameters beyond those of the inner layer, by full name."""
        raise NotImplementedError(f"layer {type(self).__name__} must define extra")

    def effective(self, params: Mapping[str, Tensor], *, rng: np.random.Generator | None) -> dict[str, Tensor]:
        """Return what the inner layer computes with in place of its parameters; `rng` is None outside of training."""
        raise NotImplementedError(f"layer {type(self).__name__} must define effective")

    @property
    def key(self) -> str:
        """Name of the weight array."""
        return f"{self.name}.weight"

    def parameters(self, *, rng: np.random.Generator, dtype: Any) -> dict[str, Array]:
        """Return the parameters of the inner layer and the extra ones."""
        return self.inner.parameters(rng=rng, dtype=dtype) | self.extra(dtype=dtype)

    def forward(
        self, x: Tensor, params: Mapping[str, Tensor], buffers: Mapping[str, Array], *, training: bool,
        rng: np.random.Generator | None,
    ) -> tuple[Tensor, dict[str, Array]]:  # fmt: skip
        """Apply the inner layer with the effective arrays."""
        used = self.effective(params, rng=rng if training else None)
        return self.inner.forward(x, {**params, **used}, buffers, training=training, rng=rng)

    def output_shape(self, shape: Shape) -> Shape:
        """Return the output shape of the inner layer."""
        try:
            return self.inner.output_shape(shape)
        except ShapeError as error:
            raise ShapeError(str(error).replace(type(self.inner).__name__, type(self).__name__, 1)) from None

    def weights(self) -> dict[str, Weight]:
        """Return the weights of the inner layer."""
        return self.inner.weights()


def wrapped(model: Model, make: Callable[[Linear | Conv2d], Reparameterised]) -> Model:
    """Return the network with `make(layer)` in place of every Linear and Conv2d layer."""
    layers = mapped(model.architecture, lambda layer: make(layer) if isinstance(layer, Linear | Conv2d) else layer)
    extra = {k: v for part in _parts(layers) for k, v in part.extra(dtype=model.dtype).items()}
    return Model(layers, model.input_shape, {**model.params, **extra}, model.masks, model.buffers)


def unwrapped(model: Model, trained: Model, arrays: Mapping[str, Array]) -> Model:
    """Return `model` with the parameters and buffers of `trained`, and with the arrays given."""
    params = {key: trained.params[key] for key in model.params}
    return model.replace(params={**params, **arrays}, buffers=trained.buffers)


@dataclass(frozen=True)
class PricedPull(Pull):
    """A value on the tape plus l2 sum w^2, the form that a training step uses."""

    value: Value | None = None
    keys: tuple[str, ...] = ()

    def gradient(self, params: Mapping[str, Array]) -> dict[str, Array]:
        """Return {key: d value / d params[key] + 2 l2 w}, the second term for weights only."""
        tensors = {key: Tensor(params[key]) for key in self.keys}
        total = self.value(tensors) if self.value else Tensor(np.zeros((), next(iter(tensors.values())).dtype))
        for tensor in tensors.values():
            total = total + ops.sum(tensor * 0.0)  # so that it depends on all of them
        slopes = grad(total, list(tensors.values()))
        found = dict(zip(tensors, slopes, strict=True))
        return {k: g + 2 * self.l2 * params[k] if k.endswith(".weight") else g for k, g in found.items()}


@dataclass(frozen=True)
class Priced(Penalty):
    """A penalty whose value is a function of tensors, by name of the parameter.

    value_of  {key: tensor} -> a tensor of one entry
    keys      the parameters it reads; weights must be among them for l2 to act on them
    """

    value_of: Value | None = None
    keys: tuple[str, ...] = ()

    def factors(self, model: Model) -> dict[str, float]:
        """Return 1 for every weight array."""
        return dict.fromkeys(model.weights, 1.0)

    def pull(self, factors: Mapping[str, float], *, strength: float = 1.0) -> Pull:
        """Return the penalty as an optimiser uses it in one step."""
        return PricedPull(L1(), {}, self.l2, self.value_of, self.keys)

    def terms(self, params: Mapping[str, Array], factors: Mapping[str, float]) -> PenaltyTerms:
        """Return the value, as the l0 term, and l2 sum w^2."""
        value = float(self.value_of({k: Tensor(params[k]) for k in self.keys})) if self.value_of else 0.0
        squares = {k: self.l2 * float(np.square(params[k], dtype=np.float64).sum()) for k in factors if self.l2}
        return PenaltyTerms({"value": value}, squares)


def _parts(layers: Sequence[Layer]) -> Iterator[Reparameterised]:
    return (layer for layer in leaves(layers) if isinstance(layer, Reparameterised))
