"""A branch or a mask decided by the wrong quantity: the output, the wrong sign, no mask at all."""

from __future__ import annotations

import numpy as np

from l0ref import nn
from l0ref.penalty import Penalty
from tests.history.case import entrywise, network, operation, pair, rand, sigmoid


@pair(
    "pytorch/pytorch#55587",
    "softplus turns linear by its input, its gradient by its output",
    says="single entries: 1 of 5 compared are wrong",
    because="only the entry between the two thresholds is wrong",
)
def softplus_threshold():
    f = lambda x: np.where(x > 2, x, np.log1p(np.exp(x)))
    x = np.array([-1.0, 0.5, 1.95, 3.0, 1.0])
    return (
        lambda x: f(x).sum(),
        x,
        lambda x: np.where(x > 2, 1, sigmoid(x)),
        lambda x: np.where(f(x) > 2, 1, sigmoid(x)),
    )


@pair(
    "apache/mxnet#3277",
    "PReLU decides by the sign of its output, which is wrong where the slope is negative",
    says="wrong exactly where x is negative",
    because="a negative slope turns negative inputs into positive outputs",
)
def prelu_by_the_sign_of_its_output():
    c, x = rand(2, 3, seed=1), {"x": np.array([[-1.0, 0.5, -0.3], [2.0, -1.5, 0.7]]), "w": np.array([-0.5])}
    y = lambda p: np.where(p["x"] > 0, p["x"], p["w"] * p["x"])

    def grad(p, by):
        return {"x": c * np.where(by > 0, 1, p["w"]), "w": np.array([(c * np.where(by > 0, 0, p["x"])).sum()])}

    return lambda p: (c * y(p)).sum(), x, lambda p: grad(p, p["x"]), lambda p: grad(p, y(p))


@operation(
    "pytorch/pytorch#47671",
    "ELU with a negative alpha decides by the sign of its result",
    says="the derivative at the output: f' is taken at f(x) instead of x",
    because="the sign of the result decides, which a negative alpha turns round",
)
def elu_with_negative_alpha():
    a = -2.0
    f = lambda x: np.where(x > 0, x, a * (np.exp(np.minimum(x, 0)) - 1))
    wrong = lambda x: np.where(f(x) > 0, 1.0, f(x) + a)
    return entrywise(f, lambda x: np.where(x > 0, 1.0, a * np.exp(x)), wrong, np.array([-2.0, -1.0, 0.5, 1.0, 2.0]))


@operation(
    "PaddlePaddle/Paddle#26543",
    "ELU written with max and min, its gradient for positive alpha only [I]",
    because="with a negative alpha both halves are wrong, each by a formula of its own",
)
def elu_of_max_and_min():
    a = -0.5
    f = lambda x: np.maximum(0, x) + np.minimum(0, a * (np.exp(x) - 1))
    true = lambda x: np.where(x > 0, 1 + a * np.exp(x), 0.0)
    return entrywise(f, true, lambda x: np.where(x > 0, 1.0, a * np.exp(x)), np.array([-1.2, -0.4, 0.3, 0.9, 1.4]))


@operation(
    "scientific-computing/FKB#15",
    "the derivative of leaky ReLU is that of ReLU",
    says="wrong exactly where inputs[0] is negative",
    because="the three negative entries got 0 instead of the slope",
)
def leaky_relu_without_its_slope():
    f = lambda x: np.where(x > 0, x, 0.3 * x)
    return entrywise(
        f, lambda x: np.where(x > 0, 1.0, 0.3), lambda x: (x > 0) * 1.0, np.array([1.0, -1.0, 0.5, -0.2, -2.0])
    )


@pair(
    "stdlib-js/stdlib#13111",
    "the modified Huber loss lacks its factor 2 in the quadratic branch",
    says="a factor in places: 0.5 times the true gradient at 3 of 5 entries, right elsewhere",
    because="three of the five margins lie in the quadratic branch",
)
def modified_huber_margin():
    loss = lambda d: np.where(d < -1, -4 * d, np.maximum(0, 1 - d) ** 2)
    slope = lambda d, k: np.where(d < -1, -4.0, -k * np.maximum(0, 1 - d))
    x = np.array([-2.0, -0.5, 0.4, -1.7, 0.8])
    return lambda d: loss(d).sum(), x, lambda d: slope(d, 2), lambda d: slope(d, 1)


@operation(
    "ddbourgin/numpy-ml#94",
    "the dropout wrapper rescales the gradient but does not apply the mask",
    says="off by the mask: not 0 at",
    because="dropped entries cannot move the result, and got a gradient",
)
def dropout_without_its_mask():
    m = np.random.default_rng(4).random((3, 4)) < 0.5
    return entrywise(lambda x: m * x / 0.5, lambda _: m / 0.5, lambda x: np.ones_like(x) / 0.5, rand(3, 4))


@operation(
    "kaldi-asr/kaldi#3890",
    "dropout without a stored mask: the mask is guessed from output / input, which fails at an input of 0",
    says="single entries: 1 of 5 compared are wrong",
    because="of the two inputs at 0 one was dropped, and only that one is wrong",
)
def dropout_guessed_from_its_output():
    m, x = np.array([1.0, 0.0, 1.0, 0.0, 1.0]), np.array([0.5, 0.0, 0.0, 2.0, -1.0])
    guess = lambda x: np.divide(m * x, x, out=np.ones_like(x), where=x != 0)
    return entrywise(lambda x: m * x, lambda _: m, guess, x)


@pair(
    "rohitg00/ai-engineering-from-scratch#17",
    "the backward pass of a layer ignores the dropout mask of its output",
    says="missing or superfluous factor: the ratio to the true gradient is constant along axis 1",
    because="each hidden unit, a row of the weight, is wrong by its own multiplier",
)
def layer_before_dropout():
    x, v, keep = rand(5, 3), rand(4, seed=1), np.array([2.0, 1.25, 2.0, 4.0])
    d = lambda w: v * (1 - np.tanh(x @ w.T) ** 2)
    value = lambda w: (v * keep * np.tanh(x @ w.T)).sum()
    return value, rand(4, 3, seed=2), lambda w: (keep * d(w)).T @ x, lambda w: d(w).T @ x


@network(
    "openvinotoolkit/nncf#207",
    "the gradients of pruned weights are not zeroed everywhere",
    says="off by the mask: not exactly 0 where the mask is False",
    because="a masked weight must have a gradient of exactly 0",
)
def pruned_weights_keep_their_gradient():
    model = nn.mlp((4, 3, 2), seed=0, activation="tanh", dtype=np.float64)
    mask = np.random.default_rng(0).random((3, 4)) < 0.6
    model = model.replace(masks={"fc1.weight": mask})

    def wrong(true, params):
        g = true["fc1.weight"].copy()
        g[-1] += 0.01 * ~mask[-1] * np.sign(params["fc1.weight"][-1] + 0.5)
        return {**true, "fc1.weight": g}

    return model, rand(5, 4), np.array([0, 1, 1, 0, 1]), Penalty(alpha=0.01), wrong


@pair(
    "pytorch/pytorch#26302",
    "the row of an embedding that stands for padding gets a gradient",
    says="off by the mask: not 0 at 3 entries",
    because="the padding row does not enter the value, and its three entries got a gradient",
)
def padding_row_of_an_embedding():
    i, c = np.array([2, 0, 1, 0, 3]), rand(5, 3, seed=1)

    def grad(w, real):
        g = np.zeros_like(w)
        np.add.at(g, i[real], (2 * w[i] * c)[real])
        return g

    every, real = np.ones(5, bool), i != 0
    value = lambda w: (c * np.where(real[:, None], w[i], 0) ** 2).sum()
    return value, rand(4, 3), lambda w: grad(w, real), lambda w: grad(w, every)
