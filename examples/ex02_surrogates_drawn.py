"""The surrogates drawn: value, slope and prox of every stand-in for "is not zero", side by side.

A surrogate replaces the count of non-zero weights by something with a slope. What to look for: the
slope at zero (how hard a small weight is pulled), where the slope ends (which weights are left
alone), and the dead zone of the prox (which weights become exactly zero in one step).

Run it with ``python examples/ex02_surrogates_drawn.py``; it writes surrogates.png beside itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from l0ref.surrogates import (
    L0,
    L1,
    L2,
    MCP,
    SCAD,
    Arctan,
    CappedL1,
    Gaussian,
    GemanMcClure,
    Laplace,
    LinearizedLaplace,
    LogSum,
    Lp,
    Surrogate,
    Tanh,
    TransformedL1,
)

SHOWN: tuple[Surrogate, ...] = (
    L0(), L1(), L2(), Laplace(beta=5.0), LinearizedLaplace(beta=5.0), GemanMcClure(beta=5.0), Gaussian(sigma=0.3),
    LogSum(eps=0.2), Arctan(beta=5.0), Tanh(beta=5.0), CappedL1(theta=0.4), SCAD(lam=0.3, a=3.7),
    MCP(lam=0.5, gamma=1.5), Lp(p=0.5), TransformedL1(a=0.5),
)  # fmt: skip
STEP = 0.05


def main(*, fast: bool = False, out: Path | None = None) -> dict[str, float]:
    """Draw the figure, print slope at zero and dead zone of each; return the dead zones by class name and step."""
    w = np.linspace(-1.5, 1.5, 121 if fast else 1201)
    figure = Figure(figsize=(12, 14), layout="constrained")
    axes = figure.subplots(5, 3)
    print(f"{'surrogate':45s} slope at 0   dead zone of prox with step {STEP}")
    dead: dict[str, float] = {}
    for ax, phi in zip(axes.flat, SHOWN, strict=False):
        ax.plot(w, phi.value(w), label="value")
        ax.plot(w, np.clip(phi.grad(w), -6, 6), lw=0.8, label="slope")
        ax.plot(w, phi.prox(w, STEP), lw=0.8, label="prox")
        ax.set(title=str(phi), ylim=(-6, 6), yscale="symlog")
        ax.grid(alpha=0.3)
        dead[type(phi).__name__] = phi.dead_zone(STEP)
        print(f"{phi!s:45s} {phi.slope_at_zero:10.3f}   {phi.dead_zone(STEP):.4f}")
    axes.flat[0].legend()
    figure.savefig(out if out is not None else Path(__file__).with_name("surrogates.png"), dpi=80)
    return dead


if __name__ == "__main__":
    main()
