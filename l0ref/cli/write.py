"""Writing a result folder: every file replaced as a whole, an earlier result never overwritten unasked."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l0ref import checkpoint
from l0ref.archive import json_bytes, write_atomic, write_npz
from l0ref.errors import ConfigError, Diverged, Interrupted
from l0ref.pruning import MAIN, Experiment

REPORT = "report.json"
PARTIAL = "partial.npz"


def claim(folder: Path, *, overwrite: bool) -> Path:
    """Create `folder`, or refuse it if it holds a result already."""
    if not overwrite and any(folder.glob(f"**/{REPORT}")):
        raise ConfigError(f"out={str(folder)!r} holds a result already; choose another folder or pass --overwrite")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={str(folder)!r} cannot be created: {error.strerror}; choose another folder") from None
    return folder


def write_result(folder: Path, experiment: Experiment, report: Mapping[str, Any]) -> None:
    """Write config.json, history.csv, model.npz, masks.npz and, last, report.json."""
    model = experiment.runs[MAIN].model
    write_atomic(folder / "config.json", json_bytes(report["config"]))
    write_atomic(folder / "history.csv", _history(experiment).encode("utf-8"))
    checkpoint.save(folder / "model.npz", model)
    write_npz(folder / "masks.npz", {k: model.mask(k) for k in model.weights}, manifest={"kind": "l0ref masks"})
    write_atomic(folder / REPORT, json_bytes(report))


def write_partial(folder: Path, stop: Diverged | Interrupted) -> str:
    """Save the last good model of a training that stopped, and say where it is; "" if there is none."""
    if stop.model is None:
        return ""
    checkpoint.save(folder / PARTIAL, stop.model)
    return f"the last good model is in {folder / PARTIAL}"


def _history(experiment: Experiment) -> str:
    """The epochs of all runs, with the run's name in the first column."""
    out = io.StringIO()
    rows = [{"run": name, **row} for name, run in experiment.runs.items() for row in run.rows]
    if rows:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()
