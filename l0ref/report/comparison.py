"""The tables of a comparison: errors in percent, one line per method and one column per ratio."""

from __future__ import annotations

from collections.abc import Sequence

from l0ref.report.schema import Row, quality_of
from l0ref.report.seeds import mean_and_deviation
from l0ref.tables import table


def comparison_text(rows: Sequence[Row]) -> str:
    """Return the tables of a comparison: test errors after fine-tuning, at equal weights and at equal multiply-adds."""
    told = "Test error" if quality_of(rows) == "acc1" else "Variance of the test targets that is not explained, 1 - R²,"
    parts = [
        f"{told} in % after fine-tuning, at equal weights:",
        error_table([row for row in rows if row["equal"] == "weights"]),
    ]
    if searched := [row for row in rows if row["equal"] == "multiply-adds"]:
        parts += [
            "The same at equal multiply-adds, the amount found by search:",
            error_table(searched),
        ]
    return "\n\n".join(parts)


def error_table(rows: Sequence[Row], *, value: str = "test_acc1") -> str:
    """Return a table of errors in percent by method (lines) and ratio (columns): mean and sample deviation over seeds.

    value  "test_acc1", or "val_acc1_pruned" right after the cut

    "-" stands where a method could not meet the budget for some seed.
    """
    ratios, value = sorted({row["ratio"] for row in rows}), value.replace("acc1", quality_of(rows))
    lines = []
    for name in dict.fromkeys(row["method"] for row in rows):
        own = {ratio: [r for r in rows if r["method"] == name and r["ratio"] == ratio] for ratio in ratios}
        lines.append([name, *(_error([r.get(value) for r in own[ratio]]) for ratio in ratios)])
    return table(["error in %", *(f"{ratio:g}x" for ratio in ratios)], lines)


def _error(values: Sequence[float | None]) -> str:
    found = [100 * (1 - v) for v in values if v is not None]
    if not found or len(found) < len(values):
        return "-"
    mean, sd = mean_and_deviation(found)
    return f"{mean:.1f}" if sd is None else f"{mean:.1f} ±{sd:.1f}"
