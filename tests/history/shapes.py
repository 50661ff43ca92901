"""Broadcasting, layout, rank, batches of one: right for the shapes that were tried."""

from __future__ import annotations

import numpy as np

from tests.history.case import operation, pair, rand
from tests.history.terms import norm_grad, normalised


@pair(
    "deeplearning4j/nd4j#2424",
    "the gradient of a broadcast row is not summed back to its shape",
    says="it looks like a missing broadcast sum",
    because="the gradient has the shape of the sum instead of that of the row",
)
def broadcast_row():
    target = np.linspace(10, 11, 12).reshape(3, 4)
    x = {"a": np.linspace(1, 12, 12).reshape(3, 4), "b": np.linspace(1, 4, 4).reshape(1, 4)}
    r = lambda x: 2 * (x["a"] + x["b"] - target)
    value = lambda x: ((x["a"] + x["b"] - target) ** 2).sum()
    return value, x, lambda x: {"a": r(x), "b": r(x).sum(0, keepdims=True)}, lambda x: {"a": r(x), "b": r(x)}


@operation(
    "Dao-AILab/flash-attention#355",
    "a cotangent that is a transposed view is read in the order of memory",
    says="the cotangent in another order",
    because="the gradient is right if the cotangent is laid out the other way",
)
def cotangent_in_memory_order():
    wrong = lambda xs, y_bar: [2 * xs[0] * y_bar.ravel().reshape(2, 3)]
    return lambda x: (x**2).T, [rand(2, 3)], lambda xs, y_bar: [2 * xs[0] * y_bar.T], wrong


@pair(
    "deeplearning4j/deeplearning4j#1452",
    "with one sample the divisor is the number of columns instead of 1",
    says="a mean where a sum belongs: 5 times too small",
    because="5 is the number of columns, by which it must not be divided",
)
def batch_of_one():
    t = rand(1, 5, seed=1)
    rows = lambda x: x.shape[1] if x.shape[0] == 1 else x.shape[0]
    value = lambda x: ((x - t) ** 2).sum() / len(x)
    return value, rand(1, 5), lambda x: 2 * (x - t) / len(x), lambda x: 2 * (x - t) / rows(x)


@operation(
    "flagos-ai/FlagGems#5392",
    "layer norm takes a rank-3 input for a matrix of shape[0] rows in its backward pass",
    because="statistics of the wrong rows enter every entry",
)
def layer_norm_of_rank_three():
    def wrong(xs, y_bar):
        (x,) = xs
        mu, rstd = x.mean(-1).ravel()[:2, None], (1 / np.sqrt(x.var(-1) + 1e-5)).ravel()[:2, None]
        d, h = y_bar.reshape(2, 12), (x.reshape(2, 12) - mu) * rstd
        return [(rstd * (d - d.mean(1, keepdims=True) - h * (d * h).mean(1, keepdims=True))).reshape(2, 3, 4)]

    return lambda x: normalised(x, -1), [rand(2, 3, 4)], lambda xs, y_bar: [norm_grad(xs[0], y_bar, -1)], wrong


@operation(
    "flagos-ai/FlagGems#59",
    "layer norm with several rows in a block adds up both statistics over the rows as well",
    because="two wrong terms at once, one constant in a row and one proportional to the normalised input",
)
def layer_norm_of_a_block_of_rows():
    def wrong(xs, y_bar):
        (x,) = xs
        h, rstd = normalised(x, 1), 1 / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        n = x.shape[1]
        return [rstd * (y_bar - y_bar.sum() / n - h * (y_bar * h).sum() / n)]

    return lambda x: normalised(x, 1), [rand(3, 5)], lambda xs, y_bar: [norm_grad(xs[0], y_bar, 1)], wrong


@pair(
    "pytorch/pytorch#13669",
    "a compiled graph counts a number once for each copy that broadcasting made of it elsewhere",
    says="a constant factor: 1.998002 times the true gradient",
    because="2 000 copies are counted where there are 1 001, in every entry",
)
def broadcast_of_a_number():
    value = lambda z: (np.exp(z) - 0).sum() + (np.exp(z)[:, None] - np.zeros(1000)).sum()
    return value, np.array([1.0, 0.5, -0.25]), lambda z: 1001 * np.exp(z), lambda z: 2000 * np.exp(z)


@pair(
    "rust0258/Deeplearning.ai-Natural-Language-Processing-Specialization#62",
    "course on word vectors: the gradient of the output bias is summed over errors times hidden values",
    because="a bias of three entries, each summed with other weights; nothing fits them all",
)
def bias_of_a_word_model():
    h, y = np.abs(rand(4, 6)), np.eye(3)[:, [0, 2, 1, 1, 0, 2]]

    def error(b):
        z = (rand(3, 4, seed=1) @ h + b[:, None]).T
        e = np.exp(z - z.max(1, keepdims=True))
        return (e / e.sum(1, keepdims=True)).T - y

    def value(b):
        z = (rand(3, 4, seed=1) @ h + b[:, None]).T
        return (np.log(np.exp(z).sum(1)) - (z * y.T).sum(1)).mean()

    return value, rand(3, seed=2), lambda b: error(b).mean(1), lambda b: (error(b) @ h.T).sum(1) / 6
