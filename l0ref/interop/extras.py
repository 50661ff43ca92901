"""Shared by all formats: packages imported when they are needed, and two small conversions."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError, ConfigError
from l0ref.validate import Array


def need(package: str, *, extra: str) -> Any:
    """Import and return `package`; if it is missing, name the extra that installs it."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ConfigError(
            f"package {package!r} is not installed; it comes with the extra {extra!r}: pip install 'l0ref[{extra}]'"
        ) from None


def need_torch() -> Any:
    """Return PyTorch with torch.nn.utils.prune, which it does not import by itself."""
    torch = need("torch", extra="crosscheck")
    need("torch.nn.utils.prune", extra="crosscheck")
    return torch


def single(value: Any) -> Any:
    """Return one value for a pair of equal ones: 3 for (3, 3)."""
    return value[0] if isinstance(value, tuple | list) and len(set(value)) == 1 else value


def kept(name: str, mask: Array) -> Array:
    """Return a mask of numbers as bool, True keeps; refuse entries other than 0 and 1."""
    if not np.isin(mask, (0, 1)).all():
        raise ArgumentError(f"{name} with entries other than 0 and 1; correct it")
    return mask.astype(bool)
