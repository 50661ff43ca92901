"""The files that `--resume` needs: one with the settings of a run, and the record of its trainings beside it.

    DIR/.l0ref.run/run.json     command, configuration, checksums of the data
    DIR/.l0ref.run/SEED/        the record of a seed, see `l0ref.checkpoint.recording`

The folder exists until the run is finished.
"""

from __future__ import annotations

import argparse
import re
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l0ref.archive import read_json, write_atomic
from l0ref.archive.strict_json import json_bytes
from l0ref.checkpoint import recording
from l0ref.checkpoint.state import checksum
from l0ref.cli.settings import OWN_DATA
from l0ref.cli.values import parts
from l0ref.data import Splits
from l0ref.errors import ConfigError, L0RefError

KIND, VERSION = "l0ref run", 1
HIDDEN, FILE = ".l0ref.run", "run.json"
EVERY = re.compile(r"(\d+(?:\.\d+)?)\s*(min|epochs?)")
DATA = "data"
OF_DATA = {DATA, *OWN_DATA, "seed", "validation", "dtype"}  # settings with which the samples change
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Run:
    """A run on disk: its folder, the interval of its checkpoints, and the settings that may differ from its beginning.

    every     as `checkpoint_every` of `fit`; None: nothing is kept
    override  names of the settings that may differ
    """

    folder: Path
    every: float | None = 5.0
    override: tuple[str, ...] = ()

    def begin(self, command: str, config: Mapping[str, Any], data: Splits) -> None:
        """Record how the run begins, or continues with other settings; write nothing if `every` is None."""
        if self.every is not None:
            (self.folder / HIDDEN).mkdir(exist_ok=True)
            found = {"kind": KIND, "version": VERSION, "command": command, "config": dict(config), "data": sums(data)}
            write_atomic(self.folder / HIDDEN / FILE, json_bytes(found))

    def record(self, name: str) -> AbstractContextManager[Any]:
        """Open the record of a part of the run."""
        if self.every is None:
            return nullcontext()
        place = self.folder / HIDDEN / name
        return recording(place, checkpoint_every=self.every, override=bool(self.override))

    def has_states(self) -> bool:
        """Return whether there is a state to continue from."""
        return any((self.folder / HIDDEN).rglob("step-*.npz"))

    def leave(self, command: str, stop: BaseException) -> None:
        """Add to `stop` how to resume the run that it ended; an error of l0ref would recur with the same settings."""
        if isinstance(stop, KeyboardInterrupt | OSError | MemoryError | L0RefError):
            other = " with another setting, which --override names" if isinstance(stop, L0RefError) else ""
            stop.add_note(f"l0ref {command} --resume {self.folder} continues the run{other}")

    def forget(self, name: str | None = None) -> None:
        """Remove the record of a part that is finished, or of all."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.folder / HIDDEN / (name or ""))


def add_resume_flags(group: Any) -> None:
    """Add the flags about resuming an interrupted run."""
    group.add_argument("--resume", metavar="DIR", help="resume the interrupted run in that folder, bit for bit")
    group.add_argument(
        "--override", default="", metavar="NAME,...",
        help="with --resume: settings that may differ, or data; trainings that depend on them are repeated",
    )  # fmt: skip
    group.add_argument(
        "--checkpoint-every", type=every_of, default=5.0, metavar="N",
        help="save the state of training every 10min or 2epochs, or never; default 5min, and after each training",
    )  # fmt: skip


def every_of(text: str) -> float | None:
    """Return minutes as a float, epochs as an int, None for never."""
    found = EVERY.fullmatch(text.strip())
    if text == "never":
        return None
    if found is None or (found[2] != "min" and not (found[1].isdigit() and int(found[1]))):
        raise argparse.ArgumentTypeError(f"{text!r} must be minutes or epochs, as in 10min or 2epochs, or never")
    return float(found[1]) if found[2] == "min" else int(found[1])


def check_resume(arguments: argparse.Namespace) -> None:
    """Refuse --override without --resume, and with it the flags of a new run."""
    if arguments.resume is None and arguments.override:
        raise ConfigError(f"override={arguments.override!r} needs --resume DIR; leave it out")
    for name in ("out", "overwrite"):
        if arguments.resume is not None and (value := getattr(arguments, name, None)):
            raise ConfigError(f"{name}={value!r} is for a new run, not for resume={arguments.resume!r}; leave it out")


def stored_run(folder: Path, command: str) -> dict[str, Any] | None:
    """Return the contents of run.json in a folder, None if there is none; refuse one of another command."""
    path = folder / HIDDEN / FILE
    if not path.is_file():
        return None
    found = read_json(path)
    shape = {"kind", "version", "command", "config", "data"}
    if not isinstance(found, dict) or set(found) != shape or (found["kind"], found["version"]) != (KIND, VERSION):
        raise ConfigError(f"{str(path)!r} does not say how a run began; remove its folder to begin anew")
    if found["command"] != command:
        raise ConfigError(f"resume={str(folder)!r} holds a run of l0ref {found['command']}; pass it to that command")
    return found


def missing_run(folder: Path) -> ConfigError:
    """Return the error for a folder without a run."""
    return ConfigError(f"resume={str(folder)!r} holds no interrupted run; begin one with --out, without --resume")


def overrides(text: str, known: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names in --override; refuse one that is not a setting."""
    names = tuple(part.replace("-", "_") for part in parts(text))
    for name in names:
        if name not in known and name != DATA:
            raise ConfigError(f"override={name!r} is not a setting; known are {', '.join(sorted({*known, DATA}))}")
    return names


def check_same(
    folder: Path, config: Mapping[str, Any], before: Mapping[str, Any], override: tuple[str, ...], *, resumed: bool
) -> None:
    """Refuse a setting that differs from the run's and is not overridden.

    resumed  the settings of the run were the defaults, so one that differs was given and can be left out
    """
    for name, value in config.items():
        if name != "data_dir" and name not in override and before.get(name) != value:
            remedy = f"{'leave it out, ' * resumed}{_another(folder, name.replace('_', '-'))}"
            raise ConfigError(
                f"{name}={value!r} differs from {before.get(name)!r} of the run in {str(folder)!r}; {remedy}"
            )


def check_data(folder: Path, data: Splits, before: Any, override: tuple[str, ...]) -> None:
    """Refuse other samples than the run began with."""
    if sums(data) != before and not OF_DATA & set(override):
        raise ConfigError(
            f"data={data.name!r} are other samples than those of the run in {str(folder)!r}; "
            f"restore them, {_another(folder, DATA)}"
        )


def _another(folder: Path, flag: str) -> str:
    return f"begin another run with --out, or continue this one with --resume {folder} --override {flag}"


def sums(data: Splits) -> dict[str, str | None]:
    """Return the checksum of each part of a data set."""
    return {name: checksum(getattr(data, name)) for name in PARTS}
