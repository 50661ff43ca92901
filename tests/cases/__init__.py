"""The table of cases, one module of rows for each family of operations.

A module of this package that defines `CASES`, a list of `Case`, is part of the table.
"""

from __future__ import annotations

import importlib
import pkgutil

from tests.cases.case import Case

CASES: list[Case] = [
    case
    for module in pkgutil.iter_modules(__path__)
    for case in getattr(importlib.import_module(f"{__name__}.{module.name}"), "CASES", [])
]

__all__ = ["CASES", "Case"]
