"""The length that counts as one when an entry is moved."""

from __future__ import annotations

import numpy as np

from l0ref.validate import Array

SMALLEST = 2.0**-10  # least scale of an entry, unless all are 0
STEPS = 128  # a random move is 128/256 to 255/256 of the scale: few bits, so that x + h stays exact


def scales(x: Array) -> Array:
    """The length that counts as one for the step of each entry: its size or the array's mean size, a power of two."""
    typical = float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x.size else 0.0
    length = np.maximum(np.maximum(np.abs(x, dtype=np.float64), typical), SMALLEST) if typical else np.ones(x.shape)
    return np.asarray(np.exp2(np.ceil(np.log2(length))))


def random_moves(n: int, rng: np.random.Generator) -> Array:
    """How far n entries move along a random direction, in units of their scales: random signs, and random sizes.

    With signs alone, errors of two entries that are each other's negative, as where the two were exchanged, would
    cancel every second time.
    """
    drawn = rng.integers(-STEPS, STEPS, n)
    return np.asarray(np.where(drawn < 0, drawn - STEPS + 1, drawn + STEPS) / (2 * STEPS))
