"""Raw arrays of a user, from a path or the name of a function: .npz, .csv, folders of IDX files and CIFAR-10.

    FILE.npz          arrays x, y; or x_train, y_train and, if present, x_validation, y_validation, x_test and y_test
                      (also "val" and "t10k")
    FILE.csv          a line of column names; one column of labels, named by `label`; numbers in all others
    folder            IDX files train-images..., train-labels... and, if present, validation-... and t10k-... or
                      test-...; or data_batch_1.bin, ... and test_batch.bin, the binary version of CIFAR-10
    module:function   a function without arguments that returns `Splits`

Ref  https://www.cs.toronto.edu/~kriz/cifar.html: the binary version, 1 byte of label and 3072 of pixels a record
"""

from __future__ import annotations

import csv
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from l0ref.archive.foreign import MAX_BYTES, read_foreign_npz
from l0ref.data.arrays import PARTS, Pair, from_arrays
from l0ref.data.dataset import Splits
from l0ref.data.idx import read_idx
from l0ref.errors import ArgumentError, DataError, L0RefError

KINDS = "a file .npz or .csv, a folder of IDX files or of CIFAR-10's binary version, or package.module:function"
NAMES = {"train": ("train",), "validation": ("validation", "val"), "test": ("test", "t10k")}
RECORD, IMAGE = 3073, (3, 32, 32)


def open_data(source: str, *, label: str | None = None, **options: Any) -> Splits:
    """Return the data of `source` as `Splits`; `options` are those of `from_arrays`, unused for module:function.

    label  the column of labels of a .csv file
    """
    if names_code(source):
        found = called(source, what="data")
        if not isinstance(found, Splits):
            raise ArgumentError(f"data={source!r} returned {type(found).__name__}; return Splits, as from_arrays does")
        return found
    path = Path(source).expanduser()
    if label is not None and path.suffix != ".csv":
        raise ArgumentError(f"label={label!r} is for .csv files, but data={source!r} is not one; leave it out")
    parts = raw_parts(path, label=label)
    (x, y), validation, test = parts["train"], parts.get("validation"), parts.get("test")
    return from_arrays(x, y, validation=validation, test=test, name=path.name, **options)


def raw_parts(path: Path, *, label: str | None = None) -> dict[str, Pair]:
    """Return raw (x, y) by part, "train" always among them."""
    if path.is_dir():
        return _cifar(path) if any(path.glob("data_batch_*.bin")) else _idx(path)
    if not path.exists():
        raise DataError(f"data={str(path)!r} does not exist; give {KINDS}")
    if path.suffix == ".npz":
        return _npz(path)
    if path.suffix == ".csv":
        return {"train": _csv(path, label)}
    raise DataError(f"data={str(path)!r} has an unknown ending; give {KINDS}")


def names_code(source: str) -> bool:
    """Whether a source is module:function, which only a command-line flag may name, never a file."""
    module, colon, function = source.partition(":")
    return bool(colon) and function.isidentifier() and all(part.isidentifier() for part in module.split("."))


def called(source: str, *, what: str, **arguments: Any) -> Any:
    """Import the module of module:function, from the current folder too, call the function and return its result."""
    module, _, function = source.partition(":")
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ArgumentError(f"{what}={source!r} cannot be imported: {error}; check module and function") from None
    finally:
        if added:
            sys.path.remove(here)
    try:
        return found(**arguments)
    except L0RefError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise ArgumentError(f"{what}={source!r} failed with {told}; call it in Python to see where") from error


def _npz(path: Path) -> dict[str, Pair]:
    arrays = read_foreign_npz(path)
    if {"x", "y"} <= set(arrays):
        return {"train": (arrays["x"], arrays["y"])}
    found = {}
    for part, names in NAMES.items():
        for name in names:
            if {f"x_{name}", f"y_{name}"} <= set(arrays):
                found[part] = (arrays[f"x_{name}"], arrays[f"y_{name}"])
    if "train" not in found:
        there = ", ".join(sorted(arrays)[:10]) or "none"
        raise DataError(f"{path} has the arrays {there}; name them x and y, or x_train, y_train, x_test, y_test")
    return found


def _csv(path: Path, label: str | None) -> Pair:
    if label is None:
        raise ArgumentError(f"data={str(path)!r} needs the name of its column of labels; give --label NAME")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path} has more than {MAX_BYTES:,} bytes; store it as .npz in parts")
    rows, labels = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            names = [name.strip() for name in next(lines, [])]
            if names.count(label) != 1 or len(names) < 2:
                known = ", ".join(names[:12])
                raise DataError(f"{path} must have one column {label!r} and others; it has {known}")
            at = names.index(label)
            for line in lines:
                if not line:
                    continue
                if len(line) != len(names):
                    raise DataError(
                        f"{path}, line {lines.line_num}: {len(line)} fields, expected {len(names)}; correct it"
                    )
                labels.append(line.pop(at).strip())
                rows.append(_numbers(line, [n for n in names if n != label], f"{path}, line {lines.line_num}"))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a .csv file of UTF-8 text ({error}); export it again") from None
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(names) - 1), _numeric(labels)


def _numbers(line: list[str], names: list[str], where: str) -> list[float]:
    found = []
    for name, text in zip(names, line, strict=True):
        try:
            found.append(float(text))
        except ValueError:
            raise DataError(
                f"{where}: column {name!r} holds {text[:40]!r}, not a number; drop the column or correct it"
            ) from None
    return found


def _numeric(labels: list[str]) -> np.ndarray[Any, Any]:
    """Labels as whole numbers if all of them are, else as numbers if all are, else as text."""
    for kind in (int, float):
        try:
            return np.array([kind(each) for each in labels])
        except (ValueError, OverflowError):
            continue
    return np.array(labels)


def _idx(folder: Path) -> dict[str, Pair]:
    found = {}
    for part, names in NAMES.items():
        for name in names:
            pair = [sorted(folder.glob(f"{name}-{what}*")) for what in ("images", "labels")]
            if all(pair):
                images, labels = (read_idx(files[0]) for files in pair)
                found[part] = (images, labels)
    if "train" not in found:
        raise DataError(
            f"{folder} holds neither train-images... and train-labels... nor data_batch_1.bin; give {KINDS}"
        )
    return found


def _cifar(folder: Path) -> dict[str, Pair]:
    batches = sorted(folder.glob("data_batch_*.bin"))
    tests = [path for path in (folder / "test_batch.bin",) if path.exists()]
    return {part: _records(paths) for part, paths in zip(PARTS, (batches, [], tests), strict=True) if paths}


def _records(paths: list[Path]) -> Pair:
    parts = []
    for path in paths:
        size = path.stat().st_size
        if not size or size % RECORD or size > MAX_BYTES:
            raise DataError(f"{path} has {size:,} bytes, not a multiple of {RECORD}, a CIFAR-10 record; fetch it again")
        parts.append(np.fromfile(path, np.uint8).reshape(-1, RECORD))
        if parts[-1][:, 0].max() > 9:
            raise DataError(f"{path} holds the label {parts[-1][:, 0].max()}, expected 0 to 9; fetch it again")
    records = np.concatenate(parts)
    return records[:, 1:].reshape(-1, *IMAGE), records[:, 0]
