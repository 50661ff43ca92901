"""A folder with the last states of a training, newest last: step-0000000120.npz, step-0000000180.npz.

A file is written as a whole before an older one is removed, so a kill, a full disk or a power cut leaves a sound one.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from l0ref.archive.lock import locked
from l0ref.checkpoint.state import Saved, load_state, save_state
from l0ref.errors import ArgumentError, CheckpointError
from l0ref.training.loop import Trainer
from l0ref.training.recipe import Recipe
from l0ref.training.state import TrainingState
from l0ref.validate import count, nonnegative

LAST = 2  # states kept
STEPS, LOCK, TEMPORARY = "step-*.npz", ".l0ref.lock", ".step-*.tmp"


class FolderKeeper:
    """Keeps states in a folder that this process has locked; `identity` is that of a training of a `recording`."""

    def __init__(self, folder: Path, every: float, *, identity: str | None = None) -> None:
        self.folder, self.every, self.identity = folder, every, identity
        self._last = time.monotonic()
        self._place = (-1, -1)  # step and epoch of the last state kept; closing an epoch raises only the epoch
        self._kept: list[Path] = []

    def go_on(self, found: Saved) -> None:
        """Continue after `found`, the newest sound state of the folder."""
        self._place = (found.state.step, found.state.epoch)
        self._kept = [Path(found.path)]

    def is_due(self) -> bool:
        """Return whether the interval in minutes is over, or the clock went back; False if epochs are counted."""
        return isinstance(self.every, float) and not 0 <= time.monotonic() - self._last < 60 * self.every

    def close_epoch(self, trainer: Trainer, state: TrainingState) -> None:
        """Keep the state after an epoch if the interval is over, and always after the last epoch."""
        is_round = not isinstance(self.every, float) and len(state.history) % self.every == 0
        if is_round or self.is_due() or trainer.has_ended(state):
            self.keep(trainer, state)

    def keep(self, trainer: Trainer, state: TrainingState) -> None:
        """Write the state, then remove older ones; if the disk refuses, warn, and let training continue.

        A state that is not newer than the last one written, or not finite, is skipped.
        """
        place, path = (state.step, state.epoch), self.folder / f"step-{state.step:010}.npz"
        if place <= self._place or state.first_bad() is not None:
            return
        try:
            save_state(path, trainer, state, identity=self.identity)
            self._place, self._kept = place, [*(p for p in self._kept if p != path), path][-LAST:]
            for old in states(self.folder):
                if old not in self._kept:
                    old.unlink()
        except OSError as error:
            told = f"checkpoint={os.fspath(self.folder)!r} was not written: {error.strerror}"
            warnings.warn(f"{told}; training continues, and an earlier state is kept", RuntimeWarning, stacklevel=2)
        self._last = time.monotonic()


@contextmanager
def held(folder: str | os.PathLike[str], *, every: float) -> Iterator[tuple[FolderKeeper, Saved]]:
    """Lock a folder with the states of a training; yield its keeper and the newest sound state."""
    with keeping(folder, every=every, begin=False) as keeper:
        assert keeper is not None
        found = newest(folder)
        keeper.go_on(found)
        yield keeper, found


@contextmanager
def keeping(
    folder: str | os.PathLike[str] | None, *, every: float, begin: bool = True
) -> Iterator[FolderKeeper | None]:
    """Lock a folder for the states of one training; None: nothing is kept.

    begin  the training is a new one: a folder that holds states of another is refused
    """
    every = checked_every(every)
    if folder is None:
        yield None
        return
    place, name = Path(folder), "checkpoint" if begin else "folder"
    told = f"{name}={os.fspath(folder)!r}"
    try:
        if begin:
            place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"{told} is not a folder and cannot be made: {error.strerror}; choose another") from None
    if not place.is_dir():
        raise ArgumentError(f"{told} is not a folder; pass the one that fit(checkpoint=...) was given")
    with locked(place / LOCK, name=told):
        if begin and states(place):
            raise ArgumentError(
                f"{told} holds states of another training; continue it with training.resume, or choose another folder"
            )
        for litter in place.glob(TEMPORARY):  # of a process that was killed: this one holds the lock
            with suppress(OSError):
                litter.unlink()
        yield FolderKeeper(place, every)


def checked_every(every: float) -> float:
    """Return how often states are kept: a float of minutes, or an int of epochs."""
    if isinstance(every, float):
        return nonnegative("checkpoint_every", every)
    return count("checkpoint_every", every, least=1)


def newest(folder: str | os.PathLike[str], *, recipe: Recipe | None = None) -> Saved:
    """Return the newest sound state in a folder; warn of every newer one, which is damaged.

    recipe  that of a training in a `recording`, whose files hold its identity instead of its recipe
    """
    reasons: list[str] = []
    for path in reversed(states(Path(folder))):
        try:
            found = load_state(path, recipe=recipe)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            warnings.warn(f"{reason}. Training continues from the earlier {path.name!r}", stacklevel=3)
        return found
    why = reasons[0] if reasons else "there is none"
    raise CheckpointError(f"folder={os.fspath(folder)!r} holds no sound state of a training: {why}")


def states(folder: Path) -> list[Path]:
    """Return the files with states, oldest first."""
    return sorted(folder.glob(STEPS))
