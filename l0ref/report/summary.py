"""The report of one experiment as JSON-able values: everything a reader needs to re-derive a number.

    schema_version  of this layout
    seed, config, data (name, checksum, sizes), environment
    stages          dense, pruned, finetuned: the metrics of `l0ref.metrics`, val_loss, val_acc1, test_loss,
                    test_acc1, seconds, and `layers`, one row per weight array
    cuts, swept     what each cut kept, and the dead units found
    controls        by name, the same three keys: stages, cuts, swept
    curve           by run name, a list of {compression_asked, pruned: {...}, finetuned: {...}}

Here, and only here, the test set is read: when nothing is left to choose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from l0ref import metrics
from l0ref.data import Dataset, Splits
from l0ref.pruning import MAIN, Compressed, Experiment, Stage
from l0ref.report.environment import environment

SCHEMA_VERSION = 1
LATENCY_SAMPLES = 256


def summarize(experiment: Experiment, data: Splits, *, config: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return the report of an experiment; reads the test set once for every model it lists."""
    runs = {name: _run(run, data) for name, run in experiment.runs.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "seed": seed,
        "config": dict(config),
        "data": {
            "name": data.name,
            "checksum": data.checksum,
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
        },
        **runs[MAIN],
        "controls": {name: run for name, run in runs.items() if name != MAIN},
        "curve": {
            name: [_point(ratio, run, data) for ratio, run in points] for name, points in experiment.curves.items()
        },
        "environment": environment(),
    }


def _run(run: Compressed, data: Splits) -> dict[str, Any]:
    sample = data.validation.x[:LATENCY_SAMPLES]
    seconds = metrics.latencies([stage.model for stage in run.stages], sample)
    stages = []
    for stage, own in zip(run.stages, seconds, strict=True):
        measured = {"measured_speedup": seconds[0] / own, "latency_seconds": own}
        row = _stage(stage, data.test) | measured
        stages.append(row | {"layers": [_finite(layer) for layer in metrics.layers(stage.model)]})
    return {"stages": stages, "cuts": list(run.cuts), "swept": dict(run.swept)}


def _point(ratio: float, run: Compressed, data: Splits) -> dict[str, Any]:
    _, pruned, finetuned = run.stages
    return {
        "compression_asked": ratio,
        "pruned": _stage(pruned, data.test),
        "finetuned": _stage(finetuned, data.test),
    }


def _stage(stage: Stage, test: Dataset) -> dict[str, Any]:
    score = metrics.evaluate(stage.model, test)
    return _finite(
        {
            "name": stage.name,
            **metrics.of(stage.model),
            "val_loss": stage.validation.loss,
            "val_acc1": stage.validation.acc1,
            "test_loss": score.loss,
            "test_acc1": score.acc1,
            "seconds": stage.seconds,
        }
    )


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with None for ratios that are not finite: a layer without weights has no compression."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
