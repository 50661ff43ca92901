"""The remaining weights: a picture of every weight array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from l0ref.nn import Model
from l0ref.report.figures.style import BLUE, DPI, ORANGE, WIDTH, new_figure, say_empty
from l0ref.validate import Array

SIGNS = ListedColormap([ORANGE, "white", BLUE])
MARGIN = (80, 100)  # pixels of a panel, down and across, taken by title and labels
HALF, WHOLE = (int(WIDTH * DPI / n) - MARGIN[1] for n in (2, 1))  # pixels across in a panel of half and of full width


def masks_figure(model: Model) -> Figure:
    """Return a panel per weight array, and for a linear layer on an image one for its pixels.

    Rows are outputs (units or filters), columns inputs (for a convolution channels x window). A weight is
    blue if positive, orange if negative, white if exactly 0. An array wider than half the figure gets
    its whole width; one with more rows or columns than its panel has pixels is drawn in blocks, which are
    darker the larger their share of non-zero weights.
    """
    pixels = connections_per_pixel(model)
    widths = [math.prod(model.params[key].shape[1:]) for key in model.weights]
    places = flow([width > HALF for width in widths] + [False] * (pixels is not None))
    down = max((row for row, _ in places), default=0) + 1
    high = 3.9 if down <= 3 else 2.6
    figure = new_figure(high * down + 0.4)
    grid = figure.add_gridspec(down, 2)
    panels = [figure.add_subplot(grid[row, column]) for row, column in places]
    for ax, key, (_, column) in zip(panels, model.weights, places, strict=False):
        room = int(high * DPI) - MARGIN[0], WHOLE if isinstance(column, slice) else HALF
        _draw_weights(ax, key, model.params[key], room)
    if pixels is not None:
        _draw_pixels(figure, panels[-1], model.weights[0], pixels)
    figure.suptitle("Remaining weights: blue positive, orange negative, white zero", fontsize=10)
    return figure


def flow(wide: Sequence[bool]) -> list[tuple[int, int | slice]]:
    """Return (row, column) in a grid of two columns for panels in order; a wide one gets a row to itself."""
    places: list[tuple[int, int | slice]] = []
    row, column = 0, 0
    for each in wide:
        if each and column:
            row, column = row + 1, 0
        places.append((row, slice(0, 2) if each else column))
        row, column = (row + 1, 0) if each or column else (row, 1)
    return places


def as_matrix(w: Array) -> Array:
    """Return a weight array as (outputs, everything else)."""
    return w.reshape(w.shape[0], math.prod(w.shape[1:]))


def density(kept: Array, block: tuple[int, int]) -> Array:
    """Return the share of True in every block of a matrix; blocks at the lower and right edge may be smaller."""
    down, across = (np.arange(0, size, step) for size, step in zip(kept.shape, block, strict=True))
    counts = np.add.reduceat(np.add.reduceat(kept.astype(np.intp), down, axis=0), across, axis=1)
    heights, widths = np.diff(np.append(down, kept.shape[0])), np.diff(np.append(across, kept.shape[1]))
    return np.asarray(counts / np.outer(heights, widths))


def connections_per_pixel(model: Model) -> Array | None:
    """Return the number of non-zero weights of the first layer that read each pixel (H, W), summed over channels.

    None unless samples are images and the first layer with weights is linear and reads them directly.
    """
    if not model.weights or len(model.input_shape) != 3:
        return None
    key = model.weights[0]
    w = model.params[key]
    if model.kinds[key] != "linear" or w.shape[1] != math.prod(model.input_shape):
        return None
    return np.asarray(np.count_nonzero(w, axis=0).reshape(model.input_shape).sum(axis=0))


def _draw_weights(ax: Axes, key: str, w: Array, room: tuple[int, int]) -> None:
    kept = int(np.count_nonzero(w))
    title = f"{key}  {' x '.join(map(str, w.shape))}\n{kept:,} of {w.size:,} left"
    if w.size:
        matrix = as_matrix(w)
        block = tuple(math.ceil(size / most) for size, most in zip(matrix.shape, room, strict=True))
        picture: dict[str, Any] = {"extent": (0, matrix.shape[1], matrix.shape[0], 0), "aspect": "auto"}
        if block == (1, 1):
            ax.imshow(np.sign(matrix), cmap=SIGNS, vmin=-1, vmax=1, interpolation="nearest", **picture)
        else:
            share = density(matrix != 0, block)
            top = float(share.max()) or 1.0
            ax.imshow(share, cmap="Greys", vmin=0, vmax=top, interpolation="nearest", **picture)
            title += f"; blocks of {block[0]} x {block[1]}, black: {100 * top:.3g} % left"
    else:
        say_empty(ax, "no weights")
    ax.set_title(title, loc="left", fontsize=9)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.set_ylabel("output", fontsize=8)
    ax.set_xlabel("input" if w.ndim == 2 else "input: channel x window", fontsize=8)
    ax.tick_params(labelsize=8)


def _draw_pixels(figure: Figure, ax: Axes, key: str, counts: Array) -> None:
    image = ax.imshow(np.ma.masked_equal(counts, 0), cmap="viridis", vmin=0, vmax=max(int(counts.max()), 1))
    ax.set_title(f"{key}\nweights left per input pixel; white: none", loc="left", fontsize=9)
    ax.tick_params(labelsize=8)
    figure.colorbar(image, ax=ax, shrink=0.85).ax.tick_params(labelsize=8)
