"""A sparse matrix times samples in columns, y = W x + b with x (D, N) and y (M, N), in one kernel.

N fills whole vectors. Up to GROUP vectors of samples are copied, feature after feature, and multiplied:

    x, y    flat
    laid    memory for one group of each thread, aligned to 64 bytes
    sizes   N, vectors of a group, lanes

Why it is fast: a NumPy array begins at any address, and a vector across two lines of the cache costs two loads: 3.1
cycles for a multiply-add, against 2.2 for an aligned array and 1.9 for a group that one thread has copied. The copy
takes as long as some five loads of each feature and saves a third of each, so that it pays from 13 loads on: see
`is_often`.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from l0ref.fast.machine.lanes import load, shift, store
from l0ref.fast.machine.policy import kernel, parallel_kernel
from l0ref.fast.sparse.entries import EIGHT, contract_part

GROUP = 4  # vectors that are copied at a time


@kernel
def lay(x, laid, sizes, first):
    """Copy a group of vectors of each feature, from vector `first` on."""
    count, vectors, lanes = sizes
    for f in range(x.size // count):
        here, there = f * count + first * lanes, f * vectors * lanes
        if vectors == 4:
            four = (0, lanes, 2 * lanes, 3 * lanes)
            store(laid, shift(four, there), (0,), load(x, shift(four, here)))
        else:
            for v in range(0, vectors * lanes, lanes):
                store(laid, (there + v,), (0,), load(x, (here + v,)))


@kernel
def multiply_groups(x, w, b, floor, y, laid, sizes, first, last):
    """Groups first ... last - 1 of `multiply_columns`."""
    (_, indptr, _), (count, group, lanes) = w, sizes
    for g in range(first, last):
        start, vectors = g * group, min(group, count // lanes - g * group)
        lay(x, laid, (count, vectors, lanes), start)
        at, steps = (vectors, lanes, lanes, np.int64(EIGHT)), (vectors * lanes, count)
        contract_part(laid, w, b, floor, y[start * lanes :], at, steps, np.int64(0), indptr.size - 1)


@parallel_kernel
def multiply_columns(x, w, b, floor, y, laid, sizes, threads):
    """Fill y; w, b and floor as in `entries.contract`."""
    count, group, lanes = sizes
    groups, room = (count // lanes + group - 1) // group, laid.size // threads
    for n in prange(threads):
        first, last = n * groups // threads, (n + 1) * groups // threads
        multiply_groups(x, w, b, floor, y, laid[n * room : (n + 1) * room], sizes, first, last)
