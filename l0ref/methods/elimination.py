"""Weights of one neuron eliminated one at a time, while the others move to compensate (OBS).

    f(w) = 1/2 (w - w0)' H (w - w0),   A = (H_SS)^-1, S the weights that are left

    cost of q    w_q^2 / (2 A_qq)                       the rise of f when w_q becomes 0 and the others move
    move         w <- w - w_q / A_qq A_:q
    downdate     A <- A - A_:q A_q: / A_qq              row and column q become 0: q is removed

After any number of steps w is the minimum of f over its support S, so it can also be computed directly, with N the
removed weights: w_S = w0_S + H_SS^-1 H_SN w0_N.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from l0ref.autodiff.op import compiled
from l0ref.validate import Array


def damped(h: Array, damping: float) -> Array:
    """Return H + damping * mean(diag H) I; the identity if H is 0, so that nothing is divided by 0."""
    level = float(np.trace(h)) / len(h)
    return h + np.eye(len(h)) * (damping * level if level > 0 else 1.0)


def path(
    h: Array, w: Array, *, gone: NDArray[np.bool_], fixed: int = 0, inverse: Array | None = None
) -> tuple[NDArray[np.intp], Array]:
    """Return (the order in which weights go, the rise of f at each step), cheapest first at every step.

    h        (K, K), positive definite        w  (K) weights
    gone     (K) weights removed before: they are eliminated first, and are not in the order
    fixed    the number of entries at the end, biases, that are never eliminated
    inverse  H^-1, for callers that have it
    """
    a, w = np.linalg.inv(h) if inverse is None else inverse, w.astype(np.float64).copy()
    for before in np.flatnonzero(gone):
        w, a = _eliminated(w, a, int(before))
    names = np.flatnonzero(~gone)
    return (compiled("eliminate") or eliminate)(a[np.ix_(names, names)], w[names], names, len(h) - fixed)


def eliminate(a: Array, w: Array, names: NDArray[np.intp], last: int) -> tuple[NDArray[np.intp], Array]:
    """Return the names of weights in their order of removal, and the rise at each step; names from `last` on stay."""
    order, rises = [], []
    alive = np.ones(len(w), bool)
    while (free := alive & (names < last)).any():
        cost = np.where(free, np.square(w) / (2 * np.where(free, np.diag(a), 1.0)), np.inf)
        q = int(cost.argmin())
        order.append(int(names[q]))
        rises.append(float(cost[q]))
        w, a = _eliminated(w, a, q)
        alive[q] = False
    return np.array(order, np.intp), np.array(rises)


def moved(h: Array, w: Array, keep: NDArray[np.bool_]) -> Array:
    """Return the minimiser of f among weights that are 0 where `keep` is False."""
    out = np.where(keep, w, 0.0)
    if keep.any() and not keep.all():
        out[keep] += np.linalg.solve(h[np.ix_(keep, keep)], h[np.ix_(keep, ~keep)] @ w[~keep])
    return out


def _eliminated(w: Array, a: Array, q: int) -> tuple[Array, Array]:
    column = a[:, q] / a[q, q]
    w = w - w[q] * column
    a = a - np.outer(column, a[q])
    w[q] = 0.0
    a[q] = a[:, q] = 0.0
    return w, a
