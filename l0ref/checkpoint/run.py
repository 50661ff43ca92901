"""The record of a run: one folder for each training, numbered in the order in which the trainings begin.

    0000-train/step-0000000480.npz     a finished training: its last state
    0001-finetune/step-0000000120.npz  an interrupted training: its newest states

A run is a function of its arguments, so a run repeated in the same folder finds its trainings again by their numbers.
A finished training is not repeated, an interrupted one continues, and what lies between trainings, such as cuts, is
computed again. `identity` prevents the state of one training from being used for another.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from l0ref.archive.lock import locked
from l0ref.checkpoint.folder import LOCK, TEMPORARY, FolderKeeper, checked_every, newest, states
from l0ref.checkpoint.identity import identity
from l0ref.checkpoint.state import Saved
from l0ref.errors import CheckpointError
from l0ref.progress import Progress
from l0ref.record import OPEN
from l0ref.training.loop import Trainer
from l0ref.training.state import TrainingState


class RunRecord:
    """Keeps the trainings of a run in a folder that this process has locked."""

    def __init__(self, folder: Path, *, every: float, override: bool = False) -> None:
        self.folder, self.every, self.override = folder, every, override
        self.earlier, self._begun = 0.0, 0

    def run(self, trainer: Trainer, state: TrainingState, bar: Progress | None) -> TrainingState:
        """Run a training from its newest kept state, and return its last state."""
        phase = re.sub(r"[^\w]+", "-", trainer.phase)
        place = self.folder / f"{self._begun:04}-{phase}"
        self._begun += 1
        own = identity(trainer, state)
        keeper = FolderKeeper(place, self.every, identity=own)
        found = self._found(place, trainer, own)
        if found is not None:
            keeper.go_on(found)
            self.earlier += found.state.history.seconds - state.history.seconds
            state = found.state
            if trainer.resumed is not None:
                trainer.resumed(state)
        state = dataclasses.replace(trainer, keeper=keeper).run(state, bar)
        for old in states(place)[:-1]:
            with suppress(OSError):
                old.unlink()
        return state

    def _found(self, place: Path, trainer: Trainer, own: str) -> Saved | None:
        """Return the newest state of this training; with `override`, remove the states of another one."""
        others = [p for p in self.folder.glob(place.name[:4] + "-*") if p != place]
        try:
            found = newest(place, recipe=trainer.recipe) if not others else None
        except CheckpointError as error:
            if states(place):
                warnings.warn(f"{error}. This training begins anew", stacklevel=4)
            self._begin(place)
            return None
        if found is None or found.run["identity"] != own:
            if not self.override:
                raise CheckpointError(
                    f"{os.fspath(place)!r} holds states of another training than the one that begins here; "
                    "pass override=True to train it anew, or choose another folder"
                )
            self._begin(place)
            return None
        for litter in place.glob(TEMPORARY):  # of a process that was killed
            litter.unlink(missing_ok=True)
        return found

    def _begin(self, place: Path) -> None:
        """Remove the folders that have the number of this training, and create a new one."""
        try:
            for old in self.folder.glob(place.name[:4] + "-*"):
                shutil.rmtree(old)
            place.mkdir(parents=True)
        except OSError as error:
            told = f"checkpoint={os.fspath(place)!r} cannot be made: {error.strerror}"
            warnings.warn(f"{told}; training continues without checkpoints", RuntimeWarning, stacklevel=4)


@contextmanager
def recording(
    folder: str | os.PathLike[str], *, checkpoint_every: float = 5.0, override: bool = False
) -> Iterator[RunRecord]:
    """Keep every training that begins in this context, including those inside methods, or continue kept ones.

    checkpoint_every  as in `fit`: a float of minutes or an int of epochs; the end of a training is always kept
    override          replace the states of another training that has the same number; otherwise they are refused

    with checkpoint.recording("runs/kept"):
        result = compress(model, data, train=train, cut=cut, finetune=finetune, seed=0)

    The same lines after an interruption give the result of an uninterrupted run, bit for bit. Times include the
    seconds of earlier processes. Trainings with a `checkpoint` of their own are not part of the record.
    """
    every, place = checked_every(checkpoint_every), Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    with locked(place / LOCK, name=f"folder={os.fspath(folder)!r}"):
        record: Any = RunRecord(place, every=every, override=override)
        token = OPEN.set(record)
        try:
            yield record
        finally:
            OPEN.reset(token)
