"""Saliency: a number per weight that measures its importance; the lowest are removed first.

magnitude   |w|
random      uniform noise, the baseline every criterion must beat
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.nn import Model
from l0ref.streams import stream
from l0ref.validate import Array

Score = Callable[[Model, int | None], dict[str, Array]]


def magnitude(model: Model, seed: int | None = None) -> dict[str, Array]:  # noqa: ARG001
    """Return |w| of every weight array; needs no seed."""
    return {key: np.abs(model.params[key]) for key in model.weights}


def random(model: Model, seed: int | None = None) -> dict[str, Array]:
    """Return uniform noise in [0, 1) for every weight array, a function of the seed."""
    if seed is None:
        raise ArgumentError("seed=None: random pruning needs a seed; pass seed=0")
    rng = stream(seed, "prune")
    return {key: rng.random(model.params[key].shape) for key in model.weights}


SCORES: dict[str, Score] = {"magnitude": magnitude, "random": random}
