"""Panels for the records of methods: bars by layer, entries in descending order, and a two-panel figure for each page.

A record holds numbers or arrays by layer; a key `fc1.weight` is drawn as `fc1`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from l0ref.nn import Model
from l0ref.report.figures.style import new_figure, png

Draw = Callable[..., dict[str, float]]
HEIGHT = 3.2  # inches
LOWEST = 1e-6  # lower end of a logarithmic panel, as a share of the largest entry


def write_panels(figures: Iterable[Draw], folder: Path | str, *inputs: Any) -> dict[str, float]:
    """Draw one figure of two panels with each function, write it as NAME.png, and return all numbers drawn.

    figures  functions (axes, *inputs) -> numbers by name; the name of the function is that of the file
    folder   made if it does not exist
    """
    where, numbers = Path(folder), dict[str, float]()
    where.mkdir(parents=True, exist_ok=True)
    for draw in figures:
        figure = new_figure(HEIGHT)
        numbers |= draw(figure.subplots(1, 2), *inputs)
        (where / f"{draw.__name__}.png").write_bytes(png(figure))
    return numbers


def bars(ax: Axes, found: Mapping[str, Mapping[str, float]]) -> None:
    """A group of bars for each layer, and in it one bar for each name in `found`."""
    for number, (name, values) in enumerate(found.items()):
        ax.bar(np.arange(len(values)) + 0.8 * number / len(found), list(values.values()), 0.75 / len(found), label=name)
    layers = [layer_name(key) for key in next(iter(found.values()))]
    ax.set_xticks(np.arange(len(layers)) + 0.4 - 0.4 / len(found), layers)
    legend(ax)


def descending(ax: Axes, found: Mapping[str, Any], *, log: bool = False) -> None:
    """Entries of each array, largest first, against their share in percent."""
    top = max(float(np.max(values)) for values in found.values())
    for key, values in found.items():
        sizes = np.sort(np.asarray(values, np.float64).ravel())[::-1]
        shown = np.maximum(sizes, LOWEST * top / 10) if log else sizes
        ax.plot(np.linspace(0, 100, sizes.size), shown, label=layer_name(key))
    if log:
        ax.set_yscale("log")
        ax.set_ylim(LOWEST * top, 2 * top)
    legend(ax)


def legend(ax: Axes) -> None:
    """Add a legend without a frame."""
    ax.legend(frameon=False, fontsize=8)


def layer_name(key: str) -> str:
    """Return fc1 for fc1.weight."""
    return key.removesuffix(".weight")


def weights_kept(model: Model) -> dict[str, float]:
    """Return by weight array the share of weights that are not masked."""
    return {key: float(model.mask(key).mean()) for key in model.weights}
