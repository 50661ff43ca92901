"""A Model as a module of PyTorch, with the names, values, dtype and masks it has here."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from l0ref import nn
from l0ref.errors import ArgumentError
from l0ref.interop.extras import need_torch
from l0ref.interop.torch_layers import OURS, residual_class
from l0ref.nn import Layer, Model
from l0ref.validate import Array


def to_torch(model: Model) -> Any:
    """Return an nn.Sequential that computes the same as `model`; it is in training mode, as new modules of PyTorch are.

    Children have our names; a name with dots, as in "block1.conv", becomes a Sequential within a Sequential, so
    that state_dict() has our keys, and a residual block a small module of its own. Arrays are copies of the same
    dtype. Masks become those of torch.nn.utils.prune (`weight_orig`, `weight_mask`), so that pruned entries
    stay pruned. A GlobalAvgPool2d becomes AdaptiveAvgPool2d(1) and Flatten.

    Names that cannot be nested, such as "fc" beside "fc.relu", are refused.
    """
    torch = need_torch()
    with torch.random.fork_rng(devices=[]):  # a new layer draws weights, which are overwritten
        try:
            module = torch.nn.Sequential(_chain(model.architecture, ""))
        except KeyError as error:
            raise ArgumentError(
                f"architecture has a layer name that PyTorch does not allow: {error.args[0]}; rename it"
            ) from None
    module.to(getattr(torch, model.dtype.name))
    arrays = {key: tensor(array) for key, array in {**model.params, **model.buffers}.items()}
    module.load_state_dict(module.state_dict() | arrays)
    for key, mask in model.masks.items():
        owner, _, what = key.rpartition(".")
        torch.nn.utils.prune.custom_from_mask(module.get_submodule(owner), what, tensor(mask.astype(model.dtype)))
    return module


def tensor(array: Array) -> Any:
    """Return a copy of `array` as a tensor of the same type."""
    return need_torch().from_numpy(np.array(array, order="C"))


def _chain(layers: Sequence[Layer], prefix: str) -> OrderedDict[str, Any]:
    """The children that hold `layers`, whose names all begin with `prefix`, by the next part of their names."""
    children: OrderedDict[str, Any] = OrderedDict()
    for head, group in groupby(layers, key=lambda layer: _head(layer, prefix)):
        if head in children:
            raise ArgumentError(
                f"architecture has layers named {prefix + head!r} apart from each other, which would have to be "
                "one module of PyTorch; rename one of them"
            )
        children[head] = _child(prefix + head, tuple(group))
    return children


def _child(name: str, layers: tuple[Layer, ...]) -> Any:
    """The module that holds `layers`: a single one called `name`, or several below it."""
    nn_theirs = need_torch().nn
    first, *after = layers
    if all(layer.name != name for layer in layers):
        return nn_theirs.Sequential(_chain(layers, f"{name}."))
    if isinstance(first, nn.Residual) and first.name == name:
        body, shortcut, last = (_chain(part, f"{name}.") for part in (first.body, first.shortcut, after))
        if twice := sorted((body.keys() & shortcut.keys()) | ((body.keys() | shortcut.keys()) & last.keys())):
            raise ArgumentError(
                f"architecture has {name + '.' + twice[0]!r} in two parts of a residual block; rename one of them"
            )
        return residual_class()(body, shortcut, last)
    if after:
        other = next(layer.name for layer in layers if layer.name != name)
        raise ArgumentError(
            f"architecture has layers named {name!r} and {other!r}, and PyTorch cannot hold one inside the other; "
            "rename one of them"
        )
    if isinstance(first, nn.GlobalAvgPool2d):
        return nn_theirs.Sequential(OrderedDict(mean=nn_theirs.AdaptiveAvgPool2d(1), flatten=nn_theirs.Flatten()))
    if type(first) not in OURS:
        known = ", ".join(sorted(kind.__name__ for kind in OURS))
        raise ArgumentError(
            f"architecture has {name!r}, a {type(first).__name__}, which has no module in PyTorch; use one of {known}"
        )
    return OURS[type(first)].write(first)


def _head(layer: Layer, prefix: str) -> str:
    """The part of a layer's name that follows `prefix`."""
    if not layer.name.startswith(prefix):
        raise ArgumentError(
            f"architecture has {layer.name!r} inside the residual block {prefix[:-1]!r}; begin its name with {prefix!r}"
        )
    return layer.name.removeprefix(prefix).partition(".")[0]
