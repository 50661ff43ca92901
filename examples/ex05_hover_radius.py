"""What SGD, Adam and the prox do to a weight near zero that the data does not need.

The weight has no data gradient, only the pull of the l0 penalty, alpha beta exp(-beta |w|) sign(w).

    SGD    steps lr alpha beta towards zero, overshoots, and hovers within lr alpha beta of it
    Adam   rescales the pull away and steps by about lr: it hovers within about lr, a thousand times wider
    prox   lands on zero exactly, and stays

So a pruning threshold must lie above the hover radius of the optimiser, or the learning rate must be
annealed first; only the prox needs neither.

Run it with ``python examples/ex05_hover_radius.py``.
"""

from __future__ import annotations

import numpy as np

from l0ref import Penalty, optim
from l0ref.surrogates import Laplace


def main(*, fast: bool = False) -> dict[str, float]:
    """Print how far from zero each optimiser leaves the weight; return the largest |w| over the last steps."""
    lr, steps = 0.01, 2000 if fast else 10_000
    penalty = Penalty(Laplace(beta=5.0), alpha=2e-3)
    optimizers = {
        "sgd": optim.SGD(lr=lr),
        "adam": optim.Adam(lr=lr),
        "proximal_sgd": optim.Proximal(optim.SGD(lr=lr)),
    }
    print(f"lr = {lr}, lr alpha beta = {lr * 2e-3 * 5.0:.1e}")
    radius: dict[str, float] = {}
    for name, optimizer in optimizers.items():
        params = {"w": np.array([0.0501])}
        state = optimizer.init(params)
        last = []
        for step in range(steps):
            params, state = optimizer.step(params, {"w": np.zeros(1)}, state, pull=penalty.pull({"w": 1.0}))
            if step >= steps - 200:
                last.append(abs(float(params["w"][0])))
        radius[name] = max(last)
        print(f"{name:13s} hovers within {radius[name]:.2e} of zero")
    return radius


if __name__ == "__main__":
    main()
