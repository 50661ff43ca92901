"""Adapters: the functions of an implementation under the names that the vectors use.

An adapter is an object with some of the functions that `l0ref vectors list` lists, under those names. Each is
called with keyword arguments only, arrays as NumPy float64, int64 or bool arrays, and returns a dictionary of
its outputs; one that has a single output may return it bare. Everything that `np.asarray` accepts is allowed: nested
lists, tensors on the CPU, numbers.

    a function that is missing               not provided
    raise NotImplementedError                this case is not provided: a surrogate or option you do not have
    an output missing, or None               this output is not provided
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from l0ref.errors import ConfigError

CLASS = "Adapter"


def load_adapter(where: str) -> Any:
    """Return the adapter at `where`: "package.module" holds a class `Adapter`, "package.module:Name" another name.

    The module is imported, so its code runs; the working directory is searched first. A class is
    called without arguments.
    """
    module, _, name = where.partition(":")
    if not module or not all(part.isidentifier() for part in [*module.split("."), *filter(None, [name])]):
        raise ConfigError(f"adapter={where!r} is not package.module or package.module:Name; name a module, not a file")
    try:
        with _working_directory_first():
            found = getattr(importlib.import_module(module), name or CLASS)
            return found() if isinstance(found, type) else found
    except AttributeError as error:
        if error.name != (name or CLASS):
            raise _cannot(where, error) from error
        raise ConfigError(f"adapter={where!r} has no {name or CLASS}; define it in the module or name it") from None
    except Exception as error:  # the module is user code
        raise _cannot(where, error) from error


def function_of(adapter: Any, name: str) -> Callable[..., Any] | None:
    """Return the adapter's function `name`, or None if it has none."""
    found = getattr(adapter, name, None)
    return found if callable(found) else None


def strangers(adapter: Any, known: Iterable[str]) -> tuple[str, ...]:
    """Return the adapter's public functions that no set is named after; a misspelt one would never be called."""
    names = {name for name in dir(adapter) if not name.startswith("_") and callable(getattr(adapter, name, None))}
    return tuple(sorted(names - set(known)))


def _cannot(where: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"adapter={where!r} cannot be imported: {type(error).__name__}: {error}; fix the module or its path"
    )


@contextmanager
def _working_directory_first() -> Iterator[None]:
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
