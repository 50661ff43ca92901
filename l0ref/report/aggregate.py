"""Several seeds of one configuration: mean, sample standard deviation and number of runs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l0ref.archive import read_json
from l0ref.errors import CheckpointError, ConfigError, DataError
from l0ref.report.summary import SCHEMA_VERSION
from l0ref.report.tables import COLUMNS, percent, runs_of, table, times, whole

PRIVATE = ("seed", "data_dir")  # settings that may differ between runs of one configuration
Report = Mapping[str, Any]


def find_reports(folders: Sequence[str | Path]) -> list[Report]:
    """Return the reports in the given folders, or in their `seed-*` folders, in the order of their seeds."""
    found: list[Report] = []
    for folder in map(Path, folders):
        own = folder / "report.json"
        paths = [own] if own.is_file() else sorted(folder.glob("seed-*/report.json"))
        if not paths:
            raise DataError(f"{str(folder)!r} has no report.json; name a folder that l0ref compress --out wrote")
        found += [_read(path) for path in paths]
    return sorted(found, key=lambda report: int(report["seed"]))


def check_same(reports: Sequence[Report]) -> None:
    """Refuse reports of different configurations or data, and two of the same seed."""
    first = reports[0]
    for other in reports[1:]:
        for name in sorted(set(first["config"]) | set(other["config"])):
            a, b = first["config"].get(name), other["config"].get(name)
            if name not in PRIVATE and a != b:
                raise ConfigError(
                    f"{name} differs between the runs ({a!r} and {b!r}); aggregate one configuration at a time"
                )
        if first["data"]["checksum"] != other["data"]["checksum"]:
            raise ConfigError("data differs between the runs: their checksums are not equal; use one copy of the data")
    seeds = [report["seed"] for report in reports]
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ConfigError(f"seed {twice[0]} is there twice; a repeated run adds no evidence, leave one out")


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and sample standard deviation (divisor n - 1); None for the latter if n = 1.

    >>> mean_and_deviation([1.0, 2.0, 3.0])
    (2.0, 1.0)
    >>> mean_and_deviation([1.0])
    (1.0, None)
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def aggregate(reports: Sequence[Report]) -> dict[str, Any]:
    """Return {run: {stage: {metric: {mean, sd, n}}}} over reports of one configuration, and the same for curves."""
    check_same(reports)
    names = list(runs_of(reports[0]))
    stages = {name: _stages([runs_of(r)[name]["stages"] for r in reports]) for name in names}
    curve = {
        name: [
            {"compression_asked": points[0]["compression_asked"]}
            | {part: _metrics([p[part] for p in points]) for part in ("pruned", "finetuned")}
            for points in zip(*(r["curve"][name] for r in reports), strict=True)
        ]
        for name in reports[0]["curve"]
    }
    return {"seeds": [r["seed"] for r in reports], "config": reports[0]["config"], "stages": stages, "curve": curve}


def aggregate_text(summary: Mapping[str, Any]) -> str:
    """Return the aggregated stages, and the curve if there is one, as tables of mean ± sample standard deviation."""
    config = summary["config"]
    n = len(summary["seeds"])
    title = f"{config['model']} on {config['data']}: mean ± sample standard deviation over n = {n} seeds"
    rows = [
        [run, stage, *(_cell(values.get(key), show) for key, show in COLUMNS.values())]
        for run, stages in summary["stages"].items()
        for stage, values in stages.items()
    ]
    parts = [title, table(["penalty", "stage", *COLUMNS], rows, left=2)]
    if any(summary["curve"].values()):
        parts.append(_curve_text(summary["curve"]))
    return "\n\n".join(parts)


def _curve_text(curve: Mapping[str, Any]) -> str:
    rows = [
        [
            run,
            times(point["compression_asked"]),
            _cell(point["finetuned"].get("compression_ratio"), times),
            _cell(point["finetuned"].get("size_nz"), whole),
            *(_cell(point[part].get("test_acc1"), lambda v: percent(1 - v)) for part in ("pruned", "finetuned")),
            _cell(point["finetuned"].get("val_acc1"), lambda v: percent(1 - v)),
        ]
        for run, points in curve.items()
        for point in points
    ]
    header = ["penalty", "asked", "reached", "kept", "test error pruned", "test error finetuned", "val error finetuned"]
    return table(header, rows)


def _cell(value: Mapping[str, Any] | None, show: Any) -> str:
    if value is None:
        return "-"
    if value["sd"] is None:
        return str(show(value["mean"]))
    sd = percent(value["sd"]) if show(1.0).endswith("%") or show(0.5).endswith("%") else show(value["sd"])
    return f"{show(value['mean'])} ± {sd}"


def _stages(runs: Sequence[Sequence[Report]]) -> dict[str, Any]:
    return {stages[0]["name"]: _metrics(stages) for stages in zip(*runs, strict=True)}


def _metrics(rows: Sequence[Report]) -> dict[str, Any]:
    """Mean, deviation and n of every number that all rows have."""
    found: dict[str, Any] = {}
    for name, value in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(value, int | float) and all(v is not None for v in values):
            mean, sd = mean_and_deviation([float(v) for v in values])
            found[name] = {"mean": mean, "sd": sd, "n": len(values)}
    return found


def _read(path: Path) -> Report:
    report = read_json(path)
    if not isinstance(report, dict) or report.get("schema_version") != SCHEMA_VERSION:
        raise CheckpointError(
            f"{str(path)!r} is not a report of schema version {SCHEMA_VERSION}; run l0ref compress again"
        )
    return report
