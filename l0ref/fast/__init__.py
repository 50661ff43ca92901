"""Compiled twins of the operations: what runs by default, held equal to the truth by the tests.

A twin stands in a module of this package as a pair of functions, `<stem>_forward` and `<stem>_vjp`,
with the signature of its operation. This page is light: it names the twins, and compiles nothing. A
twin's module, and Numba with it, is imported when its operation is first applied.
"""

from __future__ import annotations

import importlib
from functools import cache, partial

from l0ref.autodiff.op import TWINS, Rule

# operation -> (module of this package, stem of the two function names)
REGISTERED: dict[str, tuple[str, str]] = {
    "Conv2d": ("convolution", "conv2d"),
    "CrossEntropy": ("loss", "cross_entropy"),
    "MaxPool2d": ("pooling", "max_pool2d"),
    "Relu": ("activation", "relu"),
}


@cache
def load(module: str, stem: str) -> Rule:
    """Import a twin's module and return its two functions."""
    home = importlib.import_module(f"l0ref.fast.{module}")
    return Rule(getattr(home, f"{stem}_forward"), getattr(home, f"{stem}_vjp"))


for _op, _where in REGISTERED.items():
    TWINS[_op] = partial(load, *_where)
