"""A finished run in a folder, small enough for tests of pages, and names that would do harm if a page believed them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from l0ref import checkpoint, data, nn
from l0ref.data import Splits
from l0ref.experiment import run_experiment
from l0ref.penalty import Penalty
from l0ref.pruning import Cut, Recipe
from l0ref.report import summarize

HOSTILE = '"><script>window.broken = 1</script><img src=x onerror="window.broken=2">'
CONFIG = {"model": "digits_mlp", "data": "digits", "surrogate": "laplace", "alpha": 1e-3, "method": "magnitude"}


def write_run(folder: Path, *, amount: float = 0.9, **config: Any) -> dict[str, Any]:
    """Train, prune and write what a page reads: report.json, dense.npz and model.npz; return the report."""
    full = data.load("digits", seed=0)
    part = {k: getattr(full, k).take(np.arange(n)) for k, n in (("train", 100), ("validation", 40), ("test", 50))}
    splits = Splits(**part, name="few", checksum="c0ffee")
    experiment = run_experiment(
        nn.mlp((64, 13, 10), seed=0, input_shape=(1, 8, 8)), splits, train=Recipe(1, penalty=Penalty(alpha=1e-3)),
        cut=Cut(amount=amount), finetune=Recipe(1), seed=0, controls=("none",),
    )  # fmt: skip
    report = summarize(experiment, splits, config={**CONFIG, "amount": amount, **config}, seed=0)
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    run = experiment.runs["l0"]
    for name, stage in (("dense.npz", run.stages[0]), ("model.npz", run.stages[-1])):
        checkpoint.save(folder / name, stage.model)
    return report
