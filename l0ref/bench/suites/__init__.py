"""The suites: every module of this package lists its suites in `SUITES`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from l0ref.bench.work import Suite


@cache
def suites() -> dict[str, Suite]:
    """Return every suite by its name, in alphabetical order."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    found = (suite for module in modules for suite in module.SUITES)
    return {suite.name: suite for suite in sorted(found, key=lambda suite: suite.name)}
