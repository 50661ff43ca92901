"""Points of a comparison, computed here or in other processes: their inputs, dense networks and rows.

A worker receives plain values and returns a row; networks and states of training are in the folder of the comparison,
so a point is safe to repeat. The client alone writes compare.json.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from l0ref import checkpoint
from l0ref.archive.lock import locked
from l0ref.cli.build import build_job, build_model
from l0ref.cli.jobs import data_of, load_once, load_same, when_free
from l0ref.cli.resume import Run
from l0ref.cli.settings import Settings, resolve
from l0ref.experiment import Comparison, point
from l0ref.experiment.comparison import Key
from l0ref.experiment.engine import completed
from l0ref.nn import Model
from l0ref.pruning import train_dense


class Work(NamedTuple):
    """The inputs that all points of a comparison share."""

    config: dict[str, Any]
    journal: Run
    plan: Comparison

    def settings(self, seed: int) -> Settings:
        """Return the settings of a seed."""
        return dataclasses.replace(resolve(self.config), seed=seed)

    def path(self, seed: int) -> Path:
        """Return the path of the dense network of a seed."""
        return self.journal.folder / f"dense-{seed}.npz"

    def dense(self, seed: int) -> Model:
        """Return the dense network of a seed, trained if it is not there."""
        path, own = self.path(seed), self.settings(seed)
        if not path.exists():
            data, train = own.load(), build_job(own).train
            with self.journal.record(path.stem):
                trained = train_dense(build_model(own, data, seed=seed), data, train, seed=seed, progress="none")
            checkpoint.save(path, trained.stage.model)
            self.journal.forget(path.stem)
        return checkpoint.load(path)


class Part(NamedTuple):
    """A job of a worker: a point, or without one the dense network of a seed."""

    work: Work
    seed: int
    checksum: str
    key: Key | None = None


def compute(work: Work, keys: list[Key], finished: Callable[[dict[str, Any]], None], workers: dict[str, Any]) -> None:
    """Train the dense networks that are missing, then compute the points; `workers` are options of `completed`."""
    sums = {seed: load_once(data_of(work.settings(seed))).checksum for seed in dict.fromkeys(key[0] for key in keys)}
    missing = [Part(work, seed, found) for seed, found in sums.items() if not work.path(seed).exists()]
    list(completed(do_part, missing, **workers))
    for _, row in completed(do_part, [Part(work, key[0], sums[key[0]], key) for key in keys], **workers):
        finished(row)


def do_part(part: Part) -> dict[str, Any] | None:
    """Return the row of a point, or train a dense network into the folder."""
    work, name = part.work, "dense" if part.key is None else name_of(part.key)

    def alone() -> dict[str, Any] | None:
        with locked(work.journal.folder / f".{name}-{part.seed}.lock", name=f"out={str(work.journal.folder)!r}"):
            dense = work.dense(part.seed)
            if part.key is None:
                return None
            data, (seed, method, ratio, equal) = load_same(work.settings(part.seed), part.checksum), part.key
            how: dict[str, Any] = {"method": method, "ratio": ratio, "equal": equal, "finetune": work.plan.finetune}
            with work.journal.record(name):
                return point(dense, data, seed=seed, **how)

    return when_free(alone)


def name_of(key: Key) -> str:
    """Return the name of the record of a point."""
    return "-".join(map(str, key))
