"""PyTorch beside l0ref: models in both directions, and where two implementations part.

    from_torch(module)               a chain of layers, with its masks, as a Model
    to_torch(model)                  a Model as nn.Sequential
    compare(model, module, x, y)     forward, loss, penalty, gradients, optimiser steps: the first parting
    compare_masks(model, module)     which entries the two prune, and whether a tie explains the difference

PyTorch is imported when one of them is called, and comes with the extra `crosscheck`. A module handed in is
never written, nor is the state of PyTorch's random generator.
"""

from __future__ import annotations

from l0ref.interop.compare import compare
from l0ref.interop.comparison import Comparison, Row
from l0ref.interop.torch_masks import MaskComparison, MaskRow, compare_masks
from l0ref.interop.torch_read import from_torch
from l0ref.interop.torch_write import to_torch

__all__ = ["Comparison", "MaskComparison", "MaskRow", "Row", "compare", "compare_masks", "from_torch", "to_torch"]
