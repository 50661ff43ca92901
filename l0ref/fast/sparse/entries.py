"""Kernels for products with a sparse matrix: only its stored entries take part.

The matrix is given as compressed sparse rows: row i has the entries k = indptr[i] ... indptr[i + 1] - 1, each with its
value and its place in x; a place is `width` adjacent numbers of x:

    contract   y[to_p + i step + l]  =  max(floor, b_i + sum_k values_k x[at_p + places_k width + l])
    sample     g_k  =  sum_p sum_l d[to_p + i step + l] x[at_p + places_k width + l],   i the row of k

l runs over the lanes of a vector, p over the vectors of a group. All arrays are flat. In a linear layer the place of an
entry is its column and a group is a few blocks of samples; in a convolution the place is the pixel under the weight and
a group is a row of pixels. The cotangent of x is `contract` with the transposed matrix, that of the values `sample`.

Why it is fast: the sums of a group stay in registers while its entries are read one by one; groups are the outer loop
and rows the inner one, so that the numbers of x of a group stay in the second cache while all rows use them. That cache
bounds the speed: it takes 4 cycles for the 128 bytes of an entry and two blocks of samples; 3.6 to 5 cycles were
measured, as some of the bytes are in the first cache. Effects on the time, for 300 x 784 weights and 128 samples:

    x begins at a multiple of 64 bytes: a vector across two lines of the cache costs two loads       -30 %
    a place is multiplied by `width`, not looked up in a table, which is evicted from the caches     -12 %
    groups of 2 blocks instead of 4 or 8, which use less of the first cache                          -12 %
    groups of 8 where blocks are adjacent: 512 bytes in a row, few of which lie across two lines     -20 %
    loops in one function: a call per row would count references of its arrays                     -30 %, few samples

Two alternating sums per vector are not faster; neither is x packed as vectors of 32 or 64 samples.

`sample` always takes 8 blocks at a time, keeps a vector of sums for each entry and adds up its lanes at the end, for as
many entries at a time as there are lanes, of any rows. Summing that many entries of one row side by side took 1.2 times
as long with 39 entries in a row, twice as long with 3.

No sum depends on the number of threads: one thread takes it, in the order of the entries or of the groups.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from l0ref.fast.machine.lanes import at_least, filled, load, outer, shift, spread, store, totals
from l0ref.fast.machine.policy import kernel, parallel_kernel

PAIR = 2  # blocks of samples that `contract` multiplies by an entry at a time, if they are not adjacent
EIGHT = 8  # and if they are adjacent, and in `sample`
CHUNK = 128  # entries whose sums `sample` keeps at a time; 8 KB


@kernel
def share(indptr, groups, part, parts):
    """Start of part `part` of `parts`, as group * rows + row; all parts have about as many entries and rows."""
    rows = indptr.size - 1
    whole = np.int64(indptr[rows]) + rows
    goal = groups * whole * part // parts
    group = goal // max(whole, 1)
    low, high = 0, rows
    while low < high:
        middle = (low + high) // 2
        if indptr[middle] + middle < goal - group * whole:
            low = middle + 1
        else:
            high = middle
    return group * rows + low if part < parts else groups * rows


@kernel
def contract_rows(x, w, b, floor, y, at, to, steps, first, last):
    """Rows first ... last - 1 of one group. steps: width of a place in x, distance from one row of y to the next."""
    (values, indptr, places), (width, next_row) = w, steps[:2]
    for i in range(first, last):
        sums = filled(b, (i,), at)
        for k in range(np.uint64(indptr[i]), np.uint64(indptr[i + 1])):
            sums = outer(sums, load(x, shift(at, np.int64(places[k]) * width)), spread(values, (k,)))
        store(y, to, (i * next_row,), at_least(sums, floor, 0))


@kernel
def contract_vectors(x, w, b, floor, y, vectors, steps, first, last):
    """Rows first ... last - 1 of evenly spaced vectors.

    vectors  their number; distances between them in x and in y; offsets of the first in x and in y
    """
    count, s, t, at, to = vectors
    v = 0
    while v < count:
        here, there = at + v * s, to + v * t
        if v + 8 <= count:
            eight = shift((0, s, 2 * s, 3 * s, 4 * s, 5 * s, 6 * s, 7 * s), here)
            eights = shift((0, t, 2 * t, 3 * t, 4 * t, 5 * t, 6 * t, 7 * t), there)
            contract_rows(x, w, b, floor, y, eight, eights, steps, first, last)
            v += 8
        elif v + 4 <= count:
            four, fours = shift((0, s, 2 * s, 3 * s), here), shift((0, t, 2 * t, 3 * t), there)
            contract_rows(x, w, b, floor, y, four, fours, steps, first, last)
            v += 4
        elif v + 2 <= count:
            contract_rows(x, w, b, floor, y, (here, here + s), (there, there + t), steps, first, last)
            v += 2
        else:
            contract_rows(x, w, b, floor, y, (here,), (there,), steps, first, last)
            v += 1


@kernel
def contract_part(x, w, b, floor, y, blocks, steps, first, last):
    """Rows first ... last - 1 of `contract`, counted group by group."""
    (_, indptr, _), (count, s, t, most) = w, blocks
    rows = indptr.size - 1
    while first < last:
        block, row = first // rows * most, first % rows
        end, vectors = min(rows, row + last - first), (min(most, count - block), s, t, block * s, block * t)
        contract_vectors(x, w, b, floor, y, vectors, steps, row, end)
        first += end - row


@parallel_kernel
def contract(x, w, b, floor, y, blocks, steps, threads):
    """Fill y.

    w       values, indptr, places                          b  one number for each row
    floor   array of one number: 0 for a ReLU, -inf for none
    blocks  their number, distances between them in x and in y, and the blocks of a group
    steps   width: numbers of a place in a block of x; distance from one row of y to the next
    """
    (_, indptr, _), (count, _, _, most) = w, blocks
    groups = (count + most - 1) // most
    for n in prange(threads):
        first, last = share(indptr, groups, np.int64(n), threads), share(indptr, groups, np.int64(n + 1), threads)
        contract_part(x, w, b, floor, y, blocks, steps, first, last)


@kernel
def sample_rows(x, d, w, sums, at, to, steps, row, fresh):
    """Add one group to the sums of some entries; return their last row, given their first row or an earlier one.

    w      indptr, places, and the range of the entries
    sums   a vector of zeros, then one for each entry
    steps  as in `contract`, and the lanes of a vector
    fresh  whether the sums begin with this group
    """
    (indptr, places, first, last), (width, next_row, lanes) = w, steps
    k = first
    while k < last:
        while indptr[row + 1] <= k:
            row += 1
        row_of_d = load(d, shift(to, row * next_row))
        for j in range(np.uint64(k), np.uint64(min(np.int64(indptr[row + 1]), last))):
            here = (np.int64(j) - first + 1) * lanes
            total = load(sums, (0 if fresh else here,))
            below = shift(at, np.int64(places[j]) * width)
            for p in range(len(below)):
                total = outer(total, load(x, (below[p],)), (row_of_d[p],))
            store(sums, (here,), (0,), total)
        k = np.int64(indptr[row + 1])
    return row


@kernel
def write_totals(sums, g, lane_steps, first, last):
    """Entries first ... last - 1 of g from their sums, which follow one vector of zeros."""
    lanes = len(lane_steps)
    sums[(last - first + 1) * lanes : (last - first + lanes) * lanes] = 0
    for k in range(first, last, lanes):
        together = totals(load(sums, shift(lane_steps, (k - first + 1) * lanes)))
        if k + lanes <= last:
            store(g, (k,), (0,), together)
        else:
            store(sums, (lanes,), (0,), together)
            for j in range(last - k):
                g[k + j] = sums[lanes + j]


@kernel
def sample_vectors(x, d, w, sums, vectors, steps, row, fresh):
    """`sample_rows` of evenly spaced vectors, as in `contract_vectors`; fresh: whether the sums begin with them."""
    count, s, t, at, to = vectors
    v, end = 0, row
    while v < count:
        here, there, new = at + v * s, to + v * t, fresh and v == 0
        if v + 8 <= count:
            eight = shift((0, s, 2 * s, 3 * s, 4 * s, 5 * s, 6 * s, 7 * s), here)
            eights = shift((0, t, 2 * t, 3 * t, 4 * t, 5 * t, 6 * t, 7 * t), there)
            end = sample_rows(x, d, w, sums, eight, eights, steps, row, new)
            v += 8
        elif v + 4 <= count:
            four, fours = shift((0, s, 2 * s, 3 * s), here), shift((0, t, 2 * t, 3 * t), there)
            end = sample_rows(x, d, w, sums, four, fours, steps, row, new)
            v += 4
        elif v + 2 <= count:
            end = sample_rows(x, d, w, sums, (here, here + s), (there, there + t), steps, row, new)
            v += 2
        else:
            end = sample_rows(x, d, w, sums, (here,), (there,), steps, row, new)
            v += 1
    return end


@kernel
def sample_part(x, d, w, sums, g, lane_steps, blocks, steps, first, last):
    """Entries first ... last - 1 of `sample`."""
    (indptr, places), (count, s, t, most), row = w, blocks, np.int64(0)
    sums[: len(lane_steps)] = 0
    for begin in range(first, last, CHUNK):
        end = min(begin + CHUNK, last)
        these, from_row = (indptr, places, begin, end), row
        for block in range(0, count, most):
            vectors = min(most, count - block), s, t, block * s, block * t
            row = sample_vectors(x, d, these, sums, vectors, steps, from_row, block == 0)
        write_totals(sums, g, lane_steps, begin, end)


@parallel_kernel
def sample(x, d, w, sums, g, lane_steps, blocks, steps, threads):
    """Fill g; blocks and steps as in `contract`, with d for y.

    w           indptr, places          sums  `chunk_room` numbers for each thread
    lane_steps  0, lanes, 2 lanes, ... as many as lanes
    """
    lanes = len(lane_steps)
    vectors, room = (g.size + lanes - 1) // lanes, sums.size // threads
    for n in prange(threads):
        first, last = n * vectors // threads * lanes, min((n + 1) * vectors // threads * lanes, g.size)
        mine = sums[n * room : (n + 1) * room]
        sample_part(x, d, w, mine, g, lane_steps, blocks, steps, first, last)


def chunk_room(lanes: int) -> int:
    """Numbers of the sums of a chunk of entries."""
    return (CHUNK + 1 + lanes) * lanes
