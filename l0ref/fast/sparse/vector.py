"""Kernels for products of a sparse matrix with one vector, and the order of values under a transpose.

    multiply   y_i = b_i + sum_k values_k x[columns_k]
    outer_at   g_k = d_i x[columns_k], i the row of k

The matrix is given as in `sparse.entries`, and read once: each entry costs a load of its value, of its
column and of x, and these loads bound the speed, unless the memory does.

Why it is fast: where the processor gathers a vector of x with one instruction faster than number by number (`GATHERS`
of `machine.target`), a row is summed in the lanes of one vector, 4 entries a nanosecond, as fast as one thread reads
them from the third cache. Otherwise four sums run side by side, since an addition takes four cycles: 1.7 entries a
nanosecond on the same processor. Places are unsigned there: a signed one could count from the end, as in NumPy, and
the test for it in each entry took 1.6 times as long.

The two differ in the order of a sum, so in its last digits, by no more than `nnz eps sum_k |values_k x_k|` of a row.
Which one runs depends on the processor alone.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from l0ref.fast.machine.lanes import gather, load, outer, part, total, width
from l0ref.fast.machine.policy import kernel, parallel_kernel
from l0ref.fast.sparse.entries import share


@kernel
def multiply_rows(w, x, b, y, first, last):
    """Rows first ... last - 1 of `multiply`."""
    values, indptr, columns = w
    for i in range(first, last):
        k, end = np.uint64(indptr[i]), np.uint64(indptr[i + 1])
        fours = (end - k) // np.uint64(4)
        s0, s1, s2, s3 = b[i], x.dtype.type(0), x.dtype.type(0), x.dtype.type(0)
        for _ in range(fours):
            s0 += values[k] * x[np.uint64(columns[k])]
            k += np.uint64(1)
            s1 += values[k] * x[np.uint64(columns[k])]
            k += np.uint64(1)
            s2 += values[k] * x[np.uint64(columns[k])]
            k += np.uint64(1)
            s3 += values[k] * x[np.uint64(columns[k])]
            k += np.uint64(1)
        while k < end:
            s0 += values[k] * x[np.uint64(columns[k])]
            k += np.uint64(1)
        y[i] = (s0 + s1) + (s2 + s3)


@parallel_kernel
def multiply(w, x, b, y, threads):
    """Fill y."""
    for n in prange(threads):
        multiply_rows(w, x, b, y, share(w[1], np.int64(1), n, threads), share(w[1], np.int64(1), n + 1, threads))


@kernel
def gather_rows(w, x, b, y, first, last):
    """`multiply_rows`, a vector of entries at a time."""
    values, indptr, columns = w
    lanes = width(x)
    for i in range(first, last):
        k, end = int(indptr[i]), int(indptr[i + 1])
        sums = part(x, 0, 0)
        while k + lanes <= end:
            sums = outer(sums, load(values, (k,)), gather(x, columns, k, lanes))
            k += lanes
        if k < end:
            sums = outer(sums, part(values, k, end - k), gather(x, columns, k, end - k))
        y[i] = b[i] + total(sums)


@parallel_kernel
def multiply_gathered(w, x, b, y, threads):
    """`multiply`, a vector of entries at a time."""
    for n in prange(threads):
        gather_rows(w, x, b, y, share(w[1], np.int64(1), n, threads), share(w[1], np.int64(1), n + 1, threads))


@kernel
def outer_at(w, d, x, g):
    """Fill g. w: indptr, columns."""
    indptr, columns = w
    for i in range(d.size):
        for k in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            g[k] = d[i] * x[np.uint64(columns[k])]


@kernel
def reordered(values, order, out):
    """out_k = values[order_k]."""
    for k in range(order.size):
        out[k] = values[np.uint64(order[k])]
