"""Kernels for sums of branches and their cotangents, number by number.

The place of an activation is (numbers of a plane, distance between rows of pixels, offset of the first row), so that
images may have frames, which are not touched; `geometry` is rows of an image, numbers of a row, and then the three
numbers of each place.

Why they are fast: one pass over memory, by contiguous rows, with which the compiler fills its vectors.
"""

from __future__ import annotations

from numba import prange

from l0ref.fast.machine.policy import kernel, parallel_kernel


@kernel
def row_of(x, place, plane, row, size):
    """One row of pixels of a plane."""
    at = plane * place[0] + place[2] + row * place[1]
    return x[at : at + size]


@kernel
def sum_planes(a, b, y, floor, geometry, first, last):
    """Planes first ... last - 1 of `sums`."""
    rows, size, least, at = geometry[0], geometry[1], floor[0], geometry[2:]
    for n in range(first, last):
        for r in range(rows):
            left, right = row_of(a, at[:3], n, r, size), row_of(b, at[3:6], n, r, size)
            total = row_of(y, at[6:], n, r, size)
            for i in range(size):
                v = left[i] + right[i]
                total[i] = least if v < least else v


@parallel_kernel
def sums(a, b, y, floor, geometry, planes, threads):
    """y = max(floor, a + b); floor is an array of one number, -inf for none. NaN stays NaN."""
    for n in prange(threads):
        sum_planes(a, b, y, floor, geometry, n * planes // threads, (n + 1) * planes // threads)


@kernel
def split_planes(y, y_bar, a_bar, b_bar, floor, geometry, first, last):
    """Planes first ... last - 1 of `split`."""
    rows, size, least, at = geometry[0], geometry[1], floor[0], geometry[2:]
    none = floor.dtype.type(0)
    is_open = least < none
    for n in range(first, last):
        for r in range(rows):
            value, bar = row_of(y, at[6:], n, r, size), row_of(y_bar, at[6:], n, r, size)
            left, right = row_of(a_bar, at[:3], n, r, size), row_of(b_bar, at[3:6], n, r, size)
            for i in range(size):
                left[i] = bar[i] if (value[i] > least) | is_open else none
            for i in range(size):
                right[i] = left[i]


@parallel_kernel
def split(y, y_bar, a_bar, b_bar, floor, geometry, planes, threads):
    """a_bar = b_bar = y_bar where y > floor, else 0: the cotangent of `sums`, with the same geometry."""
    for n in prange(threads):
        first, last = n * planes // threads, (n + 1) * planes // threads
        split_planes(y, y_bar, a_bar, b_bar, floor, geometry, first, last)
