"""Compiled twin of `MaxPool2d`: one pass finds the largest pixel of every window and its place.

Why it is fast: the truth compares every pixel of every window with the maximum, as arrays; here a window is read once,
and the place of the winner is kept, in one byte unless a window has over 256 places. The backward pass reads it and
adds one number to one pixel. Windows of 2 x 2 at stride 2, the usual ones, have a kernel without inner loops: with
known distances, the compiler handles many windows at once.

A window with a NaN gives NaN, as in the truth, and a NaN gets the cotangent; which of several is not specified.
Axis letters as in `l0ref.ops.windows`; images and channels are one axis, of "planes".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from l0ref.autodiff.op import Saved
from l0ref.fast.machine.policy import fixed, kernel
from l0ref.ops.windows import Pair, Windows
from l0ref.validate import Array


@kernel
def largest_of_four(planes, y, winner):
    """Windows of 2 x 2 at stride 2 without padding: the largest pixel, and its place 0 1 / 2 3."""
    count, height, width = y.shape
    for n in range(count):
        for p in range(height):
            upper, lower = planes[n, 2 * p], planes[n, 2 * p + 1]
            largest, place = y[n, p], winner[n, p]
            for q in range(width):
                best, k = upper[2 * q], np.uint8(0)
                x = upper[2 * q + 1]
                better = (x > best) | (x != x)
                best, k = (x, np.uint8(1)) if better else (best, k)
                x = lower[2 * q]
                better = (x > best) | (x != x)
                best, k = (x, np.uint8(2)) if better else (best, k)
                x = lower[2 * q + 1]
                better = (x > best) | (x != x)
                best, k = (x, np.uint8(3)) if better else (best, k)
                largest[q] = best
                place[q] = k


@kernel
def largest_of_window(planes, size, stride, padding, dilation, y, winner):
    """Any windows, `tall` by `wide`: the largest pixel on the image, and its place r * wide + s."""
    (count, rows, cols), (tall, wide), (down, right), (above, before) = planes.shape, size, stride, padding
    below, beside = dilation
    for n in range(count):
        for p in range(y.shape[1]):
            top = p * down - above
            first_r = max((below - 1 - top) // below, 0)
            for q in range(y.shape[2]):
                left = q * right - before
                first_s = max((beside - 1 - left) // beside, 0)
                best = planes[n, top + first_r * below, left + first_s * beside]
                k = first_r * wide + first_s
                for r in range(first_r, tall):
                    h = top + r * below
                    if h >= rows:
                        break
                    for s in range(first_s, wide):
                        w = left + s * beside
                        if w >= cols:
                            break
                        x = planes[n, h, w]
                        if x > best or x != x:
                            best = x
                            k = r * wide + s
                y[n, p, q] = best
                winner[n, p, q] = k


@kernel
def add_to_winners(y_bar, winner, places, stride, first, planes):
    """Add y_bar[n,p,q] to the pixel that won its window.

    places  distance of each place of a window from its first one, in a plane (N C, H W) laid out row by row
    stride  distance from a window to the next one below, and to the next one beside
    first   offset of the first window: below 0 if there is padding
    """
    (count, height, width), (down, right) = y_bar.shape, stride
    for n in range(count):
        for p in range(height):
            for q in range(width):
                pixel = first + p * down + q * right + places[winner[n, p, q]]
                planes[n, pixel] += y_bar[n, p, q]


def max_pool2d_forward(
    x: Array, *, kernel_size: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1), beyond: Pair = (0, 0)
) -> Any:
    """Value of `l0ref.ops.pooling.MaxPool2d`."""
    n, c, h, w = x.shape
    windows = Windows(kernel_size, stride, padding, dilation, beyond)
    whole, span = windows.padded((h, w)), windows.span
    grid = [(whole[i] - span[i]) // stride[i] + 1 for i in (0, 1)]
    y = np.empty((n, c, *grid), x.dtype)
    winner = np.empty((n * c, *grid), np.uint8 if kernel_size[0] * kernel_size[1] <= 256 else np.intp)
    planes, out = fixed(x).reshape(n * c, h, w), y.reshape(winner.shape)
    if windows == Windows((2, 2), (2, 2), (0, 0)):
        largest_of_four(planes, out, winner)
    else:
        largest_of_window(planes, kernel_size, stride, padding, dilation, out, winner)
    return y, (winner, x.shape, windows)


def max_pool2d_vjp(saved: Saved, y_bar: Array) -> tuple[Any]:
    """Cotangent of `l0ref.ops.pooling.MaxPool2d`."""
    winner, shape = saved[:2]
    windows: Windows = saved[2]
    n, c, h, w = shape

    def x_bar() -> Array:
        (tall, wide), (down, right), (below, beside) = windows.size, windows.stride, windows.dilation
        places = np.add.outer(np.arange(tall) * below * w, np.arange(wide) * beside).ravel()
        steps, first = (down * w, right), -windows.padding[0] * w - windows.padding[1]
        out = np.zeros(shape, y_bar.dtype)
        y_planes = fixed(y_bar).reshape(winner.shape)
        add_to_winners(y_planes, winner, places, steps, first, out.reshape(n * c, h * w))
        return out

    return (x_bar,)
