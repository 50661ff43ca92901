"""Memory that kernels keep between calls, and memory that calls ask for."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from l0ref.fast.machine import scratch


def spoil() -> None:
    """Fill all that is kept with NaN: no result may depend on what it holds."""
    for kept in scratch._kept.__dict__.values():
        for memory in kept if isinstance(kept, list) else [kept]:
            memory[:] = np.nan


def new_memory(take: Callable[[Any], Any], orders: Sequence[Any]) -> int:
    """Return the most memory that one call take(order) asks for while it runs, after one call of each order."""
    for order in orders:
        take(order)
    most = 0
    tracemalloc.start()
    try:
        for order in orders:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            take(order)
            most = max(most, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    return most
