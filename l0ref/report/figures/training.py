"""Training over its epochs: the terms of the loss, validation accuracy, and the share of small and of zero weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l0ref.experiment.controls import penalty_name
from l0ref.report.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    accuracy_axis,
    declare,
    legend_above,
    look,
    new_figure,
    numbers,
    plain_log_axis,
    say_empty,
    tidy,
)
from l0ref.report.schema import Row, main_name, mapping, quality_of, runs_of, shown_names

SMALL = "small: |w| below the threshold of the recipe, by default 0.01"
NARROW = 0.07  # a phase that takes less of the width than this is shaded but not named


def training_figure(report: Row) -> Figure:
    """Return three panels over the epochs of the main run of a report; x counts epochs from 1, through all phases.

    loss       one line per term that is ever above 0, on a log axis
    accuracy   on the validation set, or the loss of a regression; the main run thick, controls thin; a hollow marker
               shows the value right after a cut, before fine-tuning
    weights    share with |w| below the threshold of the recipe (0.01 by default), and share that is exactly 0

    Phases after the first are shaded; a dashed line marks each cut.
    """
    runs = runs_of(report)
    main = main_name(report)
    rows, cuts = history(runs[main]), cut_places(runs[main])
    figure = new_figure(8.0)
    loss, accuracy, weights = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    quality = quality_of(stage for run in runs.values() for stage in run["stages"])
    _draw_loss(loss, rows, _terms(report, quality))
    _draw_validation(accuracy, runs, main, shown_names(report), quality)
    _draw_weights(weights, rows)
    for ax in (loss, accuracy, weights):
        _draw_phases(ax, rows, cuts, named=ax is loss)
    longest = max(len(history(run)) for run in runs.values())
    loss.set_xlim(0, longest + 1)
    loss.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    declare(figure, report)
    if not longest:
        say_empty(loss, "no epoch was trained")
    return figure


def history(run: Row) -> Sequence[Row]:
    """Return the rows of a run's history, one per epoch; none if its report has no history."""
    return list(run.get("history") or ())


def phases(rows: Sequence[Row]) -> list[tuple[str, int, int]]:
    """Return (name, first epoch, last epoch) of each phase, epochs counted from 1 through all phases."""
    found, done = [], 0
    for name, group in groupby(str(row.get("phase", "train")) for row in rows):
        size = len(list(group))
        found.append((name, done + 1, done + size))
        done += size
    return found


def cut_places(run: Row) -> list[float]:
    """Return the epochs of a run's cuts: half an epoch before the fine-tuning that follows, or after the end."""
    rows, cuts = history(run), run.get("cuts") or ()
    starts = [first - 0.5 for name, first, _ in phases(rows) if name.startswith("finetune")]
    return (starts + [len(rows) + 0.5] * len(cuts))[: len(cuts)]


def _terms(report: Row, quality: str) -> Sequence[tuple[str, str, str]]:
    """Key, label and colour of each term of the job's loss."""
    data = {"acc1": "mean cross-entropy", "r2": "mean squared error"}[quality]
    own = penalty_name(str(mapping(report, "config").get("surrogate", "laplace")), alpha=1, l2=0)
    return (("loss_data", f"data: {data}", BLACK), ("loss_l0", f"{own} term", BLUE), ("loss_l2", "l2 term", GREEN))


def _draw_loss(ax: Axes, rows: Sequence[Row], terms: Sequence[tuple[str, str, str]]) -> None:
    tidy(ax, title="Training loss by term", y="loss (log scale)")
    for key, label, colour in terms:
        values = numbers(row.get(key) for row in rows)
        if (values > 0).any():
            ax.plot(_epochs(rows), np.where(values > 0, values, np.nan), color=colour, label=label, **_dots(rows))
    if ax.lines:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * (high / low) ** 0.12)  # room for the names of the phases
        plain_log_axis(ax.yaxis)
    legend_above(ax)


def _draw_validation(ax: Axes, runs: Mapping[str, Row], main: str, names: Mapping[str, str], quality: str) -> None:
    key, told = {"acc1": ("val_acc1", "accuracy"), "r2": ("val_loss", "loss")}[quality]
    tidy(ax, title=f"Validation {told} (hollow: after a cut)", y="loss (log scale)" if told == "loss" else "")
    seen: list[float | None] = []
    for name, run in runs.items():
        colour, marker, label = look(name, names[name])
        rows = history(run)
        values = [row.get(key) for row in rows]
        after = [cut.get(key) for cut in run.get("cuts") or ()]
        seen += values + after
        width, layer = (2.2, 3) if name == main else (0.9, 2)
        places = np.array([*_epochs(rows), *cut_places(run)])
        order = np.argsort(places, kind="stable")
        heights = numbers([*values, *after])
        ax.plot(places[order], heights[order], color=colour, lw=width, zorder=layer, label=label, **_dots(rows))
        ax.plot(cut_places(run), numbers(after), marker, mec=colour, mfc="white", ms=6, mew=1.2, zorder=layer)
    if quality == "acc1":
        accuracy_axis(ax, seen, label="accuracy (stretched scale)")
    elif any(seen):
        ax.set_yscale("log")
        plain_log_axis(ax.yaxis)
    legend_above(ax)


def _draw_weights(ax: Axes, rows: Sequence[Row]) -> None:
    tidy(ax, title="Small weights of the main run", x="epochs trained", y="share of weights")
    small, zero = (100 * numbers(row.get(key) for row in rows) for key in ("below_threshold", "sparsity"))
    ax.plot(
        _epochs(rows),
        small,
        color=ORANGE,
        label=SMALL,
        **_dots(rows),
    )
    ax.plot(_epochs(rows), zero, color=BLACK, ls="--", label="exactly zero", **_dots(rows))
    ax.set_ylim(-3, 103)
    ax.yaxis.set_major_formatter("{x:.0f} %")
    legend_above(ax)


def _draw_phases(ax: Axes, rows: Sequence[Row], cuts: Sequence[float], *, named: bool) -> None:
    total = max(len(rows), 1)
    for number, (name, first, last) in enumerate(phases(rows)):
        if number:
            ax.axvspan(first - 0.5, last + 0.5, color=PALE, lw=0, zorder=0)
        if named and (last - first + 1) / total >= NARROW:
            middle = (first + last) / 2
            ax.annotate(
                name, (middle, 1), xycoords=("data", "axes fraction"), xytext=(0, -4), textcoords="offset points",
                ha="center", va="top", color=GREY, fontsize=9,
            )  # fmt: skip
    for place in cuts:
        ax.axvline(place, color=GREY, ls="--", lw=1)


def _epochs(rows: Sequence[Row]) -> list[int]:
    return list(range(1, len(rows) + 1))


def _dots(rows: Sequence[Row]) -> dict[str, Any]:
    """A line through one point shows nothing, so short histories get dots."""
    return {"marker": "."} if len(rows) < 3 else {}
