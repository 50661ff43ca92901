"""What a layer does to its weights: rows that they are multiplied by, and z = A(W) as a linear map with its adjoint.

    z = W x + b        x  what enters the layer        z  its output, before batch normalisation and activation

A convolution is the same for every position of its output: `patches` gives its x as rows, one for each sample and
position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from l0ref import ops
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.errors import ArgumentError
from l0ref.nn import Conv2d, Linear, Model
from l0ref.nn.sequence import leaves
from l0ref.ops.windows import Windows
from l0ref.validate import Array, pair


def layer_of(model: Model, key: str) -> Linear | Conv2d:
    """Return the layer whose weight is `key`; refuse one that stores only part of its weights."""
    layer = next((layer for layer in leaves(model.architecture) if key in layer.weights()), None)
    if not isinstance(layer, Linear | Conv2d):
        known = ", ".join(k for k in model.weights if k not in model.patterns)
        raise ArgumentError(f"key={key!r} is not the weight of a Linear or Conv2d layer; choose from {known or 'none'}")
    return layer


def groups_of(layer: Linear | Conv2d) -> list[tuple[int | None, slice]]:
    """Return the groups of a layer, by the number that `patches` takes, and the rows of its weights in each."""
    groups = layer.groups if isinstance(layer, Conv2d) else 1
    if groups == 1 or not isinstance(layer, Conv2d):
        return [(None, slice(None))]
    size = layer.out_channels // groups
    return [(g, slice(g * size, (g + 1) * size)) for g in range(groups)]


def patches(layer: Linear | Conv2d, x: Array, *, group: int | None = None) -> Array:
    """Return the rows that the weights are multiplied by: z = rows W' + b, W flattened to (F / groups, P).

    Linear: x itself. Conv2d: one row for each sample and position, (N P Q, C/groups R S), of the channels of `group`.
    """
    if isinstance(layer, Linear):
        return x
    part = x[:, _channels(layer, layer.in_channels, group)]
    settings = (pair(name, getattr(layer, name)) for name in ("kernel_size", "stride", "padding", "dilation"))
    win = Windows(*settings).of(part)  # ncpqrs
    return np.ascontiguousarray(win.transpose(0, 2, 3, 1, 4, 5)).reshape(-1, win.shape[1] * win.shape[4] * win.shape[5])


def answers(layer: Linear | Conv2d, z: Array, *, group: int | None = None) -> Array:
    """Return outputs, or gradients, as rows that belong to those of `patches`: (N P Q, F / groups)."""
    if isinstance(layer, Linear):
        return z
    part = z[:, _channels(layer, layer.out_channels, group)]
    return np.ascontiguousarray(part.transpose(0, 2, 3, 1)).reshape(-1, part.shape[1])


@dataclass(frozen=True)
class Operator:
    """What a layer does to its weights: A(W) = z without the bias, for inputs x that stand fixed.

    <A(W), Z> = <W, adjoint(Z)> for all W and Z.
    """

    layer: Linear | Conv2d
    x: Array

    def __call__(self, weights: Array) -> Array:
        """Return A(W), shaped like the output of the layer."""
        return self._tape(weights)[1].data

    def adjoint(self, z: Array) -> Array:
        """Return A*(Z), shaped like the weights."""
        w, out = self._tape(np.zeros(self.shape, self.x.dtype))
        return grad(out, [w], y_bar=z)[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weights."""
        layer = self.layer
        if isinstance(layer, Linear):
            return layer.out_features, layer.in_features
        return layer.out_channels, layer.in_channels // layer.groups, *pair("kernel_size", layer.kernel_size)

    def _tape(self, weights: Array) -> tuple[Tensor, Tensor]:
        w, layer = Tensor(weights), self.layer
        if isinstance(layer, Linear):
            return w, ops.linear(self.x, w)
        options = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
        return w, ops.conv2d(self.x, w, **options)


@dataclass(frozen=True)
class Unrolled:
    """An operator on weights that stand in columns: X U for U (K, M), without the matrix X of patches.

    Groups are allowed: column m meets the inputs of its own group.
    """

    operator: Operator

    def __call__(self, u: Array) -> Array:
        """Return A(U) as rows, one for each sample and position, (P, M)."""
        z = self.operator(np.ascontiguousarray(u.T).reshape(self.operator.shape))
        return np.ascontiguousarray(np.moveaxis(z, 1, -1)).reshape(-1, u.shape[1])

    def adjoint(self, z: Array) -> Array:
        """Return A*(Z) as columns, (K, M)."""
        out = self.operator(np.zeros(self.operator.shape, self.operator.x.dtype)).shape
        image = np.moveaxis(z.reshape(out[0], *out[2:], out[1]), -1, 1)
        return self.operator.adjoint(np.ascontiguousarray(image)).reshape(out[1], -1).T

    def squares(self) -> Array:
        """Return what the diagonal of X'X is for each column, (K, M)."""
        power = Operator(self.operator.layer, np.square(self.operator.x))
        return Unrolled(power).adjoint(np.ones(self(np.zeros((self._width, self.operator.shape[0]))).shape))

    @property
    def _width(self) -> int:
        return int(np.prod(self.operator.shape[1:]))


def _channels(layer: Conv2d, channels: int, group: int | None) -> slice:
    if group is None and layer.groups > 1:
        raise ArgumentError(f"layer {layer.name!r} has groups, whose rows meet different inputs; use another method")
    size, start = channels // layer.groups, group or 0
    return slice(start * size, (start + 1) * size)
