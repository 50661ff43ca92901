"""PyTorch: models in both directions, and the first difference between two implementations.

    from_torch(module)               a module that torch.fx can trace, with its masks, as a Model
    to_torch(model, form=)           a Model as nn.Sequential: masked, dense, shrunk, or with CSR matrices
    optimizer_from_torch(theirs, module), optimizer_to_torch(ours, state, module)    with momentum and moments
    compare(model, module, x, y)     forward, loss, penalty, gradients, optimiser steps: the first difference
    compare_masks(model, module)     the entries each prunes, and whether a tie explains the difference

PyTorch is imported when one of them is called, and comes with the extra `crosscheck`. The module passed in and the
state of PyTorch's random generator are left unchanged.
"""

from __future__ import annotations

from l0ref.interop.compare import compare
from l0ref.interop.result import Comparison, Row
from l0ref.interop.torch_masks import MaskComparison, MaskRow, compare_masks
from l0ref.interop.torch_optim import optimizer_from_torch, optimizer_to_torch
from l0ref.interop.torch_read import from_torch
from l0ref.interop.torch_write import to_torch

__all__ = [
    "Comparison",
    "MaskComparison",
    "MaskRow",
    "Row",
    "compare",
    "compare_masks",
    "from_torch",
    "optimizer_from_torch",
    "optimizer_to_torch",
    "to_torch",
]
