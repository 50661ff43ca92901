"""PyTorch with the plan's number of threads, and an optimiser of its as it was at the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from l0ref.interop.extras import need


def torch_with(threads: int) -> Any:
    """Return PyTorch, told to use `threads` threads."""
    torch = need("torch", extra="bench")
    torch.set_num_threads(threads)
    return torch


def restart(torch: Any, optimizer: Any, params: Mapping[str, Any], start: Mapping[str, Any]) -> None:
    """Bring back the first weights, and an optimiser without memory."""
    with torch.no_grad():
        for key, p in params.items():
            p.copy_(start[key])
    for state in optimizer.state.values():
        for slot in state.values():
            slot.zero_()
