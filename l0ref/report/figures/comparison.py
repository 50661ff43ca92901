"""A comparison of methods as pictures: a row of panels for each kind of method.

compare.png                accuracy against compression, right after the cut and after fine-tuning
compare-multiply-adds.png  the same against multiply-adds: cuts at equal multiply-adds, where those were searched for
compare-costs.png          relative change of the logits against compression; seconds and epochs spent
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l0ref.report.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    TOLD,
    accuracy_axis,
    new_figure,
    plain_log_axis,
    png,
    tidy,
)
from l0ref.report.schema import Row, quality_of
from l0ref.report.seeds import mean_and_deviation

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, BLACK, GREY)
MARKERS = "osD^vP*X<>"
PANELS = {"val_acc1_pruned": "right after the cut", "val_acc1": "after fine-tuning"}
COMPRESSION, SPEED = "compression_ratio", "theoretical_speedup"
LABELS = {COMPRESSION: "compression (weights before / after)", SPEED: "multiply-adds before / after"}
COSTS = ("method", "finetune")


def comparison_pictures(rows: Sequence[Row]) -> dict[str, bytes]:
    """Return the pictures of a comparison as PNG files, by name."""
    return {
        "compare.png": png(accuracy_figure(rows, x=COMPRESSION)),
        "compare-multiply-adds.png": png(accuracy_figure(rows, x=SPEED)),
        "compare-costs.png": png(costs_figure(rows)),
    }


def accuracy_figure(rows: Sequence[Row], *, x: str) -> Figure:
    """Return validation accuracy against compression or multiply-adds: a row per kind, columns before and after tuning.

    Points are means over seeds, bars sample standard deviations; x is the ratio reached, not the one asked for.
    """
    used, quality = list(_drawn(rows, x)), quality_of(rows)
    panels = {value.replace("acc1", quality): title for value, title in PANELS.items()}
    kinds = list(dict.fromkeys(row["kind"] for row in used)) or ["no method met its budget"]
    figure = new_figure(0.6 + 2.7 * len(kinds))
    axes = figure.subplots(len(kinds), 2, sharex=True, sharey=True, squeeze=False)
    for pair, kind in zip(axes, kinds, strict=True):
        own = [row for row in used if row["kind"] == kind]
        for ax, (value, title) in zip(pair, panels.items(), strict=True):
            _curves(ax, own, x, value, title=f"{kind}, {title}", below=LABELS[x] if pair is axes[-1] else "")
            every = [row[name] for row in used for name in panels]
            accuracy_axis(ax, every, label=f"validation {TOLD[quality]}" if ax is pair[0] else "")
        _legend_right(pair[1])
    return figure


def costs_figure(rows: Sequence[Row]) -> Figure:
    """Return the change of the logits by the cut, one row per kind, and seconds and epochs, one bar per method."""
    used = list(_drawn(rows, COMPRESSION))
    kinds = list(dict.fromkeys(row["kind"] for row in used)) or ["no method met its budget"]
    names = [name for kind in kinds for name in dict.fromkeys(row["method"] for row in used if row["kind"] == kind)]
    figure = new_figure(1.2 + 2.2 * len(kinds))
    grid = figure.add_gridspec(len(kinds), 3, width_ratios=(1.4, 1, 0.6))
    for place, kind in enumerate(kinds):
        ax = figure.add_subplot(grid[place, 0])
        title, below = f"{kind}: relative change of the logits", LABELS[COMPRESSION] if kind == kinds[-1] else ""
        own = [row for row in used if row["kind"] == kind]
        _curves(ax, own, COMPRESSION, "logit_change", title=title, below=below)
        _legend_right(ax)
    seconds, epochs = (figure.add_subplot(grid[:, place]) for place in (1, 2))
    _bars(seconds, used, names, "seconds", "seconds a cut")
    _bars(epochs, used, names, "epochs", "epochs")
    seconds.set_xscale("symlog", linthresh=1.0)
    epochs.set_yticklabels([])
    handles, labels = seconds.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=2, frameon=False, fontsize=8)
    return figure


def _drawn(rows: Sequence[Row], x: str) -> Iterator[Row]:
    """The points of a picture; against multiply-adds, points searched for replace the others of their method."""
    met = [row for row in rows if "refused" not in row]
    searched = {row["method"] for row in met if row["equal"] == "multiply-adds"} if x == SPEED else set()
    for row in met:
        if row["equal"] == ("multiply-adds" if row["method"] in searched else "weights"):
            yield row


def _curves(ax: Axes, rows: Sequence[Row], x: str, value: str, *, title: str, below: str) -> None:
    """One line per method over a log axis: means over the seeds of each ratio, bars sample deviations."""
    for number, name in enumerate(dict.fromkeys(row["method"] for row in rows)):
        own = [row for row in rows if row["method"] == name]
        groups = [[row for row in own if row["ratio"] == ratio] for ratio in sorted({row["ratio"] for row in own})]
        places, heights = ([mean_and_deviation([row[of] for row in g]) for g in groups] for of in (x, value))
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        ax.errorbar(
            [mean for mean, _ in places], [mean for mean, _ in heights], yerr=[sd or 0.0 for _, sd in heights],
            label=name, linewidth=1, capsize=2, markersize=4, **style,
        )  # fmt: skip
    tidy(ax, title=title, x=below)
    ax.set_xscale("log")
    plain_log_axis(ax.xaxis)


def _bars(ax: Axes, rows: Sequence[Row], names: Sequence[str], what: str, title: str) -> None:
    """Stacked bars, method and fine-tuning: means over all points of a method, and the deviation of their sum."""
    own = {name: [row for row in rows if row["method"] == name] for name in names}
    left = [0.0] * len(names)
    for part, colour, label in zip(COSTS, (BLUE, GREY), ("the method", "fine-tuning"), strict=True):
        width = [mean_and_deviation([row[f"{what}_{part}"] for row in own[name]])[0] for name in names]
        ax.barh(names, width, left=left, color=colour, label=label)
        left = [a + b for a, b in zip(left, width, strict=True)]
    sums = [[sum(row[f"{what}_{part}"] for part in COSTS) for row in own[name]] for name in names]
    ax.errorbar(
        left,
        names,
        xerr=[mean_and_deviation(each)[1] or 0.0 for each in sums],
        fmt="none",
        ecolor=BLACK,
        elinewidth=0.8,
        capsize=1.5,
    )
    ax.invert_yaxis()
    ax.tick_params(axis="y", labelsize=7)
    tidy(ax, title=title)


def _legend_right(ax: Axes) -> None:
    handles, _ = ax.get_legend_handles_labels()
    if handles:
        ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=7, borderaxespad=0.2)
