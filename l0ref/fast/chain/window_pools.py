"""Kernels of pooling over any windows in blocks: the largest number or the mean, and the cotangents.

    windows  (5, P Q): of each window, the offsets of its first pixel on the image and of its result in the first plane,
             rows and columns of its pixels on the image, and the place of the first of them in the window
    steps    numbers of a plane of x, and of y; distances from a pixel to the next one below, and beside, in its window;
             places in a row of a window
    share    1 / m of each window, for the mean; empty for the largest
    winner   the place in its window of each number of y, as a float, at the offset of the number

Padding is never read, so it counts as minus infinity, or as zero. A tie goes to the first place in scan order.

Why they are fast: vectors of lanes, and the largest number and the sum of a window stay in registers.
"""

from __future__ import annotations

from numba import prange

from l0ref.fast.machine.lanes import filled, increase, larger, load, number, outer, plus, spread, store, where_equal
from l0ref.fast.machine.policy import kernel, parallel_kernel


@kernel
def pool_planes(x, y, winner, share, zero, windows, steps, first, last):
    """Planes first ... last - 1 of `pool`."""
    x_plane, y_plane, down, beside, wide = steps
    none = filled(zero, (0,), (0,))
    for n in range(first, last):
        for i in range(windows.shape[1]):
            at, to = n * x_plane + windows[0, i], n * y_plane + windows[1, i]
            total, top = none, none + none if share.size else load(x, (at,)) + number(x, windows[4, i])
            for r in range(windows[2, i]):
                for s in range(windows[3, i]):
                    here = at + r * down + s * beside
                    if share.size:
                        total = plus(total, load(x, (here,)))
                    else:
                        top = larger(top, load(x, (here,)) + number(x, windows[4, i] + r * wide + s))
            if share.size:
                store(y, (to,), (0,), outer(none, total, spread(share, (i,))))
            else:
                store(y, (to,), (0,), top[:1])
                store(winner, (to,), (0,), top[1:])


@parallel_kernel
def pool(x, y, winner, share, zero, windows, steps, planes, threads):
    """Fill y, and winner for the largest; zero is an array of one number."""
    for n in prange(threads):
        first, last = n * planes // threads, (n + 1) * planes // threads
        pool_planes(x, y, winner, share, zero, windows, steps, first, last)


@kernel
def unpool_planes(x_bar, y_bar, winner, share, zero, windows, steps, first, last):
    """Planes first ... last - 1 of `unpool`."""
    x_plane, y_plane, down, beside, wide = steps
    none = filled(zero, (0,), (0,))
    for n in range(first, last):
        x_bar[n * x_plane : (n + 1) * x_plane] = 0
        for i in range(windows.shape[1]):
            at, to = n * x_plane + windows[0, i], n * y_plane + windows[1, i]
            bar, which = load(y_bar, (to,)), none
            if share.size:
                bar = outer(none, bar, spread(share, (i,)))
            else:
                which = load(winner, (to,))
            for r in range(windows[2, i]):
                for s in range(windows[3, i]):
                    here = at + r * down + s * beside
                    if share.size:
                        increase(x_bar, (here,), (0,), bar)
                    else:
                        won = where_equal(bar, which, number(y_bar, windows[4, i] + r * wide + s))
                        increase(x_bar, (here,), (0,), won)


@parallel_kernel
def unpool(x_bar, y_bar, winner, share, zero, windows, steps, planes, threads):
    """Fill x_bar from y_bar: the cotangent of `pool`, with the same arguments."""
    for n in prange(threads):
        first, last = n * planes // threads, (n + 1) * planes // threads
        unpool_planes(x_bar, y_bar, winner, share, zero, windows, steps, first, last)
