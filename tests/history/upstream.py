"""The cotangent that comes from above: ignored, passed on as it is, or another sample's."""

from __future__ import annotations

import numpy as np

from tests.history.case import operation, pair, rand, softmax

PROPORTIONAL = "not proportional to the cotangent"


@operation(
    "chainer/chainer#1178",
    "the backward pass of the Huber loss ignores the gradient from above",
    says=PROPORTIONAL,
    because="the same gradient came back for -1024 times the cotangent",
)
def huber_without_upstream():
    h = lambda x: np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5)
    true = lambda xs, y_bar: [y_bar * np.clip(xs[0], -1, 1)]
    return h, [np.array([0.3, -2.0, 1.7])], true, lambda xs, _: [np.clip(xs[0], -1, 1)]


@pair(
    "paiml/aprender#2182 (none)",
    "unreduced cross-entropy scales every sample by the first sample's upstream gradient",
    says="missing or superfluous factor: the ratio to the true gradient is constant along axis 1",
    because="each sample is off by a factor of its own, the same for all its logits",
)
def cross_entropy_unreduced():
    y, g = np.array([0, 2, 1, 1]), np.array([1.0, 2.0, -0.5, 3.0])
    value = lambda z: -(g * np.log(softmax(z))[np.arange(4), y]).sum()
    d = lambda z: softmax(z) - np.eye(3)[y]
    return value, rand(4, 3), lambda z: g[:, None] * d(z), lambda z: g[0] * d(z) / 4


@operation(
    "deeplearning4j/deeplearning4j#5978",
    "multiplication with broadcasting never reads the gradient from above",
    says=PROPORTIONAL,
    because="the same gradient came back for -1024 times the cotangent",
)
def multiplication_without_upstream():
    true = lambda xs, y_bar: [y_bar * xs[1], (y_bar * xs[0]).sum(0)]
    return lambda a, b: a * b, [rand(3, 4), rand(4, seed=1)], true, lambda xs, _: true(xs, np.ones((3, 4)))


@operation(
    "pjreddie/darknet#96",
    "the backward pass of soft-max copies the gradient of its output into that of its input",
    says="the cotangent itself: it is passed on without the derivative of this function",
    because="it is the cotangent, untouched",
)
def softmax_passes_on():
    true = lambda xs, y_bar: [softmax(xs[0]) * (y_bar - (y_bar * softmax(xs[0])).sum(-1, keepdims=True))]
    return softmax, [rand(2, 3)], true, lambda _, y_bar: [y_bar.copy()]


@operation(
    "tenstorrent/tt-metal#6533",
    "ldexp neither reads the gradient from above nor forms the power of 2 it needs",
    says=PROPORTIONAL,
    because="the first thing wrong is that the cotangent is not read",
)
def ldexp_without_upstream():
    ln2, f = np.log(2.0), lambda x, n: x * 2.0**n
    true = lambda xs, y_bar: [y_bar * 2.0 ** xs[1], y_bar * ln2 * f(*xs)]
    wrong = lambda xs, _: [np.exp(xs[1]) * ln2, xs[0] * np.exp(xs[1]) * ln2**2]
    return f, [np.array([1.0, 0.5, -2.0]), np.array([0.0, 1.0, -0.5])], true, wrong
