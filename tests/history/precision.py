"""Epsilons in the wrong place, cancellation, half precision."""

from __future__ import annotations

import numpy as np

from tests.history.case import entrywise, operation, pair, rand, sigmoid, softmax


@pair(
    "flagos-ai/FlagGems#4295",
    "a row gathered 257 times adds up its gradient in half precision",
    says="single entries: 1 of 4 compared are wrong",
    because="the row that is gathered often is wrong, the others were exact",
)
def gather_in_half_precision():
    i = np.append(np.ones(257, int), [0, 2, 3])
    dy = np.append(np.random.default_rng(0).random(257), [0.5, 0.25, 0.75])

    def grad(x, dtype):
        g = np.zeros(x.shape, dtype)
        for j, d in zip(i, dy, strict=True):
            g[j] += dtype(d)
        return g.astype(float)

    x = np.array([0.3, 0.7, -0.2, 1.0])
    return lambda x: (dy * x[i]).sum(), x, lambda x: grad(x, np.float64), lambda x: grad(x, np.float16)


@pair(
    "chainer/chainer#4190",
    "L2 normalisation: the gradient takes norm + eps for the norm in one place",
    says="a term in x: the error is proportional to it along axis 1",
    because="the term with the wrong norm is a multiple of each row of x",
)
def normalisation_epsilon():
    c, eps = rand(2, 5, seed=1), 1e-5
    r = lambda x: np.sqrt((x**2).sum(1, keepdims=True))
    dot = lambda x: (x * c).sum(1, keepdims=True)
    true = lambda x: c / (r(x) + eps) - x * dot(x) / (r(x) * (r(x) + eps) ** 2)
    wrong = lambda x: c / (r(x) + eps) - x * dot(x) / (r(x) + eps) ** 3
    return lambda x: (c * x / (r(x) + eps)).sum(), rand(2, 5), true, wrong


@pair(
    "Lightning-AI/lightning-thunder#1848",
    "the gradient of a standard deviation divides by s + 1e-8, which matters where the spread is small",
    says="a constant factor: 0.99753513",
    because="s / (s + 1e-8) is one number for all entries",
)
def deviation_epsilon():
    x, s = 0.3 + 1e-5 * rand(6), lambda x: np.sqrt(((x - x.mean()) ** 2).sum() / 5)
    return s, x, lambda x: (x - x.mean()) / (5 * s(x)), lambda x: (x - x.mean()) / (5 * (s(x) + 1e-8))


@pair(
    "clab/dynet#218",
    "log-soft-max multiplies and divides by exp in single precision: NaN for very negative entries",
    says="a value that overflows or is undefined",
    because="0 / 0 of an exponential that underflows",
)
def log_softmax_underflow():
    c, x = np.array([1.0, -2.0, 0.5]), np.array([0.0, 1.0, -120.0])
    f = lambda x: x - x.max() - np.log(np.exp(x - x.max()).sum())

    def wrong(x):
        e = np.exp(f(x).astype(np.float32))
        return c - softmax(x) * (e * c / e).sum()

    return lambda x: (c * f(x)).sum(), x, lambda x: c - softmax(x) * c.sum(), wrong


@operation(
    "tenstorrent/tt-metal#55724",
    "the derivative of the sigmoid, s (1 - s), cancels to 0 once s rounds to 1 in float32",
    says="float32 on the way",
    because="the sigmoid was rounded to float32, where it is 1",
)
def sigmoid_cancels():
    def wrong(x):
        s = sigmoid(x).astype(np.float32)
        return np.where(s == 1, 0.0, sigmoid(x) * sigmoid(-x))

    return entrywise(sigmoid, lambda x: sigmoid(x) * sigmoid(-x), wrong, np.array([0.5, 17.0, -1.0, 18.0, 2.0]))


@operation(
    "tensorflow/tensorflow#124835",
    "the derivative of SiLU underflows to 0 for a large negative input",
    says="single entries: 1 of 4 compared are wrong",
    because="the one input at -709 got 0, the others are right",
)
def silu_underflows():
    f = lambda x: x * np.exp(-np.logaddexp(0, -x))
    true = lambda x: np.exp(-np.logaddexp(0, -x)) * (1 + x * np.exp(-np.logaddexp(0, x)))
    return entrywise(f, true, lambda x: np.where(x < -708, -0.0, true(x)), np.array([-705.0, -709.0, -706.0, -704.0]))
