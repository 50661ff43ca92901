"""What goes through the layers with weights on calibration data: a few samples at a time, so that memory is bounded.

    z = W x + b      a = sigma(z)        x  inputs      z  preactivations      a  outputs      dL/dz  gradients

sigma is the activation directly behind the layer; without one, a = z. A convolution is the same for every position of
its output: `patches` gives its x as rows, one for each sample and position, and `Operator` is z = A(W) as a linear map
of the weights, with its adjoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from l0ref import ops
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.errors import ArgumentError
from l0ref.nn import Conv2d, Layer, Linear, Model
from l0ref.nn.activations import ELEMENTWISE
from l0ref.nn.sequence import Residual, leaves
from l0ref.ops.windows import Windows
from l0ref.validate import Array, count, float_array, labels, pair


@dataclass(frozen=True)
class Signals:
    """Of one layer and some samples: arrays with the samples first; see the text of the module.

    gradients  of the mean cross-entropy of these samples with respect to z; None if no labels were given
    """

    inputs: Array
    preactivations: Array
    outputs: Array
    gradients: Array | None = None


def trace(
    model: Model, x: Array, *, y: Any = None, keys: Sequence[str] | None = None, chunk: int = 256
) -> Iterator[dict[str, Signals]]:
    """Yield the signals of every layer with weights, by the name of its weight, for `chunk` samples after another.

    y      class labels, if gradients are asked for
    keys   of these weights only; others are not held
    chunk  samples at a time: what is held is in proportion to it, not to len(x)

    The network is in evaluation mode: no dropout, running statistics.

    >>> from l0ref import data, nn
    >>> images = data.load("digits", seed=0).test.x
    >>> [s["fc2.weight"].inputs.shape for s in trace(nn.digits_mlp(seed=0), images, chunk=300)]
    [(300, 300), (100, 300)]
    """
    x = float_array("x", x)
    model.check_input("x", x)
    count("chunk", chunk, least=1)
    if not len(x):
        raise ArgumentError("x has 0 samples; pass at least one to trace")
    if bad := int((~np.isfinite(x)).sum()):
        raise ArgumentError(f"x has {bad} of {x.size} values NaN or infinite; drop those samples")
    for key in keys or ():
        if key not in model.weights:
            raise ArgumentError(f"keys has {key!r}, which is no weight; choose from {', '.join(model.weights)}")
    wanted = set(model.weights if keys is None else keys)
    known = None if y is None else labels("y", y, shape=x.shape[:1], classes=model.classes)
    return _chunks(model, x, known, wanted, chunk)


def _chunks(model: Model, samples: Array, y: Any, wanted: set[str], chunk: int) -> Iterator[dict[str, Signals]]:
    values = {k: Tensor(v) for k, v in model.params.items()}
    for start in range(0, len(samples), chunk):
        rows = slice(start, start + chunk)
        found: dict[str, list[Tensor]] = {}
        out = _walk(model.architecture, Tensor(samples[rows]), values, model.buffers, wanted, found)
        slopes: list[Any] = [None] * len(found)
        if y is not None:
            slopes = list(grad(ops.cross_entropy(out, y[rows]), [tensors[1] for tensors in found.values()]))
        parts = zip(found.items(), slopes, strict=True)
        yield {key: Signals(x.data, z.data, a.data, slope) for (key, (x, z, a)), slope in parts}
        del found, out, slopes, parts


def _walk(
    layers: Sequence[Layer],
    x: Tensor,
    values: Mapping[str, Tensor],
    buffers: Mapping[str, Array],
    wanted: set[str],
    found: dict[str, list[Tensor]],
) -> Tensor:
    """Apply the layers in turn and note [x, z, a] of the wanted ones."""
    last = None  # the key of a layer whose activation may follow
    for layer in layers:
        if isinstance(layer, Residual):
            main = _walk(layer.body, x, values, buffers, wanted, found)
            x, last = ops.add(main, _walk(layer.shortcut, x, values, buffers, wanted, found)), None
            continue
        before = x
        x, _ = layer.forward(x, values, buffers, training=False, rng=None)
        if last is not None and isinstance(layer, ELEMENTWISE):
            found[last][2] = x
        last = next((key for key in layer.weights() if key in wanted), None)
        if last is not None:
            found[last] = [before, x, x]
    return x


def layer_of(model: Model, key: str) -> Linear | Conv2d:
    """Return the layer whose weight is `key`; refuse one that stores only part of its weights."""
    layer = next((layer for layer in leaves(model.architecture) if key in layer.weights()), None)
    if not isinstance(layer, Linear | Conv2d):
        known = ", ".join(k for k in model.weights if k not in model.patterns)
        raise ArgumentError(f"key={key!r} is not the weight of a Linear or Conv2d layer; choose from {known or 'none'}")
    return layer


def patches(layer: Linear | Conv2d, x: Array, *, group: int = 0) -> Array:
    """Return the rows that the weights are multiplied by: z = rows W' + b, W flattened to (F / groups, P).

    Linear: x itself. Conv2d: one row for each sample and position, (N P Q, C/groups R S), of the channels of `group`.
    """
    if isinstance(layer, Linear):
        return x
    win = _windows(layer).of(x)[:, _channels(layer, group)]
    return np.ascontiguousarray(win.transpose(0, 2, 3, 1, 4, 5)).reshape(-1, win.shape[1] * win.shape[4] * win.shape[5])


def answers(layer: Linear | Conv2d, z: Array, *, group: int = 0) -> Array:
    """Return preactivations, or gradients, as rows that belong to those of `patches`: (N P Q, F / groups)."""
    if isinstance(layer, Linear):
        return z
    size = layer.out_channels // layer.groups
    part = z[:, group * size : (group + 1) * size]
    return np.ascontiguousarray(part.transpose(0, 2, 3, 1)).reshape(-1, size)


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
        layer = self.layer
        shape: tuple[int, ...] = (
            (layer.out_features, layer.in_features)
            if isinstance(layer, Linear)
            else (layer.out_channels, layer.in_channels // layer.groups, *pair("kernel_size", layer.kernel_size))
        )
        w, out = self._tape(np.zeros(shape, self.x.dtype))
        return grad(out, [w], y_bar=z)[0]

    def _tape(self, weights: Array) -> tuple[Tensor, Tensor]:
        w, layer = Tensor(weights), self.layer
        if isinstance(layer, Linear):
            return w, ops.linear(self.x, w)
        options = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
        return w, ops.conv2d(self.x, w, **options)


def _windows(layer: Conv2d) -> Windows:
    settings = (pair(name, getattr(layer, name)) for name in ("kernel_size", "stride", "padding", "dilation"))
    return Windows(*settings)


def _channels(layer: Conv2d, group: int) -> slice:
    size = layer.in_channels // layer.groups
    return slice(group * size, (group + 1) * size)
