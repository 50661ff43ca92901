"""Commands that a signal ends: each runs in a fork of one process, which has imported all and has started no thread.

    with Commands() as run:
        ended = run("compress", "--epochs", "2", signal="SIGKILL", states=3)

states  the command sends itself the signal when it has kept so many states of trainings
writes  or within so many a write of a file
times   how often: another one comes with the next state or write
closes  instead of the signal, this folder and those inside become read-only
after   or it is sent from here after so many seconds
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from l0ref import data
from l0ref.archive import atomic
from l0ref.checkpoint.folder import FolderKeeper
from l0ref.cli import main

PR_CAPBSET_DROP, DAC_OVERRIDE, DAC_READ_SEARCH = 24, 1, 2  # of Linux
ROOT = Path(__file__).resolve().parents[1]


class Ended(NamedTuple):
    """How a command ended: its exit code, or minus the number of the signal, and what it said."""

    code: int
    err: str


class Commands:
    """The process that forks, and its pipes."""

    def __enter__(self) -> Commands:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "tests.ended"]
        given = os.environ | {"PYTHONPATH": path}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=given, preexec_fn=permissions_bind
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def __call__(self, *arguments: str, **how: Any) -> Ended:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"arguments": arguments, **how}) + "\n")
        self.process.stdin.flush()
        return Ended(*json.loads(self.process.stdout.readline()))


def permissions_bind() -> None:
    """Let permissions hold for root too, in what this process runs: it may not acquire CAP_DAC_OVERRIDE any more."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in (DAC_OVERRIDE, DAC_READ_SEARCH):
            assert libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0


def signals_itself(
    number: int, *, states: int = 0, writes: int = 0, times: int = 1, closes: str = ""
) -> pytest.MonkeyPatch:
    """Let this process send itself a signal, until what is returned is undone."""
    patch, left = pytest.MonkeyPatch(), [states or writes]
    place, name = (FolderKeeper, "keep") if states else (atomic.os, "fsync")
    done = getattr(place, name)

    def counted(*args: Any) -> None:
        done(*args)
        left[0] -= 1
        if -times < left[0] <= 0:
            if closes:
                for folder in (closes, *(path for path, _, _ in os.walk(closes))):
                    os.chmod(folder, 0o555)
            else:
                os.kill(os.getpid(), number)

    if states or writes:
        patch.setattr(place, name, counted)
    return patch


def serve() -> None:
    """Fork for each line of stdin, and answer how the fork ended."""
    data.load("digits")
    for line in sys.stdin:
        job = json.loads(line)
        arguments, after, number = (
            job.pop("arguments"),
            job.pop("after", None),
            getattr(signal, job.pop("signal", "SIGKILL")),
        )
        with tempfile.TemporaryFile() as said:
            assert len(os.listdir("/proc/self/task")) == 1  # else a fork may wait for a lock that nobody holds
            if (pid := os.fork()) == 0:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                signals_itself(number, **job)
                code = main(arguments)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            if after is not None:
                time.sleep(after)
                os.kill(pid, number)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            said.seek(0)
            sys.stdout.write(json.dumps([code, said.read().decode()]) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    serve()
