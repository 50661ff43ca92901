"""Kernels of pooling in blocks, for windows of any size, stride and padding: the largest pixel, or the mean.

Images are (planes, rows, row of pixels by lanes), with their frames. `geometry` is seven times two numbers (vertical,
horizontal): windows, places of a window, stride, padding, pixels of the image, its corner in its frame, that of y.

Why they are fast: the inner loop runs over the lanes, so that the compiler fills its vectors whatever the window.
"""

from __future__ import annotations

from numba import prange

from l0ref.fast.machine.policy import kernel, parallel_kernel

LARGEST, TO_LARGEST, MEAN, TO_MEAN = 0, 1, 2, 3


@kernel
def reached(p, size, stride, padding, pixels):
    """First place of window p that lies on the image, the last one plus one, and the pixel under the first."""
    begin = p * stride - padding
    first = max(0, -begin)
    return first, min(size, pixels - begin), begin + first


@kernel
def largest_of_window(x, row, column, places, wide, best, place):
    """Fill best and place, a number a lane, from places (r0, r1, s0, s1) of a window, the first at (row, column)."""
    (r0, r1, s0, s1), lanes = places, best.size
    for r in range(r0, r1):
        for s in range(s0, s1):
            at, here = (column + s - s0) * lanes, place.dtype.type(r * wide + s)
            pixel, is_first = x[row + r - r0, at : at + lanes], r == r0 and s == s0
            for k in range(lanes):
                better = is_first | (pixel[k] > best[k]) | (pixel[k] != pixel[k])
                place[k] = here if better else place[k]
                best[k] = pixel[k] if better else best[k]


@kernel
def pool_windows(x, y, winner, share, geometry, lanes, way, first, last):
    """Planes first ... last - 1 of `pooled`."""
    rows, columns, tall, wide, down, right, above, before, height, width = geometry[:10]
    corner_row, corner_column, top, left = geometry[10:]
    for n in range(first, last):
        if way in (TO_LARGEST, TO_MEAN):
            x[n] = 0
        for p in range(rows):
            r0, r1, row = reached(p, tall, down, above, height)
            for q in range(columns):
                s0, s1, column = reached(q, wide, right, before, width)
                row_at, column_at, to = corner_row + row, corner_column + column, (left + q) * lanes
                number = y[n, top + p, to : to + lanes]
                if way == LARGEST:
                    place = winner[n, p, q * lanes : (q + 1) * lanes]
                    largest_of_window(x[n], row_at, column_at, (r0, r1, s0, s1), wide, number, place)
                elif way == TO_LARGEST:
                    for k in range(lanes):
                        r, s = (
                            int(winner[n, p, q * lanes + k]) // wide - r0,
                            int(winner[n, p, q * lanes + k]) % wide - s0,
                        )
                        x[n, row_at + r, (column_at + s) * lanes + k] += number[k]
                else:
                    if way == MEAN:
                        number[:] = 0
                    for r in range(r1 - r0):
                        pixels = x[n, row_at + r, column_at * lanes : (column_at + s1 - s0) * lanes]
                        for s in range(s1 - s0):
                            for k in range(lanes):
                                if way == MEAN:
                                    number[k] += pixels[s * lanes + k]
                                else:
                                    pixels[s * lanes + k] += number[k] * share[0]
                    if way == MEAN:
                        for k in range(lanes):
                            number[k] *= share[0]


@parallel_kernel
def pooled(x, y, winner, share, geometry, lanes, way, planes, threads):
    """Fill y from x, or their cotangents x from y, by the way.

    LARGEST     y = the largest pixel of each window, the first of equals; winner = its place in the window, as a number
    MEAN        y = share times the sum of each window; padding counts as zeros
    TO_LARGEST, TO_MEAN    the cotangents
    """
    for n in prange(threads):
        first, last = n * planes // threads, (n + 1) * planes // threads
        pool_windows(x, y, winner, share, geometry, lanes, way, first, last)
