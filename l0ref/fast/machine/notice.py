"""A line in the log when a kernel is first compiled, which explains the wait; it occurs once.

It goes to the logger "l0ref.fast" as a warning, which Python prints unless the program has set up logging otherwise.
"""

from __future__ import annotations

import logging
from typing import Any

from numba.core import event

from l0ref.fast.machine.storage import is_keeping

logger = logging.getLogger("l0ref.fast")


class Notice(event.Listener):
    """Listens to every compilation of this process; warns once, at the first kernel of this package."""

    def __init__(self) -> None:
        self.is_given = False

    def on_start(self, event: Any) -> None:
        """A compilation begins, since the kernel is not in the cache."""
        module = event.data["dispatcher"].py_func.__module__ or ""  # None of a function made by exec
        if not self.is_given and module.startswith(logger.name + "."):
            self.is_given = True
            kept = "once; they are kept on disk" if is_keeping() else "in every process"
            logger.warning("l0ref compiles its kernels for this processor: some seconds, %s", kept)

    def on_end(self, event: Any) -> None:
        """The end of a compilation is not reported."""


def announce_compilation() -> Notice:
    """Give notice of the first compilation of this process; return the listener."""
    notice = Notice()
    event.register("numba:compile", notice)
    return notice
