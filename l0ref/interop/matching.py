"""The correspondence between the parameters of a module and those of a model."""

from __future__ import annotations

from typing import Any

from l0ref.errors import ArgumentError, ShapeError
from l0ref.interop.torch_arrays import parameters
from l0ref.nn import Model
from l0ref.nn.sequence import leaves


def in_order(model: Model) -> list[str]:
    """Return the parameters of `model` in the order of its layers, weight before bias."""
    place = {layer.name: i for i, layer in enumerate(leaves(model.architecture))}
    return sorted(model.params, key=lambda key: (place[key.rpartition(".")[0]], key.endswith(".bias")))


def matched(model: Model, module: Any) -> dict[str, str]:
    """Return {our name: their name} of every parameter, in the order of our layers.

    By name if both have the same names; otherwise by position, if all shapes agree in order.
    """
    theirs = {held.name: tuple(held.parameter.shape) for held in parameters(module)}
    ours = {key: model.params[key].shape for key in in_order(model)}
    if ours.keys() == theirs.keys():
        for key, shape in ours.items():
            if theirs[key] != shape:
                raise ShapeError(f"module has {key!r} of shape {theirs[key]}, the model of {shape}; build both alike")
        return {key: key for key in ours}
    if list(ours.values()) == list(theirs.values()):
        return dict(zip(ours, theirs, strict=True))
    only = next((key for key in ours if key not in theirs), None)
    odd = f"lacks {only!r}" if only else f"has {next(k for k in theirs if k not in ours)!r}, not in the model,"
    raise ArgumentError(
        f"module {odd} and its parameters {_shown(theirs)} do not match the model's {_shown(ours)} by position either; "
        "give both the same layers"
    )


def _shown(arrays: dict[str, tuple[int, ...]]) -> str:
    few = [f"{name} {shape}" for name, shape in list(arrays.items())[:4]]
    return ", ".join(few) + (", ..." if len(arrays) > 4 else "") if few else "(none)"


def buffers_matched(names: dict[str, str]) -> dict[str, str]:
    """Return {our layer: their layer} from the matched names of its parameters."""
    return {ours.rpartition(".")[0]: theirs.rpartition(".")[0] for ours, theirs in names.items()}
