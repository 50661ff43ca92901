"""Output to a pipe whose reader has gone, as in `l0ref report runs/a | head`: it is dropped, and the command goes on.

So the files of a command are written and its exit code is right, whoever reads what it prints.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


class Tolerant:
    """A text stream that drops what a closed pipe does not take; everything else is that of the stream it wraps.

    stream  None, as Python has it where a stream was closed from the start, takes everything and shows nothing
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = io.StringIO() if stream is None else stream

    def write(self, text: str) -> int:
        """Write `text`, or drop it; return its length."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream, or drop what it holds."""
        self._attempt(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _attempt(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        """Send this and all later output of the process's stream to nowhere, so that no flush at exit fails."""
        with suppress(OSError):  # a stream without a file descriptor, or a closed one
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            self._stream.flush()


@contextmanager
def tolerant() -> Iterator[None]:
    """Let standard output and standard error tolerate closed pipes while this context is open."""
    before = sys.stdout, sys.stderr
    streams = [cast(TextIO, Tolerant(stream)) for stream in before]
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before
