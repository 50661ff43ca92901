"""The progress of a training: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from l0ref.validate import choose


class Progress:
    """Context manager that follows the epochs of one phase on standard error.

    show    "auto": a bar if standard error is a terminal, otherwise lines; "bar", "lines", "none"
    every   with lines, one line every `every` epochs and one for the last; 0: about twenty lines in all
    """

    def __init__(self, phase: str, epochs: int, *, show: str = "auto", every: int = 1) -> None:
        choose("progress", show, ("auto", "bar", "lines", "none"))
        self.phase, self.epochs, self.every = phase, epochs, every or max(1, round(epochs / 20))
        self.show = ("bar" if sys.stderr.isatty() else "lines") if show == "auto" else show
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Self:
        if self.show == "bar":
            self._bar = tqdm(total=self.epochs, desc=self.phase, unit="epoch", leave=False, dynamic_ncols=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def note(self, text: str) -> None:
        """Show a line about the phase, before its first epoch."""
        if self.show != "none":
            sys.stderr.write(f"{self.phase}  {text}\n")
            sys.stderr.flush()

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Show one finished epoch, a row of the History."""
        text = f"loss {row['loss']:.4g}  small weights {row['below_threshold']:.1%}"
        if row["val_acc1"] is not None:
            is_regression = math.isnan(row["val_acc1"])
            text += f"  val loss {row['val_loss']:.4g}" if is_regression else f"  val {row['val_acc1']:.2%}"
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update()
        elif self.show == "lines" and (row["epoch"] % self.every == 0 or row["epoch"] == self.epochs):
            sys.stderr.write(f"{self.phase}  epoch {row['epoch']}/{self.epochs}  {text}  lr {row['lr']:.2g}\n")
            sys.stderr.flush()
