"""Several seeds of one configuration: mean, sample standard deviation and number of runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from l0ref.archive import read_json
from l0ref.errors import CheckpointError, ConfigError, DataError
from l0ref.report.schema import SCHEMA_VERSION, Row, declared, main_name, mapping, quality_of, runs_of, shown_names
from l0ref.report.tables import ACCURACY, BYTES, IN_THEORY, Columns, judged
from l0ref.report.text import MASKED, filled
from l0ref.tables import percent, table, times

PRIVATE = ("seed", "data_dir")  # settings that may differ between runs of one configuration
SIZES: Columns = {header: ACCURACY[header] for header in ("val acc", "test acc", "kept", "compression")}
TIMES: Columns = {
    **IN_THEORY, "measured": ("measured_speedup", times), **BYTES, "seconds": ACCURACY["seconds"],
}  # fmt: skip
ERRORS = (
    ("test, pruned", "pruned", "test_acc1"),
    ("test, tuned", "finetuned", "test_acc1"),
    ("val, tuned", "finetuned", "val_acc1"),
)


def find_reports(folders: Sequence[str | Path]) -> list[Row]:
    """Return the reports in the given folders, or in their `seed-*` folders, in the order of their seeds."""
    return sorted((report for _, report in find_runs(folders)), key=seed_of)


def find_runs(folders: Sequence[str | Path]) -> list[tuple[Path, Row]]:
    """Return the given folders, or their `seed-*` folders, each with the report in it; in the order given."""
    found: list[tuple[Path, Row]] = []
    for folder in map(Path, folders):
        own = folder / "report.json"
        paths = [own] if own.is_file() else sorted(folder.glob("seed-*/report.json"))
        if not paths:
            raise DataError(f"{str(folder)!r} {_without_report(folder)}")
        found += sorted(((path.parent, _read(path)) for path in paths), key=lambda run: seed_of(run[1]))
    return found


def _without_report(folder: Path) -> str:
    """Return what a folder without a report holds, and the command that shows it."""
    if (folder / "compare.json").is_file():
        return f"holds a comparison; l0ref compare --resume {folder} prints its tables again"
    if (folder / "sweep.json").is_file():
        return (
            f"holds a sweep; the same l0ref sweep command prints its table again, "
            f"l0ref report {folder}/* --html page.html shows its runs"
        )
    return "has no report.json; name a folder that l0ref compress --out wrote"


def seed_of(report: Row) -> int:
    """Return the seed of a report, which distinguishes its run from the others."""
    if not isinstance(report.get("seed"), int):
        raise ConfigError("report lacks 'seed'; give each report of an aggregate the number of its seed")
    return int(report["seed"])


def check_same(reports: Sequence[Row]) -> None:
    """Refuse reports of different configurations, data or runs, and two of the same seed."""
    if not reports:
        raise ConfigError("reports is empty: no mean exists; give at least one report")
    for report in reports:
        runs_of(report)  # refuses a value that is not a report
    first = reports[0]
    for other in reports[1:]:
        a, b = mapping(first, "config"), mapping(other, "config")
        for name in sorted(set(a) | set(b)):
            if name not in PRIVATE and a.get(name) != b.get(name):
                raise ConfigError(
                    f"{name} differs between the runs ({a.get(name)!r} and {b.get(name)!r}); "
                    "aggregate one configuration at a time"
                )
        if mapping(first, "data").get("checksum") != mapping(other, "data").get("checksum"):
            raise ConfigError("data differs between the runs: their checksums are not equal; use one copy of the data")
        if shape_of(first) != shape_of(other):
            raise ConfigError("reports differ in their runs, stages or curves; aggregate reports of one kind of job")
    seeds = [seed_of(report) for report in reports]
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ConfigError(f"seed {twice[0]} appears twice; a repeated run adds no evidence, so leave one out")


def by_configuration(reports: Sequence[Row]) -> list[list[int]]:
    """Return the indices of the reports that `aggregate` can combine, one list per configuration.

    A repeated seed begins another list.
    """
    groups: list[list[int]] = []
    for place, report in enumerate(reports):
        for group in groups:
            with suppress(ConfigError):
                check_same([*(reports[i] for i in group), report])
                group.append(place)
                break
        else:
            groups.append([place])
    return groups


def shape_of(report: Row) -> Any:
    """Return the names of runs and stages and the ratios of the curves, which must agree in an aggregate."""
    stages = {name: [stage["name"] for stage in run["stages"]] for name, run in runs_of(report).items()}
    curve = {name: [p.get("compression_asked") for p in points] for name, points in mapping(report, "curve").items()}
    return main_name(report), stages, curve


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and sample standard deviation (divisor n - 1); None for the latter if n = 1.

    >>> mean_and_deviation([1.0, 2.0, 3.0])
    (2.0, 1.0)
    >>> mean_and_deviation([1.0])
    (1.0, None)
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def aggregate(reports: Sequence[Row]) -> dict[str, Any]:
    """Return {run: {stage: {metric: {mean, sd, n}}}} over reports of one configuration, and the same for curves."""
    check_same(reports)
    runs = [runs_of(report) for report in reports]
    stages = {name: _stages([run[name]["stages"] for run in runs]) for name in runs[0]}
    curves = [mapping(report, "curve") for report in reports]
    curve = {name: [_point(points) for points in zip(*(c[name] for c in curves), strict=True)] for name in curves[0]}
    config = dict(mapping(reports[0], "config"))
    return {"seeds": [seed_of(r) for r in reports], "config": config, "stages": stages, "curve": curve}


def aggregate_text(summary: Row) -> str:
    """Return an aggregate as tables of mean ± sample standard deviation: accuracy and size, speed, and the curve."""
    if not mapping(summary, "stages"):
        raise ConfigError("summary lacks 'stages'; pass the dictionary that aggregate returns or summary.json holds")
    config, n = mapping(summary, "config"), len(summary.get("seeds", ()))
    told = f" ({told})" if (told := declared(config)) else ""
    title = f"{config.get('model', 'a network')} on {config.get('data', 'unnamed data')}{told}: mean ± sample standard "
    parts = [
        title + f"deviation over n = {n} seeds",
        _stages_text(summary, judged(SIZES, _rows(summary))),
        _stages_text(summary, TIMES),
        filled(MASKED),
    ]
    if any(mapping(summary, "curve").values()):
        quality = quality_of(_rows(summary))
        told = "error rates" if quality == "acc1" else "variance that is not explained, 1 - R²"
        parts += [f"Curve, in {told}:", _curve_text(summary, quality)]
    return "\n\n".join(parts)


def _stages_text(summary: Row, columns: Columns) -> str:
    names = shown_names(summary)
    rows = [
        [names[run], stage, *(cell(values.get(key), show) for key, show in columns.values())]
        for run, stages in summary["stages"].items()
        for stage, values in stages.items()
    ]
    return table(["penalty", "stage", *columns], rows, left=2)


def _rows(summary: Row) -> list[Row]:
    return [values for stages in summary["stages"].values() for values in stages.values()]


def _curve_text(summary: Row, quality: str) -> str:
    names = shown_names(summary)
    rows = [
        [
            names.get(run, run),
            times(point["compression_asked"]),
            cell(point.get("finetuned", {}).get("compression_ratio"), times),
            *(
                cell(point.get(part, {}).get(key.replace("acc1", quality)), lambda v: percent(1 - v))
                for _, part, key in ERRORS
            ),
        ]
        for run, points in summary["curve"].items()
        for point in points
    ]
    return table(["penalty", "asked", "reached", *(header for header, *_ in ERRORS)], rows)


def cell(value: Row | None, show: Callable[[Any], str]) -> str:
    """Return a mean and its deviation, "93.00 ± 2.65 %", or the mean of a single run."""
    if value is None:
        return "-"
    mean = show(value["mean"])
    if value["sd"] is None:
        return mean
    if mean.endswith(" %"):
        return f"{mean.removesuffix(' %')} ± {percent(value['sd'])}"
    return f"{mean} ± {show(value['sd'])}"


def _stages(runs: Sequence[Sequence[Row]]) -> dict[str, Any]:
    return {stages[0]["name"]: means(stages) for stages in zip(*runs, strict=True)}


def _point(points: Sequence[Row]) -> dict[str, Any]:
    """Return one point of a curve: the ratio asked for, and the metrics of each of its stages."""
    parts = {part: means([p[part] for p in points]) for part, row in points[0].items() if isinstance(row, Mapping)}
    return {"compression_asked": points[0].get("compression_asked"), **parts}


def means(rows: Sequence[Row]) -> dict[str, Any]:
    """Return mean, deviation and n of every number that all rows have."""
    found: dict[str, Any] = {}
    for name in rows[0]:
        values = [row.get(name) for row in rows]
        numbers = [float(v) for v in values if isinstance(v, int | float)]
        if len(numbers) == len(rows):
            mean, sd = mean_and_deviation(numbers)
            found[name] = {"mean": mean, "sd": sd, "n": len(numbers)}
    return found


def _read(path: Path) -> Row:
    report = read_json(path)
    if not isinstance(report, dict) or report.get("schema_version") != SCHEMA_VERSION:
        raise CheckpointError(
            f"{str(path)!r} is not a report of schema version {SCHEMA_VERSION}; run l0ref compress again"
        )
    return report
