"""Values of flags that several commands share: numbers, lists with commas, options as K=V, and folders to write to."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from l0ref.archive.folder import marker_of
from l0ref.errors import ConfigError

MAX_WHOLE = 2**63 - 1
MAX_SEEDS = 10_000


def integer(text: str) -> int:
    """Return a whole number: a `type` for argparse."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} must be a whole number, as 20 is") from None
    if abs(value) > MAX_WHOLE:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is too large; give at most {MAX_WHOLE}")
    return value


def number(text: str) -> float:
    """Return a real number, a `type` for argparse; its range is checked with its setting."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} must be a number, as 0.5 is") from None


def check_seeds(seeds: int) -> None:
    """Refuse a number of seeds below 1 or above MAX_SEEDS."""
    if seeds < 1:
        raise ConfigError(f"seeds={seeds} must be at least 1")
    if seeds > MAX_SEEDS:
        raise ConfigError(f"seeds={seeds} must be at most {MAX_SEEDS}")


def check_once(name: str, values: Iterable[object]) -> None:
    """Refuse a list that names something twice."""
    seen: list[object] = []
    for value in values:
        if value in seen:
            raise ConfigError(f"{name} has {value!r} twice; give each once")
        seen.append(value)


def check_module(name: str, source: str) -> None:
    """Refuse the file of a module where its name is expected, as in mine:function."""
    file, _, function = source.partition(":")
    if file.endswith(".py"):
        path = Path(file).with_suffix("")
        module = path.name if path.is_absolute() else ".".join(path.parts)
        raise ConfigError(f"{name}={source!r} names a file; name its module, as in {module}:{function or 'function'}")


def check_name(name: str, value: object, known: Collection[str]) -> None:
    """Refuse a name that no setting has."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
        raise ConfigError(f"{name}={value!r} is not a setting; {hint}")


def parts(text: str) -> Iterator[str]:
    """Yield the parts between commas, without spaces; empty ones are left out."""
    return filter(None, (part.strip() for part in text.split(",")))


def numbers(text: str) -> tuple[float, ...]:
    """Return the real numbers between commas: a `type` for argparse."""
    try:
        return tuple(map(float, parts(text)))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be numbers with commas between them, as in 2,4,8") from None


def options(name: str, text: str, *, example: str) -> dict[str, str]:
    """Return a text such as "lam=1,gamma=2" as a dict; a key without a value, or one given twice, is refused."""
    found: dict[str, str] = {}
    for part in parts(text):
        key, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or not value or not key:
            raise ConfigError(f"{name}={text!r} must look like {example}")
        if key in found:
            raise ConfigError(f"{name}={text!r} sets {key} twice; give it once")
        found[key] = value
    return found


def out_folder(name: str, path: str) -> Path:
    """Return the folder of a flag; refuse a name that no folder can have."""
    if not path or "\0" in path:
        raise ConfigError(f"{name}={path!r} names no folder; give a path")
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise ConfigError(f"{name}={path!r} cannot be created: {error.strerror}; choose another folder") from None
    return Path(path)


def made_folder(name: str, path: str) -> Path:
    """Return the folder of a flag, made if it was not there; refuse one that is a result."""
    folder = out_folder(name, path)
    if marker_of(folder) is not None:
        raise ConfigError(f"{name}={path!r} holds a result of l0ref compress; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{name}={path!r} cannot be created: {error.strerror}; choose another folder") from None
    return folder
