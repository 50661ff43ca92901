"""Memory for the length of a call, kept for the next one.

Why it is fast: a fresh array of some megabytes is mapped page by page by the operating system, and cleared, each time;
for a layout of a few images that takes longer than filling it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from l0ref.validate import Array

KEPT = 4  # arrays a thread keeps: as many as a call uses at a time

_free = threading.local()


@contextmanager
def scratch(size: int, dtype: Any) -> Iterator[Array]:
    """Lend a flat array of `size` numbers, which hold anything."""
    kept: list[Array] = _free.__dict__.setdefault(np.dtype(dtype).char, [])
    fitting = [i for i, a in enumerate(kept) if a.size >= size]
    memory = kept.pop(min(fitting, key=lambda i: kept[i].size)) if fitting else np.empty(size, dtype)
    try:
        yield memory[:size]
    finally:
        kept.append(memory)
        kept.sort(key=lambda a: a.size)
        del kept[:-KEPT]  # the largest stay
