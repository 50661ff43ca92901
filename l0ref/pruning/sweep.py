"""Sweeping dead units: removing weights that no longer affect the output after pruning.

A unit (a neuron of a Linear layer, a filter of a Conv2d layer) is dead in one of two ways:

    no incoming weight   its output is a constant, the same for every input. The effect of the constant
                         on the next layer is folded into that layer's bias, and the unit's outgoing
                         weights are removed.
    no outgoing weight   no layer reads it. Its incoming weights are removed and its bias set to 0.

Removing weights may make further units dead, so the sweep repeats until nothing changes. The network
computes the same function as before, up to rounding, in evaluation mode.

A network without a path from input to output, whose output is constant, does not change, so that it
keeps the number of weights it was pruned to.

Not swept are outputs of the network, channels that enter or leave a residual sum or a grouped
convolution, and units whose constant cannot be folded (it is not zero, and the next layer has no
bias, or is a convolution with padding or over a constant that varies from place to place).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from l0ref.autodiff.tensor import Tensor
from l0ref.masks import removed
from l0ref.nn import BatchNorm1d, BatchNorm2d, Conv2d, Linear, Model, Residual
from l0ref.nn.activations import ELEMENTWISE
from l0ref.nn.layer import Layer, Shape
from l0ref.nn.layers import AvgPool2d, Dropout, Flatten, GlobalAvgPool2d, MaxPool2d
from l0ref.nn.sequence import run, shapes
from l0ref.validate import Array

PER_CHANNEL = (*ELEMENTWISE, AvgPool2d, MaxPool2d, GlobalAvgPool2d, Flatten, Dropout, BatchNorm1d, BatchNorm2d)


@dataclass(frozen=True)
class Sweep:
    """The swept model, and the numbers of units and weights removed.

    units    number of dead units found, by layer name
    weights  number of weights removed beyond those that were masked before
    """

    model: Model
    units: Mapping[str, int]
    weights: int


class Link(NamedTuple):
    """Two weighted layers with only channel-by-channel layers between them."""

    first: Layer
    shape: Shape  # of the output of `first`
    between: tuple[Layer, ...]
    second: Layer


def sweep(model: Model) -> Sweep:
    """Remove the weights of dead units from a masked model; its function does not change."""
    links = list(_links(model.architecture, model.input_shape))
    swept = model.replace(masks={key: model.mask(key) for key in model.weights})
    before = removed(swept.masks)
    changed = True
    while changed:
        count = removed(swept.masks)
        for link in links:
            swept = _drop_unread(_fold_constant(swept, link), link)
        changed = removed(swept.masks) > count
    if not any(mask.any() for mask in swept.masks.values()):  # no path is left and the output is constant: keep all
        return Sweep(model.replace(masks={key: model.mask(key) for key in model.weights}), {}, 0)
    units = {link.first.name: int(_dead(swept, link).sum()) for link in links}
    return Sweep(swept, {name: n for name, n in units.items() if n}, removed(swept.masks) - before)


def fold_constants(model: Model, units: Mapping[str, Array]) -> Model:
    """Fold the constant outputs of units without incoming weights into the next bias, where that is exact.

    units   {layer: indices}; other units, and those that still have incoming weights, do not change
    """
    for link in _links(model.architecture, model.input_shape):
        key = f"{link.first.name}.weight"
        ids = np.asarray(units.get(link.first.name, ()), np.intp)
        if key in model.masks and not _by_unit(model.masks[key])[ids].all():
            whole = model.replace(masks={name: model.mask(name) for name in model.weights})
            model = _fold_constant(whole, link, among=np.isin(np.arange(link.shape[0]), ids))
    return model


def _links(layers: Sequence[Layer], shape: Shape) -> Iterator[Link]:
    """Yield every pair of neighbouring weighted layers in a chain; residual sums, grouped convolutions end a chain."""
    first: Layer | None = None
    first_shape: Shape = ()
    between: list[Layer] = []
    for layer, inner in zip(layers, shapes(layers, shape), strict=False):
        if isinstance(layer, Linear | Conv2d) and getattr(layer, "groups", 1) == 1:
            if first is not None:
                yield Link(first, first_shape, tuple(between), layer)
            first, first_shape, between = layer, layer.output_shape(inner), []
        elif isinstance(layer, PER_CHANNEL):
            between.append(layer)
        else:
            first, between = None, []
            if isinstance(layer, Residual):
                yield from _links(layer.body, inner)
                yield from _links(layer.shortcut, inner)


def _fold_constant(model: Model, link: Link, *, among: Array | bool = True) -> Model:
    """Fold the output of units without incoming weights into the next bias; remove their outgoing weights."""
    key_in, key_out = f"{link.first.name}.weight", f"{link.second.name}.weight"
    silent = ~_by_unit(model.masks[key_in])
    readers = _outgoing(model.masks[key_out], link)
    candidates = silent & readers.any(axis=(0, 2)) & among
    if not candidates.any():
        return model
    output = _constant_output(model, link)
    folded, effect = _effect(model, link, output, candidates)
    masks, params = dict(model.masks), dict(model.params)
    keep = readers & ~folded[None, :, None]
    masks[key_out] = keep.reshape(masks[key_out].shape)
    if effect.any():
        bias = f"{link.second.name}.bias"
        params[bias] = params[bias] + effect.astype(params[bias].dtype)
    return model.replace(params=params, masks=masks)


def _drop_unread(model: Model, link: Link) -> Model:
    """Remove the incoming weights of units that no weight reads, and their bias."""
    key_in, bias = f"{link.first.name}.weight", f"{link.first.name}.bias"
    unread = ~_outgoing(model.masks[f"{link.second.name}.weight"], link).any(axis=(0, 2))
    masks, params = dict(model.masks), dict(model.params)
    keep = masks[key_in].copy()
    keep[unread] = False
    masks[key_in] = keep
    if bias in params:
        params[bias] = np.where(unread, 0, params[bias]).astype(params[bias].dtype)
    return model.replace(params=params, masks=masks)


def _constant_output(model: Model, link: Link) -> Array:
    """Return the input of `second` if every unit of `first` outputs its bias everywhere, as a batch of one."""
    bias = model.params.get(f"{link.first.name}.bias")
    values = np.zeros(link.shape, model.dtype)
    if bias is not None:
        values += bias.reshape(-1, *[1] * (len(link.shape) - 1))
    params = {k: Tensor(p) for k, p in model.params.items()}
    out, _ = run(link.between, Tensor(values[None]), params, model.buffers, training=False, rng=None)
    return out.data


def _effect(model: Model, link: Link, output: Array, candidates: Array) -> tuple[Array, Array]:
    """Return which candidates can be folded, and the sum of their effects on each output of `second`."""
    groups = output.reshape(candidates.size, -1)  # (units, features of one unit)
    silent = ~groups.any(axis=1)
    has_bias = f"{link.second.name}.bias" in model.params
    uniform = isinstance(link.second, Linear) or (np.ptp(groups, axis=1) == 0) & _unpadded(link.second)
    folded = candidates & (silent | (uniform & has_bias))
    weight = _outgoing(model.params[f"{link.second.name}.weight"], link)  # (outputs, units, features)
    if isinstance(link.second, Linear):
        return folded, np.einsum("mud,ud->m", weight[:, folded], groups[folded])
    return folded, np.einsum("mud,u->m", weight[:, folded], groups[folded, 0])


def _unpadded(layer: Layer) -> bool:
    return not np.any(getattr(layer, "padding", 0))


def _dead(model: Model, link: Link) -> Array:
    """Return which units of `first` have neither an incoming nor an outgoing weight."""
    incoming = _by_unit(model.masks[f"{link.first.name}.weight"])
    outgoing = _outgoing(model.masks[f"{link.second.name}.weight"], link).any(axis=(0, 2))
    return np.asarray(~incoming & ~outgoing)


def _by_unit(mask: Array) -> Array:
    return np.asarray(mask.any(axis=tuple(range(1, mask.ndim))))


def _outgoing(weight: Array, link: Link) -> Array:
    """Return a weight or mask of `second` as (outputs, units of `first`, weights per unit)."""
    units = link.shape[0]
    return weight.reshape(weight.shape[0], units, prod(weight.shape[1:]) // max(units, 1))
