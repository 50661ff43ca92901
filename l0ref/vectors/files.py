"""The vector files: an index, and one file per set of cases; their contents are checked before they are used."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from l0ref.archive import read_json, write_atomic
from l0ref.archive.strict_json import MAX_JSON, read_file
from l0ref.errors import CheckpointError, ConfigError, DataError
from l0ref.validate import Array, choose
from l0ref.vectors.decode import damaged, is_index, keys, magnitudes, value

FORMAT, VERSION = "l0ref-vectors", 1
HOME = Path(__file__).parent / f"v{VERSION}"
INDEX = "index.json"
NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
HEAD = {"about", "arguments", "cases", "format", "outputs", "set", "tolerance", "version"}


@dataclass(frozen=True, eq=False)
class Expected:
    """One array that a case must return.

    path   its place among the outputs, such as ("gradient", "fc1.weight")
    value  the exact result, rounded once: float64, int64 or bool; a number has shape ()
    unit   size of one ulp: the spacing of float64 numbers at the entry's magnitude; other types must be equal

    The magnitude of an entry is |value| times the condition number of its computation: the size of the numbers that
    enter it. A sum has the magnitude of its terms, however much they cancel.
    """

    path: tuple[str, ...]
    value: Array
    unit: Array


@dataclass(frozen=True, eq=False)
class Case:
    """One case: keyword arguments of a function, and the arrays it must return."""

    id: str
    inputs: Mapping[str, Any]
    expected: tuple[Expected, ...]

    def arguments(self) -> dict[str, Any]:
        """Return the inputs as fresh copies, so that a function may write into them."""
        return {key: _copied(item) for key, item in self.inputs.items()}


@dataclass(frozen=True, eq=False)
class VectorSet:
    """All cases of one function.

    name       name of the set and of the function
    about      description of the function
    arguments  names of its keyword arguments
    outputs    names of its results
    tolerance  error allowed, in units of `Expected.unit`
    """

    name: str
    about: str
    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    tolerance: float
    cases: tuple[Case, ...]


def names(folder: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Return the names of the sets in `folder`, that of the package by default."""
    return tuple(_index(_home(folder)))


def load(name: str, folder: str | os.PathLike[str] | None = None) -> VectorSet:
    """Return one set. Raises DataError if its file does not match the index or the format."""
    home = _home(folder)
    index = _index(home)
    row = index[choose("name", name, index)]
    path = home / f"{name}.json"
    data = _bytes(path)
    if hashlib.sha256(data).hexdigest() != row.get("sha256"):
        raise damaged(f"path={str(path)!r}", "does not have the checksum of its index")
    read = _set(_json(data, path), f"path={str(path)!r}")
    if read.name != name or len(read.cases) != row.get("cases"):
        raise damaged(
            f"path={str(path)!r}", f"holds {len(read.cases)} cases of {read.name!r}; its index says otherwise"
        )
    return read


def export(folder: str | os.PathLike[str], *, overwrite: bool = False) -> tuple[Path, ...]:
    """Copy index and sets of the package into `folder`; return the paths written, the index last."""
    target = Path(folder)
    files = [*(f"{name}.json" for name in names()), INDEX]
    taken = [name for name in files if (target / name).exists() and not overwrite]
    if taken:
        told = f"folder={str(target)!r} has {taken[0]} already"
        raise ConfigError(f"{told}; choose another folder or pass overwrite=True (--overwrite)")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"folder={str(target)!r} cannot be created: {error.strerror}; choose another") from None
    for name in files:
        write_atomic(target / name, (HOME / name).read_bytes())
    return tuple(target / name for name in files)


def _home(folder: str | os.PathLike[str] | None) -> Path:
    return HOME if folder is None else Path(folder)


def _bytes(path: Path) -> bytes:
    try:
        return read_file(path, name=f"path={str(path)!r}", max_bytes=MAX_JSON)
    except CheckpointError as error:
        raise DataError(f"{error}; l0ref vectors export writes the files") from None


def _json(data: bytes, path: Path) -> Any:
    try:
        return read_json(data)
    except CheckpointError as error:
        raise damaged(f"path={str(path)!r}", f"cannot be read: {error}") from None


def _index(home: Path) -> dict[str, dict[str, Any]]:
    path = home / INDEX
    read, where = _json(_bytes(path), path), f"path={str(path)!r}"
    _check_format(read, where, {"format", "sets", "version"})
    rows = read["sets"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise damaged(where, "has no list of sets")
    for row in rows:
        keys(row, where, {"about", "cases", "name", "sha256"}, set())
        if not isinstance(row["name"], str) or not NAME.fullmatch(row["name"]):
            raise damaged(where, f"names the set {row['name']!r}, which is not the name of a function")
    return {row["name"]: row for row in rows}


def _check_format(read: Any, where: str, needed: set[str]) -> None:
    if not isinstance(read, dict) or read.get("format") != FORMAT:
        raise damaged(where, f"does not say format {FORMAT!r}")
    if read.get("version") != VERSION:
        raise DataError(
            f"{where} has version {read.get('version')!r}, and this l0ref reads {VERSION}; use the l0ref it came with"
        )
    keys(read, where, needed, set())


def _set(read: Any, where: str) -> VectorSet:
    _check_format(read, where, HEAD)
    arguments, outputs = (_words(read[key], f"{where}, {key}") for key in ("arguments", "outputs"))
    tolerance = read["tolerance"]
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance <= 1e9:
        raise damaged(where, f"has tolerance {tolerance!r}, expected a number from 0 to 1e9")
    if not isinstance(read["about"], str) or not isinstance(read["set"], str):
        raise damaged(where, "has no name or description")
    if not isinstance(read["cases"], list) or not read["cases"]:
        raise damaged(where, "has no cases")
    cases = tuple(_case(form, where, arguments, outputs) for form in read["cases"])
    if len({case.id for case in cases}) < len(cases):
        raise damaged(where, "has two cases of one id")
    return VectorSet(read["set"], read["about"], arguments, outputs, float(tolerance), cases)


def _words(form: Any, where: str) -> tuple[str, ...]:
    if (
        not isinstance(form, list)
        or not form
        or not all(isinstance(word, str) and word.isidentifier() for word in form)
    ):
        raise damaged(where, f"is {form!r}, expected a list of names")
    return tuple(form)


def _case(form: Any, where: str, arguments: tuple[str, ...], outputs: tuple[str, ...]) -> Case:
    if not isinstance(form, dict) or not isinstance(form.get("id"), str):
        raise damaged(where, "has a case without an id")
    here = f"{where}, case {form['id']!r}"
    keys(form, here, {"id", "inputs", "outputs"}, set())
    for key, known in (("inputs", arguments), ("outputs", outputs)):
        if not isinstance(form[key], dict):
            raise damaged(here, f"has no {key}")
        keys(form[key], f"{here}, {key}", set(known), set())
    inputs = {key: value(item, f"{here}, inputs.{key}") for key, item in form["inputs"].items()}
    expected = tuple(_expected((), form["outputs"], here))
    if not expected:
        raise damaged(here, "expects nothing")
    return Case(form["id"], inputs, expected)


def _expected(path: tuple[str, ...], form: Any, where: str) -> Iterator[Expected]:
    """Every array, number and count among the outputs; null stands for an output this case does not have."""
    if isinstance(form, dict) and not {"dtype", "hex"} & set(form):
        for key, item in form.items():
            yield from _expected((*path, key), item, where)
    elif form is not None:
        here = f"{where}, outputs.{'.'.join(path)}"
        if not isinstance(form, dict) and not is_index(form):
            raise damaged(here, f"is {form!r}, expected a number or an array")
        found = np.asarray(value(form, here))
        floats = found.dtype == np.float64
        yield Expected(path, found, np.spacing(magnitudes(form, here, found)) if floats else np.ones(found.shape))


def _copied(item: Any) -> Any:
    if isinstance(item, np.ndarray):
        return item.copy()
    if isinstance(item, Mapping):
        return {key: _copied(entry) for key, entry in item.items()}
    return [_copied(entry) for entry in item] if isinstance(item, list) else item
