"""The coupled axes of a network as a graph: which units are removed, or reordered, together.

box     an axis of units, its size, and all layers that write it and so are cut together; grey if it cannot be cut.
        After a flattened image a unit has several features
arrow   a layer with weights, from the axis it reads to the axis it writes; upwards where a residual sum joins them
"""

from __future__ import annotations

from matplotlib.axes import Axes as Plot
from matplotlib.figure import Figure

from l0ref.nn import Model
from l0ref.pruning.axes import Axes, coupled_axes
from l0ref.report.figures.style import BLACK, BLUE, GREY, ORANGE, PALE, WIDTH, new_figure

ROW = 0.75  # inches from axis to axis
EDGE, LINE = (
    0.03,
    0.1,
)  # where straight arrows begin below the middle of a box, in rows: at all, and for each line of it
SIDE, BEND = 0.72, 0.3  # start of arcs beside the middle, and their curvature
PER_UNIT = WIDTH / 4  # inches of one unit of x


def axes_figure(model: Model) -> Figure:
    """Return the picture of `coupled_axes(model)`, one box below the other in the order of `sizes`."""
    axes = coupled_axes(model)
    figure = new_figure(0.5 + ROW * len(axes.sizes))
    plot = figure.subplots()
    plot.set_xlim(-1, 3)
    plot.set_ylim(len(axes.sizes) - 0.4, -0.6)
    plot.set_axis_off()
    boxes = {axis: _lines(axes, axis) for axis in axes.sizes}
    rows = {axis: row for row, axis in enumerate(boxes)}
    for axis, lines in boxes.items():
        _box(plot, lines, rows[axis], is_fixed=axis in axes.fixed)
    heights = [EDGE + LINE * len(lines) for lines in boxes.values()]
    ways = [(rows[use.reads], rows[use.writes]) for use in axes.uses if use.weighs and use.reads != use.writes]
    names = [use.layer.name for use in axes.uses if use.weighs and use.reads != use.writes]
    for number, (way, name) in enumerate(zip(ways, names, strict=True)):
        is_alone = ways.count(way) == 1 and way[1] - way[0] == 1
        _arrow(plot, *way, heights, name, shift=0.0 if is_alone else 0.16 * (number % 3 - 1))
    return figure


def _lines(axes: Axes, axis: str) -> list[str]:
    """The text of a box."""
    size, spreads = axes.sizes[axis], {use.spread for use in axes.uses if use.weighs and use.reads == axis} - {1}
    each = "".join(f" of {spread} features{' each' if size > 1 else ''}" for spread in sorted(spreads))
    lines = [f"{axis}: {size} unit{'' if size == 1 else 's'}{each}"]
    if axis in axes.fixed:
        lines.append(axes.fixed[axis])
    elif len(axes.writers(axis)) > 1:
        lines.append(f"written by {', '.join(axes.writers(axis))}")
    return lines


def _box(plot: Plot, lines: list[str], row: int, *, is_fixed: bool) -> None:
    plot.text(
        1, row, "\n".join(lines), ha="center", va="center", fontsize=8, color=BLACK,
        bbox={"boxstyle": "round", "facecolor": PALE if is_fixed else "white", "edgecolor": GREY if is_fixed else BLUE},
    )  # fmt: skip


def _arrow(plot: Plot, start: int, end: int, heights: list[float], name: str, *, shift: float) -> None:
    """A straight arrow to the next box, an arc at the right to a later one, and at the left back to an earlier one."""
    step = end - start
    side, colour = (0, BLACK) if step == 1 else (1, BLACK) if step > 1 else (-1, ORANGE)
    x = 1 + shift * 0.4 + SIDE * side
    sign = 0.05 if step > 0 else -0.05
    leave, arrive = (sign, sign) if side else (heights[start], heights[end])
    plot.annotate(
        "", (x, end - arrive), (x, start + leave),
        arrowprops={"arrowstyle": "->", "color": colour, "connectionstyle": f"arc3,rad={-BEND if side else 0}"},
    )  # fmt: skip
    bulge = side * (0.04 + BEND * abs(step) * ROW / 2 / PER_UNIT) if side else 0.03
    plot.text(
        x + bulge, (start + end) / 2, name, ha="right" if side < 0 else "left", va="center", fontsize=7, color=colour
    )
