"""Nested values as JSON and arrays, and back: a value stands for itself, or is an object whose one key is its kind.

    None, bool, int, str, finite float    themselves
    {"float": "inf"}                      a float that JSON cannot express
    {"list": [...]}, {"tuple": [...]}, {"dict": {...}}
    {"array": name}, {"scalar": name}     an array of the file, a NumPy number
    {"Adam": {field: value, ...}}         a record of settings: recipe, penalty, optimiser, schedule or surrogate

Nothing else is constructed; the class of a record is looked up in the registries, never imported by name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError, CheckpointError
from l0ref.optim import OPTIMIZERS, Proximal
from l0ref.penalty import Penalty
from l0ref.schedules import SCHEDULES
from l0ref.surrogates import SURROGATES
from l0ref.training.recipe import Recipe
from l0ref.validate import Array


def records() -> dict[str, type]:
    """Return the classes of settings by name."""
    classes = (Recipe, Penalty, Proximal, *OPTIMIZERS.values(), *SCHEDULES.values(), *SURROGATES.values())
    return {cls.__name__: cls for cls in classes}


def packed(value: Any, arrays: dict[str, Array], name: str) -> Any:
    """Return the JSON form of `value`; its arrays go into `arrays`, under names that begin with `name`."""
    kind = type(value)
    if value is None or kind in (bool, int, str) or (kind is float and math.isfinite(value)):
        return value
    if kind is float:
        return {"float": repr(value)}
    if kind in (list, tuple):
        return {kind.__name__: [packed(item, arrays, name) for item in value]}
    if isinstance(value, np.ndarray | np.generic):
        place = f"{name}.{len(arrays)}"
        arrays[place] = np.asarray(value)
        return {"scalar" if isinstance(value, np.generic) else "array": place}
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {"dict": {key: packed(item, arrays, name) for key, item in value.items()}}
    if records().get(kind.__name__) is kind:
        fields = [f.name for f in dataclasses.fields(value) if f.init]
        return {kind.__name__: {key: packed(getattr(value, key), arrays, name) for key in fields}}
    raise ArgumentError(
        f"{name} holds {kind.__name__}, which a checkpoint cannot hold; use numbers, strings, arrays, lists, "
        "dicts with strings as keys, and registered settings"
    )


def unpacked(value: Any, arrays: Mapping[str, Array]) -> Any:
    """Return the value whose JSON form `packed` made."""
    if not isinstance(value, dict | list):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise CheckpointError("a value is neither plain nor an object with one key")
    ((kind, body),) = value.items()
    if kind == "float":
        return float(body)
    if kind in ("list", "tuple"):
        items = [unpacked(item, arrays) for item in body]
        return items if kind == "list" else tuple(items)
    if kind in ("array", "scalar"):
        return arrays[body] if kind == "array" else arrays[body][()]
    if kind != "dict" and kind not in records():
        raise CheckpointError(f"{kind[:100]!r} is not a registered kind of value")
    found = {key: unpacked(item, arrays) for key, item in body.items()}
    return found if kind == "dict" else records()[kind](**found)
