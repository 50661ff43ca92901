"""A Model as a module of PyTorch, with the names, values, dtype and masks it has here."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from math import inf
from typing import Any

import numpy as np

from l0ref import nn
from l0ref.errors import ArgumentError
from l0ref.interop.extras import need, need_torch
from l0ref.interop.forms import formed
from l0ref.interop.torch_layers import OURS, residual_class
from l0ref.interop.torch_sparse import from_layer
from l0ref.nn import Layer, Model
from l0ref.nn.sequence import leaves
from l0ref.validate import Array, edges_of


def to_torch(model: Model, *, form: str | None = None) -> Any:
    """Return an nn.Sequential that computes the same as `model`; it is in training mode, as new modules of PyTorch are.

    form   "masked", "dense", "shrunk" or "sparse": see `l0ref.interop.forms`. None: sparse if the model is compact,
           masked otherwise

    Children have our names; a name with dots, as in "block1.conv", becomes a Sequential within a Sequential, so
    that state_dict() has our keys, and a residual block a small module of its own. Names that do not nest, such as
    "fc" inside a block "add", give a torch.fx.GraphModule with the same keys. Arrays are copies of the same
    dtype. Masks become those of torch.nn.utils.prune (`weight_orig`, `weight_mask`), so that pruned entries
    stay pruned; weights of the sparse form are `values`, `crow_indices` and `col_indices` of a CSR matrix. A
    GlobalAvgPool2d becomes AdaptiveAvgPool2d(1) and Flatten, uneven padding of a pooling a ConstantPad2d before it.
    """
    torch = need_torch()
    ready = formed(model, form or ("sparse" if model.patterns else "masked"))
    with torch.random.fork_rng(devices=[]):  # a new layer draws weights, which are overwritten
        try:
            module = torch.nn.Sequential(_chain(ready.architecture, ""))
        except _Apart:
            module = _graph(ready.architecture)
        except KeyError as error:
            raise ArgumentError(
                f"architecture has a layer name that PyTorch does not allow: {error.args[0]}; rename it"
            ) from None
    module.to(getattr(torch, ready.dtype.name))
    values = {f"{key.removesuffix('.weight')}.values": ready.params[key] for key in ready.patterns}
    whole = {key: array for key, array in ready.params.items() if key not in ready.patterns}
    arrays = {key: tensor(array) for key, array in {**whole, **values, **ready.buffers}.items()}
    module.load_state_dict(module.state_dict() | arrays)
    for key, mask in ready.masks.items():
        owner, _, what = key.rpartition(".")
        torch.nn.utils.prune.custom_from_mask(module.get_submodule(owner), what, tensor(mask.astype(ready.dtype)))
    return module


def tensor(array: Array) -> Any:
    """Return a copy of `array` as a tensor of the same type."""
    return need_torch().from_numpy(np.array(array, order="C"))


class _Apart(Exception):
    """Raised where the names of layers do not nest as the layers do."""


def _chain(layers: Sequence[Layer], prefix: str) -> OrderedDict[str, Any]:
    """The children that hold `layers`, whose names all begin with `prefix`, by the next part of their names."""
    children: OrderedDict[str, Any] = OrderedDict()
    for head, group in groupby(layers, key=lambda layer: _head(layer, prefix)):
        if head in children:
            raise _Apart
        children[head] = _child(prefix + head, tuple(group))
    return children


def _child(name: str, layers: tuple[Layer, ...]) -> Any:
    """The module that holds `layers`: a single one called `name`, or several below it."""
    first, *after = layers
    if all(layer.name != name for layer in layers):
        return need_torch().nn.Sequential(_chain(layers, f"{name}."))
    if isinstance(first, nn.Residual) and first.name == name:
        body, shortcut, last = (_chain(part, f"{name}.") for part in (first.body, first.shortcut, after))
        if (body.keys() & shortcut.keys()) | ((body.keys() | shortcut.keys()) & last.keys()):
            raise _Apart
        return residual_class()(body, shortcut, last)
    if after:
        raise _Apart
    return _module(first)


def _module(layer: Layer) -> Any:
    """The module of one layer."""
    nn_theirs = need_torch().nn
    if isinstance(layer, nn.GlobalAvgPool2d):
        return nn_theirs.Sequential(OrderedDict(mean=nn_theirs.AdaptiveAvgPool2d(1), flatten=nn_theirs.Flatten()))
    if isinstance(layer, nn.SparseLinear | nn.SparseConv2d):
        return from_layer(layer)
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d) and any(a != b for a, b in edges_of(layer.padding)):
        return _padded(layer)
    if type(layer) not in OURS:
        known = ", ".join(sorted(kind.__name__ for kind in OURS))
        raise ArgumentError(
            f"architecture has {layer.name!r}, a {type(layer).__name__}, which has no module in PyTorch; "
            f"use one of {known}"
        )
    return OURS[type(layer)].write(layer)


def _padded(layer: nn.MaxPool2d | nn.AvgPool2d) -> Any:
    """A pooling with uneven padding, as a module that pads and one that pools."""
    if layer.ceil_mode or not getattr(layer, "count_include_pad", True):
        told = f"padding={layer.padding} beside ceil_mode or count_include_pad=False"
        raise ArgumentError(f"architecture has {layer.name!r}, with {told}, which PyTorch lacks; pad both sides alike")
    nn_theirs, (rows, columns) = need_torch().nn, edges_of(layer.padding)
    pad = nn_theirs.ConstantPad2d((*columns, *rows), -inf if isinstance(layer, nn.MaxPool2d) else 0.0)
    return nn_theirs.Sequential(OrderedDict(pad=pad, pool=_module(replace(layer, padding=0))))


def _head(layer: Layer, prefix: str) -> str:
    """The part of a layer's name that follows `prefix`."""
    if not layer.name.startswith(prefix):
        raise _Apart
    return layer.name.removeprefix(prefix).partition(".")[0]


def _graph(layers: Sequence[Layer]) -> Any:
    """A GraphModule that calls the layers, each a submodule under its own name."""
    fx = need("torch.fx", extra="crosscheck")
    graph = fx.Graph()

    def written(part: Sequence[Layer], value: Any) -> Any:
        for layer in part:
            if isinstance(layer, nn.Residual):
                value = graph.call_function(
                    operator.add, tuple(written(p, value) for p in (layer.body, layer.shortcut))
                )
            else:
                value = graph.call_module(layer.name, (value,))
        return value

    graph.output(written(layers, graph.placeholder("x")))
    return fx.GraphModule({layer.name: _module(layer) for layer in leaves(layers)}, graph)
