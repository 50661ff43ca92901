"""Networks in files, whose suffix names the format; written atomically, ONNX and safetensors after reading back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from l0ref import checkpoint
from l0ref.archive import write_atomic
from l0ref.data import Preparation
from l0ref.errors import CheckpointError, ConfigError
from l0ref.interop.forms import finite, formed, unpacked
from l0ref.interop.onnx_read import from_onnx, onnx_preparation
from l0ref.interop.onnx_write import to_onnx
from l0ref.interop.safetensors import load_safetensors, read_arrays, safetensors_preparation, save_safetensors
from l0ref.interop.state import from_state_dict
from l0ref.nn import Model

FORMATS = ("npz", "onnx", "safetensors")
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
TOLERANCE = {4: 1e-5, 8: 1e-12}  # of logits, relative to the largest: sums are taken in another order


def format_of(path: str | os.PathLike[str]) -> str:
    """Return the format that a file suffix stands for; refuse unknown suffixes, and those of pickles by name."""
    ending = Path(path).suffix.lower()
    if ending in PICKLES:
        raise ConfigError(
            f"{os.fspath(path)!r} would be a pickle of PyTorch, which can run any code and is never opened or written; "
            "use safetensors: safetensors.torch.save_file(module.state_dict(), 'net.safetensors')"
        )
    if ending[1:] not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise ConfigError(f"{os.fspath(path)!r} ends in {ending!r}; the endings known are {known}")
    return ending[1:]


def read_model(
    path: str | os.PathLike[str], *, like: Model | None = None, names: Mapping[str, str] | None = None
) -> Model:
    """Return the network of a file.

    like, names  for a .safetensors file of arrays alone: a Model with the architecture, and {our name: their name};
                 see `from_state_dict`
    """
    kind = format_of(path)
    if like is not None:
        if kind != "safetensors":
            raise ConfigError(f"like is given with {os.fspath(path)!r}, which holds its architecture; leave it out")
        return finite(from_state_dict(read_arrays(path), like=like, names=names))
    return {"npz": checkpoint.load, "onnx": from_onnx, "safetensors": load_safetensors}[kind](path)


def read_preparation(path: str | os.PathLike[str]) -> Preparation | None:
    """Return the preparation of raw arrays that a file states for its network; None if it states none."""
    readers = {"npz": checkpoint.preparation_of, "onnx": onnx_preparation, "safetensors": safetensors_preparation}
    return readers[format_of(path)](path)


def write_model(
    path: str | os.PathLike[str], model: Model, *, form: str | None = None, preparation: Preparation | None = None
) -> tuple[str, float]:
    """Write `model` in the format of the file's name; return its form and the error of its logits.

    form         see `l0ref.interop.forms`. None: sparse if the model is compact, else dense for .onnx, masked otherwise
    preparation  applied to raw arrays before the network; `read_preparation` returns it

    The error is the largest relative difference of the logits of an ONNX graph read back; 0 for the other formats.
    """
    kind = format_of(path)
    if form == "masked" and kind == "onnx":
        raise ConfigError("form='masked' cannot be stored in ONNX; choose dense, shrunk or sparse")
    form = form or ("sparse" if model.patterns else "dense" if kind == "onnx" else "masked")
    ready = formed(model, form)
    if kind == "npz":
        checkpoint.save(path, ready, preparation=preparation)
        return form, 0.0
    if kind == "safetensors":
        save_safetensors(path, ready, preparation=preparation)
        return form, 0.0
    proto = to_onnx(ready, preparation=preparation)
    off = _difference(from_onnx(proto), unpacked(model))
    if not off <= TOLERANCE[model.dtype.itemsize]:
        raise CheckpointError(f"path={os.fspath(path)!r} was not written: its logits would be off by {off:.3g}")
    write_atomic(path, proto.SerializeToString(deterministic=True))
    return form, off


def _difference(a: Model, b: Model) -> float:
    """Largest difference of logits on random inputs, relative to the largest logit."""
    x = np.random.default_rng(0).standard_normal((8, *b.input_shape)).astype(b.dtype)
    ours, theirs = a.logits(x), b.logits(x)
    return float(np.abs(ours - theirs).max(initial=0.0) / max(float(np.abs(theirs).max(initial=0.0)), 1e-300))
