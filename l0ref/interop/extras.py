"""Optional packages: imported when they are needed, or refused in one sentence that says how to install them."""

from __future__ import annotations

import importlib
from typing import Any

from l0ref.errors import ConfigError


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
