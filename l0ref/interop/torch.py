"""PyTorch: models in both directions, and the first difference between two implementations.

    from_torch(module)               a chain of layers, with its masks, as a Model
    to_torch(model)                  a Model as nn.Sequential
    compare(model, module, x, y)     forward, loss, penalty, gradients, optimiser steps: the first difference
    compare_masks(model, module)     the entries each prunes, and whether a tie explains the difference

PyTorch is imported when one of them is called, and comes with the extra `crosscheck`. The module passed in and the
state of PyTorch's random generator are left unchanged.
"""

from __future__ import annotations

from l0ref.interop.compare import compare
from l0ref.interop.result import Comparison, Row
from l0ref.interop.torch_masks import MaskComparison, MaskRow, compare_masks
from l0ref.interop.torch_read import from_torch
from l0ref.interop.torch_write import to_torch

__all__ = ["Comparison", "MaskComparison", "MaskRow", "Row", "compare", "compare_masks", "from_torch", "to_torch"]
