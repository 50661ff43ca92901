"""Non-negative least squares, by active sets.

    minimise ||F c - b||^2   subject to   c >= 0

At the minimum F'(b - F c), the negative gradient over 2, is 0 where c > 0 and <= 0 elsewhere.

Ref  Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23.
"""

from __future__ import annotations

import numpy as np

from l0ref.validate import Array

ROUNDING = 1e-13  # times the largest entry of |F'||b|: a smaller slope counts as 0


def nonnegative_least_squares(F: Array, b: Array) -> Array:
    """Return argmin over c >= 0 of ||F c - b||^2, F (m, n) and b (m); if there are several, one of them."""
    n = F.shape[1]
    c, blocked = np.zeros(n), np.zeros(n, bool)
    inside = np.full(n, n <= len(F))  # start with all columns if they can be independent: usually few leave the set
    c = _feasible(F, b, c, inside)
    least = ROUNDING * float((np.abs(F).T @ np.abs(b)).max(initial=0.0))
    for _ in range(10 * n):
        slope = np.where(inside | blocked, -np.inf, F.T @ (b - F @ c))
        j = int(slope.argmax())
        if slope[j] <= least:
            break
        inside[j] = True
        after = _feasible(F, b, c, inside)
        blocked[j] = not inside[j]  # rounding removed it at once: do not try it again from this c
        if inside[j]:
            c, blocked = after, np.zeros(n, bool)
    return c


def _feasible(F: Array, b: Array, c: Array, inside: Array) -> Array:
    """Move from c to least squares on the set `inside`, and remove entries from the set that become 0 on the way."""
    while inside.any():
        z = np.zeros_like(c)
        z[inside] = np.linalg.lstsq(F[:, inside], b, rcond=None)[0]
        low = np.flatnonzero(inside & (z <= 0))
        if not low.size:
            return z
        steps = c[low] / np.maximum(c[low] - z[low], 1e-300)
        c = np.maximum(c + steps.min() * (z - c), 0.0)
        inside[low[steps <= steps.min()]] = False
        c[~inside] = 0.0
    return c
