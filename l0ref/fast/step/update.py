"""Steps of the optimisers in place, penalty and mask included: one pass over memory for a whole training step.

    g <- g + price phi'(w) + 2 l2 w,   phi that of Laplace        `step.penalty`
    (w, m, v) <- step of Adam, AdamW or SGD with momentum          `step.optimizer`
    w, m, v <- 0 where the mask says so

Why it is fast: separate passes would read w three times and write g once in between; here every array is read and
written once, and no memory is allocated. The formulas of an entry are those of the steps that are not in place, so that
the results are equal bit for bit.

All parameters of a network stand one after another in one array, cut into segments at `bounds`; each segment has a
price; all penalised segments have the same l2. Threads take equal parts of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba import prange

from l0ref.fast.machine.policy import kernel, parallel_kernel, threads_for
from l0ref.fast.step.optimizer import adam_entry, adam_rates, momentum_entry, momentum_rates
from l0ref.fast.step.penalty import decay, pull_entry, series_of
from l0ref.validate import Array

PART = 4096  # entries updated before the mask is applied to them: they are still in the first cache
OPERATIONS = 40  # cost of an entry, in multiply-adds


@dataclass(eq=False)
class Flat:
    """All parameters of a network one after another, and the other arrays of a step.

    w, g    parameters, and gradients of the data loss, which a step overwrites
    slots   the optimiser's memory, in the order of its slot names
    keep    bool, False where a weight is pruned; empty if nothing is
    bounds  starts of the segments, and the end of the last
    pulls   for each segment beta, price beta, 2 l2; zeros without a penalty
    """

    w: Array
    g: Array
    slots: tuple[Array, ...]
    keep: Array
    bounds: Array
    pulls: Array

    def __post_init__(self) -> None:
        self.series = series_of(self.w.dtype)


@kernel
def pulled(w, g, pull, series):
    """g <- g + price phi'(w) + 2 l2 w. pull: beta, price beta, 2 l2."""
    beta = pull[0]
    for i in range(w.size):
        e = decay(beta * abs(w[i]), series)
        g[i] += pull_entry(w[i], e, pull)


@kernel
def shrunk(w, g, pull):
    """g <- g + 2 l2 w."""
    twice_l2 = pull[2]
    for i in range(w.size):
        g[i] += twice_l2 * w[i]


@kernel
def adam_here(w, g, m, v, rates):
    """A step of `adam_all`, in place."""
    for i in range(w.size):
        w[i], m[i], v[i] = adam_entry(w[i], g[i], m[i], v[i], rates)


@kernel
def momentum_here(w, g, v, rates, nesterov):
    """A step of `momentum_all`, in place."""
    for i in range(w.size):
        w[i], v[i] = momentum_entry(w[i], g[i], v[i], rates, nesterov)


@kernel
def kept(w, keep):
    """w <- 0 where keep is False, even where w is not finite."""
    zero = w.dtype.type(0)
    for i in range(w.size):
        w[i] = w[i] if keep[i] else zero


@kernel
def penalize(w, g, pull, first, last):
    """`pulled` or `shrunk` on entries first ... last - 1, segment by segment."""
    bounds, pulls, series = pull
    for s in range(pulls.shape[0]):
        a, b = max(bounds[s], first), min(bounds[s + 1], last)
        price_beta, twice_l2 = pulls[s, 1], pulls[s, 2]
        if a < b and price_beta != 0:
            pulled(w[a:b], g[a:b], pulls[s], series)
        elif a < b and twice_l2 != 0:
            shrunk(w[a:b], g[a:b], pulls[s])


@kernel
def adam_part(w, g, m, v, keep, pull, rates, first, last):
    """Entries first ... last - 1 of `adam_update`."""
    for a in range(first, last, PART):
        b = min(a + PART, last)
        penalize(w, g, pull, a, b)
        adam_here(w[a:b], g[a:b], m[a:b], v[a:b], rates)
        if keep.size:
            kept(w[a:b], keep[a:b])
            kept(m[a:b], keep[a:b])
            kept(v[a:b], keep[a:b])


@kernel
def momentum_part(w, g, v, keep, pull, rates, nesterov, first, last):
    """Entries first ... last - 1 of `momentum_update`."""
    for a in range(first, last, PART):
        b = min(a + PART, last)
        penalize(w, g, pull, a, b)
        momentum_here(w[a:b], g[a:b], v[a:b], rates, nesterov)
        if keep.size:
            kept(w[a:b], keep[a:b])
            kept(v[a:b], keep[a:b])


@parallel_kernel
def adam_update(w, g, m, v, keep, pull, rates, threads):
    """A step of Adam or AdamW on everything. keep: bool, or empty; g is overwritten.

    pull    bounds  starts of the segments, and the end of the last
            pulls   for each segment beta, price beta, 2 l2       series  of `penalty.decay`
    rates   of `optimizer.adam_all`
    """
    for n in prange(threads):
        first, last = n * w.size // threads, (n + 1) * w.size // threads
        adam_part(w, g, m, v, keep, pull, rates, first, last)


@parallel_kernel
def momentum_update(w, g, v, keep, pull, rates, nesterov, threads):
    """A step of SGD with momentum on everything; arguments as in `adam_update`, rates of `optimizer.momentum_all`."""
    for n in prange(threads):
        first, last = n * w.size // threads, (n + 1) * w.size // threads
        momentum_part(w, g, v, keep, pull, rates, nesterov, first, last)


def adam_step_here(
    flat: Flat, *, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, t: int
) -> None:
    """As `l0ref.optim.adamw_step` on everything, penalty and mask included."""
    kind = flat.w.dtype
    rates = adam_rates(kind, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay, t=t)
    _run(adam_update, flat, rates)


def momentum_step_here(flat: Flat, *, lr: float, momentum: float, nesterov: bool) -> None:
    """As `l0ref.optim.momentum_step` on everything, penalty and mask included."""
    _run(momentum_update, flat, momentum_rates(flat.w.dtype, lr=lr, momentum=momentum), bool(nesterov))


def _run(update: Any, flat: Flat, *settings: Any) -> None:
    arrays = (flat.w, flat.g, *flat.slots, flat.keep, (flat.bounds, flat.pulls, flat.series))
    update(*arrays, *settings, threads_for(OPERATIONS * flat.w.size))
