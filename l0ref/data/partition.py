"""Seeded splits: the samples of each part are a function of (count, sizes, seed) and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError
from l0ref.streams import stream
from l0ref.validate import count


def partition(n: int, *, held_out: Sequence[int], seed: int) -> list[NDArray[np.intp]]:
    """Cut one seeded permutation of 0..n-1 into the rest and the parts held out; every number is in one part.

    The parts are cut from the end, in the order of `held_out`, so the last part stays the same whatever
    the sizes of those before it: `[rest, validation, test] = partition(n, held_out=(validation, test), ...)`
    keeps the test set when only the validation size changes.

    >>> [part.tolist() for part in partition(5, held_out=(1, 2), seed=0)]
    [[2, 1], [0], [4, 3]]
    """
    total = count("n", n)
    sizes = [count(f"held_out[{i}]", size) for i, size in enumerate(held_out)]
    if sum(sizes) > total:
        raise ArgumentError(f"held_out={tuple(sizes)} takes {sum(sizes)} samples of {total}; hold out fewer")
    order = stream(seed, "split").permutation(total).astype(np.intp, copy=False)
    cuts = np.cumsum([total - sum(sizes), *sizes])[:-1]
    return np.split(order, cuts)
