"""Arrays alone, as in a state dict, put into the architecture of a Model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.interop.extras import kept
from l0ref.nn import Model
from l0ref.validate import FLOATS, Array

MASK, ORIG, COUNTER = "_mask", "_orig", "num_batches_tracked"


def from_state_dict(state: Mapping[str, Any], *, like: Model, names: Mapping[str, str] | None = None) -> Model:
    """Return the Model with the architecture of `like` and the arrays of `state`.

    state   {name: array or tensor}, such as module.state_dict() or `read_arrays(path)`. `weight_orig` with
            `weight_mask`, as torch.nn.utils.prune leaves them, and `weight` with `weight_mask` give masks
    names   {our name: their name} of layers, {"fc1": "classifier.0"}, or of single arrays; all others have our name

    Shapes are compared before anything is computed; every array must be used, batch counters excepted.
    """
    if not isinstance(like, Model) or like.patterns:
        raise ArgumentError("like must be a Model without sparse layers; pass one of the same architecture")
    names, arrays = dict(names or {}), {**like.params, **like.buffers}
    known = {*arrays, *(key.rpartition(".")[0] for key in arrays)}
    if odd := next((name for name in names if name not in known), None):
        raise ArgumentError(f"names has {odd!r}, which like does not have; it has {', '.join(list(arrays)[:6])}")
    rest = {key: value for key, value in state.items() if not key.endswith(COUNTER)}
    found: dict[str, Array] = {}
    masks: dict[str, Array] = {}
    for key, wanted in arrays.items():
        layer, _, what = key.rpartition(".")
        theirs = names.get(key, f"{names.get(layer, layer)}.{what}")
        held = theirs if theirs in rest else theirs + ORIG
        if held not in rest:
            few = ", ".join(list(rest)[:6]) or "nothing"
            raise ArgumentError(
                f"state lacks {theirs!r} for {key!r} and has left {few}; name it in names={{{key!r}: ...}}"
            )
        found[key] = _array(held, rest.pop(held), wanted.shape)
        if key in like.weights and theirs + MASK in rest:
            mask = _array(theirs + MASK, rest.pop(theirs + MASK), wanted.shape)
            masks[key] = kept(f"state has {theirs + MASK!r}", mask)
    if rest:
        raise ArgumentError(
            f"state has {next(iter(rest))!r}, which no layer of like reads; remove it or name it in names"
        )
    if half := next((key for key, array in found.items() if array.dtype not in FLOATS), None):
        raise DTypeError(f"state has {half!r} in {found[half].dtype}; convert it to float32 or float64")
    params = {key: found[key] for key in like.params}
    buffers = {key: found[key] for key in like.buffers}
    return Model(like.architecture, like.input_shape, params, {}, buffers).replace(masks=masks)


def _array(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """A copy of an array or a tensor of this shape."""
    if tuple(value.shape) != shape:
        raise ShapeError(f"state has {name!r} of shape {tuple(value.shape)}, expected {shape}, that of like")
    return np.array(value.detach().cpu().numpy() if hasattr(value, "detach") else value, order="C")
