"""Results as text: one table of the stages, one of the layers, aligned for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from l0ref.pruning import MAIN

Row = Mapping[str, Any]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return rows of cells as aligned text under a header; the first `left` columns are flush left.

    >>> print(table(["stage", "kept"], [["dense", "50,200"], ["pruned", "2,510"]]))
    stage     kept
    dense   50,200
    pruned   2,510
    """
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    cells = (
        [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    )
    return "\n".join("  ".join(line).rstrip() for line in cells)


def percent(value: float | None, *, digits: int = 2) -> str:
    """Return a share as a percentage, "-" if there is none."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def times(value: float | None) -> str:
    """Return a ratio as "3.2x", "-" if it is not finite."""
    return "-" if value is None else f"{value:.1f}x"


def whole(value: float | None) -> str:
    """Return a count with thousands separated."""
    return "-" if value is None else f"{value:,.0f}"


COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "val acc": ("val_acc1", percent),
    "test acc": ("test_acc1", percent),
    "kept": ("size_nz", whole),
    "sparsity": ("sparsity", percent),
    "compression": ("compression_ratio", times),
    "theoretical speed-up": ("theoretical_speedup", times),
    "measured": ("measured_speedup", times),
    "bytes dense": ("bytes_dense", whole),
    "bytes csr": ("bytes_csr", whole),
    "seconds": ("seconds", lambda s: f"{s:.1f}"),
}


def runs_of(report: Row) -> dict[str, Row]:
    """Return the main run and the controls of a report, by name."""
    return {MAIN: report, **report["controls"]}


def stages_table(report: Row) -> str:
    """Return the stages of the main run and of every control, a line each."""
    rows = [
        [name, stage["name"], *(show(stage.get(key)) for key, show in COLUMNS.values())]
        for name, run in runs_of(report).items()
        for stage in run["stages"]
    ]
    return table(["penalty", "stage", *COLUMNS], rows, left=2)


def layers_table(report: Row) -> str:
    """Return the layers of the final model of the main run, with a total line."""
    final = report["stages"][-1]
    lines = [*final["layers"], {**final, "name": "total", "kind": "", "shape": []}]
    header = ["layer", "kind", "shape", "weights", "kept", "sparsity", "compression", "multiply-adds", "kept"]
    rows = [
        [
            line["name"],
            line["kind"],
            "x".join(map(str, line["shape"])),
            whole(line["size"]),
            whole(line["size_nz"]),
            percent(line["sparsity"]),
            times(line["compression_ratio"]),
            whole(line["flops"]),
            whole(line["flops_nz"]),
        ]
        for line in lines
    ]
    return table(header, rows, left=3)


def curve_table(report: Row) -> str:
    """Return test accuracy against compression: for each run the ratio reached, before and after fine-tuning."""
    header = ["penalty", "asked", "reached", "val pruned", "val finetuned", "test pruned", "test finetuned"]
    rows = [
        [
            name,
            times(point["compression_asked"]),
            times(point["finetuned"]["compression_ratio"]),
            percent(point["pruned"]["val_acc1"]),
            percent(point["finetuned"]["val_acc1"]),
            percent(point["pruned"]["test_acc1"]),
            percent(point["finetuned"]["test_acc1"]),
        ]
        for name, points in report["curve"].items()
        for point in points
    ]
    return table(header, rows)
