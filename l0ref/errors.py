"""Named exceptions: one class for each way a call can fail.

Every message is one sentence that names the argument, its value and the remedy. Each class also
derives from the built-in exception a caller would expect, so ``except ValueError`` keeps working,
while ``except L0RefError`` catches everything this package raises on purpose.
"""

from __future__ import annotations

from typing import Any

LONGEST = 1200  # characters of a message on one line


class L0RefError(Exception):
    """Base of every exception this package raises on purpose.

    The middle of a line of over 1,200 characters, which quotes a value or a name of any length, is left out.
    """

    def __init__(self, *args: object) -> None:
        if args and isinstance(told := args[0], str) and len(told) > LONGEST and "\n" not in told:
            args = (f"{told[: LONGEST // 2]} ... {told[-LONGEST // 2 :]}", *args[1:])
        super().__init__(*args)


class ArgumentError(L0RefError, ValueError):
    """An argument has a value the function cannot work with."""


class ShapeError(L0RefError, ValueError):
    """The shapes of the arguments do not fit each other."""


class DTypeError(L0RefError, TypeError):
    """An array has a type this package does not compute with, or two arrays differ in type."""


class GradientError(L0RefError, ValueError):
    """The requested gradient does not exist, or a check of it would prove nothing."""


class LayerCollapse(L0RefError, ValueError):
    """Pruning would leave a layer without a single weight."""


class DataError(L0RefError, ValueError):
    """A data file is missing, damaged, or not what its name says."""


class DownloadError(DataError):
    """No mirror gave a data file: the network, a proxy or the mirrors are at fault."""


class CheckpointError(L0RefError, ValueError):
    """A model file is damaged, hostile, or of another version."""


class ConfigError(L0RefError, ValueError):
    """A configuration names an unknown setting or combines settings that exclude each other."""


class Diverged(L0RefError, ArithmeticError):
    """The loss or a parameter became NaN or infinite, so training stopped.

    `model` is the last good state, that of the last epoch with finite parameters, and `history` the
    epochs up to it.
    """

    model: Any = None
    history: Any = None


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C; `model` and `history` are those of the last complete epoch, or of the start."""

    model: Any = None
    history: Any = None
