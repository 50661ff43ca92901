"""Batches in an order that is a function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from l0ref.data.dataset import Dataset
from l0ref.streams import stream
from l0ref.validate import Array, count, flag


def batch_count(n: int, *, batch_size: int, drop_last: bool = False) -> int:
    """Number of batches `n` samples make: ceil(n / batch_size), or floor with `drop_last`.

    >>> batch_count(10, batch_size=4), batch_count(10, batch_size=4, drop_last=True)
    (3, 2)
    """
    size = count("batch_size", batch_size, least=1)
    return count("n", n) // size if flag("drop_last", drop_last) else -(-count("n", n) // size)


def orders(
    n: int, *, batch_size: int, seed: int, epoch: int, shuffle: bool = True, drop_last: bool = False
) -> list[NDArray[np.intp]]:
    """Return the indices of the samples of each batch; see `batches`."""
    number = batch_count(n, batch_size=batch_size, drop_last=drop_last)
    rng = stream(seed, "shuffle", epoch)
    order = rng.permutation(n) if flag("shuffle", shuffle) else np.arange(n)
    return [order[k * batch_size : (k + 1) * batch_size] for k in range(number)]


def batches(
    dataset: Dataset, *, batch_size: int, seed: int, epoch: int, shuffle: bool = True, drop_last: bool = False
) -> Iterator[tuple[Array, NDArray[np.intp]]]:
    """Iterate over (x, y) batches that together hold every sample once, as fresh arrays.

    The order is a new permutation each epoch, a pure function of (seed, epoch), whatever was
    drawn before. `shuffle=False` keeps the order of the data set. The last batch holds the remaining samples;
    `drop_last=True` drops it if it is smaller than the others. An empty set gives no batch.
    """
    parts = orders(len(dataset), batch_size=batch_size, seed=seed, epoch=epoch, shuffle=shuffle, drop_last=drop_last)
    return ((dataset.x[rows], dataset.y[rows]) for rows in parts)
