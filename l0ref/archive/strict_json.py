"""JSON with a single meaning: no duplicate keys, no NaN or infinity, UTF-8, limited size."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from l0ref.errors import ArgumentError, CheckpointError, L0RefError
from l0ref.validate import count

MAX_JSON = 2**23  # the values of a text take up to 25 times its bytes
MAX_DIGITS = 1000


def read_json(source: str | os.PathLike[str] | bytes, *, max_bytes: int = MAX_JSON) -> Any:
    """Return the value written in `source`: the path of a file, or the text itself as bytes.

    Raises CheckpointError if the text is longer than `max_bytes`, is not JSON in UTF-8, has a key
    twice in one object, or holds NaN, an infinity or a number too large for a float.
    """
    count("max_bytes", max_bytes)
    name = "source=<bytes>" if isinstance(source, bytes) else f"source={os.fspath(source)!r}"
    data = source if isinstance(source, bytes) else read_file(source, name=name, max_bytes=max_bytes)
    if len(data) > max_bytes:
        raise CheckpointError(
            f"{name} has {len(data)} bytes, above max_bytes={max_bytes}; raise it if you trust the source"
        )
    try:
        return parse_json(data)
    except ValueError as error:
        raise CheckpointError(f"{name} is not strict JSON: {error}; restore the file from a copy you trust") from None


def parse_json(data: bytes) -> Any:
    """Return the value of a JSON text of any length; raise ValueError with the reason if it is not strict."""
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_float=_finite,
            parse_int=_whole,
        )  # fmt: skip
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def json_bytes(value: Any) -> bytes:
    """Return `value` as JSON text in UTF-8, keys in their given order; the same value gives the same bytes.

    Raises ArgumentError for whatever `read_json` would refuse, and for objects that JSON cannot express.
    """
    try:
        data = json.dumps(value, allow_nan=False, indent=1).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"value cannot be written as JSON: {error}; use numbers, strings, lists and dicts"
        ) from None
    try:
        parse_json(data)
    except ValueError as error:
        raise ArgumentError(f"value would not be readable as JSON: {error}; use each key once, as a string") from None
    return data


def read_file(path: str | os.PathLike[str], *, name: str, max_bytes: int) -> bytes:
    """Return the bytes of a regular file of at most `max_bytes`; `name` begins the message when that fails."""
    with opened(path, name=name, max_bytes=max_bytes) as data:
        return data[:]


class OpenFile:
    """The bytes of an open file, read on request: `len(data)` and `data[start:stop]`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        self._file.seek(start)
        return self._file.read(max(stop - start, 0))


@contextmanager
def opened(path: str | os.PathLike[str], *, name: str, max_bytes: int) -> Iterator[OpenFile]:
    """Open a regular file of at most `max_bytes`; messages begin with `name` if opening or reading it fails."""
    try:
        if not Path(path).is_file():
            raise CheckpointError(f"{name} is not a file; check the path")
        with open(path, "rb") as file:
            data = OpenFile(file)
            if len(data) > max_bytes:
                raise CheckpointError(
                    f"{name} has {len(data)} bytes, above max_bytes={max_bytes}; raise it if you trust the file"
                )
            yield data
    except MemoryError:
        raise CheckpointError(f"{name} needs more memory than there is; restore it from a copy you trust") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        if isinstance(error, L0RefError):
            raise
        raise CheckpointError(f"{name} cannot be read: {error}; check the path and its permissions") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise ValueError(f"the key {key[:100]!r} occurs twice in one object")
        value[key] = item
    return value


def _constant(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON number")


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"{digits[:20]}... has {len(digits)} digits, the limit is {MAX_DIGITS}")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:100]} is too large for a float")
    return value
