"""The steps between the products of a network whose activations are in blocks: ReLU, pooling, the loss.

Axes: b blocks, f features or filters, p q pixels of an image, l lanes; a lane is a sample.

Why they are fast: pooling takes a vector of lanes at a time, for any size of image; a loop over lanes is not vectorised
by the compiler where they are only 8 or 4. Bias and ReLU are part of the preceding product; and since the largest of
four numbers is positive exactly if the largest after a ReLU is, the backward pass gates a quarter of the numbers,
before they are spread.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from l0ref.fast.machine.lanes import larger, load, number, store, where_equal, width
from l0ref.fast.machine.policy import kernel, parallel_kernel


@kernel
def gate(y, y_bar, floor, b_bar, room):
    """y_bar[b,f,i] <- y_bar[b,f,i] where y > floor, else 0; b_bar[f] = sum_bi y_bar[b,f,i].

    floor  array of one number: 0 for a ReLU, -inf for none, where every y_bar passes, also where y is NaN
    room   one number for each i
    """
    blocks, features, entries = y.shape
    least, none = floor[0], floor.dtype.type(0)
    is_open = least < none
    for f in range(features):
        for i in range(entries):
            room[i] = none
        for b in range(blocks):
            value, bar = y[b, f], y_bar[b, f]
            for i in range(entries):
                slope = bar[i] if (value[i] > least) | is_open else none
                bar[i] = slope
                room[i] += slope
        total = none
        for i in range(entries):
            total += room[i]
        b_bar[f] = total


@kernel
def pool_row(upper, lower, best, place):
    """One row of `pool` from two of z; upper and lower may be longer than two of best."""
    lanes = width(best)
    for q in range(best.size // lanes):
        to, left = q * lanes, 2 * q * lanes
        right = left + lanes
        top = load(upper, (left,)) + number(upper, 0)
        top = larger(top, load(upper, (right,)) + number(upper, 1))
        top = larger(top, load(lower, (left,)) + number(lower, 2))
        top = larger(top, load(lower, (right,)) + number(lower, 3))
        store(best, (to,), (0,), top[:1])
        store(place, (to,), (0,), top[1:])


@kernel
def pool_planes(z, y, winner, first, last):
    """Planes first ... last - 1 of `pool`."""
    for n in range(first, last):
        for p in range(y.shape[1]):
            pool_row(z[n, 2 * p], z[n, 2 * p + 1], y[n, p], winner[n, p])


@parallel_kernel
def pool(z, y, winner, threads):
    """y[n,p,q,l] = largest of the four z[n,2p,2q,l] ... z[n,2p+1,2q+1,l]; winner: its place, a float, 0 1 / 2 3."""
    planes = y.shape[0]
    for n in prange(threads):
        pool_planes(z, y, winner, n * planes // threads, (n + 1) * planes // threads)


@kernel
def unpool_planes(y_bar, winner, z_bar, corner, first, last):
    """Planes first ... last - 1 of `unpool`."""
    (_, height, row), (top, begin), lanes = y_bar.shape, corner, width(y_bar)
    for n in range(first, last):
        for p in range(height):
            upper, lower = z_bar[n, top + 2 * p], z_bar[n, top + 2 * p + 1]
            bar, place = y_bar[n, p], winner[n, p]
            for q in range(row // lanes):
                g, i, left = load(bar, (q * lanes,)), load(place, (q * lanes,)), (begin + 2 * q) * lanes
                store(upper, (left,), (0,), where_equal(g, i, number(bar, 0)))
                store(upper, (left + lanes,), (0,), where_equal(g, i, number(bar, 1)))
                store(lower, (left,), (0,), where_equal(g, i, number(bar, 2)))
                store(lower, (left + lanes,), (0,), where_equal(g, i, number(bar, 3)))


@parallel_kernel
def unpool(y_bar, winner, z_bar, corner, threads):
    """z_bar from y_bar: the cotangent of `pool`. z begins at a corner (row, column) of z_bar.

    Rows and columns of z that no window reaches are not written: they are zero from the start.
    """
    planes = y_bar.shape[0]
    for n in prange(threads):
        unpool_planes(y_bar, winner, z_bar, corner, n * planes // threads, (n + 1) * planes // threads)


@kernel
def cross_entropy_blocks(x, target, smoothing, x_bar, losses):
    """Cross-entropy of the scores x[b,c,l]: losses[n], and x_bar, the slope of their mean.

    The formula is that of `loss.cross_entropy_rows`. Lanes beyond the last sample have no slope.
    """
    blocks, classes, lanes = x.shape
    count = target.size
    share = smoothing / classes
    for b in range(blocks):
        for k in range(lanes):
            n = b * lanes + k
            if n >= count:
                for c in range(classes):
                    x_bar[b, c, k] = 0
                continue
            top = x[b, 0, k]
            for c in range(1, classes):
                top = max(top, x[b, c, k])
            z = 0.0
            for c in range(classes):
                x_bar[b, c, k] = np.exp(x[b, c, k] - top)
                z += x_bar[b, c, k]
            log_z = np.log(z)
            hit = target[n]
            total = (1 - smoothing) * (log_z - (x[b, hit, k] - top))
            for c in range(classes):
                if smoothing > 0:
                    total += share * (log_z - (x[b, c, k] - top))
                q = share + (1 - smoothing if c == hit else 0.0)
                x_bar[b, c, k] = (x_bar[b, c, k] / z - q) / count
            losses[n] = total


@kernel
def squared_error_blocks(x, target, x_bar, losses):
    """Squared error of the outputs x[b,c,l] against target[n,c]: its mean over c, losses[n], and the slope of the mean.

    Lanes beyond the last sample have no slope.
    """
    blocks, outputs, lanes = x.shape
    count = len(target)
    for b in range(blocks):
        for k in range(lanes):
            n, total = b * lanes + k, 0.0
            for c in range(outputs):
                far = x[b, c, k] - target[n, c] if n < count else x.dtype.type(0)
                total += np.float64(far) ** 2
                x_bar[b, c, k] = 2 * far / (count * outputs)
            if n < count:
                losses[n] = total / outputs


@kernel
def soften_blocks(x, soft, temperature, weight, x_bar, losses):
    """Mix the result of `cross_entropy_blocks` with the loss against a teacher's probabilities soft[n,c] = q.

    losses[n] <- (1 - L) losses[n] + L T^2 sum_c q_c log(q_c / p_c)   with p = softmax(x[b,:,l] / T)
    x_bar     <- (1 - L) x_bar + L T (p - q) / count
    """
    _, classes, lanes = x.shape
    count = len(soft)
    for n in range(count):
        b, k = n // lanes, n % lanes
        top = x[b, 0, k]
        for c in range(1, classes):
            top = max(top, x[b, c, k])
        z = 0.0
        for c in range(classes):
            z += np.exp((x[b, c, k] - top) / temperature)
        log_z, total = np.log(z), 0.0
        for c in range(classes):
            log_p, q = (x[b, c, k] - top) / temperature - log_z, soft[n, c]
            if q > 0:
                total += q * (np.log(q) - log_p)
            slope = temperature * (np.exp(log_p) - q) / count
            x_bar[b, c, k] = (1 - weight) * x_bar[b, c, k] + weight * slope
        losses[n] = (1 - weight) * losses[n] + weight * temperature**2 * total
