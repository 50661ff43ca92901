"""Output to a pipe whose reader has exited, as in `l0ref report runs/a | head`, is dropped and the command continues.

The files of a command are thus written and its exit code is right, whether or not its output is read.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast


class Tolerant:
    """A wrapper of a text stream that drops output to a closed pipe and passes everything else on.

    stream  None, which Python sets for a stream that was closed at the start, accepts and discards all output
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
