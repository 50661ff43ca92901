"""A term of the chain rule, or of the penalty, that is missing or superfluous."""

from __future__ import annotations

import numpy as np

from l0ref import nn
from l0ref.penalty import Penalty
from l0ref.surrogates import Laplace
from tests.history.case import network, operation, pair, rand, sigmoid, softmax

LABELS = np.array([0, 1, 1, 0, 1])


def normalised(x, axis, eps=1e-5):
    """x with mean 0 and variance 1 along an axis."""
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + eps)


def norm_grad(x, dy, axis, eps=1e-5, mean_times=1, outside=None):
    """Its gradient; the switches are faults."""
    rstd, h = 1 / np.sqrt(x.var(axis, keepdims=True) + eps), normalised(x, axis, eps)
    a = dy if outside is None else outside
    return rstd * (a - mean_times * dy.mean(axis, keepdims=True) - h * (dy * h).mean(axis, keepdims=True))


@pair(
    "FluxML/Zygote.jl#197",
    "min-max scaling: the path through the maximum is lost",
    says="single entries: 1 of 10 compared are wrong",
    because="the largest entry alone has that path",
)
def scaling_by_the_range():
    def parts(x, through_max):
        lo, hi, n = x.min(), x.max(), x.size
        s, r = (x - lo).sum(), hi - lo
        g = np.full_like(x, 1 / r)
        g[x.argmin()] += -n / r + s / r**2
        if through_max:
            g[x.argmax()] -= s / r**2
        return g

    value = lambda x: ((x - x.min()) / (x.max() - x.min())).sum()
    return value, np.random.default_rng(1).random(10), lambda x: parts(x, True), lambda x: parts(x, False)


G = np.array([0.5, 2.0, -1.5])


@operation(
    "denizyuret/Knet.jl#288",
    "batch norm on the CPU: the gradient of the input forgets the scale",
    says="missing or superfluous factor: the ratio to the true gradient is constant along axis 0",
    because="each column is off by its own scale",
)
def batch_norm_without_its_scale():
    true = lambda xs, y_bar: [norm_grad(xs[0], y_bar * G, 0)]
    return lambda x: G * normalised(x, 0), [rand(6, 3)], true, lambda xs, y_bar: [norm_grad(xs[0], y_bar, 0)]


@operation(
    "ROCm/MIOpen#104",
    "batch norm: one of three terms misses the scale",
    says="a term in the cotangent: the error is proportional to it along axis 0",
    because="the unscaled term is a multiple of the cotangent in each column",
)
def batch_norm_one_term_unscaled():
    true = lambda xs, y_bar: [norm_grad(xs[0], y_bar * G, 0)]
    wrong = lambda xs, y_bar: [norm_grad(xs[0], y_bar * G, 0, outside=y_bar)]
    return lambda x: G * normalised(x, 0), [rand(6, 3)], true, wrong


@operation(
    "tenstorrent/tt-metal#53204",
    "layer norm subtracts the mean of the upstream gradient twice",
    says="missing or superfluous term: the error is constant along axis 1",
    because="the superfluous mean is one number in each row",
)
def layer_norm_subtracts_twice():
    true = lambda xs, y_bar: [norm_grad(xs[0], y_bar, 1)]
    return lambda x: normalised(x, 1), [rand(3, 8)], true, lambda xs, y_bar: [norm_grad(xs[0], y_bar, 1, mean_times=2)]


@operation(
    "mlpack/mlpack#1923",
    "batch norm adds up the upstream gradient where its mean belongs [I]",
    says="missing or superfluous term: the error is constant along axis 0",
    because="sum minus mean is one number in each column",
)
def batch_norm_sum_for_mean():
    true = lambda xs, y_bar: [norm_grad(xs[0], y_bar, 0)]
    return lambda x: normalised(x, 0), [rand(6, 3)], true, lambda xs, y_bar: [norm_grad(xs[0], y_bar, 0, mean_times=6)]


@operation(
    "Apiquet/DeepLearningFrameworkFromScratchCpp#1",
    "soft-max is differentiated as if every output depended on its own input alone",
    says="the diagonal of the Jacobian alone",
    because="s (1 - s) is the diagonal of its Jacobian",
)
def softmax_diagonal():
    true = lambda xs, y_bar: [softmax(xs[0]) * (y_bar - (y_bar * softmax(xs[0])).sum(-1, keepdims=True))]
    wrong = lambda xs, y_bar: [y_bar * softmax(xs[0]) * (1 - softmax(xs[0]))]
    return softmax, [rand(2, 4)], true, wrong


@operation(
    "mlpack/mlpack#2360",
    "log-soft-max: the cotangent is added to the soft-max instead of the soft-max times its sum subtracted",
    says="not proportional to the cotangent",
    because="the soft-max is added whatever the cotangent is",
)
def log_softmax_adds():
    f = lambda x: np.log(softmax(x))
    true = lambda xs, y_bar: [y_bar - softmax(xs[0]) * y_bar.sum(-1, keepdims=True)]
    return f, [rand(2, 4)], true, lambda xs, y_bar: [y_bar + softmax(xs[0])]


@pair(
    "JWarmenhoven/Coursera-Machine-Learning#3",
    "course exercise: the bias column, which is not regularised, gets a penalty of ones",
    says="missing or superfluous term: the error is constant along axis 0 (0.1,",
    because="one number, reg / m = 0.1, is added in the bias column",
)
def penalty_of_a_bias_column():
    a, y, reg = np.c_[np.ones(5), rand(5, 3)], (rand(5, 3, seed=1) > 0) * 1.0, 0.5
    p = lambda w: sigmoid(a @ w.T)

    def value(w):
        fit = -(y * np.log(p(w)) + (1 - y) * np.log(1 - p(w))).sum() / 5
        return fit + reg / 10 * (w[:, 1:] ** 2).sum()

    grad = lambda w, first: (p(w) - y).T @ a / 5 + reg / 5 * np.c_[np.full(3, first), w[:, 1:]]
    return value, rand(3, 4, seed=2), lambda w: grad(w, 0.0), lambda w: grad(w, 1.0)


@pair(
    "Burton2000/CS231n-2017#9",
    "course solution: the loss penalises the biases, their gradient does not",
    says="b1: looks like a term in b1: the error is proportional to it (-1)",
    because="2 reg b is missing, with reg = 0.5",
)
def penalty_of_biases_forgotten():
    x, v, reg = rand(5, 3), rand(4, seed=2), 0.5
    h = lambda p: np.tanh(x @ p["W1"] + p["b1"])
    value = lambda p: (v * h(p)).sum() + reg * ((p["W1"] ** 2).sum() + (p["b1"] ** 2).sum())

    def grad(p, k):
        d = v * (1 - h(p) ** 2)
        return {"W1": x.T @ d + 2 * reg * p["W1"], "b1": d.sum(0) + k * 2 * reg * p["b1"]}

    return value, {"W1": rand(3, 4, seed=1), "b1": rand(4, seed=3)}, lambda p: grad(p, 1), lambda p: grad(p, 0)


@network(
    "Artelnics/opennn#241",
    "the penalty's gradient is added after the gradient was handed on",
    says="the gradient of the whole penalty is missing",
    because="every weight lacks exactly the penalty's gradient",
)
def penalty_added_too_late():
    model = nn.mlp((4, 3, 2), seed=0, dtype=np.float64)
    penalty = Penalty(surrogate=Laplace(beta=5.0), alpha=0.05, l2=0.01)

    def wrong(true, params):
        pull = penalty.gradient(params, penalty.factors(model))
        return {k: g - pull[k] if k in pull else g for k, g in true.items()}

    return model, rand(5, 4), LABELS, penalty, wrong


@pair(
    "wush978/KDD2015wpp#11",
    "censored regression: the second penalty's weight is missing in the gradient",
    says="a term in x: the error is proportional to it (0.7)",
    because="w is added in place of 0.3 w",
)
def weight_of_a_penalty_missing():
    x, y = rand(6, 4), rand(6, seed=1)
    value = lambda w: ((x @ w - y) ** 2).sum() / 2 + 0.3 / 2 * (w**2).sum()
    grad = lambda w, k: x.T @ (x @ w - y) + k * w
    return value, rand(4, seed=2), lambda w: grad(w, 0.3), lambda w: grad(w, 1.0)


@network(
    "rasmusbergpalm/DeepLearnToolbox#32",
    "weight decay pulls at the biases, which the loss does not penalise",
    says="fc1.bias: looks like a term in fc1.bias: the error is proportional to it (0.1)",
    because="0.1 times the bias is added",
)
def decay_of_biases():
    model = nn.mlp((4, 3, 2), seed=0, dtype=np.float64)
    model = model.replace(params={k: w + 0.1 * rand(*w.shape, seed=5) for k, w in model.params.items()})
    wrong = lambda true, params: {k: g + 0.1 * params[k] if k.endswith("bias") else g for k, g in true.items()}
    return model, rand(5, 4), LABELS, Penalty(alpha=0.01, l2=0.1), wrong
