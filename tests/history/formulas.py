"""The derivative of another function, or the right one at another point."""

from __future__ import annotations

import numpy as np

from tests.history.case import entrywise, operation, pair, rand, sigmoid

OUTPUT = "a formula for the output: the gradient is right if it is given f(x), and is given x"
OTHER = "another function's derivative, which no pattern of places or factors describes"


@operation("tenstorrent/tt-metal#55289", "base^x is differentiated as if it were x^base", because=OTHER)
def power_the_other_way_round():
    return entrywise(lambda x: 3.0**x, lambda x: 3.0**x * np.log(3.0), lambda x: 3.0 * x**2, np.array([0.5, 2.0, 1.5]))


@pair(
    "bpjsincl/coursera-neural-net#14",
    "the error is differentiated as a squared error, the loss is a log loss",
    because=OTHER,
)
def loss_of_another_name():
    x, y = rand(6, 3), np.array([0.0, 1, 1, 0, 1, 0])
    p = lambda w: sigmoid(x @ w)
    value = lambda w: -(y * np.log(p(w)) + (1 - y) * np.log(1 - p(w))).sum()
    return value, rand(3, seed=1), lambda w: x.T @ (p(w) - y), lambda w: x.T @ ((p(w) - y) * p(w) * (1 - p(w)))


@pair(
    "Bot-Academy/NeuralNetworkFromScratch#3",
    "the derivative of the sigmoid in the last layer is missing",
    because="as before, with the two losses exchanged: each sample has another weight",
)
def last_sigmoid_missing():
    x, y = rand(6, 3), np.array([0.0, 1, 1, 0, 1, 0])
    p = lambda w: sigmoid(x @ w)
    true = lambda w: x.T @ ((p(w) - y) * p(w) * (1 - p(w)))
    return lambda w: ((p(w) - y) ** 2).sum() / 2, rand(3, seed=1), true, lambda w: x.T @ (p(w) - y)


@operation(
    "davidrmiller/neural2d#40",
    "the derivative of tanh is evaluated at the output instead of the input",
    says="the derivative at the output: f' is taken at f(x) instead of x",
    because="1 - tanh(tanh x)^2 is the derivative at the output",
)
def tanh_at_its_output():
    d = lambda x: 1 - np.tanh(x) ** 2
    return entrywise(np.tanh, d, lambda x: d(np.tanh(x)), rand(4))


@operation(
    "kyle8998/Sudo-Productivity#3",
    "the derivative of the sigmoid is written x (1 - x) and given the input",
    says=OUTPUT,
    because="given the output, x (1 - x) is the derivative",
)
def sigmoid_of_its_input():
    return entrywise(sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x)), lambda x: x * (1 - x), rand(4))


@operation(
    "mlpack/mlpack#1540",
    "the derivative of ELU is written y + alpha for its value y and given the input",
    says=OUTPUT,
    because="given the output, y + alpha is the derivative",
)
def elu_of_its_input():
    f = lambda x: np.where(x > 0, x, 1.5 * (np.exp(np.minimum(x, 0)) - 1))
    true = lambda x: np.where(x > 0, 1.0, 1.5 * np.exp(x))
    return entrywise(f, true, lambda x: np.where(x > 0, 1.0, x + 1.5), np.array([-1.0, 0.5, -0.3, 2.0, -2.0]))


@operation(
    "RubixML/ML#427",
    "SELU for negative inputs: the scale once more, and alpha where scale times alpha belongs",
    says="wrong exactly where inputs[0] is negative",
    because="only the negative branch is wrong",
)
def selu_negative_branch():
    scale, alpha = 1.0507, 1.67326
    f = lambda x: np.where(x > 0, scale * x, scale * alpha * (np.exp(np.minimum(x, 0)) - 1))
    true = lambda x: np.where(x > 0, scale, scale * alpha * np.exp(x))
    return entrywise(
        f, true, lambda x: np.where(x > 0, scale, scale * (f(x) + alpha)), np.array([-0.5, 1.0, -2.0, 0.3])
    )


@operation(
    "harvard-edge/cs249r_book#1399",
    "GELU by a sigmoid, its gradient by the formula with tanh",
    because="both approximate the same function, and differ a little everywhere",
)
def gelu_of_two_kinds():
    f = lambda x: x * sigmoid(1.702 * x)
    true = lambda x: sigmoid(1.702 * x) * (1 + 1.702 * x * (1 - sigmoid(1.702 * x)))

    def wrong(x):
        k = np.sqrt(2 / np.pi)
        t = np.tanh(k * (x + 0.044715 * x**3))
        return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * k * (1 + 3 * 0.044715 * x**2)

    return entrywise(f, true, wrong, rand(5))


@pair(
    "flagos-ai/FlagGems#5023",
    "the gradient of cdist ignores p and is always that of the Euclidean distance",
    because=OTHER,
)
def distances_of_another_norm():
    b, c = rand(3, 4, seed=1), rand(2, 3, seed=2)
    diff = lambda a: a[:, None] - b
    dist = lambda a: (np.abs(diff(a)) ** 3).sum(-1) ** (1 / 3)
    k = lambda a, n: (c / dist(a) ** n)[..., None]
    true = lambda a: (k(a, 2) * np.sign(diff(a)) * np.abs(diff(a)) ** 2).sum(1)
    return lambda a: (c * dist(a)).sum(), rand(2, 4), true, lambda a: (k(a, 1) * diff(a)).sum(1)


@pair(
    "scikit-learn-contrib/metric-learn#201",
    "a learned metric: the gradient along L is not multiplied by L",
    says="an inner derivative is missing: the gradient stays the same at inputs nearby",
    because="2 d^T d does not depend on L, and the true gradient does",
)
def metric_without_its_factor():
    d = rand(6, 3, seed=1)
    outer = d.T @ d
    value = lambda m: ((d @ m.T) ** 2).sum()
    return value, rand(3, 3), lambda m: 2 * m @ outer, lambda _: 2 * outer


def _lstm(p, z, c_prev):
    f, i, o = (sigmoid(p["W" + k] @ z + p["b" + k]) for k in "fio")
    g = np.tanh(p["Wg"] @ z + p["bg"])
    c = f * c_prev + i * g
    return f, i, o, g, c, o * np.tanh(c)


def lstm_case(fault):
    """An LSTM step of two units; the fault is in the forget gate, or in the biases."""
    z, c_prev, a, b = rand(3), rand(2, seed=1), rand(2, seed=2), rand(2, seed=3)
    p = {"W" + k: rand(2, 3, seed=4 + n) for n, k in enumerate("fiog")}
    p |= {"b" + k: rand(2, seed=8 + n) for n, k in enumerate("fiog")}

    def value(p):
        *_, c, h = _lstm(p, z, c_prev)
        return (a * h).sum() + (b * c).sum()

    def grad(p, fault):
        f, i, o, g, c, _ = _lstm(p, z, c_prev)
        dc = a * o * (1 - np.tanh(c) ** 2) + b
        df = dc * c_prev * (sigmoid(f) if fault == "forget" else f * (1 - f))
        d = {"f": df, "i": dc * g * i * (1 - i), "o": a * np.tanh(c) * o * (1 - o), "g": dc * i * (1 - g**2)}
        bias = d | ({"i": df, "o": df} if fault == "bias" else {})
        return {"W" + k: np.outer(d[k], z) for k in "fiog"} | {"b" + k: bias[k].copy() for k in "fiog"}

    return value, p, lambda p: grad(p, ""), lambda p: grad(p, fault)


@pair(
    "CaptainE/RNN-LSTM-in-numpy#1",
    "LSTM: the forget gate's sigmoid is applied once more instead of differentiated",
    says="Wf: looks like a missing or superfluous factor: the ratio to the true gradient is constant along axis 1",
    because="each unit of the forget gate, a row of Wf, is off by a factor of its own",
)
def lstm_forget_gate():
    return lstm_case("forget")
