"""The records of methods that score weights or solve for layers, drawn: figures of the pages in docs/methods/.

    python examples/ex07_method_records.py [FOLDER]      writes one PNG for each page; default docs/figures/methods

Every number drawn is in the record of a method.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l0ref import data, fit, nn
from l0ref.methods import METHODS, Pruned
from l0ref.nn import Model
from l0ref.report.figures.style import new_figure, png, tidy

Run = Callable[..., Pruned]
AMOUNT = 0.9


def main(*, fast: bool = False, out: Path | str = "docs/figures/methods") -> dict[str, float]:
    """Draw all pages into the folder `out`; return the numbers that the pages quote."""
    digits = data.load("digits", seed=0)
    net, _ = fit(nn.digits_mlp(seed=0), digits.train, epochs=3 if fast else 40, seed=0, progress="none")

    def run(name: str, *, model: Model = net, amount: float = AMOUNT, **options: Any) -> Pruned:
        return METHODS[name].run(model, digits, amount=amount, seed=0, **options)

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    numbers: dict[str, float] = {}
    for page, draw in PAGES.items():
        figure, axes = panels(2)
        numbers |= draw(axes, run, fast)
        (folder / f"{page}.png").write_bytes(png(figure))
    return numbers


def panels(n: int) -> tuple[Figure, Any]:
    """A figure of n panels in a row."""
    figure = new_figure(3.2)
    return figure, figure.subplots(1, n)


def lines(ax: Axes, found: Mapping[str, Any], *, log: bool = True) -> None:
    """Entries of each array in descending order against their share."""
    for name, values in found.items():
        sizes = np.sort(np.asarray(values, np.float64).ravel())[::-1]
        ax.plot(np.linspace(0, 100, sizes.size), np.maximum(sizes, 1e-30) if log else sizes, label=name)
    if log:
        ax.set_yscale("log")
        top = max(float(np.max(v)) for v in found.values())
        ax.set_ylim(1e-6 * top, 2 * top)
    ax.legend(frameon=False, fontsize=8)


def bars(ax: Axes, found: Mapping[str, Mapping[str, float]]) -> None:
    """A group of bars for each layer, a bar in it for each method."""
    for number, (name, values) in enumerate(found.items()):
        ax.bar(np.arange(len(values)) + 0.8 * number / len(found), list(values.values()), 0.75 / len(found), label=name)
    names = [key.removesuffix(".weight") for key in next(iter(found.values()))]
    ax.set_xticks(np.arange(len(names)) + 0.4 - 0.4 / len(found), names)
    ax.legend(frameon=False, fontsize=8)


def magnitude(axes: Any, run: Run, _: bool) -> dict[str, float]:
    """Thresholds of one ranking, and what the layers are divided by."""
    names = ("magnitude", "class_uniform", "lottery")
    bars(axes[0], {name: run(name).record["threshold"] for name in names})
    tidy(axes[0], title="threshold: the smallest |w| that stays")
    found = run("class_distribution").record
    times_q = {key: found["quality"] * std for key, std in found["std"].items()}
    bars(axes[1], {"standard deviation": found["std"], "threshold": times_q})
    tidy(axes[1], title="class_distribution")
    return {}


def similarity(axes: Any, run: Run, _: bool) -> dict[str, float]:
    """Saliency of one merge after the other, and distances of filters."""
    merged, apart = run("data_free").record["saliency"], run("fpgm").record["scores"]
    axes[0].plot(np.arange(1, len(merged) + 1), merged)
    axes[0].set_yscale("symlog", linthresh=1e-6)
    tidy(axes[0], title="data_free: saliency of each merge", x="merge")
    lines(axes[1], apart, log=False)
    tidy(axes[1], title="fpgm: distance to all other units", x="% of units, largest first")
    return {}


def sensitivity(axes: Any, run: Run, fast: bool) -> dict[str, float]:
    """Scores of the first layer over their largest."""
    few = {"samples": 100 if fast else 500}
    names = ("obd", "wanda", "snip")
    scores = {n: run(n, **(few if "samples" in METHODS[n].options else {})).record["scores"] for n in names}
    lines(axes[0], {n: s["fc2.weight"] / max(s["fc2.weight"].max(), 1e-300) for n, s in scores.items()})
    tidy(axes[0], title="weights of fc2: score over the largest", x="% of weights, largest first")
    units = run("taylor", **few).record["scores"]
    lines(axes[1], units)
    tidy(axes[1], title="taylor: |a dL/da| of units", x="% of units, largest first")
    return {}


def net_trim(axes: Any, run: Run, fast: bool) -> dict[str, float]:
    """Bound and error of each layer, and the weights the convex program leaves."""
    found = run("net_trim", samples=100 if fast else 300).record
    bars(axes[0], {"epsilon": found["epsilon"], "residual": found["residual"]})
    axes[0].set_yscale("log")
    tidy(axes[0], title="epsilon, and residual of ADMM")
    bars(axes[1], {"error": found["error"]})
    tidy(axes[1], title="relative error of the layer's output")
    return {}


def l0_constrained(axes: Any, run: Run, fast: bool) -> dict[str, float]:
    """Error of each layer before and after its activation, and against the amount."""
    amounts = (0.9,) if fast else (0.5, 0.7, 0.9)
    found = {a: run("l0_constrained", amount=a, samples=200 if fast else 1000).record for a in amounts}
    bars(axes[0], {name: found[0.9][name] for name in ("error", "activated")})
    tidy(axes[0], title="relative error of layers, 90 % removed")
    for key in found[0.9]["activated"]:
        axes[1].plot([100 * a for a in found], [r["activated"][key] for r in found.values()], "o-", label=key)
    axes[1].legend(frameon=False, fontsize=8)
    tidy(axes[1], title="error behind the activation", x="% of weights removed")
    return {}


PAGES: dict[str, Callable[..., dict[str, float]]] = {
    f.__name__: f for f in (magnitude, similarity, sensitivity, net_trim, l0_constrained)
}

if __name__ == "__main__":
    print(main(out=sys.argv[1] if len(sys.argv) > 1 else "docs/figures/methods"))
