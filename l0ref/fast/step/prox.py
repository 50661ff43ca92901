"""Prox of the Laplace surrogate in place, entry by entry: x = argmin 1/2 (x - z)^2 + t (1 - e^(-beta |x|)).

    x = 0                      where t beta^2 e^(-beta |z|) > 1/e: there is no stationary point but 0
    x - |z| + t beta e^(-beta x) = 0      else, its larger root, by Newton's method from x = |z|, where the left side is
                               positive and convex: the iterates fall to the root without passing it
    x = 0                      where the root is no better than 0

t is price times a step, which is one number for all entries, or Adam's lr / (sqrt(v_hat) + eps) for each.

Why it is fast: with tau = t beta^2, one iteration leaves an error below tau^3 / 2 of 1 / beta, a second one below
tau^7 / 8, a third one below tau^15 / 128. Training takes steps with tau far below EASY, so that up to three iterations
suffice, without a branch, on many entries at a time: part after part, each small enough for the first cache. The few
other entries are done one by one. In float64 one more iteration removes the error, however small w is beside 1 / beta.

All of it is computed in float64 and rounded once, as `Laplace.prox` does.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from l0ref.fast.machine.policy import kernel, parallel_kernel, threads_for
from l0ref.fast.step.optimizer import flushed, limits
from l0ref.fast.step.penalty import decay64, series_of
from l0ref.surrogates.base import checked_steps
from l0ref.validate import Array, float_array

EASY = 0.1  # tau up to which three iterations of Newton's method suffice
TWO, ONE = 2e-3, 2e-6  # tau up to which two iterations suffice, and one
TURNS = 100  # at most, for the others: near a double root, which is worse than 0, the method is slow
PART = 2048  # entries taken at a time
OPERATIONS = 100  # cost of an entry, in multiply-adds


@kernel
def prox_entry(a, t, beta):
    """The prox of a >= 0."""
    tau = t * beta * beta
    if not (a > 0) or not (t > 0) or a == np.inf:
        return a
    if t == np.inf or tau * math.exp(-beta * a) > 0.36787944117144233:
        return 0.0
    x = a
    for _ in range(TURNS):
        e = math.exp(-beta * x)
        step = (x - a + t * beta * e) / (1 - tau * e)
        if not (step > 0) or x - step == x:
            break
        x -= step
    if x <= 0:
        return 0.0
    gain = -t * math.expm1(-beta * x) + 0.5 * (x - a) * (x - a)  # objective at x; at 0 it is a^2 / 2
    return x if gain < 0.5 * a * a else 0.0


@kernel
def turn(x, z, t, beta, series):
    """One iteration of Newton's method on every entry."""
    for i in range(z.size):
        e = decay64(beta * x[i], series)
        pull = t[i] * beta * e
        new = x[i] - (x[i] - abs(z[i]) + pull) / (1 - beta * pull)
        x[i] = 0.0 if new <= 0 else new


@kernel
def prox_of_part(w, t, x, beta, series):
    """The prox of some entries; x is room for as many numbers."""
    largest = 0.0
    for i in range(w.size):
        x[i] = min(abs(np.float64(w[i])), 1e300)  # infinite entries are kept below
        largest = max(largest, t[i])
    tau = largest * beta * beta
    turns = 1 if tau <= ONE else 2 if tau <= TWO else 3
    for _ in range(turns + (w.itemsize == 8)):
        turn(x, w, t, beta, series)
    for i in range(w.size):
        new = x[i] if w[i] >= 0 else 0.0 - x[i]
        w[i] = new if abs(w[i]) < np.inf and t[i] * beta * beta <= EASY else w[i]
    if tau > EASY:
        for i in range(w.size):
            if t[i] * beta * beta > EASY:
                new = prox_entry(abs(np.float64(w[i])), t[i], beta)
                w[i] = new if w[i] >= 0 else 0.0 - new


@kernel
def prox_range(w, v, rates, series, room, first, last):
    """Entries first ... last - 1 of `prox_all`."""
    beta, price, lr, correction, eps, least = rates[0], rates[1], rates[2], rates[3], rates[4], rates[5]
    x, t = room[0], room[1]
    for a in range(first, last, PART):
        part = w[a : min(a + PART, last)]
        for i in range(part.size):
            t[i] = price * lr
        if v.size:
            second = v[a : min(a + PART, last)]
            for i in range(part.size):
                t[i] = price * (lr / (np.sqrt(np.float64(second[i]) / correction) + eps))
        prox_of_part(part, t, x, beta, series)
        for i in range(part.size):
            part[i] = flushed(part[i], least)


@kernel
def prox_by_steps_range(w, steps, beta, series, room, first, last):
    """Entries first ... last - 1 of `prox_by_steps`."""
    x, t, fixed = room[0], room[1], steps.size == 1
    for a in range(first, last, PART):
        part = w[a : min(a + PART, last)]
        for i in range(part.size):
            t[i] = steps[0] if fixed else steps[a + i]
        prox_of_part(part, t, x, beta, series)


@parallel_kernel
def prox_by_steps(w, steps, beta, series, room, threads):
    """w <- prox(w), in place. steps: t of every entry, or one for all; room: (threads, 2, PART) numbers."""
    for n in prange(threads):
        first, last = n * w.size // threads, (n + 1) * w.size // threads
        prox_by_steps_range(w, steps, beta, series, room[n], first, last)


@parallel_kernel
def prox_all(w, v, rates, series, room, threads):
    """w <- prox(w), in place, then 0 where |w| is below the least weight.

    v  Adam's, or empty    rates  beta, price, lr, 1 - beta2^t, eps, least w    room  (threads, 2, PART) numbers
    """
    for n in prange(threads):
        prox_range(w, v, rates, series, room[n], n * w.size // threads, (n + 1) * w.size // threads)


def laplace_prox_here(w: Array, v: Array, *, beta: float, price: float, step: tuple[float, float, float]) -> None:
    """Take the prox of every entry of w, flat, in place; results below the least weight become 0, as after a step.

    v     Adam's second moment, flat, or an empty array
    step  lr, 1 - beta2^t, eps; of these only lr counts if v is empty
    """
    rates, series = np.array([beta, price, *step, limits(w.dtype)[0]]), series_of(np.float64)
    threads = threads_for(OPERATIONS * w.size)
    room = np.empty((threads, 2, PART))
    if threads > 1:
        prox_all(w, v, rates, series, room, threads)
    else:
        prox_range(w, v, rates, series, room[0], 0, w.size)


def laplace_prox(z: Array, step: float | Array, *, beta: float) -> Array:
    """As `Laplace.prox`."""
    z = float_array("z", z)
    every = checked_steps(step, z.shape)
    steps = np.array(step if np.ndim(step) == 0 else every, np.float64).reshape(-1)
    w, threads = np.array(z, order="C"), threads_for(OPERATIONS * z.size)
    if w.size:
        room = np.empty((threads, 2, PART))
        prox_by_steps(w.reshape(-1), steps, float(beta), series_of(np.float64), room, threads)
    return w
