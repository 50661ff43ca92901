"""The one file format: a model as a .npz of plain arrays and a JSON manifest; nothing is ever unpickled.

    fc1.weight, conv2.bias, ...     parameters and buffers, under their own names
    fc1.weight_mask, ...            masks, one bool per weight, only of layers that were pruned
    fc1.weight_indptr, ..._indices  which weights a sparse layer stores
    manifest                        architecture, input shape, names by kind, checksums

The file opens with ``numpy.load(path, allow_pickle=False)`` too, so any tool that reads NumPy arrays
can read a model. Files are replaced as a whole, so a kill or a full disk leaves the old one.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from l0ref.archive import read_npz, write_npz
from l0ref.data import Preparation
from l0ref.errors import ArgumentError, CheckpointError, L0RefError, ShapeError
from l0ref.masks.tiles import grid
from l0ref.nn import Layer, Model, architecture_from_json
from l0ref.nn.sequence import leaves
from l0ref.sparse import BlockPattern, Pattern

KIND = "l0ref model"
VERSION = 1
MASK, INDPTR, INDICES = "_mask", "_indptr", "_indices"
# the errors that a manifest of wrong types, lengths, depths or sizes can cause
UNSOUND = (
    L0RefError, LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError, MemoryError,
)  # fmt: skip


def save(
    path: str | os.PathLike[str], model: Model, *, compress: bool = False, preparation: Preparation | None = None
) -> None:
    """Write a model to `path`; the same model gives the same bytes, unless `compress` deflates them.

    preparation  the conversion of raw arrays for this network, which `preparation_of` reads back
    """
    if isinstance(path, Model):
        raise ArgumentError("path is a Model; the path comes first, as in save('net.npz', model)")
    if not isinstance(model, Model):
        raise ArgumentError(f"model is {type(model).__name__}, expected Model; pass .model of what compact returned")
    found, arrays = described(model)
    if preparation is not None:
        found["preparation"] = preparation.to_json()
    write_npz(path, arrays, manifest={"kind": KIND, "version": VERSION} | found, compress=compress)


def preparation_of(path: str | os.PathLike[str]) -> Preparation | None:
    """Return the conversion of raw arrays for the network of a file; None if the file has none."""
    told = read_npz(path)[1].get("preparation")
    return None if told is None else Preparation.from_json(told)


def described(model: Model) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the manifest entries of a model, and the arrays of its file."""
    masks = {key + MASK: mask for key, mask in model.masks.items()}
    manifest = {
        "architecture": model.architecture_json(),
        "params": list(model.params),
        "buffers": list(model.buffers),
        "masks": list(model.masks),
        "patterns": {key: _described(pattern) for key, pattern in model.patterns.items()},
    }
    return manifest, {**model.params, **model.buffers, **masks, **_pattern_arrays(model)}


def load(path: str | os.PathLike[str]) -> Model:
    """Read a model that `save` wrote; anything else is refused with a CheckpointError, in bounded memory.

    A masked weight that is not exactly 0 is refused as well: the file then does not hold the trained model.
    """
    arrays, manifest = read_npz(path)
    name = f"path={os.fspath(path)!r}"
    if manifest.get("kind") != KIND or manifest.get("version") != VERSION:
        found = f"{reprlib.repr(manifest.get('kind'))} version {reprlib.repr(manifest.get('version'))}"
        raise CheckpointError(
            f"{name} holds {found}, expected {KIND!r} version {VERSION}; write it with checkpoint.save"
        )
    try:
        return rebuilt(manifest, arrays)
    except UNSOUND as error:
        raise CheckpointError(f"{name} is not a sound model: {error}; restore it from a copy you trust") from None


def rebuilt(manifest: Mapping[str, Any], arrays: dict[str, Any]) -> Model:
    """Return the model from the output of `described`; unsound input raises one of `UNSOUND`."""
    stored = manifest.get("patterns", {}).items()
    patterns = {key: _pattern(arrays, key, told) for key, told in stored}
    architecture, input_shape = architecture_from_json(manifest["architecture"], patterns=patterns)
    _check_sizes(architecture, arrays, patterns)
    parts: dict[str, dict[str, Any]] = {
        "params": {key: arrays[key] for key in manifest["params"]},
        "buffers": {key: arrays[key] for key in manifest["buffers"]},
        "masks": {key: arrays[key + MASK] for key in manifest["masks"]},
    }
    return Model(architecture, input_shape, **parts)


def _check_sizes(architecture: Sequence[Layer], arrays: Mapping[str, Any], patterns: Mapping[str, Any]) -> None:
    """Refuse a dense layer that declares another number of weights than the file holds, before Model allocates them."""
    most = max(sum(array.size for array in arrays.values()), 2**16)
    for layer in leaves(architecture):
        for name, value in vars(layer).items():
            if isinstance(value, int) and value > most:
                raise ShapeError(f"{name}={value} of a layer exceeds the number of entries in the file")
        for key, (_, size) in layer.weights().items():
            if key not in patterns and key in arrays and arrays[key].size != size:
                raise ShapeError(f"params[{key!r}] has shape {arrays[key].shape}, its layer declares {size} weights")


def _described(pattern: Any) -> dict[str, Any]:
    """The manifest entry of a pattern: its shape, and the size of its tiles if it stores tiles."""
    blocksize = list(pattern.blocksize) if isinstance(pattern, BlockPattern) else None
    return {"shape": list(pattern.shape), "blocksize": blocksize}


def _pattern_arrays(model: Model) -> dict[str, Any]:
    starts = {key + INDPTR: pattern.indptr for key, pattern in model.patterns.items()}
    return starts | {key + INDICES: pattern.indices for key, pattern in model.patterns.items()}


def _pattern(arrays: dict[str, Any], key: str, described: dict[str, Any]) -> Pattern | BlockPattern:
    shape, blocksize = tuple(described["shape"]), described["blocksize"]
    indptr, indices = arrays[key + INDPTR], arrays[key + INDICES]
    if blocksize is None:
        return Pattern(indptr, indices, shape)
    return BlockPattern(Pattern(indptr, indices, grid(shape, tuple(blocksize))), shape, tuple(blocksize))
