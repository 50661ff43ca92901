"""The report of an experiment: one JSON-able value, complete before anything is written or drawn.

`l0ref.report.schema` describes the layout. The test set is read here and nowhere else, when nothing is left to choose.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l0ref import metrics
from l0ref.data import Dataset, Splits
from l0ref.deploy.compact import CompactModel
from l0ref.environment import environment
from l0ref.experiment import Experiment, pruning_curve
from l0ref.methods.registry import METHODS
from l0ref.nn import Model
from l0ref.pruning import Compressed, Stage
from l0ref.report.schema import SCHEMA_VERSION, main_of
from l0ref.report.speed import speedup
from l0ref.report.usage import deployment

LATENCY_SAMPLES = 256
UNTUNED_RATIOS = tuple(2.0**k for k in range(7))


def summarize(
    experiment: Experiment,
    data: Splits,
    *,
    config: Mapping[str, Any],
    seed: int,
    small: CompactModel | None = None,
    shrunk: Model | None = None,
    files: Mapping[str, Path] | None = None,
    fed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the report of an experiment; reads the test set once for every model it lists.

    experiment  its main run is "l0", or the first run if there is no "l0"
    config      settings of the job, as they should be reported
    small       the final network of the main run without its zeros, as `compact` returns it: the report then holds
                "compact", and the two networks are timed
    shrunk      the same without its dead units, as `shrink` returns it: measured beside the two
    fed         augmentation and teacher of every training, as they should be reported
    files       "masked" and "compact": the files of the two networks, whose bytes are reported
    """
    main = main_of(experiment.runs)
    seconds = _seconds(experiment, data.validation)
    runs = {name: _run(run, data, seconds[name]) for name, run in experiment.runs.items()}
    report = {
        "schema_version": SCHEMA_VERSION,
        "seed": seed,
        "config": dict(config),
        "data": {
            "name": data.name,
            "checksum": data.checksum,
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
            **({} if data.preparation is None else {"preparation": data.preparation.to_json()}),
        },
        **({"fed": dict(fed)} if fed else {}),
        "main": main,
        **runs.pop(main),
        "controls": runs,
        "curve": {
            name: [_point(ratio, run, data) for ratio, run in points] for name, points in experiment.curves.items()
        },
        "untuned_curves": untuned_curves(experiment, data, seed=seed),
        "environment": environment(),
    }
    if small is not None:
        report["compact"] = deployment(
            experiment.runs[main].model, small, data.validation.x, files=files or {}, shrunk=shrunk
        )
    return report


def untuned_curves(experiment: Experiment, data: Splits, *, seed: int) -> dict[str, list[list[float]]]:
    """Return for each run pairs [compression ratio, validation accuracy] of its first network, pruned and not tuned.

    The ratios are 1, 2, 4, ... 64, up to the largest that leaves every layer its minimum of weights. Each run is cut as
    in the experiment. Methods that train or solve a problem for each layer have no such points, which would take longer
    than the job; nor have regressions, which have no accuracy.
    """
    curves: dict[str, list[list[float]]] = {}
    for name, run in experiment.runs.items() if data.train.classes else ():
        dense = run.stages[0].model
        least = max(run.cut.min_keep, 1) if run.cut is not None else 1
        kept = sum(min(least, dense.params[key].size) for key in dense.weights)
        ratios = [ratio for ratio in UNTUNED_RATIOS if ratio * kept <= dense.size]
        if run.cut is not None and METHODS[run.cut.method].kind in ("training", "layerwise"):
            continue
        accuracies = pruning_curve(dense, data, ratios, like=run.cut, seed=seed)
        curves[name] = [list(pair) for pair in zip(ratios, accuracies, strict=True)]
    return curves


def _seconds(experiment: Experiment, validation: Dataset) -> dict[str, list[list[float]]]:
    """Return the seconds of each round for every stage of every run, all of them timed alternately."""
    stages = [(name, stage.model) for name, run in experiment.runs.items() for stage in run.stages]
    found: dict[str, list[list[float]]] = {name: [] for name in experiment.runs}
    timed = metrics.lap_seconds([model for _, model in stages], validation.x[:LATENCY_SAMPLES])
    for (name, _), laps in zip(stages, timed, strict=True):
        found[name].append(laps)
    return found


def _run(run: Compressed, data: Splits, seconds: Sequence[Sequence[float]]) -> dict[str, Any]:
    stages = []
    for stage, own in zip(run.stages, seconds, strict=True):
        timing = {"latency_seconds": statistics.median(own), **speedup(seconds[0], own)}
        layers = [_finite(layer) for layer in metrics.layers(stage.model)]
        stages.append(_stage(stage, data.test) | timing | {"layers": layers})
    cuts, history = ([_finite(row) for row in rows] for rows in (run.cuts, run.rows))
    return {"stages": stages, "cuts": cuts, "swept": dict(run.swept), "history": history}


def _point(ratio: float, run: Compressed, data: Splits) -> dict[str, Any]:
    return {"compression_asked": ratio} | {stage.name: _stage(stage, data.test) for stage in run.stages[1:]}


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
            **({} if test.classes else {"val_r2": stage.validation.r2, "test_r2": score.r2, "test_rmse": score.rmse}),
            "seconds": stage.seconds,
        }
    )


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with None for numbers that are not finite: a layer without weights has no compression ratio."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
