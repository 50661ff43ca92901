"""Batch transforms, the argument `batch` of `fit`: pure functions of samples, seed, epoch and sample numbers.

    transform(x, seed=..., epoch=..., index=...) -> x'

    x            (n, ...) samples of a batch, read-only
    seed, epoch  of the training; epochs count from 1
    index        (n,) the number of each sample in the training set
    x'           the shape and dtype of x

The result for a sample must depend only on (sample, seed, epoch, its number), not on its place in the batch or on
earlier calls: a resumed training then repeats an uninterrupted one bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.validate import Array, sealed

Transform = Callable[..., Array]


def transformed(transform: Transform, x: Array, seed: int, epoch: int, index: Array) -> Array:
    """Return the transform of x; refuse a result of another shape or dtype."""
    found = transform(sealed(x), seed=seed, epoch=epoch, index=index)
    if not isinstance(found, np.ndarray) or (found.shape, found.dtype) != (x.shape, x.dtype):
        told = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise ArgumentError(f"batch returned {told}; return an array like the samples, {x.dtype} {x.shape}")
    return np.ascontiguousarray(found)
