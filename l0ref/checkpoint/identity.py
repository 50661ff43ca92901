"""The identity of a training: one SHA-256 of everything that decides it, so that no state is used for another training.

    numbers, text, arrays, lists, dicts    their bits, with type and shape
    records                                class, and the fields by which they compare equal
    data sets                              `checkpoint.state.checksum`
    functions                              module, name, defaults and closed-over values; a partial's arguments

The code of a function is not part of it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from l0ref.checkpoint.state import checksum
from l0ref.data import Dataset
from l0ref.training.loop import Trainer
from l0ref.training.state import TrainingState

OF_TRAINER = (
    "recipe", "model", "data", "seed", "validation", "first_epoch", "phase", "batch", "teacher", "after_step",
    "after_epoch",
)  # fmt: skip
OF_STATE = ("params", "masks", "buffers", "slots", "step", "steps", "epoch", "batch", "dropout", "carried")
PLAIN = (bool, int, float, complex, str, bytes, type(None))


def identity(trainer: Trainer, start: TrainingState) -> str:
    """Return the identity of the training that goes from `start` with this trainer."""
    found = [getattr(trainer, name) for name in OF_TRAINER] + [getattr(start, name) for name in OF_STATE]
    return digest(found)


def digest(value: Any) -> str:
    """Return the SHA-256 of a value."""
    sha = hashlib.sha256()
    for part in _parts(value, ()):
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)
    return sha.hexdigest()


def _parts(value: Any, above: tuple[int, ...]) -> Iterator[bytes]:
    """The bytes of a value; where it contains itself, only those of its type."""
    kind = value if isinstance(value, type) else type(value)
    yield f"{kind.__module__}.{kind.__qualname__}".encode()
    if isinstance(value, PLAIN):
        yield repr(value).encode()
    elif isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        yield f"{array.dtype.str} {array.shape}".encode()
        yield array.tobytes()
    elif isinstance(value, Dataset):
        yield str(checksum(value)).encode()
    elif not isinstance(value, type) and id(value) not in above:
        for part in _inside(value):
            yield from _parts(part, (*above, id(value)))


def _inside(value: Any) -> Iterator[Any]:
    """The parts of a value."""
    if isinstance(value, Mapping):
        yield [len(value), *(part for item in value.items() for part in item)]
    elif isinstance(value, list | tuple):
        yield from (len(value), *value)
    elif isinstance(value, set | frozenset):
        yield sorted(value, key=repr)
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, FunctionType):
        names, cells = value.__code__.co_freevars, value.__closure__ or ()
        yield from (value.__module__, value.__qualname__, value.__defaults__, value.__kwdefaults__)
        yield from (part for pair in zip(names, map(_content, cells), strict=True) for part in pair)
    elif isinstance(value, np.random.Generator):
        yield value.bit_generator.state
    elif dataclasses.is_dataclass(value):
        yield from (getattr(value, field.name) for field in dataclasses.fields(value) if field.compare)
    else:
        yield dict(vars(value)) if hasattr(value, "__dict__") else getattr(value, "__name__", "")


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable that has no value yet
        return "empty"
