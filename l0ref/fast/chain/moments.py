"""Kernels of batch normalisation in blocks: statistics and result in one pass over memory, all cotangents in another.

With z the m inputs of a channel, over all samples and pixels:

    mean = sum z / m     var = sum (z - mean)^2 / m     z_hat = (z - mean) / sqrt(var + eps)
    y = max(floor, weight z_hat + bias)
    g = y_bar where y > floor, else 0     bias_bar = sum g     weight_bar = sum g z_hat
    z_bar = weight / sqrt(var + eps) (g - bias_bar / m - z_hat weight_bar / m)

Each sample has its own mean and sum of squares around it, which are merged in float64 (Chan, Golub, LeVeque 1979): as
exact as two passes. Lanes beyond the last sample are left out, and their cotangents are 0.

Arguments of the two parallel kernels:

    params    weight and bias, and an array of one number, the floor: -inf for none
    found     mean, var, 1 / sqrt(var + eps) of each channel
    consts    0, 1 / pixels, eps
    room      2 blocks lanes numbers for each thread
    geometry  rows of an image, numbers of a row, places of z and of y, as in `elementwise`
    run       samples, pixels of an image, lanes, 1 where z_bar is wanted, else 0

Why they are fast: a channel of all samples, half a megabyte where images are 32 x 32, is still in the second cache when
it is read again. Each channel belongs to one thread, so that no result depends on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from l0ref.fast.chain.elementwise import row_of
from l0ref.fast.machine.lanes import filled, load, minus, outer, plus, spread, store
from l0ref.fast.machine.policy import kernel, parallel_kernel


@kernel
def lane_moments(z, at, line, rows, size, consts, out, to, lanes):
    """For an image that begins at z[at]: means of the lanes, out[to ...], then sums of squares around them."""
    none = filled(consts, (0,), (0,))
    total, squares = none, none
    for r in range(rows):
        for q in range(at + r * line, at + r * line + size, lanes):
            total = plus(total, load(z, (q,)))
    mean = outer(none, total, spread(consts, (1,)))
    for r in range(rows):
        for q in range(at + r * line, at + r * line + size, lanes):
            far = minus(load(z, (q,)), mean)
            squares = outer(squares, far, far)
    store(out, (to,), (0,), mean)
    store(out, (to + lanes,), (0,), squares)


@kernel
def lane_sums(z, g, mean, consts, starts, lines, shape, out, to, lanes):
    """For an image: sums of g in each lane, out[to ...], then of g (z - mean); mean is an array of one number."""
    (rows, size), none, middle = shape, filled(consts, (0,), (0,)), spread(mean, (0,))
    total, slope = none, none
    for r in range(rows):
        z_from, g_from = starts[0] + r * lines[0], starts[1] + r * lines[1]
        for q in range(0, size, lanes):
            bar = load(g, (g_from + q,))
            total, slope = plus(total, bar), outer(slope, minus(load(z, (z_from + q,)), middle), bar)
    store(out, (to,), (0,), total)
    store(out, (to + lanes,), (0,), slope)


@kernel
def over_samples(out, part, count, lanes):
    """Sum over samples of the first (part 0) or the second (part 1) numbers of each block, in float64."""
    total = np.float64(0)
    for n in range(count):
        total += np.float64(out[(n // lanes * 2 + part) * lanes + n % lanes])
    return total


@kernel
def normalized_channels(z, y, params, found, consts, room, geometry, run, first, last):
    """Channels first ... last - 1 of `normalized`."""
    rows, size, z_at, y_at, (count, pixels, lanes, _) = geometry[0], geometry[1], geometry[2:5], geometry[5:8], run
    (weight, bias, floor), (mean, var, scale) = params, found
    channels, blocks, least, one = weight.size, (count + lanes - 1) // lanes, floor[0], floor.dtype.type(1)
    for f in range(first, last):
        for b in range(blocks):
            at = (b * channels + f) * z_at[0] + z_at[2]
            lane_moments(z, at, z_at[1], rows, size, consts, room, b * 2 * lanes, lanes)
        middle, squares = over_samples(room, 0, count, lanes) / count, over_samples(room, 1, count, lanes)
        for n in range(count):
            far = np.float64(room[n // lanes * 2 * lanes + n % lanes]) - middle
            squares += pixels * far * far
        mean[f], var[f] = middle, squares / (np.float64(count) * pixels)
        scale[f] = one / np.sqrt(var[f] + consts[2])
        m, s, w, c = mean[f], scale[f], weight[f], bias[f]
        for b in range(blocks):
            for r in range(rows):
                source = row_of(z, z_at, b * channels + f, r, size)
                target = row_of(y, y_at, b * channels + f, r, size)
                for i in range(size):
                    v = (source[i] - m) * s * w + c
                    target[i] = least if v < least else v


@parallel_kernel
def normalized(z, y, params, found, consts, room, geometry, run, threads):
    """Fill y and found."""
    channels, size = params[0].size, room.size // threads
    for n in prange(threads):
        mine = room[n * size : (n + 1) * size]
        first, last = n * channels // threads, (n + 1) * channels // threads
        normalized_channels(z, y, params, found, consts, mine, geometry, run, first, last)


@kernel
def gated(z, y_bar, m, s, w, c, least):
    """One row of y_bar: 0 where y, recomputed with the same rounding, is not above the floor."""
    none = y_bar.dtype.type(0)
    for i in range(y_bar.size):
        y_bar[i] = y_bar[i] if (z[i] - m) * s * w + c > least else none


@kernel
def channel_bars(signals, params, found, bars, consts, room, geometry, run, first, last):
    """Channels first ... last - 1 of `cotangents`."""
    z, y_bar, z_bar = signals
    rows, size, z_at, y_at = geometry[0], geometry[1], geometry[2:5], geometry[5:8]
    (count, pixels, lanes, wants_z), (weight, bias, floor), (mean, _, scale) = run, params, found
    channels, blocks, least = weight.size, (count + lanes - 1) // lanes, floor[0]
    for f in range(first, last):
        m, s, w, c = mean[f], scale[f], weight[f], bias[f]
        for b in range(blocks):
            n = b * channels + f
            if least == 0:
                for r in range(rows):
                    gated(row_of(z, z_at, n, r, size), row_of(y_bar, y_at, n, r, size), m, s, w, c, least)
            starts = n * z_at[0] + z_at[2], n * y_at[0] + y_at[2]
            lines = z_at[1], y_at[1]
            lane_sums(z, y_bar, mean[f : f + 1], consts, starts, lines, (rows, size), room, b * 2 * lanes, lanes)
        total, slope = over_samples(room, 0, count, lanes), over_samples(room, 1, count, lanes) * np.float64(s)
        bars[1][f], bars[0][f] = total, slope
        number = np.float64(count) * pixels
        level, tilt = floor.dtype.type(total / number), floor.dtype.type(slope / number) * s
        factor = w * s
        for b in range(blocks if wants_z else 0):
            for r in range(rows):
                source, bar = (
                    row_of(z, z_at, b * channels + f, r, size),
                    row_of(y_bar, y_at, b * channels + f, r, size),
                )
                target = row_of(z_bar, z_at, b * channels + f, r, size)
                for i in range(size):
                    target[i] = (bar[i] - (level + (source[i] - m) * tilt)) * factor
                for k in range(count - b * lanes, lanes):  # beyond the last sample
                    target[k::lanes] = 0


@parallel_kernel
def cotangents(signals, params, found, bars, consts, room, geometry, run, threads):
    """Fill bars, the cotangents of weight and bias, and z_bar of signals (z, y_bar, z_bar); y_bar becomes g."""
    channels, size = params[0].size, room.size // threads
    for n in prange(threads):
        mine = room[n * size : (n + 1) * size]
        first, last = n * channels // threads, (n + 1) * channels // threads
        channel_bars(signals, params, found, bars, consts, mine, geometry, run, first, last)
