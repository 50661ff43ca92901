"""Special points: 0 / 0, 0 log 0 and powers, where the function itself is harmless."""

from __future__ import annotations

import numpy as np

from l0ref import nn
from l0ref.penalty import Penalty
from l0ref.surrogates import L1
from tests.history.case import network, operation, pair, rand

UNDEFINED = "a value that overflows or is undefined"
NAN = "the wrong entries are not finite, which is all there is to say"


@pair("pytorch/pytorch#2421", "a norm divides by itself: NaN at 0", says=UNDEFINED, because=NAN)
def norm_at_zero():
    norm = lambda x: np.sqrt((x**2).sum())
    return norm, np.zeros(1), lambda x: x / norm(x) if norm(x) else 0 * x, lambda x: x / norm(x)


@pair(
    "HIPS/autograd#183",
    "exp(-norm^2) is smooth, its chain rule through the norm is NaN at 0",
    says=UNDEFINED,
    because=NAN,
)
def bell_through_a_norm():
    f, norm = lambda x: np.exp(-((x**2).sum())), lambda x: np.sqrt((x**2).sum())
    return f, np.zeros((2, 1)), lambda x: -2 * x * f(x), lambda x: -2 * norm(x) * f(x) * x / norm(x)


@pair(
    "tensorflow/tensorflow#119430",
    "cumprod divides by x and takes 0 / 0 for 0, which loses true terms",
    says="wrong exactly where x is 0",
    because="the one entry that is 0 lost its terms, the others are right",
)
def cumprod_with_a_zero():
    def true(x):
        n = len(x)
        return np.array([sum(np.prod(np.delete(x[: j + 1], i)) for j in range(i, n)) for i in range(n)])

    def wrong(x):
        tails = np.cumsum(np.cumprod(x)[::-1])[::-1]
        return np.divide(tails, x, out=np.zeros_like(x), where=x != 0)

    return lambda x: np.cumprod(x).sum(), np.array([2.0, 3.0, 0.0, 0.5]), true, wrong


def _others(x):
    return np.array([np.prod(np.delete(x, i)) for i in range(len(x))])


@pair("tinygrad/tinygrad#17404", "prod divides the product by x: NaN at a zero", says=UNDEFINED, because=NAN)
def product_with_a_zero():
    return np.prod, np.array([0.0, 2.0, 3.0]), _others, lambda x: np.prod(x) / x


@operation(
    "apache/mxnet#18078",
    "a product along an axis divides its result by the entry: NaN at a zero",
    says=UNDEFINED,
    because=NAN,
)
def product_along_an_axis():
    x = np.array([[4.0, 0.0], [2.0, 3.0]])
    true = lambda xs, y_bar: [y_bar[:, None] * np.array([_others(row) for row in xs[0]])]
    wrong = lambda xs, y_bar: [y_bar[:, None] * np.prod(xs[0], 1, keepdims=True) / xs[0]]
    return lambda x: np.prod(x, axis=1), [x], true, wrong


@pair("tensorflow/tfjs#346", "0^y along y is 0 log 0 = NaN", says=UNDEFINED, because=NAN)
def power_along_the_exponent():
    b = np.array([0.0, 2.0])
    slope = lambda y, base: b**y * np.log(base)
    return (
        lambda y: (b**y).sum(),
        np.array([2.0, 2.0]),
        lambda y: slope(y, np.where(b > 0, b, 1)),
        lambda y: slope(y, b),
    )


@pair("BVLC/caffe#1326", "|x| is differentiated as x / |x|: NaN at 0", says=UNDEFINED, because=NAN)
def abs_as_a_quotient():
    return lambda x: np.abs(x).sum(), np.array([0.7, 0.0, -1.2]), np.sign, lambda x: x / np.abs(x)


@operation("tenstorrent/tt-metal#5082", "x^0 is differentiated as 0 x^-1: NaN at 0", says=UNDEFINED, because=NAN)
def power_with_exponent_zero():
    e = np.array([0.0, 2.0, 3.0])
    true = lambda x: np.where(e == 0, 0.0, e * np.where(x == 0, 1.0, x) ** (e - 1))
    f = lambda x: x**e
    wrong = lambda xs, y_bar: [y_bar * e * xs[0] ** (e - 1)]
    return f, [np.array([0.0, 1.5, -0.5])], lambda xs, y_bar: [y_bar * true(xs[0])], wrong


@operation(
    "tenstorrent/tt-metal#54439",
    "x^2 is differentiated through log x, painted over with infinity for x < 0",
    says=UNDEFINED,
    because=NAN,
)
def power_of_a_negative_base():
    x = np.array([2.0, -2.0, 0.5, -1.0])
    wrong = lambda x: np.where(x > 0, 2 * np.abs(x), np.inf)
    return lambda x: x**2, [x], lambda xs, y_bar: [y_bar * 2 * xs[0]], lambda xs, y_bar: [y_bar * wrong(xs[0])]


@pair(
    "chainer/chainer#194",
    "the derivative of x^2 uses a power function for positive bases only",
    says=UNDEFINED,
    because=NAN,
)
def square_by_a_power_function():
    with_log = lambda x: 2 * np.exp(np.log(x))
    return lambda x: (x**2).sum(), np.array([-1.1, 0.4, 2.0]), lambda x: 2 * x, with_log


@network("mlpack/mlpack#3545", "an L1 penalty divides w by |w|: NaN at a weight of 0", says=UNDEFINED, because=NAN)
def l1_penalty_at_a_zero_weight():
    model = nn.mlp((4, 3, 2), seed=0, dtype=np.float64)
    w = model.params["fc1.weight"].copy()
    w[0, 1] = 0.0
    model = model.replace(params={**model.params, "fc1.weight": w})

    def wrong(true, params):
        w = params["fc1.weight"]
        return {**true, "fc1.weight": true["fc1.weight"] - 0.1 * np.sign(w) + 0.1 * w / np.abs(w)}

    return model, rand(5, 4), np.array([0, 1, 1, 0, 1]), Penalty(surrogate=L1(), alpha=0.1), wrong
