"""The record of a run, if one is open: every training of the run goes through it and is kept, or restored from it."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Record(Protocol):
    """Keeps the trainings of a run in the order in which they begin; `l0ref.checkpoint.recording` opens one.

    earlier  seconds that earlier processes spent on the trainings restored so far
    """

    earlier: float

    def run(self, trainer: Any, state: T, bar: Any) -> T:
        """Run a training from its newest kept state, and return its last state."""


OPEN: ContextVar[Record | None] = ContextVar("open", default=None)


def clock() -> float:
    """Return `time.perf_counter()` plus the seconds that earlier processes spent on the run."""
    record = OPEN.get()
    return time.perf_counter() + (record.earlier if record is not None else 0.0)
