"""PyTorch with the plan's number of threads."""

from __future__ import annotations

from typing import Any

from l0ref.interop.extras import need


def torch_with(threads: int) -> Any:
    """Return PyTorch, told to use `threads` threads."""
    torch = need("torch", extra="bench")
    torch.set_num_threads(threads)
    return torch
