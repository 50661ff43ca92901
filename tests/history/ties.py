"""Ties and kinks: what is returned where the derivative does not exist."""

from __future__ import annotations

import numpy as np

from tests.history.case import entrywise, operation, pair


@pair(
    "Theano/Theano#4568",
    "the maximum over tied entries sends the whole gradient to each of them",
    says="tied entries: x[0, 0], x[0, 1], x[1, 0], x[1, 1] share a kink",
    because="all four entries are tied, and each got 1 where they must add up to 1",
)
def max_of_tied_entries():
    tied = lambda x: x == x.max()
    return np.max, np.ones((2, 2)), lambda x: tied(x) / tied(x).sum(), lambda x: tied(x) * 1.0


@operation(
    "KhawajaAbaid/micrograd_c#4",
    "the derivative of |x| is 1 at 0",
    says="another choice at kinks",
    because="only the entry at 0 is wrong, and 0 is the documented value there",
)
def abs_right_of_zero():
    return entrywise(np.abs, np.sign, lambda x: np.where(x >= 0, 1.0, -1.0), np.array([1.5, 0.0, -0.4, 0.0]))


@pair(
    "jax-ml/jax#37820",
    "an l1 norm built on an absolute value that takes the right-hand slope at 0",
    says="another choice at kinks",
    because="the sign of a weight at 0 must be 0, and 1 was returned",
)
def l1_at_zero():
    c = np.array([0.5, 2.0, 1.0, 3.0])
    right = lambda w: c * np.where(w >= 0, 1.0, -1.0)
    return lambda w: (c * np.abs(w)).sum(), np.array([0.3, 0.0, -1.0, 0.0]), lambda w: c * np.sign(w), right
