"""Gradients by hand: what the tape computes, derived once on paper for a network of four weights.

    h = max(x u, 0)          x = 2, u = (0.5, -1)   ->  h = (1, 0)
    y = h . v                v = (3, 4)             ->  y = 3
    J = (y - 1)^2 + alpha sum_i (1 - exp(-beta |w_i|))  over the four weights in u and v

By the chain rule, with e = 2 (y - 1) = 4:

    dJ/dv_i = e h_i            + alpha beta exp(-beta |v_i|) sign(v_i)
    dJ/du_i = e v_i x [u_i > 0] + alpha beta exp(-beta |u_i|) sign(u_i)

Run it with ``python examples/ex01_gradients_by_hand.py``.
"""

from __future__ import annotations

import math

import numpy as np

import l0ref
from l0ref import ops, surrogates


def main(*, fast: bool = False) -> dict[str, float]:  # noqa: ARG001
    """Print both sides for every weight; return the largest difference and two of the slopes."""
    alpha, beta, x = 0.1, 2.0, 2.0
    u, v = l0ref.Tensor([0.5, -1.0]), l0ref.Tensor([3.0, 4.0])

    h = ops.relu(x * u)
    y = ops.sum(h * v)
    phi = surrogates.Laplace(beta=beta)
    penalty = ops.sum(ops.surrogate(u, phi)) + ops.sum(ops.surrogate(v, phi))
    loss = (y - 1.0) ** 2.0 + alpha * penalty
    by_tape = np.concatenate(l0ref.grad(loss, [u, v]))

    def pull(w: float) -> float:
        return alpha * beta * math.exp(-beta * abs(w)) * math.copysign(1.0, w)

    e = 2.0 * (3.0 - 1.0)
    by_hand = [e * 3.0 * x + pull(0.5), 0.0 + pull(-1.0), e * 1.0 + pull(3.0), e * 0.0 + pull(4.0)]

    print(f"loss {float(loss):.6f}")
    for name, tape, hand in zip(("u1", "u2", "v1", "v2"), by_tape, by_hand, strict=True):
        print(f"dJ/d{name}   tape {tape:+.12f}   by hand {hand:+.12f}")
    return {
        "loss": float(loss),
        "largest_difference": float(np.abs(by_tape - by_hand).max()),
        "du2": float(by_tape[1]),
        "dv2": float(by_tape[3]),
    }


if __name__ == "__main__":
    main()
