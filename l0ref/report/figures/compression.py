"""The cost of compression: accuracy against compression ratio, with the controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from l0ref.report.figures.style import GREY, PALE, TOLD, accuracy_axis, declare, look, new_figure, tidy
from l0ref.report.schema import Row, mapping, quality_of, runs_of, shown_names

Point = tuple[float, float]  # compression ratio, accuracy
SETS = {"validation": "val_acc1", "test": "test_acc1"}
MOST_TICKS = 9


def compression_figure(report: Row) -> Figure:
    """Return two panels, accuracy on the validation and on the test set, over the compression ratio (log 2).

    Every run has a dot for the dense network, a hollow marker after the cut, a filled one after fine-tuning, and an
    arrow from one to the other. A stage whose ratio is not finite is left out. Points of report["curve"] are joined, in
    the order of their ratios and with the run's own cut among them: solid when fine-tuned, dashed when only pruned. In
    the validation panel report["untuned_curves"], where a run has one, replaces the dashed curve.
    """
    names, untuned = shown_names(report), mapping(report, "untuned_curves")
    figure = new_figure(4.8)
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    shown: list[Point] = []
    quality = quality_of(stage for run in runs_of(report).values() for stage in run["stages"])
    for ax, (part, accuracy) in zip(panels, SETS.items(), strict=True):
        key = accuracy.replace("acc1", quality)
        for name in reversed(names):  # the main run last, on top
            dashed = untuned.get(name, ()) if part == "validation" else ()
            shown += _draw_run(ax, name, report, key, dashed)
        tidy(ax, title=_panel_title(part, report), x="compression ratio (log 2 scale)")
        ax.grid(axis="x", color=PALE)
    accuracy_axis(
        panels[0], [accuracy for _, accuracy in shown], label=f"{TOLD[quality]} (axis stretched towards 100 %)"
    )
    panels[1].grid(axis="y", color=PALE)
    panels[1].set_axisbelow(True)
    _ratio_axis(panels[0], [ratio for ratio, _ in shown])
    joined = any(untuned.values()) or any(mapping(report, "curve").values())
    runs, stages = _run_handles(names), _stage_handles(joined=joined)
    figure.legend(handles=runs, loc="outside upper center", ncols=len(runs), frameon=False, fontsize=9)
    declare(figure, report)
    figure.legend(handles=stages, loc="outside lower center", ncols=len(stages), frameon=False, fontsize=9)
    return figure


def _panel_title(part: str, report: Row) -> str:
    n = mapping(report, "data").get(part)
    return f"{part} set" if n is None else f"{part} set, {n:,} samples"


def points(rows: Sequence[Row], accuracy: str) -> list[Point]:
    """Return (compression ratio, accuracy) of the rows that have both."""
    pairs = [(row.get("compression_ratio"), row.get(accuracy)) for row in rows]
    return [(float(r), float(a)) for r, a in pairs if r is not None and a is not None]


def _draw_run(ax: Axes, name: str, report: Row, accuracy: str, untuned: Sequence[Point]) -> list[Point]:
    """Draw the curves and the stages of one run; return all points drawn."""
    colour, marker, _ = look(name)
    stages = runs_of(report)[name]["stages"]
    curve = list(mapping(report, "curve").get(name, ()))
    if curve:
        curve.append({stage["name"]: stage for stage in stages})  # the cut of the run lies on its curve
    dashed = [(float(x), float(y)) for x, y in untuned]
    dashed = dashed or sorted(points([point.get("pruned", {}) for point in curve], accuracy))
    solid = sorted(points([point.get("finetuned", {}) for point in curve], accuracy))
    if dashed:
        ax.plot(*zip(*dashed, strict=True), color=colour, lw=1, ls="--")
    if solid:
        ax.plot(*zip(*solid, strict=True), color=colour, lw=1.6, marker=marker, ms=4)
    return dashed + solid + _draw_stages(ax, stages, accuracy, colour, marker)


def _draw_stages(ax: Axes, stages: Sequence[Row], accuracy: str, colour: str, marker: str) -> list[Point]:
    at = {stage["name"]: points([stage], accuracy) for stage in stages}
    faces = {"dense": (".", colour, 9.0), "pruned": (marker, "white", 7.0), "finetuned": (marker, colour, 7.0)}
    if at.get("pruned") and at.get("finetuned"):
        line = {"arrowstyle": "-|>", "color": colour, "lw": 0.9, "shrinkA": 4, "shrinkB": 4}
        ax.annotate("", at["finetuned"][0], at["pruned"][0], arrowprops=line)
    for stage, (shape, face, size) in faces.items():
        for x, y in at.get(stage, ()):
            ax.plot([x], [y], shape, mfc=face, mec=colour, mew=1.2, ms=size, clip_on=False, gid=stage)
    return [point for found in at.values() for point in found]


def _ratio_axis(ax: Axes, ratios: Sequence[float]) -> None:
    """Ticks at powers of 2, written as 1, 2, 4, ..."""
    last = max(math.ceil(math.log2(max([*ratios, 2.0]))), 1)
    step = math.ceil((last + 1) / MOST_TICKS)
    ticks = [2.0**k for k in range(0, last + 1, step)]
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{tick:,.0f}x" for tick in ticks]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(2 ** (-0.05 * last), max([*ratios, 2.0]) * 2 ** (0.05 * last))


def _run_handles(names: Mapping[str, str]) -> list[Line2D]:
    looks = [look(*name) for name in names.items()]
    return [Line2D([], [], color=each.colour, marker=each.marker, ms=6, label=each.label) for each in looks]


def _stage_handles(*, joined: bool) -> list[Line2D]:
    grey: dict[str, Any] = {"color": GREY, "ls": "", "mec": GREY, "mew": 1.2, "ms": 7}
    handles = [
        Line2D([], [], marker=".", label="dense", **grey),
        Line2D([], [], marker="o", mfc="white", label="pruned", **grey),
        Line2D([], [], marker="o", label="pruned and fine-tuned", **grey),
    ]
    if joined:
        handles.append(Line2D([], [], color=GREY, ls="--", label="pruned by other ratios, not fine-tuned"))
    return handles
