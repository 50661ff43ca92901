"""The suites, one per file: every module here has a `SUITE`, and is found by being here."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from l0ref.bench.work import Work

if TYPE_CHECKING:
    from l0ref.bench.plan import Plan


@dataclass(frozen=True)
class Suite:
    """Works that are measured together.

    name   on the command line
    about  one line for `l0ref bench --list`
    works  makes the works one after another, so that only one of them is in memory
    """

    name: str
    about: str
    works: Callable[[Plan], Iterator[Work]]


@cache
def suites() -> dict[str, Suite]:
    """Return every suite by its name, in alphabetical order."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return {suite.name: suite for suite in sorted((module.SUITE for module in modules), key=lambda suite: suite.name)}
