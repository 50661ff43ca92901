"""safetensors: a Model with masks and configuration in the format of the Hugging Face library, without pickling.

    fc1.weight, conv2.bias, ...   arrays by their names, so that `load_state_dict` of PyTorch takes them
    fc1.weight_mask, ...          masks, one bool per weight, in the masked form
    metadata                      "l0ref": the manifest of a model file as JSON, with the "preparation" of raw arrays
                                  for the network, if it is known; "sha256": of arrays and text

A known trap: safetensors 0.8.0 silently writes wrong values for arrays that are not C-contiguous. So arrays are made
contiguous, and the serialised bytes are read back and compared before they replace a file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from l0ref.archive import json_bytes, write_atomic
from l0ref.archive.strict_json import MAX_JSON, parse_json, read_file, read_json
from l0ref.checkpoint.model import UNSOUND, described, rebuilt
from l0ref.data import Preparation
from l0ref.errors import CheckpointError, L0RefError
from l0ref.interop.extras import need
from l0ref.interop.forms import finite
from l0ref.nn import Model
from l0ref.validate import Array

Result = TypeVar("Result")
KEY, SUM = "l0ref", "sha256"
MAX_FILE = 2**32


def save_safetensors(path: str | os.PathLike[str], model: Model, *, preparation: Preparation | None = None) -> None:
    """Write `model`, masks and patterns included, to `path`, atomically, after reading back the bytes to be written."""
    manifest, arrays = described(finite(model))
    manifest |= {} if preparation is None else {"preparation": preparation.to_json()}
    ready = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    text = json_bytes(manifest).decode("ascii")
    told = {KEY: text, SUM: checksum(ready, text)}
    data = need("safetensors.numpy", extra="interop").save(ready, metadata=told)
    again, back = _read(data, "path")
    if back != told or checksum(again, text) != told[SUM]:
        raise CheckpointError(f"path={os.fspath(path)!r} was not written: it reads back as other values; report this")
    write_atomic(path, data)


def load_safetensors(path: str | os.PathLike[str]) -> Model:
    """Read a model that `save_safetensors` wrote; refuse a wrong checksum, and a file without a configuration."""
    return _checked(path, lambda arrays, manifest: finite(rebuilt(manifest, arrays)))


def safetensors_preparation(path: str | os.PathLike[str]) -> Preparation | None:
    """Return the preparation of raw arrays that a file states for its network; None if it states none."""
    told = _checked(path, lambda _, manifest: manifest.get("preparation"))
    return None if told is None else Preparation.from_json(told)


def _checked(path: str | os.PathLike[str], made: Callable[[dict[str, Array], dict[str, Any]], Result]) -> Result:
    """Return `made` of the arrays and the manifest of a file, after comparing its checksum."""
    name = f"path={os.fspath(path)!r}"
    arrays, told = _read(read_file(path, name=name, max_bytes=MAX_FILE), name)
    if KEY not in told:
        raise CheckpointError(
            f"{name} holds arrays without a configuration of l0ref; pass read_arrays(path) to from_state_dict"
        )
    if told.get(SUM) != checksum(arrays, told[KEY]):
        raise CheckpointError(f"{name} has another sha256 than it states; restore it from a copy you trust")
    try:
        return made(arrays, dict(read_json(told[KEY].encode())))
    except UNSOUND as error:
        raise CheckpointError(f"{name} is not a sound model: {error}; restore it from a copy you trust") from None


def read_arrays(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return the arrays of any safetensors file of floats, integers or bools, as `from_state_dict` takes them."""
    name = f"path={os.fspath(path)!r}"
    return _read(read_file(path, name=name, max_bytes=MAX_FILE), name)[0]


def checksum(arrays: Mapping[str, Array], text: str) -> str:
    """Return the SHA-256 of a text and of names, types, shapes and bytes of arrays, in the order of names."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _read(data: bytes, name: str) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays and metadata. The library compares offsets with the length of the file before it returns anything."""
    load = need("safetensors.numpy", extra="interop").load
    if (header := int.from_bytes(data[:8], "little")) > MAX_JSON:
        raise CheckpointError(f"{name} declares a header of {header} bytes, the limit is {MAX_JSON}; save it again")
    try:
        arrays = {key: np.array(value) for key, value in load(data).items()}
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except L0RefError:
        raise
    except Exception as error:  # the library raises exceptions of its own, and KeyError for types that NumPy lacks
        told = str(error).splitlines()[:1]
        raise CheckpointError(
            f"{name} is not a safetensors file that NumPy can hold: {' '.join(told)[:200]}; save it in float32"
        ) from None
    return arrays, dict(header.get("__metadata__", {}))
