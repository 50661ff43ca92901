"""Compiled twin of `l0ref.data.augment.warp`.

Why it is fast: the truth makes an array for every term; here the elastic field is stretched to the width of the image
once, the places of a row of pixels are computed together, in vectors, and then each pixel reads its four neighbours.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from l0ref.fast.machine.policy import fixed, kernel, parallel_kernel, threads_for
from l0ref.validate import Array

PIXEL = 30  # multiply-adds that take as long as one pixel


@kernel
def stretch(field, wide):
    """wide[axis,i,q] = field[axis,i] interpolated linearly at the q-th of `width` pixels."""
    _, places, width = wide.shape
    step = (places - 1) / max(width - 1, 1)
    for q in range(width):
        j = min(int(q * step), places - 2)
        t = q * step - j
        for axis in range(2):
            for i in range(places):
                wide[axis, i, q] = (1 - t) * field[axis, i, j] + t * field[axis, i, j + 1]


@kernel
def places_of_row(start, slope, size, upper, lower, t, whole, part):
    """The places of a row of pixels along one axis of the image, `size` pixels long: integer part and remainder."""
    last, most = size - 1.0, max(size - 2, 0)
    for q in range(upper.size):
        at = min(max(start + slope * q + (1 - t) * upper[q] + t * lower[q], 0.0), last)
        whole[q] = min(int(at), most)
        part[q] = at - whole[q]


@kernel
def warp_images(x, affine, field, wide, whole, part, y, first, last):
    """Images first ... last - 1 of `warp_all`."""
    _, channels, height, width = x.shape
    places = field.shape[3]
    middle, centre, step = (height - 1) / 2, (width - 1) / 2, (places - 1) / max(height - 1, 1)
    below, beside = width if height > 1 else 0, 1 if width > 1 else 0
    for n in range(first, last):
        stretch(field[n], wide)
        for p in range(height):
            i = min(int(p * step), places - 2)
            t = p * step - i
            for axis in range(2):
                down, right, shift = affine[n, axis, 0], affine[n, axis, 1], affine[n, axis, 2]
                zero, size = (middle, height) if axis == 0 else (centre, width)
                start = zero + down * (p - middle) - right * centre + shift
                places_of_row(start, right, size, wide[axis, i], wide[axis, i + 1], t, whole[axis], part[axis])
            for channel in range(channels):
                image, row = x[n, channel].reshape(-1), y[n, channel, p]
                for q in range(width):
                    k, dv, dh = whole[0, q] * width + whole[1, q], part[0, q], part[1, q]
                    upper = image[k] + (image[k + beside] - image[k]) * dh
                    lower = image[k + below] + (image[k + below + beside] - image[k + below]) * dh
                    row[q] = upper + (lower - upper) * dv


@parallel_kernel
def warp_all(x, affine, field, wide, whole, part, y, threads):
    """y[n,c,p] = x[n,c] at the place where the map of sample n puts pixel p.

    wide, whole, part  room for each thread: the stretched field (2, 6, W), places of a row of pixels (2, W)
    """
    count = x.shape[0]
    for n in prange(threads):
        room = wide[n], whole[n], part[n]
        warp_images(x, affine, field, *room, y, n * count // threads, (n + 1) * count // threads)


def warp(x: Array, affine: Array, field: Array) -> Array:
    """The images of `l0ref.data.augment.warp`."""
    y, threads = np.empty(x.shape, x.dtype), threads_for(PIXEL * math.prod(x.shape))
    wide, whole = np.empty((threads, 2, field.shape[3], x.shape[3])), np.empty((threads, 2, x.shape[3]), np.int32)
    warp_all(fixed(x), affine, field, wide, whole, np.empty(whole.shape, x.dtype), y, threads)
    return y
