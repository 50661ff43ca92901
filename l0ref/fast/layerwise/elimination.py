"""Weights of one neuron eliminated one after the other: the compiled twin of `l0ref.methods.elimination.eliminate`.

A copy of A is updated row by row; rows and columns of eliminated weights are 0 in it, and are removed when they are
more than a fifth of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from l0ref.fast.machine.policy import kernel
from l0ref.validate import Array


@kernel
def cheapest(a, w, names, last, size):
    """Return (position, cost) of the cheapest weight named below `last`, (-1, inf) if none; name -1: eliminated."""
    best, least = -1, np.inf
    for i in range(size):
        if 0 <= names[i] < last:
            cost = w[i] * w[i] / (2.0 * a[i, i])
            if best < 0 or cost < least:
                best, least = i, cost
    return best, least


@kernel
def leave(a, w, q, size, row):
    """Eliminate the weight at position q: update the others, and set its row and column to 0."""
    d = 1.0 / a[q, q]
    f = w[q] * d
    for j in range(size):
        row[j] = a[q, j]
    for i in range(size):
        w[i] -= f * row[i]
        g = row[i] * d
        if g != 0.0:
            for j in range(size):
                a[i, j] -= g * row[j]
    w[q] = 0.0
    for i in range(size):
        a[q, i] = a[i, q] = 0.0


@kernel
def packed(a, w, names, size):
    """Move the remaining entries to the front; return their number."""
    left = 0
    for i in range(size):
        if names[i] >= 0:
            at = 0
            for j in range(size):
                if names[j] >= 0:
                    a[left, at] = a[i, j]
                    at += 1
            w[left] = w[i]
            left += 1
    at = 0
    for i in range(size):
        if names[i] >= 0:
            names[at] = names[i]
            at += 1
    return left


@kernel
def steps(a, w, names, last, order, rises, row):
    """Fill order and rises; return the number of eliminated weights."""
    size, alive, done = w.size, w.size, 0
    while True:
        q, cost = cheapest(a, w, names, last, size)
        if q < 0:
            return done
        order[done], rises[done] = names[q], cost
        done += 1
        leave(a, w, q, size, row)
        names[q] = -1
        alive -= 1
        if alive < 0.8 * size:
            size = packed(a, w, names, size)


def eliminate(a: Array, w: Array, names: NDArray[np.intp], last: int) -> tuple[NDArray[np.intp], Array]:
    """As the truth does."""
    order, rises = np.empty(w.size, np.intp), np.empty(w.size)
    done = steps(np.array(a, order="C"), w.copy(), names.copy(), last, order, rises, np.empty(w.size))
    return order[:done], rises[:done]
