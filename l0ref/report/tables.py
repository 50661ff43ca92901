"""Results as text: tables of stages, speed, layers and curves, each at most 80 columns wide for short names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from l0ref.report.schema import Row, main_name, mapping, quality_of, runs_of, shown_names
from l0ref.report.speed import measured
from l0ref.tables import percent, table, times, whole

SCREEN = 80  # columns of a terminal

Columns = Mapping[str, tuple[str, Callable[[Any], str]]]  # header -> (key of a stage, how it is shown)
Cells = tuple[list[str], list[list[str]]]  # header and rows of a table
ACCURACY: Columns = {
    "val acc": ("val_acc1", percent),
    "test acc": ("test_acc1", percent),
    "kept": ("size_nz", whole),
    "sparsity": ("sparsity", percent),
    "compression": ("compression_ratio", times),
    "seconds": ("seconds", lambda s: "-" if s is None else f"{s:.1f}"),
}
EXPLAINED: Columns = {"val R²": ("val_r2", percent), "test R²": ("test_r2", percent)}
IN_THEORY: Columns = {"theory": ("theoretical_speedup", times)}
BYTES: Columns = {"bytes csr": ("bytes_csr", whole)}


def stages_table(report: Row) -> str:
    """Return the stages of the main run and of every control, one line each: accuracy, size, seconds of training."""
    return table(*stages_cells(report), left=2)


def stages_cells(report: Row) -> Cells:
    """Return header and rows of `stages_table`."""
    columns = judged(ACCURACY, [stage for run in runs_of(report).values() for stage in run["stages"]])
    return _per_stage(report, list(columns), lambda stage: cells(stage, columns))


def judged(columns: Columns, rows: Iterable[Row]) -> Columns:
    """Return the columns; for a regression with R² and the error in units of the target instead of accuracy."""
    if quality_of(rows) == "acc1":
        return columns
    kept = {header: column for header, column in columns.items() if not column[0].endswith("acc1")}
    return {**EXPLAINED, "test rmse": ("test_rmse", short), **kept}


def short(value: float | None) -> str:
    """Return a number with four digits, "-" where there is none."""
    return "-" if value is None else f"{value:.4g}"


def speed_table(report: Row) -> str:
    """Return the theoretical speed-up of every stage, the measured one with its range and verdict, and bytes as CSR."""
    return table(*speed_cells(report), left=2)


def speed_cells(report: Row) -> Cells:
    """Return header and rows of `speed_table`."""
    header = [*IN_THEORY, "measured", "range", "verdict", *BYTES]
    return _per_stage(report, header, lambda s: [*cells(s, IN_THEORY), *measured(s), *cells(s, BYTES)])


def cells(stage: Row, columns: Columns) -> list[str]:
    """Return the numbers of a stage as text, "-" for those it does not have."""
    return [show(stage.get(key)) for key, show in columns.values()]


def _per_stage(report: Row, header: Sequence[str], row: Callable[[Row], list[str]]) -> Cells:
    names = shown_names(report)
    rows = [[names[key], stage["name"], *row(stage)] for key, run in runs_of(report).items() for stage in run["stages"]]
    return ["penalty", "stage", *header], rows


LAYERS: Sequence[tuple[str, str, Callable[[Any], str]]] = (  # header, key of a layer, how it is shown
    ("layer", "name", str),
    ("shape", "shape", lambda shape: "x".join(map(str, shape or ()))),
    ("weights", "size", whole),
    ("kept", "size_nz", whole),
    ("sparsity", "sparsity", percent),
    ("ratio", "compression_ratio", times),
    ("mult-adds", "flops", whole),
    ("kept", "flops_nz", whole),
)


def layers_table(report: Row) -> str:
    """Return the layers of the final network of the main run, with a total line; "" where the report has none."""
    final = runs_of(report)[main_name(report)]["stages"][-1]
    if not final.get("layers"):
        return ""
    lines = [*final["layers"], {**final, "name": "total", "shape": ()}]
    rows = [[show(line.get(key)) for _, key, show in LAYERS] for line in lines]
    return table([header for header, *_ in LAYERS], rows, left=2)


CURVE = (
    ("reached", "finetuned", "compression_ratio", times),
    ("val pruned", "pruned", "val_acc1", percent),
    ("val finetuned", "finetuned", "val_acc1", percent),
    ("test pruned", "pruned", "test_acc1", percent),
    ("test finetuned", "finetuned", "test_acc1", percent),
)


def curve_table(report: Row) -> str:
    """Return accuracy against compression: for each run the ratio reached, before and after fine-tuning."""
    return table(*curve_cells(report))


def curve_cells(report: Row) -> Cells:
    """Return header and rows of `curve_table`; for a regression, R² instead of accuracy."""
    quality = quality_of(stage for run in runs_of(report).values() for stage in run["stages"])
    names = shown_names(report)
    rows = [
        [
            names.get(name, name),
            times(point.get("compression_asked")),
            *(show(mapping(point, part).get(key.replace("acc1", quality))) for _, part, key, show in CURVE),
        ]
        for name, points in mapping(report, "curve").items()
        for point in points
    ]
    return ["penalty", "asked", *(header for header, *_ in CURVE)], rows
