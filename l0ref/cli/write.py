"""Writing a result folder: every file replaced as a whole, an earlier result never overwritten unasked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l0ref import checkpoint
from l0ref.archive import json_bytes, write_atomic, write_npz
from l0ref.errors import ConfigError, Diverged, Interrupted
from l0ref.nn import Model
from l0ref.pruning import Experiment
from l0ref.training import rows_to_csv

REPORT, MODEL, COMPACT = "report.json", "model.npz", "compact.npz"
PARTIAL = "partial.npz"
PARTIAL_HISTORY = "partial.csv"
PICTURES = ("training.png", "weights.png", "surrogate.png", "masks.png", "compression.png")
TABLES = (REPORT, "config.json", "history.csv", "summary.json", PARTIAL_HISTORY)
OURS = (*TABLES, MODEL, COMPACT, "masks.npz", PARTIAL, *PICTURES)


def claim(folder: Path, *, overwrite: bool) -> Path:
    """Create `folder`, or refuse it if it holds a result already; with `overwrite` that result is removed first."""
    if any(folder.glob(f"**/{REPORT}")):
        if not overwrite:
            raise ConfigError(f"out={str(folder)!r} holds a result already; choose another folder or pass --overwrite")
        for path in (p for name in OURS for p in (*folder.glob(name), *folder.glob(f"seed-*/{name}"))):
            path.unlink()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={str(folder)!r} cannot be created: {error.strerror}; choose another folder") from None
    return folder


def check_file(flag: str, path: str | os.PathLike[str] | None) -> None:
    """Refuse a file that could not be written, before minutes are spent on what goes into it."""
    if path is None:
        return
    if Path(path).is_dir():
        raise ConfigError(f"--{flag} {path} cannot be written: it is a folder; name a file")
    if not os.access(Path(path).absolute().parent, os.W_OK):
        raise ConfigError(f"--{flag} {path} cannot be written: its folder is missing or read-only; choose another")


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.json before any work is done: it tells what ran, and whether the folder can be written."""
    try:
        write_atomic(folder / "config.json", json_bytes(config))
    except OSError as error:
        raise ConfigError(f"out={str(folder)!r} cannot be written: {error.strerror}; choose another folder") from None


def write_model(folder: Path, model: Model) -> None:
    """Write model.npz and masks.npz."""
    checkpoint.save(folder / MODEL, model)
    write_npz(folder / "masks.npz", {k: model.mask(k) for k in model.weights}, manifest={"kind": "l0ref masks"})


def write_compact(folder: Path, small: Model) -> dict[str, Path]:
    """Write compact.npz; return where the masked and the compact network are."""
    checkpoint.save(folder / COMPACT, small)
    return {"masked": folder / MODEL, "compact": folder / COMPACT}


def write_result(folder: Path, experiment: Experiment, report: Mapping[str, Any]) -> None:
    """Write history.csv and, last, report.json; configuration and model are there already."""
    write_atomic(folder / "history.csv", _history(experiment).encode("utf-8"))
    write_atomic(folder / REPORT, json_bytes(report))


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json: mean, sample standard deviation and n over the seeds of one configuration."""
    write_atomic(folder / "summary.json", json_bytes(summary))


def write_partial(folder: Path, stop: Diverged | Interrupted) -> str:
    """Save the last good model and the epochs of a training that stopped, and say what is where; "" if nothing is."""
    done = [f"the finished l0 network is in {folder / MODEL}"] if (folder / MODEL).exists() else []
    if stop.model is not None:
        checkpoint.save(folder / PARTIAL, stop.model)
        write_atomic(folder / PARTIAL_HISTORY, stop.history.to_csv().encode("utf-8"))
        done.append(f"the last good model of the training that stopped is in {folder / PARTIAL}")
    return ", ".join(done)


def _history(experiment: Experiment) -> str:
    """The epochs of all runs, with the run's name in the first column."""
    return rows_to_csv([{"run": name, **row} for name, run in experiment.runs.items() for row in run.rows])
