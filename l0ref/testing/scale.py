"""The length scale of each entry: the unit in which it is moved."""

from __future__ import annotations

import numpy as np

from l0ref.validate import Array

SMALLEST = 2.0**-10  # least scale of an entry, unless all are 0
STEPS = 128  # a random move is 128/256 to 255/256 of the scale: few bits, so that x + h stays exact


def scales(x: Array) -> Array:
    """Scale of each entry: the larger of |x| and the root mean square of the array, rounded up to a power of two."""
    typical = float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x.size else 0.0
    length = np.maximum(np.maximum(np.abs(x, dtype=np.float64), typical), SMALLEST) if typical else np.ones(x.shape)
    return np.asarray(np.exp2(np.ceil(np.log2(length))))


def random_moves(n: int, rng: np.random.Generator) -> Array:
    """Steps of n entries along a random direction, in units of their scales: random signs and random sizes.

    With random signs alone, errors of opposite sign in two entries, such as those of two exchanged entries, would
    cancel in half of the directions.
    """
    drawn = rng.integers(-STEPS, STEPS, n)
    return np.asarray(np.where(drawn < 0, drawn - STEPS + 1, drawn + STEPS) / (2 * STEPS))
