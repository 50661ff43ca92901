"""The length that counts as one when an entry is moved."""

from __future__ import annotations

import numpy as np

from l0ref.validate import Array

SMALLEST = 2.0**-10  # least scale of an entry, unless all are 0


def scales(x: Array) -> Array:
    """The length that counts as one for the step of each entry: its size or the array's mean size, a power of two."""
    typical = float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) if x.size else 0.0
    length = np.maximum(np.maximum(np.abs(x, dtype=np.float64), typical), SMALLEST) if typical else np.ones(x.shape)
    return np.asarray(np.exp2(np.ceil(np.log2(length))))
