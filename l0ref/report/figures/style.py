"""One look for all figures: size, colours, the accuracy axis, and conversion to PNG and SVG.

Figures are plain `matplotlib.figure.Figure` values: no pyplot, no window, no current figure.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, LogLocator, NullLocator

from l0ref.report.schema import Row, declared, mapping
from l0ref.validate import Array

WIDTH, DPI = 9.0, 100  # inches and pixels per inch: 900 pixels wide

# Okabe and Ito's palette, which readers with any kind of colour vision can tell apart.
BLACK, BLUE, ORANGE, GREEN, PURPLE, GREY = "#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7F7F7F"
SKY, PALE = "#56B4E9", "#F0F0F0"
TOLD = {"acc1": "accuracy", "r2": "R²"}  # of `quality_of`


class Look(NamedTuple):
    """Colour, marker and label of a run, the same in every figure."""

    colour: str
    marker: str
    label: str


LOOKS = {
    "l0": Look(BLUE, "o", "l0 penalty"),
    "none": Look(BLACK, "s", "no penalty"),
    "l2": Look(GREEN, "^", "l2 penalty"),
    "l1": Look(ORANGE, "D", "l1 penalty"),
    "random": Look(PURPLE, "v", "random pruning"),
    "random_layers": Look(SKY, "X", "random, same layer counts"),
}

ACCURACIES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
STRETCH = 0.01  # the error rate around which the accuracy axis turns from logarithmic to linear


def look(name: str, shown: str | None = None) -> Look:
    """Return the look of a run; a name that is not among `LOOKS` is drawn grey under its own name.

    shown  its name in `shown_names`, if that differs; "main run" is added if a control has the same label
    """
    found = LOOKS.get(name, Look(GREY, "P", name))
    if shown is None or shown == name:
        return found
    label = shown if shown.endswith("penalty") else f"{shown} penalty"
    return found._replace(label=f"{label}, main run" if label in {each.label for each in LOOKS.values()} else label)


def new_figure(height: float) -> Figure:
    """Return an empty figure, `height` inches high."""
    return Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")


def declare(figure: Figure, report: Row) -> None:
    """Say above a figure of results that training was augmented or distilled, if it was."""
    if told := declared(mapping(report, "config")):
        figure.suptitle(f"every network: {told}", x=0.01, ha="left", fontsize=9, color=GREY)


def tidy(ax: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Write title and axis labels, and remove the upper and right line of the frame."""
    ax.set_title(title, loc="left", fontsize=10)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.spines[["top", "right"]].set_visible(False)


def legend_above(ax: Axes) -> None:
    """Put the legend beside the title, where it does not cover data."""
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        ax.legend(
            handles, labels, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=len(labels), frameon=False, fontsize=8,
            borderaxespad=0, borderpad=0.3, handlelength=1.4, columnspacing=1.2,
        )  # fmt: skip


def plain_log_axis(axis: Axis) -> None:
    """Label a log axis 0.1, 0.2, 0.5, 1 over a small range, and by powers of ten over a large one."""
    low, high = axis.get_view_interval()
    axis.set_minor_locator(NullLocator())
    if high < 300 * low:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
        axis.set_major_formatter("{x:g}")


def accuracy_axis(ax: Axes, values: Iterable[float | None], *, label: str) -> None:
    """Make y an axis of accuracy, a share in [0, 1] shown as a percentage, stretched towards 100 %.

    An accuracy a is drawn at the height -arcsinh((1 - a) / STRETCH): nearly the logarithm of the error rate, but
    finite at an error of 0, so that 98 and 99 % are as far apart as 65 and 80 %. R² may be negative: the axis then
    begins at the worst value.
    """
    ax.set_yscale("function", functions=(_stretched, _unstretched))
    worst = min((v for v in values if v is not None and np.isfinite(v)), default=0.0)
    low = max((a for a in ACCURACIES[:-2] if a <= worst), default=worst)
    ticks = [a for a in ACCURACIES if a >= low]
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_major_formatter(FixedFormatter([f"{100 * a:.0f} %" for a in ticks]))
    ax.yaxis.set_minor_locator(NullLocator())
    span = _stretched(1.0) - _stretched(low)
    ax.set_ylim(_unstretched(_stretched(low) - 0.04 * span), _unstretched(0.04 * span))
    ax.grid(axis="y", color=PALE)
    ax.set_axisbelow(True)
    ax.set_ylabel(label)


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file without date or version: the same figure gives the same bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return out.getvalue()


def svg(figure: Figure, title: str) -> str:
    """Return a figure as an <svg> element for a page, its text as text; `title` is read by screen readers.

    Groups have no ids, and a referenced element has one made from its content: the figures of one page do not
    interfere, and the same figure gives the same text.
    """
    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "l0ref"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = re.sub(r'(?<=<g) id="[^"]*"|<!--.*?-->', "", out.getvalue(), flags=re.DOTALL)
    return f'<svg role="img" aria-label="{html.escape(title)}" ' + text[text.index("<svg") + len("<svg ") :]


def say_empty(ax: Axes, text: str) -> None:
    """Write the reason in the middle of an empty plot."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=GREY)


def numbers(values: Iterable[float | None]) -> Array:
    """Return values as a float64 array, NaN (which is not drawn) where one is missing."""
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _stretched(accuracy: Any) -> Any:
    return -np.arcsinh((1 - np.asarray(accuracy)) / STRETCH)


def _unstretched(height: Any) -> Any:
    return 1 - STRETCH * np.sinh(-np.asarray(height))
