"""SIGTERM and SIGHUP end a command as Ctrl-C does: it saves its progress and ends; a second signal ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is unknown to Windows


class EndSignals:
    """While this context is open, a signal raises KeyboardInterrupt; a second, of any kind, ends the process at once.

    number  the signal received, by default that of Ctrl-C

    A signal that is already ignored, as under nohup, stays ignored, and one that the calling program handles keeps its
    handler. Only the main thread may set handlers; in another thread nothing is changed.
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
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._before[number] = signal.signal(number, self._raise)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _raise(self, number: int, _: Any) -> None:
        self.number = number
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
        for stream in self._terminals:
            if not _is_terminal(stream):  # it has hung up: whatever writes there would fail
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        raise KeyboardInterrupt(*[] if number == signal.SIGINT else [f"ended by {signal.Signals(number).name}"])


def _is_terminal(stream: int) -> bool:
    try:
        return os.isatty(stream)
    except OSError:  # it is closed
        return False
