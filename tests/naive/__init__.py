"""Loop oracles: every operation once more, in the most pedestrian way.

Nothing is imported from the package under test, and arrays are only indexed: each number is made by
scalar arithmetic, so that an oracle and an operation share no mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Index = tuple[int, ...]


def places(shape: Index) -> Iterator[Index]:
    """Every index of an array of this shape, in scan order; the single () when there are no axes."""
    return product(*(range(n) for n in shape))


def table(shape: Index, entry: Callable[..., Any]) -> F64:
    """The float64 array whose entry at (i, j, ...) is entry(i, j, ...)."""
    out = np.empty(shape)
    for place in places(shape):
        out[place] = entry(*place)
    return out


def common_shape(*shapes: Index) -> Index:
    """The shape NumPy broadcasts these to: aligned at the right, a 1 stretches."""
    ndim = max(len(shape) for shape in shapes)
    padded = [(1,) * (ndim - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(next((n for n in column if n != 1), 1) for column in zip(*padded, strict=True))


def entry_of(x: Any, place: Index) -> Any:
    """The entry of `x`, stretched by broadcasting, at `place`."""
    own = place[len(place) - x.ndim :]
    return x[tuple(0 if n == 1 else i for i, n in zip(own, x.shape, strict=True))]


def each(f: Callable[..., float], *xs: F64) -> F64:
    """f applied entry by entry, with broadcasting."""
    shape = common_shape(*(x.shape for x in xs))
    return table(shape, lambda *place: f(*(float(entry_of(x, place)) for x in xs)))
