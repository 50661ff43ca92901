"""l0ref: the executable reference of l0 network compression.

The public names are loaded on first use, so ``import l0ref`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from l0ref.version import __version__

if TYPE_CHECKING:
    from l0ref import (
        checkpoint,
        data,
        errors,
        experiment,
        layerwise,
        masks,
        methods,
        metrics,
        nn,
        ops,
        optim,
        pruning,
        report,
        schedules,
        sparse,
        surrogates,
        testing,
        training,
        vectors,
    )
    from l0ref.autodiff.op import backend
    from l0ref.autodiff.tensor import Tensor, grad
    from l0ref.deploy.compact import compact
    from l0ref.penalty import Penalty
    from l0ref.pruning.prune import prune
    from l0ref.training import fit

__all__ = [
    "Penalty",
    "Tensor",
    "__version__",
    "backend",
    "checkpoint",
    "compact",
    "data",
    "errors",
    "experiment",
    "fit",
    "grad",
    "layerwise",
    "masks",
    "methods",
    "metrics",
    "nn",
    "ops",
    "optim",
    "prune",
    "pruning",
    "report",
    "schedules",
    "sparse",
    "surrogates",
    "testing",
    "training",
    "vectors",
]

# The modules of the names that are not modules themselves.
_HOMES = {
    "Penalty": "l0ref.penalty",
    "Tensor": "l0ref.autodiff.tensor",
    "backend": "l0ref.autodiff.op",
    "compact": "l0ref.deploy.compact",
    "fit": "l0ref.training",
    "grad": "l0ref.autodiff.tensor",
    "prune": "l0ref.pruning.prune",
}


def __getattr__(name: str) -> Any:
    """Import the public name `name` on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'l0ref' has no attribute {name!r}; dir(l0ref) lists the public names")
    if name in ("Tensor", "grad"):
        importlib.import_module("l0ref.ops")  # so that a tensor's operators find their operations
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        value = importlib.import_module(f"l0ref.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
