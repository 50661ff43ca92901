"""The state of a training as a file: the package's one kind of .npz, plain arrays and JSON, nothing unpickled.

    model.*, best.*     the current model and the best one so far, as in `checkpoint.model`
    slots.NAME.*        the optimiser's memory
    carried.*           arrays that hooks carry
    manifest            all numbers of the state; and of the training: recipe, seed, phase, checksums of the data,
                        environment; shape, dtype and SHA-256 of every array

The same state of the same training gives the same bytes. A weight that its mask removes is exactly 0, both when
written and when read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import reprlib
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from l0ref.archive import read_npz, write_npz
from l0ref.autodiff.op import current_backend
from l0ref.checkpoint.model import UNSOUND, described, rebuilt
from l0ref.checkpoint.plain import packed, unpacked
from l0ref.data import Dataset
from l0ref.environment import environment
from l0ref.errors import ArgumentError, CheckpointError
from l0ref.nn import Model
from l0ref.optim import State as Slots
from l0ref.optim.base import check_like
from l0ref.training.history import History
from l0ref.training.loop import Trainer
from l0ref.training.recipe import Recipe, check_kind
from l0ref.training.state import TrainingState
from l0ref.validate import Array, count, real

KIND, VERSION = "l0ref training", 1
NUMBERS = ("step", "steps", "epoch", "batch")


@dataclass(frozen=True)
class Saved:
    """A state read from `path`, its model, and the facts about the training as a whole that the file holds."""

    path: str
    state: TrainingState
    model: Model
    recipe: Recipe
    run: dict[str, Any]

    def trainer(self, data: Dataset, *, validation: Dataset | None = None, **options: Any) -> Trainer:
        """Return the trainer that continues from this state; refuse other data, and hooks that are missing or new."""
        for name, given in {"data": data, "validation": validation}.items():
            if checksum(given) != self.run[name]:
                told = "no samples" if given is None else f"{given!r}"
                raise ArgumentError(f"{name}={told} differs from that of {self.path!r}; pass the samples it began with")
        for name in ("after_step", "after_epoch"):
            if (options.get(name) is not None) != self.run[name]:
                was = "began with a function" if self.run[name] else "began without"
                raise ArgumentError(f"{name}={options.get(name)!r}, but the training {was}; pass the same hooks")
        for name in ("batch", "teacher"):
            if _told(options.get(name)) != self.run.get(name):
                told = f"{name}={_told(options.get(name))}"
                raise ArgumentError(f"{told}, but the training began with {self.run.get(name)}; pass the same")
        if differing := [key for key, value in _environment().items() if self.run["environment"].get(key) != value]:
            told = ", ".join(differing)
            warnings.warn(f"{self.path!r} was written under another {told}; the bits may differ", stacklevel=3)
        own = {key: self.run[key] for key in ("seed", "first_epoch", "phase")}
        return Trainer(self.recipe, self.model, data, validation=validation, **own, **options)


def save_state(
    path: str | os.PathLike[str], trainer: Trainer, state: TrainingState, *, identity: str | None = None
) -> None:
    """Write a state of a training to `path`, atomically.

    identity  of a training in a `recording`; it replaces the recipe, since the penalties of methods are not
              registered settings
    """
    check_kind("state", state, TrainingState)
    arrays: dict[str, Array] = {}
    manifest = {
        "kind": KIND,
        "version": VERSION,
        "run": described_run(trainer) | {"identity": identity},
        "recipe": packed(trainer.recipe, arrays, "recipe") if identity is None else None,
        **{name: getattr(state, name) for name in NUMBERS},
        "loss_sum": packed(state.loss_sum, arrays, "loss_sum"),
        "dropout": packed(state.dropout, arrays, "dropout"),
        "history": packed({f.name: getattr(state.history, f.name) for f in _fields(History)}, arrays, "history"),
        "carried": packed(state.carried, arrays, "carried"),
        "slots": {"step": state.slots.step, "names": {name: list(part) for name, part in state.slots.slots.items()}},
    }
    state.check_masks()
    for name, model in {"model": state.model(trainer.model), "best": state.best}.items():
        manifest[name], found = described(model) if model is not None else (None, {})
        arrays |= {f"{name}.{key}": array for key, array in found.items()}
    for name, part in state.slots.slots.items():
        arrays |= {f"slots.{name}.{key}": array for key, array in part.items()}
    write_npz(path, arrays, manifest=manifest, allow_nonfinite=True)


def load_state(path: str | os.PathLike[str], *, recipe: Recipe | None = None) -> Saved:
    """Read what `save_state` wrote; anything else is refused with a CheckpointError, in bounded memory.

    recipe  that of a training in a `recording`, whose file holds its identity instead
    """
    name = os.fspath(path)
    arrays, manifest = read_npz(path, allow_nonfinite=True)
    if (manifest.get("kind"), manifest.get("version")) != (KIND, VERSION):
        raise CheckpointError(
            f"path={name!r} holds {reprlib.repr(manifest.get('kind'))} version "
            f"{reprlib.repr(manifest.get('version'))}, expected "
            f"{KIND!r} version {VERSION}; write it with fit(checkpoint=...)"
        )
    try:
        recipe = unpacked(manifest["recipe"], arrays) if recipe is None else recipe
        check_kind("recipe", recipe, Recipe)
        state, model = _state(manifest, arrays, recipe)
        return Saved(name, state, model, recipe, _checked_run(manifest["run"]))
    except UNSOUND as error:
        raise CheckpointError(
            f"path={name!r} is not a sound state of a training: {error}; take an earlier one"
        ) from None


def described_run(trainer: Trainer) -> dict[str, Any]:
    """Return the facts about a training that do not change, except its recipe."""
    return {
        "seed": int(trainer.seed),
        "first_epoch": int(trainer.first_epoch),
        "phase": trainer.phase,
        "data": checksum(trainer.data),
        "validation": checksum(trainer.validation),
        "after_step": trainer.after_step is not None,
        "after_epoch": trainer.after_epoch is not None,
        "batch": _told(trainer.batch),
        "teacher": _told(trainer.teacher),
        "environment": _environment(),
    }


def _told(value: Any) -> str | None:
    """The description of a transform or a teacher in a file: a function by its name, a value by its fields."""
    return None if value is None else getattr(value, "__qualname__", None) or repr(value)


_digests: dict[int, tuple[Dataset, str]] = {}  # checksums of the latest data sets, which are immutable


def checksum(data: Dataset | None) -> str | None:
    """Return the SHA-256 of shape, dtype, samples, labels and number of classes."""
    if data is None:
        return None
    known = _digests.get(id(data))
    if known is None or known[0] is not data:
        digest = hashlib.sha256(repr((data.x.shape, data.x.dtype.str, data.classes)).encode("ascii"))
        for array in (data.x, data.y.astype("<i8" if data.classes else data.y.dtype)):
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        while len(_digests) >= 4:
            _digests.pop(next(iter(_digests)))
        _digests[id(data)] = known = data, digest.hexdigest()
    return known[1]


def _environment() -> dict[str, Any]:
    """The parts of the environment on which the last bits of a result may depend."""
    found = environment()
    parts = {key: found[key] for key in ("l0ref", "platform", "processor")}
    return parts | {key: found["packages"][key] for key in ("numpy", "numba")} | {"backend": current_backend()}


def _state(manifest: dict[str, Any], arrays: dict[str, Array], recipe: Recipe) -> tuple[TrainingState, Model]:
    model = rebuilt(manifest["model"], _under("model.", arrays))
    best = None if manifest["best"] is None else rebuilt(manifest["best"], _under("best.", arrays))
    told = manifest["slots"]
    slots = {slot: {key: arrays[f"slots.{slot}.{key}"] for key in keys} for slot, keys in told["names"].items()}
    if slots.keys() != recipe.optimizer.init(model.params).slots.keys():
        raise CheckpointError(f"slots are {', '.join(slots) or 'none'}, not those of {recipe.optimizer!r}")
    for slot, part in slots.items():
        check_like(model.params, part, f"slots[{slot!r}]")
    dropout = unpacked(manifest["dropout"], arrays)
    if dropout is not None:
        np.random.PCG64(0).state = dropout  # refuses anything else
    state = TrainingState(
        model.params, model.masks, model.buffers, Slots(count("slots.step", told["step"]), slots),
        **{name: count(name, manifest[name]) for name in NUMBERS},
        loss_sum=real("loss_sum", manifest["loss_sum"]),
        dropout=dropout,
        history=History(**unpacked(manifest["history"], arrays)),
        best=best,
        carried=unpacked(manifest["carried"], arrays),
    )  # fmt: skip
    if not isinstance(state.history.rows, tuple) or not all(isinstance(row, dict) for row in state.history.rows):
        raise CheckpointError("the rows of the history are not dicts")
    if state.first_bad() is not None:
        raise CheckpointError(f"params[{state.first_bad()!r}] holds NaN or infinite entries")
    return state, model


def _checked_run(run: dict[str, Any]) -> dict[str, Any]:
    count("seed", run["seed"])
    count("first_epoch", run["first_epoch"], least=1)
    for name, kind in {"phase": str, "data": str, "after_step": bool, "after_epoch": bool, "environment": dict}.items():
        check_kind(name, run[name], kind)
    return {"identity": None} | run | {"validation": run["validation"]}


def _under(prefix: str, arrays: dict[str, Array]) -> dict[str, Array]:
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def _fields(kind: type) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind)
