"""How training went: the loss by its terms, validation accuracy, and how many weights are small or gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l0ref.pruning import MAIN, Compressed, Experiment
from l0ref.report.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    accuracy_axis,
    legend_above,
    look,
    new_figure,
    numbers,
    plain_log_axis,
    say_empty,
    tidy,
)

TERMS = (("loss_data", "data: mean cross-entropy", BLACK), ("loss_l0", "l0 term", BLUE), ("loss_l2", "l2 term", GREEN))
NARROW = 0.07  # a phase that takes less of the width than this is shaded but not named


def training_figure(experiment: Experiment) -> Figure:
    """Return three panels over the epochs of the main run; x counts epochs from 1, through all phases.

    loss       one line per term that is ever above 0, on a log axis
    accuracy   on the validation set, the main run thick and every control thin; a line passes through a
               hollow marker right after a cut, before fine-tuning
    weights    share with |w| below the threshold of the history, and share that is exactly 0

    Phases after the first are shaded; a dashed line marks each cut.
    """
    run = experiment.runs[MAIN]
    figure = new_figure(8.0)
    loss, accuracy, weights = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
    _draw_loss(loss, run.rows)
    _draw_accuracy(accuracy, experiment)
    _draw_weights(weights, run.rows)
    for ax in (loss, accuracy, weights):
        _draw_phases(ax, run, named=ax is loss)
    longest = max(len(each.rows) for each in experiment.runs.values())
    loss.set_xlim(0, longest + 1)
    loss.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if not longest:
        say_empty(loss, "no epoch was trained")
    return figure


def phases(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, int]]:
    """Return (name, first epoch, last epoch) of each phase, epochs counted from 1 through all phases."""
    found, done = [], 0
    for name, group in groupby(row["phase"] for row in rows):
        size = len(list(group))
        found.append((name, done + 1, done + size))
        done += size
    return found


def cut_places(run: Compressed) -> list[float]:
    """Return where the cuts of a run fall: half an epoch before the fine-tuning that follows, or after the end."""
    starts = [first - 0.5 for name, first, _ in phases(run.rows) if name.startswith("finetune")]
    return (starts + [len(run.rows) + 0.5] * len(run.cuts))[: len(run.cuts)]


def _draw_loss(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    tidy(ax, title="Training loss by term", y="loss (log scale)")
    for key, label, colour in TERMS:
        values = numbers(row[key] for row in rows)
        if (values > 0).any():
            ax.plot(_epochs(rows), np.where(values > 0, values, np.nan), color=colour, label=label, **_dots(rows))
    if ax.lines:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * (high / low) ** 0.12)  # room for the names of the phases
        plain_log_axis(ax.yaxis)
    legend_above(ax)


def _draw_accuracy(ax: Axes, experiment: Experiment) -> None:
    tidy(ax, title="Validation accuracy (hollow: just cut)")
    seen: list[float | None] = []
    for name, run in experiment.runs.items():
        colour, marker, label = look(name)
        values = [row["val_acc1"] for row in run.rows]
        after = [cut["val_acc1"] for cut in run.cuts]
        seen += values + after
        width, layer = (2.2, 3) if name == MAIN else (0.9, 2)
        places = np.array([*_epochs(run.rows), *cut_places(run)])
        order = np.argsort(places, kind="stable")
        heights = numbers([*values, *after])
        ax.plot(places[order], heights[order], color=colour, lw=width, zorder=layer, label=label, **_dots(run.rows))
        ax.plot(cut_places(run), numbers(after), marker, mec=colour, mfc="white", ms=6, mew=1.2, zorder=layer)
    accuracy_axis(ax, seen, label="accuracy (stretched scale)")
    legend_above(ax)


def _draw_weights(ax: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    tidy(ax, title="Small weights of the main run", x="epochs trained", y="share of weights")
    small, zero = (numbers(100 * row[key] for row in rows) for key in ("below_threshold", "sparsity"))
    ax.plot(_epochs(rows), small, color=ORANGE, label="below the threshold of the history", **_dots(rows))
    ax.plot(_epochs(rows), zero, color=BLACK, ls="--", label="exactly zero", **_dots(rows))
    ax.set_ylim(-3, 103)
    ax.yaxis.set_major_formatter("{x:.0f} %")
    legend_above(ax)


def _draw_phases(ax: Axes, run: Compressed, *, named: bool) -> None:
    total = max(len(run.rows), 1)
    for number, (name, first, last) in enumerate(phases(run.rows)):
        if number:
            ax.axvspan(first - 0.5, last + 0.5, color=PALE, lw=0, zorder=0)
        if named and (last - first + 1) / total >= NARROW:
            middle = (first + last) / 2
            ax.annotate(
                name, (middle, 1), xycoords=("data", "axes fraction"), xytext=(0, -4), textcoords="offset points",
                ha="center", va="top", color=GREY, fontsize=9,
            )  # fmt: skip
    for place in cut_places(run):
        ax.axvline(place, color=GREY, ls="--", lw=1)


def _epochs(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    return list(range(1, len(rows) + 1))


def _dots(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A line through one point shows nothing, so short histories get dots."""
    return {"marker": "."} if len(rows) < 3 else {}
