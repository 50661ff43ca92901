"""The forms in which a pruned network is exported; all compute the same function.

masked   arrays of the full size, and masks of the kept weights
dense    arrays of the full size, zeros where pruned, no masks
shrunk   useless units and filters removed, so that arrays are smaller; no masks
sparse   the kept weights and their positions
"""

from __future__ import annotations

import dataclasses
from math import prod

import numpy as np

from l0ref import nn
from l0ref.deploy.compact import sparse_twin
from l0ref.errors import ArgumentError, ShapeError
from l0ref.nn import Model
from l0ref.nn.sequence import leaves, mapped
from l0ref.pruning.shrink import shrink
from l0ref.sparse import Pattern
from l0ref.validate import choose

SPARSE = (nn.SparseLinear, nn.SparseConv2d)
FORMS = ("masked", "dense", "shrunk", "sparse")
LARGEST = 2**30  # entries of an array that is unpacked: a small file can name a pattern of any shape


def formed(model: Model, form: str) -> Model:
    """Return `model`, which may be compact, in one of `FORMS`."""
    choose("form", form, FORMS)
    full = unpacked(model)
    if form == "shrunk":
        full = shrink(full)
    if form == "sparse":
        return sparse_twin(full)
    return full if form == "masked" else dataclasses.replace(full, masks={})


def finite(model: Model) -> Model:
    """Return `model` if all its arrays are finite: as in a .npz, NaN and infinities are neither written nor read."""
    for name, array in {**model.params, **model.buffers}.items():
        if not np.isfinite(array).all():
            raise ArgumentError(f"arrays[{name!r}] has NaN or infinite entries; repair them")
    return model


def unpacked(model: Model) -> Model:
    """Return a compact model with dense arrays, and masks that keep the stored entries."""
    if not model.patterns:
        return model
    params, masks = dict(model.params), dict(model.masks)
    for layer in leaves(model.architecture):
        if not isinstance(layer, SPARSE):
            continue
        key, pattern = f"{layer.name}.weight", layer.pattern
        if prod(pattern.shape) > LARGEST:
            raise ShapeError(
                f"model has {key!r} of {prod(pattern.shape)} weights with its zeros, above {LARGEST}; keep it compact"
            )
        shape = layer.kernel_shape if isinstance(layer, nn.SparseConv2d) else pattern.shape
        values = params[key]
        stored = np.ones_like(values) if isinstance(pattern, Pattern) else values  # tiles may be padded
        params[key] = pattern.scatter(values).reshape(shape)
        masks[key] = (pattern.scatter(stored) != 0).reshape(shape)
    architecture = mapped(
        model.architecture, lambda x: x.dense if isinstance(x, nn.SparseLinear | nn.SparseConv2d) else x
    )
    return Model(architecture, model.input_shape, params, masks, model.buffers)
