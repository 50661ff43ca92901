"""Moves beyond the best swap of one neuron: entries exchanged between neurons, and kicks out of one-swap minima."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from l0ref.autodiff.op import compiled
from l0ref.layerwise.admm import Mask
from l0ref.layerwise.quadratic import DEPENDENT, Quadratic
from l0ref.layerwise.tableau import (
    Tableau,
    add_gains,
    added,
    drop_costs,
    dropped,
    filled,
    improved,
    swap_search,
    tableau,
)
from l0ref.validate import Array

ROUNDS = 20  # of exchanges at most
WORTH = 1e-6  # relative excess of a gain over a cost that justifies an exchange
MOST_DROPPED = 6  # members that a kick removes at most
FINER = 1e-9  # least relative gain of a swap after a kick


def swaps(
    layer: Quadratic, support: Mask, rows: Iterable[int], *, limit: int, gain: float
) -> tuple[Mask, dict[int, Array]]:
    """Return the support after the best swaps in these rows, and the change of f by each swap, by row."""
    support, changes = support.copy(), {}
    for i in rows:
        if support[i].any():
            support[i], changes[i] = improved(layer.gram, layer.moments[i], support[i], limit=limit, gain=gain)
    return support, changes


def exchange(layer: Quadratic, support: Mask, *, limit: int, gain: float) -> tuple[Mask, list[int]]:
    """Move entries from rows that lose least to rows that gain most, swap in both, until no pair gains.

    Every round pairs the largest gain of an addition with the smallest cost of a removal in another row, then the
    largest and smallest of the other rows, and so on. Returns the support, of the same total, and how many entries each
    round moved.
    """
    support, moved = support.copy(), []
    m = len(support)
    gains, costs = np.zeros(m), np.zeros(m)
    joins, goes = np.zeros(m, np.intp), np.zeros(m, np.intp)
    dirty = list(range(m))
    for _ in range(ROUNDS):
        for i in dirty:
            t = tableau(layer.gram, layer.moments[i], support[i])
            add, drop = add_gains(layer.gram, t), drop_costs(t)
            gains[i], costs[i] = add.max(initial=-1.0), drop.min(initial=np.inf)
            joins[i] = t.outside[add.argmax()] if add.size else 0
            goes[i] = t.inside[drop.argmin()] if drop.size else 0
        dirty = _paired(gains, costs)
        if not dirty:
            break
        taken, given = dirty[::2], dirty[1::2]
        support[taken, joins[taken]], support[given, goes[given]] = True, False
        support, _ = swaps(layer, support, dirty, limit=limit, gain=gain)
        moved.append(len(taken))
    return support, moved


def _paired(gains: Array, costs: Array) -> list[int]:
    """Return rows [to, from, ...], each at most once: the pair whose gain exceeds its cost most, then the next pair."""
    up, down = np.argsort(-gains, kind="stable").tolist(), np.argsort(costs, kind="stable").tolist()
    found: list[int] = []
    while len(up) > 1:
        pairs = ((i, j) for i in up[:2] for j in down[:2] if i != j)
        i, j = max(pairs, key=lambda pair: gains[pair[0]] - costs[pair[1]])
        if not gains[i] > costs[j] * (1 + WORTH):
            break
        found += [i, j]
        for row in (i, j):
            up.remove(row)
            down.remove(row)
    return found


def kicks(layer: Quadratic, i: int, support: Mask, *, tries: int, rng: np.random.Generator) -> tuple[Mask, int]:
    """Return the support of row i after `tries` kicks, and how many of them found a better one.

    A kick drops 1 to 6 random members, adds one random input, fills up with the best inputs and swaps; it is accepted
    if f is lower. One-swap minima are not optima: on small layers kicks usually end within 2 % of the best f known.
    """
    gram, q = layer.gram, layer.moments[i]
    search = compiled("swap_search") or swap_search
    t, won = tableau(gram, q, support), 0
    k = t.inside.size
    if not 0 < k < len(q):
        return support, 0
    best = float(t.w @ q[t.inside])
    for _ in range(tries):
        new = t
        for _ in range(min(int(rng.integers(1, min(MOST_DROPPED, k) + 1)), t.inside.size)):
            new = dropped(new, int(rng.integers(new.inside.size)))
        free = np.flatnonzero(add_gains(gram, new) >= 0)
        if free.size:
            new = added(gram, new, int(rng.choice(free)))
        new, _ = search(gram, filled(gram, new, k), limit=10 * k + 10, gain=FINER, dependent=DEPENDENT)
        new = Tableau(*new)
        if float(new.w @ q[new.inside]) > best * (1 + FINER):
            t, won = tableau(gram, q, new.support()), won + 1
            best = float(t.w @ q[t.inside])
    return t.support(), won
