"""Compiled twins of the operations: what runs by default, held equal to the truth by the tests.

A twin stands in a module of this package as a pair of functions, `<stem>_forward` and `<stem>_vjp`,
with the signature of its operation. This page is light: it names the twins, and compiles nothing. A
twin's module, and Numba with it, is imported when its operation is first applied.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from l0ref.autodiff.op import FUNCTION_TWINS, TWINS, Rule, compiled

__all__ = ["FUNCTIONS", "REGISTERED", "compiled", "load", "load_function"]

# operation -> (module of this package, stem of the two function names)
REGISTERED: dict[str, tuple[str, str]] = {
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

# plain function, by its name -> module of this package with a compiled one of the same name and signature
FUNCTIONS = {
    "adam_step": "step.optimizer",
    "adamw_step": "step.optimizer",
    "laplace_gradient": "step.penalty",
    "laplace_prox": "step.prox",
    "momentum_step": "step.optimizer",
    "times": "sparse.times",
}


@cache
def load(module: str, stem: str) -> Rule:
    """Import a twin's module and return its two functions."""
    home = importlib.import_module(f"l0ref.fast.{module}")
    return Rule(getattr(home, f"{stem}_forward"), getattr(home, f"{stem}_vjp"))


@cache
def load_function(name: str) -> Callable[..., Any]:
    """Import the module of a compiled function and return it."""
    function: Callable[..., Any] = getattr(importlib.import_module(f"l0ref.fast.{FUNCTIONS[name]}"), name)
    return function


for _op, _where in REGISTERED.items():
    TWINS[_op] = partial(load, *_where)
for _name in FUNCTIONS:
    FUNCTION_TWINS[_name] = partial(load_function, _name)
