"""The files that `l0ref compress` writes into the folder it has claimed, each atomically."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l0ref import checkpoint
from l0ref.archive import json_bytes, write_atomic, write_npz
from l0ref.archive.folder import marker_of
from l0ref.cli.settings import Settings, to_json
from l0ref.data import Preparation
from l0ref.errors import ConfigError
from l0ref.experiment import MAIN, Experiment
from l0ref.nn import Model
from l0ref.pruning import Compressed, Stage
from l0ref.report import find_reports
from l0ref.tables import rows_to_csv

REPORT, CONFIG, MODEL, COMPACT, DENSE = "report.json", "config.json", "model.npz", "compact.npz", "dense.npz"
PARTIAL = "partial.npz"
PARTIAL_HISTORY = "partial.csv"
PICTURES = ("training.png", "weights.png", "surrogate.png", "masks.png", "axes.png", "compression.png")
TABLES = (REPORT, CONFIG, "history.csv", "summary.json", PARTIAL_HISTORY)
OURS = (*TABLES, MODEL, COMPACT, DENSE, "masks.npz", PARTIAL, *PICTURES)


class Kept:
    """The networks of a job, written into `folder` as soon as training reaches them, so that no failure loses them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.preparation: Preparation | None = None
        self._last: Model | None = None

    def reached(self, name: str, stage: Stage) -> None:
        """Remember the network of a stage; write that of the main run before it is pruned."""
        self._last = stage.model
        if name == MAIN and stage.name == "dense":
            self.save(DENSE, stage.model)

    def finished(self, name: str, run: Compressed) -> None:
        """Write model.npz and masks.npz of the main run."""
        if name == MAIN:
            self.save(MODEL, run.model)
            masks = {k: run.model.mask(k) for k in run.model.weights}
            write_npz(self.folder / "masks.npz", masks, manifest={"kind": "l0ref masks"})

    def save(self, name: str, model: Model) -> None:
        """Write a network, with the preparation of its raw data."""
        checkpoint.save(self.folder / name, model, preparation=self.preparation)

    def keep_partial(self, stop: BaseException) -> None:
        """Write the last good network of the job that `stop` ended, and the history if a training was running."""
        model, history = getattr(stop, "model", None) or self._last, getattr(stop, "history", None)
        if model is not None:
            self.save(PARTIAL, model)
        if history is not None:
            write_atomic(self.folder / PARTIAL_HISTORY, history.to_csv().encode("utf-8"))

    def told(self, folder: Path | None) -> list[str]:
        """Return where each network is, after all were moved to `folder`; nothing without a folder."""
        if folder is None:
            return []
        about = {
            MODEL: "the finished network",
            DENSE: "the dense network",
            PARTIAL: "the last good model of the training that stopped",
        }
        if (folder / MODEL).exists():
            del about[DENSE]
        return [f"{what} is in {folder / name}" for name, what in about.items() if (folder / name).exists()]


def finished_report(folder: Path) -> dict[str, Any] | None:
    """Return the report of a folder with a complete result."""
    marker = marker_of(folder)
    if not (folder / REPORT).is_file() or (marker is not None and not marker.is_complete):
        return None
    (report,) = find_reports([folder])
    return dict(report)


def finished(
    jobs: Mapping[Path, Settings], *, remedy: str = "choose another folder or pass --overwrite"
) -> dict[Path, dict[str, Any]]:
    """The reports of the jobs that are finished already; a folder with a result of other settings is refused."""
    found = {}
    for folder, settings in jobs.items():
        report = finished_report(folder)
        if report is None:
            continue
        here, there = to_json(settings), report["config"]
        if other := [name for name in here if name != "data_dir" and here[name] != there.get(name)]:
            raise ConfigError(
                f"out={str(folder)!r} holds a result of other settings: {other[0]}={there.get(other[0])!r}, "
                f"not {here[other[0]]!r}; {remedy}"
            )
        found[folder] = report
    return found


def check_file(flag: str, path: str | os.PathLike[str] | None) -> None:
    """Refuse a file that could not be written, before minutes are spent computing its contents."""
    if path is None:
        return
    if Path(path).is_dir():
        raise ConfigError(f"--{flag} {path} cannot be written: it is a folder; name a file")
    parent = Path(path).absolute().parent
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise ConfigError(f"--{flag} {path} cannot be written: its folder is missing or read-only; choose another")


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.json before any work is done: it records the settings and shows whether the folder is writable."""
    write_atomic(folder / CONFIG, json_bytes(config))


def write_compact(folder: Path, small: Model, *, preparation: Preparation | None = None) -> dict[str, Path]:
    """Write compact.npz; return where the masked and the compact network are."""
    checkpoint.save(folder / COMPACT, small, preparation=preparation)
    return {"masked": folder / MODEL, "compact": folder / COMPACT}


def write_result(folder: Path, experiment: Experiment, report: Mapping[str, Any]) -> None:
    """Write history.csv and, last, report.json; configuration and model are there already."""
    write_atomic(folder / "history.csv", _history(experiment).encode("utf-8"))
    write_atomic(folder / REPORT, json_bytes(report))


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json: mean, sample standard deviation and n over the seeds of one configuration."""
    write_atomic(folder / "summary.json", json_bytes(summary))


def _history(experiment: Experiment) -> str:
    """The epochs of all runs, with the run's name in the first column."""
    return rows_to_csv([{"run": name, **row} for name, run in experiment.runs.items() for row in run.rows])
