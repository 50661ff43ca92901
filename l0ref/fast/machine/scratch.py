"""Memory that is allocated once and reused.

    room      valid until the next call with the same name, which gets the same memory
    Loan      valid as long as it is referenced, then free for the next loan
    scratch   a loan for a `with` block

All memory is flat and begins at a multiple of LINE bytes. Each thread has its own.

Why it is fast: the operating system maps and clears a fresh array of some megabytes page by page, each time; for a
layout of a few images that takes longer than filling it. And a vector across two lines of the cache costs two loads.
"""

from __future__ import annotations

import threading
from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from l0ref.fast.machine.target import BITS
from l0ref.validate import Array

LINE = 64  # bytes of a line of the cache
KEPT = 4  # returned loans that a thread keeps: as many as a call uses at a time

_kept = threading.local()


def room(name: str, size: int, dtype: Any) -> Array:
    """Return `size` numbers; their contents are left over from the previous room of this name."""
    kept: Array | None = _kept.__dict__.get(name + dtype.char)
    if kept is None or kept.size < size:
        kept = _kept.__dict__[name + dtype.char] = zeros(size, dtype)
    return kept[:size]


class Loan:
    """Memory in `array`, with undefined contents, valid as long as the loan is referenced."""

    __slots__ = ("_memory", "array")

    def __init__(self, size: int, dtype: Any) -> None:
        free = _free(np.dtype(dtype))
        for i, memory in enumerate(free):
            if memory.size >= size:
                self._memory = free.pop(i)
                break
        else:
            self._memory = _aligned(size, dtype)
        self.array: Array = self._memory[:size]

    def __del__(self) -> None:
        memory = getattr(self, "_memory", None)  # None if allocating it failed
        if memory is not None:
            free = _free(memory.dtype)
            insort(free, memory, key=len)
            del free[:-KEPT]  # the largest stay


@contextmanager
def scratch(size: int, dtype: Any) -> Iterator[Array]:
    """Yield `size` numbers with undefined contents."""
    loan = Loan(size, dtype)
    yield loan.array


def zeros(size: int, dtype: Any) -> Array:
    """Return fresh zeros, flat, that begin at a multiple of LINE bytes."""
    return _aligned(size, dtype, fresh=np.zeros)


def fits_vectors(x: Array) -> bool:
    """Whether x begins at a multiple of a vector's bytes, so that none of its vectors lies across two lines."""
    return bool(x.__array_interface__["data"][0] % (BITS // 8) == 0)


def _aligned(size: int, dtype: Any, *, fresh: Callable[..., Array] = np.empty) -> Array:
    itemsize = np.dtype(dtype).itemsize
    memory = fresh(size * itemsize + LINE, np.uint8)
    start = -memory.__array_interface__["data"][0] % LINE
    aligned: Array = memory[start : start + size * itemsize].view(dtype)
    return aligned


def _free(dtype: np.dtype[Any]) -> list[Array]:
    """Returned loans, the smallest first."""
    free: list[Array] = _kept.__dict__.setdefault("free " + dtype.char, [])
    return free
