"""A layer as a linear map of its weights: the rows they are multiplied by, and for convolutions a map and its adjoint.

    z = W x + b        x  the input of the layer        z  its output, before batch normalisation and activation

A convolution has the same W at every position of its output: `patches` gives its x as rows, one for each sample and
position, and `Operator` multiplies by these rows without storing them.
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
    if isinstance(layer, Linear) or layer.groups == 1:
        return [(None, slice(None))]
    size = layer.out_channels // layer.groups
    return [(g, slice(g * size, (g + 1) * size)) for g in range(layer.groups)]


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
    """Return outputs, or gradients, as rows in the order of `patches`: (N P Q, F / groups)."""
    if isinstance(layer, Linear):
        return z
    part = z[:, _channels(layer, layer.out_channels, group)]
    return np.ascontiguousarray(part.transpose(0, 2, 3, 1)).reshape(-1, part.shape[1])


@dataclass(frozen=True)
class Operator:
    """A convolution as a linear map of its weights, for fixed inputs x: X U without the matrix X of patches.

    U (K, M) holds the weights in columns, X U (P, M) a row for each sample and position. Groups are allowed: column m
    meets the inputs of its own group. <X U, Z> = <U, adjoint(Z)> for all U and Z.
    """

    layer: Conv2d
    x: Array

    def __call__(self, u: Array) -> Array:
        """Return X U, without the bias."""
        z = self._tape(u)[1].data
        return np.ascontiguousarray(np.moveaxis(z, 1, -1)).reshape(-1, z.shape[1])

    def adjoint(self, z: Array) -> Array:
        """Return X'Z, (K, M)."""
        w, out = self._tape(None)
        n, m, *grid = out.shape
        image = np.ascontiguousarray(np.moveaxis(z.reshape(n, *grid, m), -1, 1))
        return grad(out, [w], y_bar=image)[0].reshape(m, -1).T

    def squares(self) -> Array:
        """Return the diagonal of X'X for each column, (K, M)."""
        power = Operator(self.layer, np.square(self.x))
        return power.adjoint(np.ones(self._tape(None)[1].shape, self.x.dtype))

    def _tape(self, u: Array | None) -> tuple[Tensor, Tensor]:
        c = self.layer
        shape = (c.out_channels, c.in_channels // c.groups, *pair("kernel_size", c.kernel_size))
        w = Tensor(np.zeros(shape, self.x.dtype) if u is None else np.ascontiguousarray(u.T).reshape(shape))
        return w, ops.conv2d(self.x, w, stride=c.stride, padding=c.padding, dilation=c.dilation, groups=c.groups)


def _channels(layer: Conv2d, channels: int, group: int | None) -> slice:
    if group is None and layer.groups > 1:
        raise ArgumentError(f"layer {layer.name!r} has groups, whose rows meet different inputs; use another method")
    size, start = channels // layer.groups, group or 0
    return slice(start * size, (start + 1) * size)
