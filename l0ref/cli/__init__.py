"""The command line, `l0ref COMMAND`: see `l0ref --help` for the commands.

Exit codes: 0 done, 1 failed, 2 bad usage or a wrong input; 130, 143 or 129 when Ctrl-C, SIGTERM or SIGHUP ended it.
Errors are one sentence; ``--debug`` shows the traceback. Everything beyond NumPy, including Numba and matplotlib, is
imported only when a command needs it, so `l0ref --help` works wherever Python and NumPy do. Output to a closed pipe is
dropped, and the command continues.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import re
import sys
from collections.abc import Sequence

from l0ref.cli import (
    bench,
    calibrate,
    compare,
    compress,
    data,
    evaluate,
    exchange,
    gradcheck,
    methods,
    report,
    sweep,
    vectors,
)
from l0ref.cli.signals import EndSignals
from l0ref.errors import (
    ArgumentError,
    CheckpointError,
    ConfigError,
    DataError,
    DownloadError,
    DTypeError,
    L0RefError,
    ShapeError,
)
from l0ref.pipes import tolerant
from l0ref.version import __version__

DONE, FAILED, USAGE = 0, 1, 2
WRONG_INPUT = (ConfigError, ArgumentError, ShapeError, DTypeError, DataError, CheckpointError)
REMEDY = re.compile(r"\b(pass|give|use|set) (\w+)='?(?!True\b)(\w+)'?")  # of the library: pass min_keep=1
SIGNALLED = 128  # plus the number of the signal, as in shells
FULL, CLOSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), (errno.EROFS, errno.EACCES, errno.EPERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` is sys.argv[1:] by default."""
    with tolerant():
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed the help or the error
        return stop.code if isinstance(stop.code, int) else USAGE
    if getattr(arguments, "quiet", False):
        logging.getLogger("l0ref").setLevel(logging.ERROR)
    with EndSignals() as signals:
        return _run(arguments, signals)


def _run(arguments: argparse.Namespace, signals: EndSignals) -> int:
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt as stop:
        if arguments.debug:
            raise
        sys.stderr.write(f"l0ref {arguments.command}: {_told(stop, arguments)}\n")
        return SIGNALLED + signals.number
    except (L0RefError, OSError) as error:
        if arguments.debug:
            raise
        sys.stderr.write(f"l0ref {arguments.command}: {_told(error, arguments)}\n")
        return USAGE if isinstance(error, WRONG_INPUT) and not isinstance(error, DownloadError) else FAILED


def _told(error: BaseException, arguments: argparse.Namespace) -> str:
    """The message for an error: its sentence with flags, a remedy if the disk refused to write, and its notes."""
    text = REMEDY.sub(
        lambda m: f"{m[1]} --{m[2].replace('_', '-')} {m[3]}" if hasattr(arguments, m[2]) else m[0],
        str(error) or "interrupted",
    )
    if isinstance(error, OSError) and error.errno in FULL and error.filename is not None:
        folder = os.path.dirname(error.filename) or "."
        text = f"{error.filename} cannot be written: {error.strerror}; free space in {folder} or choose another folder"
    elif isinstance(error, OSError) and error.errno in CLOSED and error.filename is not None:
        text = f"{error.filename} cannot be opened: {error.strerror}; allow it, or choose another folder"
    return "; ".join([text, *getattr(error, "__notes__", ())])


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="l0ref", description="Train with an l0 penalty, prune, fine-tune, and report what it cost."
    )
    parser.add_argument("--version", action="version", version=f"l0ref {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (
        compress,
        sweep,
        methods,
        compare,
        report,
        evaluate,
        exchange,
        data,
        gradcheck,
        vectors,
        bench,
        calibrate,
    ):
        for command in module.add_parser(commands):  # so that --debug may stand before the command or after it
            command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback")
    return parser
