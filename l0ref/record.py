"""The record of a run, if one is open: every training of the run passes through it, and is kept or taken from it."""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Record(Protocol):
    """Keeps the trainings of a run in the order in which they begin; `l0ref.checkpoint.recording` opens one.

    earlier  seconds that earlier processes spent on what the record gave back so far
    """

    earlier: float

    def run(self, trainer: Any, state: T, bar: Any) -> T:
        """Return the last state of a training, from the newest state that is kept of it."""


OPEN: ContextVar[Record | None] = ContextVar("open", default=None)


def clock() -> float:
    """Return seconds as `time.perf_counter`, those that earlier processes spent on the run included."""
    record = OPEN.get()
    return time.perf_counter() + (record.earlier if record is not None else 0.0)
