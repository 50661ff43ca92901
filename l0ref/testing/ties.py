"""Entries that share a kink: the sum of their gradients.

At max(x, y) with x = y the gradient of each input, taken alone, may be anything between 0 and 1. But along
x and y together the maximum is smooth with slope 1: the two gradients must add up to 1.

    f'(d) = -f'(-d)    f is smooth along d, a direction through several entries at kinks
    f'(d) != sum_i f'(d_i)     the entries are coupled: their own slopes do not determine f'(d)

Then g . d = f'(d) must hold. In relu(x) - relu(y) the own slopes determine f'(d), and every choice at 0 is acceptable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from l0ref.testing.agreement import Rows, Rules
from l0ref.testing.differences import OutOfDomain
from l0ref.testing.measure import Measure
from l0ref.validate import Array

PAIRS = 8  # number of directions through two entries that are tried, besides the one through all
SAME = 1e-6  # relative difference of the joint slope from the sum of own slopes, above which entries are coupled
SHOWN = 4  # entries named in a message


class Entry(NamedTuple):
    """One entry at a kink: input, flat index, gradient, the side to which it moves and its own slope on that side."""

    which: int
    flat: int
    analytic: float
    side: float
    own: float


def coupled(measure: Measure, rules: Rules, rows: Mapping[int, Rows]) -> Iterator[str]:
    """Yield a sentence if the gradients of coupled entries do not add up to the slope they share; rows by input."""
    entries = [entry for which, r in rows.items() for entry in _at_kinks(which, r)]
    if measure.problem.elementwise or len(entries) < 2:
        return
    for group in _groups(entries):
        slope = _joint_slope(measure, group)
        if slope is None:
            continue
        joint, noise = slope
        own, found = sum(e.own for e in group), sum(e.side * e.analytic for e in group)
        size = sum(abs(e.own) for e in group)
        separate = abs(joint - own) <= SAME * size + noise
        if not separate and not abs(found - joint) <= float(rules.allowed(found, joint, noise, size)):
            names = ", ".join(_name(measure, e) for e in group[:SHOWN]) + (", ..." if len(group) > SHOWN else "")
            yield (
                f"tied entries: {names} share a kink, and along all of them together the value is smooth with slope "
                f"{joint:.6g}, while their gradients add up to {found:.6g}; share the slope out among them, or give "
                "it to one"
            )
            return


def _at_kinks(which: int, rows: Rows) -> Iterator[Entry]:
    """Entries with finite slopes, each moved to the side where its slope is larger."""
    for k in np.flatnonzero(rows.kink & np.isfinite(rows.left) & np.isfinite(rows.right)):
        left, right = float(rows.left[k]), float(rows.right[k])
        side = 1.0 if abs(right) >= abs(left) else -1.0
        own = right if side > 0 else -left
        yield Entry(which, int(rows.index[k]), float(rows.analytic[k]), side, own)


def _groups(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """All entries, then pairs of neighbours and pairs half the list apart."""
    yield entries
    n, half = len(entries), len(entries) // 2
    if n > 2:
        pairs = [(i, i + by) for by in (1, half) for i in range(n - by)]
        for k in sorted({round(p) for p in np.linspace(0, len(pairs) - 1, PAIRS)}):
            yield [entries[i] for i in pairs[k]]


def _joint_slope(measure: Measure, group: Sequence[Entry]) -> tuple[float, float] | None:
    """Slope along all entries moved by equal amounts, and its noise; None where the value has a kink there too."""
    unit = max(float(measure.lengths[e.which].flat[e.flat]) for e in group)
    moves: list[Array | None] = [None] * len(measure.problem.point)
    for e in group:
        move = moves[e.which]
        if move is None:
            move = moves[e.which] = np.zeros(measure.problem.point[e.which].shape)
        move.flat[e.flat] = e.side * unit
    try:
        along = measure.direction(moves)
    except OutOfDomain:
        return None
    return None if along.gap > 0 else (along.numeric / unit, along.noise / unit)


def _name(measure: Measure, e: Entry) -> str:
    shape = measure.problem.point[e.which].shape
    index = ", ".join(str(int(k)) for k in np.unravel_index(e.flat, shape))
    return f"{measure.problem.names[e.which]}[{index}]" if shape else measure.problem.names[e.which]
