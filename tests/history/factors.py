"""Signs, 2 and 1/2, means and sums."""

from __future__ import annotations

import numpy as np

from l0ref import nn
from l0ref.penalty import Penalty
from l0ref.surrogates import L1
from tests.history.case import network, operation, pair, rand, sigmoid, softmax

LABELS = np.array([0, 1, 1, 0, 1])


@pair(
    "paiml/aprender#2182 (sum)",
    "summed cross-entropy still divides its gradient by the batch size",
    says="a mean where a sum belongs: 4 times too small, and 4 is the length of axis 0",
    because="the batch lies along axis 0",
)
def cross_entropy_summed():
    y = np.array([0, 2, 1, 1])
    d = lambda z: softmax(z) - np.eye(3)[y]
    return lambda z: -np.log(softmax(z))[np.arange(4), y].sum(), rand(4, 3), d, lambda z: d(z) / 4


@pair(
    "jingtinghuang/CS231n-Spring-2017#3",
    "SVM homework: the gradient of the L2 penalty lacks its factor 2",
    says="a term in x: the error is proportional to it (-0.5)",
    because="half of 2 reg w is missing, with reg = 0.5",
)
def svm_l2_factor():
    x, y, reg = rand(6, 4, seed=1), np.array([0, 1, 2, 0, 1, 2]), 0.5

    def margins(w):
        s = x @ w
        m = np.maximum(0, s - s[np.arange(6), y][:, None] + 1)
        m[np.arange(6), y] = 0
        return m

    def grad(w, k):
        b = (margins(w) > 0) * 1.0
        b[np.arange(6), y] = -b.sum(1)
        return x.T @ b / 6 + k * reg * w

    value = lambda w: margins(w).sum() / 6 + reg * (w**2).sum()
    return value, rand(4, 3), lambda w: grad(w, 2), lambda w: grad(w, 1)


@network(
    "NeuromatchAcademy/course-content-dl#423",
    "course text: the gradient of the squared weights is written without its factor 2",
    says="the gradient of the whole penalty is half of what it should be",
    because="half of the penalty's gradient is missing in every weight",
)
def course_l2_factor():
    model = nn.mlp((4, 3, 2), seed=0, dtype=np.float64)
    l2 = 0.1

    def wrong(true, params):
        return {k: g - l2 * params[k] if k.endswith("weight") else g for k, g in true.items()}

    return model, rand(5, 4), LABELS, Penalty(alpha=0.0, l2=l2), wrong


@pair(
    "jax-ml/jax#3213",
    "example in the documentation: the derivative of sin(x) y along y has the wrong sign",
    says="y: looks like the wrong sign",
    because="it is minus the true gradient, in y alone",
)
def documented_sign():
    grad = lambda p, k: {"x": np.cos(p["x"]) * p["y"], "y": k * np.sin(p["x"])}
    x = {"x": rand(3), "y": rand(3, seed=1)}
    return lambda p: (np.sin(p["x"]) * p["y"]).sum(), x, lambda p: grad(p, 1), lambda p: grad(p, -1)


@pair(
    "HIPS/autograd#412",
    "the gradient of the multivariate normal log-density along its covariance has the wrong sign",
    says="the wrong sign: minus the true gradient",
    because="every entry is minus the true one",
)
def covariance_sign():
    x = rand(2, seed=1)

    def value(s):
        s = (s + s.T) / 2
        return -0.5 * np.linalg.slogdet(s)[1] - 0.5 * x @ np.linalg.solve(s, x)

    def grad(s):
        inverse = np.linalg.inv((s + s.T) / 2)
        return 0.5 * (np.outer(inverse @ x, inverse @ x) - inverse)

    return value, np.array([[2.0, 0.3], [0.3, 1.0]]), grad, lambda s: -grad(s)


@operation(
    "markroxor/fromscratchtoml#65",
    "the gradient of soft-max is off by a factor of two",
    says="a factor 2 too large",
    because="every entry is twice the true one",
)
def softmax_twice():
    true = lambda xs, y_bar: [softmax(xs[0]) * (y_bar - (y_bar * softmax(xs[0])).sum(-1, keepdims=True))]
    return softmax, [rand(4, 5)], true, lambda xs, y_bar: [2 * true(xs, y_bar)[0]]


@pair(
    "bighuang624/Andrew-Ng-Deep-Learning-notes#10",
    "course exercise on gradient checking: a weight gradient is doubled, a bias gradient multiplied by 4",
    says="W2: looks like a factor 2 too large",
    because="W2 is twice and b1 four times the true gradient, and both are said",
)
def course_planted_factors():
    x, y, m = rand(5, 4), np.array([[1.0, 0.0, 1.0, 1.0]]), 4

    def run(p):
        a1 = np.tanh(p["W1"] @ x + p["b1"])
        return a1, sigmoid(p["W2"] @ a1)

    def value(p):
        a2 = run(p)[1]
        return -(y * np.log(a2) + (1 - y) * np.log(1 - a2)).sum() / m

    def grad(p, two, four):
        a1, a2 = run(p)
        d2 = a2 - y
        d1 = p["W2"].T @ d2 * (1 - a1**2)
        return {"W1": d1 @ x.T / m, "b1": four * d1.sum(1, keepdims=True) / m, "W2": two * d2 @ a1.T / m}

    p = {"W1": rand(3, 5, seed=1), "b1": rand(3, 1, seed=2), "W2": rand(1, 3, seed=3)}
    return value, p, lambda p: grad(p, 1, 1), lambda p: grad(p, 2, 4)


@operation(
    "sebgao/cTensor#3",
    "the weight gradient of a convolution is divided by the number of places and samples",
    says="inputs[1]: looks like a constant factor: 0.166666667 times the true gradient",
    because="2 samples of 3 places make 6",
)
def convolution_weight_mean():
    def forward(x, w):
        return np.stack([(x[:, i : i + 3] * w).sum(1) for i in range(3)], 1)

    def vjp(by):
        def of(xs, y_bar):
            x, w = xs
            gx = np.zeros_like(x)
            for i in range(3):
                gx[:, i : i + 3] += y_bar[:, i : i + 1] * w
            return [gx, sum(y_bar[:, i] @ x[:, i : i + 3] for i in range(3)) / by]

        return of

    return forward, [rand(2, 5), rand(3, seed=1)], vjp(1), vjp(6)


@network(
    "bashardudin/Epita-SCIA-OCVX#1",
    "course notebook: the gradient of the l1 norm has lost its sign",
    says="wrong exactly where fc1.weight is negative",
    because="the absolute value differs from the gradient where the sign is negative",
)
def l1_without_its_sign():
    model = nn.mlp((4, 3, 2), seed=0, dtype=np.float64)

    def wrong(true, params):
        sign = {k: 0.1 * np.sign(w) for k, w in params.items() if k.endswith("weight")}
        return {k: g - sign[k] + np.abs(sign[k]) if k in sign else g for k, g in true.items()}

    return model, rand(5, 4), LABELS, Penalty(surrogate=L1(), alpha=0.1), wrong
