"""Networks of a user: from sizes, from a file, from a function, or from a result to continue from.

    mlp:784-300-100-10        fully connected, images flattened
    FILE.toml, FILE.json      layer by layer; shapes that follow from the layers before are left out
    package.module:function   function(input_shape=..., outputs=..., seed=..., dtype=...) -> Model
    run DIR                   the network of a result folder, or of a model file, with its masks

A file has one table [[layer]] for each layer: its `kind`, a name if it is to have one, and its fields by the names of
`l0ref.nn`. `in_features`, `in_channels` and `num_features` are those of the input where they are left out; a Residual
has lists `body` and `shortcut`.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from l0ref import checkpoint
from l0ref.archive import read_json
from l0ref.data import Splits
from l0ref.data.files import called, names_code
from l0ref.errors import ConfigError, L0RefError
from l0ref.nn import LAYERS, Layer, Model, mlp
from l0ref.nn.layer import Shape, from_json, to_json
from l0ref.nn.sequence import shapes

OWN_MODELS = ("mlp:784-300-100-10", "FILE.toml", "FILE.json", "package.module:function", "run DIR")
INFERRED = ("in_features", "in_channels", "num_features")  # sizes that are the first of the input's
MAX_FILE = 2**20


def is_own(model: str) -> bool:
    """Whether a word names a network that is not among the presets."""
    return model.startswith(("mlp:", "run ")) or model.endswith((".toml", ".json")) or names_code(model)


def no_code(path: str, table: dict[str, Any], named: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a file; refuse those that name code which is not `named` by hand."""
    for key in {"data", "model"} & set(table):
        if isinstance(value := table[key], str) and names_code(value) and not {key, value} & set(named):
            raise ConfigError(f"config={path!r} names code, {key}={value!r}; a file may not, so give --{key} {value}")
    return table


def own_network(model: str, data: Splits, *, seed: int, dtype: np.dtype[Any]) -> Model:
    """Return the network that `model` names, for the samples of `data`."""
    shape = data.train.sample_shape
    if model.startswith("mlp:"):
        return _mlp(model, shape, seed=seed, dtype=dtype)
    if model.startswith("run "):
        return _result(Path(model.removeprefix("run ")).expanduser()).astype(dtype)
    if names_code(model):
        found = called(model, what="model", input_shape=shape, outputs=data.train.outputs, seed=seed, dtype=dtype)
        if not isinstance(found, Model):
            raise ConfigError(f"model={model!r} returned {type(found).__name__}; return a Model, as Model.init does")
        if found.dtype != dtype:
            raise ConfigError(f"model={model!r} returned a network of {found.dtype}, not {dtype}; use dtype=")
        return found
    layers = architecture_of(_table(Path(model).expanduser()), shape, where=f"model={model!r}")
    return Model.init(layers, input_shape=shape, seed=seed, dtype=dtype)


def architecture_of(table: Any, input_shape: Shape, *, where: str) -> tuple[Layer, ...]:
    """Return the layers that a table describes; an error names the layer.

    >>> architecture_of({"layer": [{"kind": "Linear", "out_features": 10}]}, (784,), where="table")
    (Linear(name='layer1', in_features=784, out_features=10, bias=True, init='he_normal'),)
    """
    if not isinstance(table, Mapping) or set(table) != {"layer"} or not isinstance(table["layer"], list):
        raise ConfigError(f"{where} must hold one list of layers, [[layer]] in TOML, and nothing else")
    return _layers(table["layer"], input_shape, where=where, prefix="layer")


def _layers(described: Sequence[Any], shape: Shape, *, where: str, prefix: str) -> tuple[Layer, ...]:
    found = []
    for number, each in enumerate(described, start=1):
        name = each.get("name", f"{prefix}{number}") if isinstance(each, Mapping) else f"{prefix}{number}"
        here = f"{where}, layer {name!r}"
        try:
            layer = _layer(each, name, shape, where=where)
            shape = shapes((layer,), shape)[-1]
        except L0RefError as error:
            text = str(error)
            raise ConfigError(text if text.startswith(where) else f"{here}: {text}") from None
        found.append(layer)
    return tuple(found)


def _layer(described: Any, name: str, shape: Shape, *, where: str) -> Layer:
    if not isinstance(described, Mapping) or described.get("kind") not in LAYERS:
        kind = described.get("kind") if isinstance(described, Mapping) else described
        raise ConfigError(f"kind={kind!r} is not a layer; known are {', '.join(sorted(LAYERS))}")
    known = {f.name for f in dataclasses.fields(LAYERS[described["kind"]])}
    fields: dict[str, Any] = {key: shape[0] for key in INFERRED if key in known and key not in described}
    fields |= {**described, "name": name}
    for part in ("body", "shortcut"):
        if part in fields and part in known:
            fields[part] = _layers(fields[part], shape, where=where, prefix=f"{name}.{part}")
    fields |= {key: [to_json(v) for v in value] for key, value in fields.items() if key in ("body", "shortcut")}
    return from_json(fields)


def _mlp(model: str, shape: Shape, *, seed: int, dtype: np.dtype[Any]) -> Model:
    text = model.removeprefix("mlp:")
    parts = text.split("-")
    if len(parts) < 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise ConfigError(f"model={model!r} must name inputs, hidden units and outputs, as in mlp:784-300-100-10")
    sizes = [int(part) for part in parts]
    if sizes[0] != prod(shape):
        right = "-".join(map(str, (prod(shape), *sizes[1:])))
        raise ConfigError(f"model={model!r} has {sizes[0]} inputs, a sample has {prod(shape)}; give mlp:{right}")
    return mlp(sizes, seed=seed, input_shape=shape if len(shape) > 1 else None, dtype=dtype)


def check_npz(name: str, path: Path) -> None:
    """Refuse a network file in the format of another tool."""
    if path.suffix.lower() in (".onnx", ".safetensors"):
        raise ConfigError(f"{name}={str(path)!r} is read after l0ref convert {path} {path.with_suffix('.npz')}")


def _result(place: Path) -> Model:
    file = place if place.is_file() else place / "model.npz"
    if not file.is_file():
        raise ConfigError(f"model='run {place}' has no model.npz; name a folder that l0ref compress --out wrote")
    check_npz("model", file)
    return checkpoint.load(file)


def _table(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_FILE:
            raise ConfigError(f"model={str(path)!r} is larger than {MAX_FILE:,} bytes; that describes no network")
        return read_json(path) if path.suffix == ".json" else tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"model={str(path)!r} cannot be read: {error.strerror}; check the path") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"model={str(path)!r} is not {path.suffix[1:].upper()}: {error}; correct the file") from None
