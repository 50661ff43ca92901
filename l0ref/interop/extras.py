"""Packages that are not installed with l0ref: import one when it is needed, or say in one sentence how to get it."""

from __future__ import annotations

import importlib
from typing import Any

from l0ref.errors import ConfigError


def need(package: str, *, extra: str) -> Any:
    """Return the imported `package`; where it is missing, name the extra that brings it."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ConfigError(
            f"package {package!r} is not installed; get it with the extra {extra!r}: pip install 'l0ref[{extra}]'"
        ) from None


def need_torch() -> Any:
    """Return PyTorch, with its module of pruning, which it does not import by itself."""
    torch = need("torch", extra="crosscheck")
    need("torch.nn.utils.prune", extra="crosscheck")
    return torch
