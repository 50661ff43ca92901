"""The best of all swaps, repeated, in place: the compiled twin of `l0ref.layerwise.tableau.swap_search`.

B is held transposed, (k, n), so that every inner loop runs over the many inputs outside the support, which are
adjacent in memory. The input that leaves takes the place of the one that joins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.fast.machine.policy import kernel
from l0ref.validate import Array

BLOCK = 1024  # swaps for whose changes there is room at a time


@kernel
def best_swap(A, B, w, r, s, least, row):
    """Return (change of f, position of the leaving member, position of the joining input) of the best swap."""
    best, out, into = 0.0, -1, -1
    for j in range(w.size):
        d = 1.0 / A[j, j]
        f, cost, b = w[j] * d, w[j] * w[j] * d, B[j]
        for i in range(r.size):
            left, x = s[i] + b[i] * b[i] * d, r[i] + b[i] * f
            row[i] = cost - x * x / left if left > least[i] else np.inf
        for i in range(r.size):
            if row[i] < best:
                best, out, into = row[i], j, i
    return best, out, into


@kernel
def leave(A, B, w, r, s, j, a):
    """Remove member j. a becomes its former column of A; its row of A and B and its w are not updated."""
    d = 1.0 / A[j, j]
    f, b = w[j] * d, B[j]
    for m in range(w.size):
        a[m] = A[m, j]
    for m in range(w.size):
        if m != j:
            g = a[m] * d
            w[m] -= a[m] * f
            for i in range(r.size):
                B[m, i] -= g * b[i]
            for o in range(w.size):
                A[m, o] -= g * a[o]
    for i in range(r.size):
        r[i] += b[i] * f
        s[i] += b[i] * b[i] * d
    return d, f


@kernel
def enter(A, B, w, r, s, j, i, column, v):
    """Input i takes the place of member j; column: its column of G after elimination of the other members."""
    t = 1.0 / s[i]
    g = r[i] * t
    for m in range(w.size):
        v[m] = B[m, i]
    for m in range(w.size):
        if m != j:
            x = v[m] * t
            w[m] -= v[m] * g
            for n in range(r.size):
                B[m, n] -= x * column[n]
            for o in range(w.size):
                A[m, o] += x * v[o]
            A[m, j] = A[j, m] = -x
    for n in range(r.size):
        B[j, n] = column[n] * t
        r[n] -= column[n] * g
        s[n] -= column[n] * column[n] * t
    A[j, j], w[j] = t, g
    return t, g


@kernel
def swap(G, places, parts, room, j, i):
    """Swap member j for input i; the tableau stays one of the new support. places: S, N; parts: A, B, w, r, s."""
    (S, N), (A, B, w, r, s), (_, a, v, column) = places, parts, room
    d, f = leave(A, B, w, r, s, j, a)
    gone, e = S[j], N[i]
    cross = G[gone, e]  # the entry of G between the two, after elimination of the other members
    for n in range(r.size):
        column[n] = G[e, N[n]]
    for m in range(w.size):
        if m != j:
            g = G[e, S[m]]
            cross += a[m] * d * g
            for n in range(r.size):
                column[n] -= g * B[m, n]
    t, g = enter(A, B, w, r, s, j, i, column, v)
    for m in range(w.size):  # the position of i, which now belongs to the member that left
        B[m, i] = -a[m] * d - cross * t * v[m]
    B[j, i] = cross * t
    r[i], s[i] = f - cross * g, d - cross * cross * t
    S[j], N[i] = e, gone


@kernel
def search(G, places, parts, least, limits, room, changes):
    """Swap until none lowers f by more than `enough`, or `changes` is full; return their number.

    limits  dependent, enough
    room    four arrays of the sizes of r, w, w and r, to be overwritten
    """
    (_, N), (A, B, w, r, s), (dependent, enough), row = places, parts, limits, room[0]
    for done in range(changes.size):
        change, j, i = best_swap(A, B, w, r, s, least, row)
        if not change < -enough:
            return done
        swap(G, places, parts, room, j, i)
        least[i] = dependent * G[N[i], N[i]]
        changes[done] = change
    return changes.size


def swap_search(gram: Array, t: Any, *, limit: int, gain: float, dependent: float) -> tuple[tuple[Array, ...], Array]:
    """As the truth does; the tableau is a tuple of its parts."""
    S, N, A, B, w, r, s = (np.array(part, order="C") for part in t)
    enough = gain * float((w[:, None] * gram[np.ix_(S, S)] * w).sum())
    transposed, changes = np.ascontiguousarray(B.T), [np.empty(0)]
    least = dependent * np.diag(gram)[N]
    room = (np.empty(N.size), np.empty(S.size), np.empty(S.size), np.empty(N.size))
    parts = (A, transposed, w, r, s)
    while limit > 0 and S.size and N.size:
        block = np.empty(min(limit, BLOCK))
        made = search(gram, (S, N), parts, least, (dependent, enough), room, block)
        changes.append(block[:made])
        limit = limit - made if made == block.size else 0
    return (S, N, A, np.ascontiguousarray(transposed.T), w, r, s), np.concatenate(changes)
