"""A sweep as a picture: loss and accuracy on the validation set against compression, one point per combination.

Points are means over seeds, bars sample standard deviations; chosen ones are filled and joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l0ref.report.figures.style import BLUE, GREY, accuracy_axis, new_figure, plain_log_axis, say_empty, tidy

Row = Mapping[str, Any]
PANELS = {"val_loss": "validation loss", "val_acc1": "validation accuracy"}


def sweep_figure(rows: Sequence[Row]) -> Figure:
    """Return one panel for loss and one for accuracy; for a regression, only the loss."""
    keys = [key for key in PANELS if any(key in row for row in rows)] or ["val_loss"]
    figure = new_figure(4.2)
    for ax, key in zip(figure.subplots(1, len(keys), squeeze=False)[0], keys, strict=True):
        shown = [row for row in rows if key in row and "compression_ratio" in row]
        if not shown:
            say_empty(ax, "no combination is finished")
            continue
        for chosen, colour in ((False, GREY), (True, BLUE)):
            _points(ax, [row for row in shown if row["chosen"] == chosen], key, colour=colour, joined=chosen)
        tidy(ax, title=PANELS[key], x="compression (weights before / after)")
        ax.set_xscale("log")
        plain_log_axis(ax.xaxis)
        if key == "val_acc1":
            accuracy_axis(ax, [row[key]["mean"] for row in shown], label="")
    return figure


def _points(ax: Axes, rows: Sequence[Row], key: str, *, colour: str, joined: bool) -> None:
    found = sorted(rows, key=lambda row: row["compression_ratio"]["mean"])
    x, y = ([row[name]["mean"] for row in found] for name in ("compression_ratio", key))
    dx, dy = ([row[name]["sd"] or 0.0 for row in found] for name in ("compression_ratio", key))
    ax.errorbar(
        x, y, xerr=dx, yerr=dy, color=colour, marker="o", ms=5, mfc=colour if joined else "white", lw=1.2,
        elinewidth=0.8, capsize=2, ls="-" if joined else "", gid="chosen" if joined else "others",
    )  # fmt: skip
