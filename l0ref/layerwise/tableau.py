"""The tableau of a support S of one neuron, from which each move is priced, its refit included.

    A = G_SS^-1 (k, k)       B = G_NS A (n, k)          N  the inputs that are not in S
    w = A q_S (k)            r = q_N - G_NS w (n)       s_i = G_ii - B_i'G_Si (n), the Schur complement of input i

    drop j       costs     w_j^2 / A_jj
    add i        gains     r_i^2 / s_i
    swap j -> i  changes f by   w_j^2 / A_jj - (r_i + B_ij w_j / A_jj)^2 / (s_i + B_ij^2 / A_jj)

The prices are exact: the second term of a swap is the gain of i after j was dropped. All k n swaps are priced in
O(k n), and a move updates the tableau in O(k n), too, plus O(k^2) for A.

Ref  The sweep operator (Goodnight 1979) and the exchange of two variables in regression (Miller 2002); the closed form
     of a swap was derived here and is tested against refits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from l0ref.autodiff.op import compiled
from l0ref.layerwise.quadratic import DEPENDENT, is_independent
from l0ref.validate import Array

Index = NDArray[np.intp]


class Tableau(NamedTuple):
    """The arrays of the text of the module; `inside` is S, `outside` is N."""

    inside: Index
    outside: Index
    A: Array
    B: Array
    w: Array
    r: Array
    s: Array

    def support(self) -> NDArray[np.bool_]:
        """Return S as a mask over the live inputs."""
        mask = np.zeros(self.inside.size + self.outside.size, bool)
        mask[self.inside] = True
        return mask


def tableau(gram: Array, q: Array, support: Array) -> Tableau:
    """Return the tableau of a support, a mask; inputs that depend linearly on others of the support are left out."""
    S, N = _split(gram, support)
    A = np.linalg.inv(gram[np.ix_(S, S)]) if S.size else np.zeros((0, 0))
    A = (A + A.T) / 2
    cross = gram[np.ix_(N, S)]
    B, w = cross @ A, A @ q[S]
    return Tableau(S, N, A, B, w, q[N] - cross @ w, np.diag(gram)[N] - (B * cross).sum(axis=1))


def _split(gram: Array, support: Array) -> tuple[Index, Index]:
    S = np.flatnonzero(support)
    if not is_independent(gram[np.ix_(S, S)]):
        kept: list[int] = []
        for i in S.tolist():
            if is_independent(gram[np.ix_([*kept, i], [*kept, i])]):
                kept.append(i)
        S = np.array(kept, np.intp)
    outside = np.ones(len(gram), bool)
    outside[S] = False
    return S, np.flatnonzero(outside)


def drop_costs(t: Tableau) -> Array:
    """Return the rise of f when a member is dropped, (k)."""
    return np.asarray(t.w**2 / np.diag(t.A))


def add_gains(gram: Array, t: Tableau) -> Array:
    """Return the fall of f when an input is added, (n); -1 for an input that depends on the members."""
    free = t.s > DEPENDENT * np.diag(gram)[t.outside]
    return np.asarray(np.divide(t.r**2, t.s, out=np.full(t.s.shape, -1.0), where=free))


def swap_changes(gram: Array, t: Tableau, dependent: float = DEPENDENT) -> Array:
    """Return the change of f when member j is replaced by input i, [i, j]; infinite if i depends on the others."""
    d = np.diag(t.A)
    left = t.s[:, None] + t.B**2 / d  # Schur complement of input i, for the members without j
    free = left > dependent * np.diag(gram)[t.outside][:, None]
    gains = np.divide((t.r[:, None] + t.B * (t.w / d)) ** 2, left, out=np.full(left.shape, -np.inf), where=free)
    return np.asarray(t.w**2 / d - gains)


def dropped(t: Tableau, j: int) -> Tableau:
    """Return the tableau without the member at position j, which becomes the last of `outside`."""
    keep = np.arange(t.inside.size) != j
    a, d, b, f = t.A[keep, j], t.A[j, j], t.B[:, j], t.w[j] / t.A[j, j]
    return Tableau(
        t.inside[keep],
        np.append(t.outside, t.inside[j]),
        t.A[np.ix_(keep, keep)] - np.outer(a, a) / d,
        np.vstack([t.B[:, keep] - np.outer(b, a) / d, -a / d]),
        t.w[keep] - a * f,
        np.append(t.r + b * f, f),
        np.append(t.s + b**2 / d, 1 / d),
    )


def added(gram: Array, t: Tableau, i: int) -> Tableau:
    """Return the tableau with the input at position i of `outside`, which becomes the last of `inside`."""
    keep = np.arange(t.outside.size) != i
    b, s, g = t.B[i], t.s[i], t.r[i] / t.s[i]
    column = (gram[t.outside, t.outside[i]] - t.B @ gram[t.inside, t.outside[i]])[keep]  # of the Schur complement
    return Tableau(
        np.append(t.inside, t.outside[i]),
        t.outside[keep],
        np.block([[t.A + np.outer(b, b) / s, -b[:, None] / s], [-b[None] / s, np.full((1, 1), 1 / s)]]),
        np.hstack([t.B[keep] - np.outer(column, b) / s, column[:, None] / s]),
        np.append(t.w - b * g, g),
        t.r[keep] - column * g,
        t.s[keep] - column**2 / s,
    )


def filled(gram: Array, t: Tableau, k: int) -> Tableau:
    """Return the tableau with the input of largest gain added, repeatedly, until it has k members or none is left."""
    while t.inside.size < k and t.outside.size:
        gains = add_gains(gram, t)
        if gains.max() < 0:
            break
        t = added(gram, t, int(gains.argmax()))
    return t


def swap_search(gram: Array, t: Any, *, limit: int, gain: float, dependent: float = DEPENDENT) -> tuple[Tableau, Array]:
    """Make the best of all swaps until none lowers f by more than `gain` times w'q_S of the first support.

    Returns the last tableau and the change of f by every swap; at most `limit` swaps are made.
    """
    t = Tableau(*t)
    changes: list[float] = []
    explained = float(t.w @ gram[np.ix_(t.inside, t.inside)] @ t.w)  # = w'q_S
    while t.inside.size and t.outside.size and len(changes) < limit:
        prices = swap_changes(gram, t, dependent)
        i, j = np.unravel_index(int(prices.argmin()), prices.shape)
        if not prices[i, j] < -gain * explained:
            break
        changes.append(float(prices[i, j]))
        t = added(gram, dropped(t, int(j)), int(i))
    return t, np.array(changes)


def improved(gram: Array, q: Array, support: Array, *, limit: int, gain: float) -> tuple[NDArray[np.bool_], Array]:
    """Return the support after the swaps of `swap_search`, and their changes of f.

    After swaps the tableau is recomputed and searched again, until it offers none, so that no error accumulates.
    """
    search = compiled("swap_search") or swap_search
    t, every = tableau(gram, q, support), np.zeros(0)
    if t.inside.size < np.count_nonzero(support):
        t = filled(gram, t, int(np.count_nonzero(support)))
    while True:
        found, changes = search(gram, t, limit=limit - every.size, gain=gain, dependent=DEPENDENT)
        every = np.concatenate([every, changes])
        mask = Tableau(*found).support()
        if not changes.size or every.size >= limit:
            return mask, every
        t = tableau(gram, q, mask)
