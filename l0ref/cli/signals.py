"""SIGTERM and SIGHUP end a command as Ctrl-C does: what was reached is saved, then the process ends."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

NAMES = ("SIGTERM", "SIGHUP")  # the second is unknown to Windows


class EndSignals:
    """While this context is open, either signal raises KeyboardInterrupt; a second one ends the process at once.

    number  the signal that came, by default that of Ctrl-C

    A signal that is ignored already, as under nohup, stays ignored, and so does one that the program which calls us
    handles itself. Only the main thread may do all this; in another one nothing is changed.
    """

    def __init__(self) -> None:
        self.number: int = signal.SIGINT
        self._before: dict[int, Any] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> EndSignals:
        if threading.current_thread() is threading.main_thread():
            self._terminals = [stream for stream in (1, 2) if _is_terminal(stream)]
            numbers = [int(getattr(signal, name)) for name in NAMES if hasattr(signal, name)]
            for number in numbers:
                if signal.getsignal(number) is signal.SIG_DFL:
                    self._before[number] = signal.signal(number, self._raise)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _raise(self, number: int, _: Any) -> None:
        self.number = number
        for each, handler in self._before.items():
            signal.signal(each, handler)
        for stream in self._terminals:
            if not _is_terminal(stream):  # it has hung up: whatever writes there would fail
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")


def _is_terminal(stream: int) -> bool:
    try:
        return os.isatty(stream)
    except OSError:  # it is closed
        return False
