"""The result of a sweep: one row per combination, its means over seeds, and the choice among them.

    row   folder, settings (those that differ), seeds (their number), chosen, and {mean, sd, n} of each of METRICS
          that the fine-tuned networks of all seeds have

Combinations that no other beats are chosen: the Pareto front of validation accuracy (of a regression: loss) and
compression, by their means. The test set plays no part in the choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from l0ref.report.schema import Row, main_name, mapping
from l0ref.report.seeds import PRIVATE, aggregate, cell
from l0ref.report.text import filled
from l0ref.tables import percent, table, times

METRICS = ("val_loss", "val_acc1", "compression_ratio", "theoretical_speedup", "test_loss", "test_acc1")
COLUMNS = {
    "val loss": ("val_loss", "{:.4f}".format), "val acc": ("val_acc1", percent),
    "compression": ("compression_ratio", times), "theory": ("theoretical_speedup", times),
    "test loss": ("test_loss", "{:.4f}".format), "test acc": ("test_acc1", percent),
}  # fmt: skip
NOTE = (
    "* chosen: no other is at least as good in validation {what} and in compression, and better in one. Mean ± sample "
    "standard deviation over seeds; the test set was read only for the chosen ones."
)


def sweep_rows(groups: Mapping[str, Sequence[Row]], *, seeds: int) -> list[dict[str, Any]]:
    """Return the rows of a sweep from the reports by folder; those with fewer than `seeds` seeds are not chosen."""
    configs = {name: mapping(reports[0], "config") for name, reports in groups.items()}
    names = dict.fromkeys(key for config in configs.values() for key in config if key not in PRIVATE)
    differ = [key for key in names if len({repr(config.get(key)) for config in configs.values()}) > 1]
    rows: list[dict[str, Any]] = []
    for name, reports in groups.items():
        final = list(aggregate(reports)["stages"][main_name(reports[0])].values())[-1]
        settings = {key: configs[name].get(key) for key in differ}
        row = {"folder": name, "settings": settings, "seeds": len(reports), "chosen": False}
        rows.append(row | {key: final[key] for key in METRICS if key in final})
    best = front([row for row in rows if row["seeds"] >= seeds])
    return [row | {"chosen": row in best} for row in rows]


def front(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that no other row beats: one at least as good in both, and better in one."""
    places = [(merit(row), row["compression_ratio"]["mean"]) for row in rows if "compression_ratio" in row]
    known = [row for row in rows if "compression_ratio" in row]
    return [
        row
        for row, own in zip(known, places, strict=True)
        if not any(a >= own[0] and b >= own[1] and (a, b) != own for a, b in places)
    ]


def merit(row: Row) -> float:
    """Return the quantity to maximise: the validation accuracy, or minus the loss of a regression."""
    return float(row["val_acc1"]["mean"] if "val_acc1" in row else -row["val_loss"]["mean"])


def sweep_text(rows: Sequence[Row]) -> str:
    """Return the table of a sweep, the best first."""
    used = {header: column for header, column in COLUMNS.items() if any(column[0] in row for row in rows)}
    settings = list(rows[0]["settings"]) if rows else []
    lines = [
        [
            "*" if row["chosen"] else "",
            *(_word(row["settings"][key]) for key in settings),
            str(row["seeds"]),
            *(cell(row.get(key), show) for key, show in used.values()),
        ]
        for row in sorted(rows, key=merit, reverse=True)
    ]
    what = "accuracy" if any("val_acc1" in row for row in rows) else "loss"
    return (
        table(["", *settings, "seeds", *used], lines, left=1 + len(settings)) + "\n\n" + filled(NOTE.format(what=what))
    )


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_word, value)) or "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
