"""The modules of the compiled twins, as strings, so that the readable definitions import none of them.

A twin of an operation is a pair of functions of one module of `l0ref.fast`, `<stem>_forward` and `<stem>_vjp`, with the
signatures of the operation's `forward` and `vjp`. A twin of a plain function has its name and signature. The module,
and Numba with it, is imported when the twin is first called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

# operation -> (module of l0ref.fast, stem of the names of the two functions)
OPERATIONS: dict[str, tuple[str, str]] = {
    "BlockSparseLinear": ("sparse.linear", "block_sparse_linear"),
    "Conv2d": ("dense.convolution", "conv2d"),
    "CrossEntropy": ("dense.loss", "cross_entropy"),
    "Linear": ("dense.linear", "linear"),
    "Matmul": ("dense.linear", "matmul"),
    "MaxPool2d": ("dense.pooling", "max_pool2d"),
    "Relu": ("dense.activation", "relu"),
    "SDDMM": ("sparse.matmul", "sddmm"),
    "SparseConv2d": ("sparse.convolution", "sparse_conv2d"),
    "SparseLinear": ("sparse.linear", "sparse_linear"),
    "SpMM": ("sparse.matmul", "spmm"),
    "SpMV": ("sparse.matmul", "spmv"),
}

# plain function -> module of l0ref.fast
FUNCTIONS = {
    "adam_step": "step.optimizer",
    "adamw_step": "step.optimizer",
    "eliminate": "layerwise.elimination",
    "laplace_gradient": "step.penalty",
    "laplace_prox": "step.prox",
    "momentum_step": "step.optimizer",
    "prepared": "sparse.times",
    "swap_search": "layerwise.swaps",
    "times": "sparse.times",
    "warp": "dense.warp",
}


def module(name: str) -> Any:
    """Import a module of `l0ref.fast` and return it."""
    return importlib.import_module(f"l0ref.fast.{name}")


def operation(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the compiled `forward` and `vjp` of an operation."""
    home, stem = OPERATIONS[name]
    return getattr(module(home), f"{stem}_forward"), getattr(module(home), f"{stem}_vjp")


@cache
def function(name: str) -> Callable[..., Any]:
    """Return the compiled twin of a plain function."""
    found: Callable[..., Any] = getattr(module(FUNCTIONS[name]), name)
    return found
