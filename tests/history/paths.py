"""A path through the graph that is cut, or taken twice."""

from __future__ import annotations

import numpy as np

from tests.history.case import pair, rand, softmax
from tests.history.formulas import lstm_case

ZERO = "zero: the gradient vanishes at all compared entries"


@pair(
    "Theano/Theano#633",
    "clip(x, 0, x): the bound is x itself, and its gradient is dropped",
    says=ZERO,
    because="the whole gradient comes through the bound",
)
def clip_to_itself():
    wrong = lambda x: 1.0 * ((x > 0) & (x < x))
    return lambda x: np.clip(x, 0, x).sum(), np.array([5.0, 2.0]), np.ones_like, wrong


@pair(
    "sebgao/cTensor#5",
    "a node with two consumers is propagated once for each, with the sums so far",
    says="a constant factor: 1.16666667 times the true gradient",
    because="7 instead of 6 in every entry; that a path was counted twice is for the reader to find",
)
def node_visited_twice():
    return lambda x: (3 * x**2).sum(), np.array([1.0, -0.5]), lambda x: 6 * x, lambda x: 7 * x


@pair(
    "TrenTorch/TrenTorch#182",
    "a node with two consumers passes on only what came first",
    says="a constant factor: 0.285714286 times the true gradient",
    because="6 instead of 21 in every entry; that a path is missing is for the reader to find",
)
def node_passed_on_too_early():
    return lambda x: (3 * x * 2 + 3 * x * 5).sum(), np.array([2.0, 1.0]), lambda x: 21 + 0 * x, lambda x: 6 + 0 * x


@pair(
    "ml-explore/mlx#610",
    "looking at a comparison of an intermediate array cuts the tape",
    says=ZERO,
    because="nothing arrives behind the cut",
)
def detached_by_a_look():
    o = np.ones((3, 3, 3))
    return lambda x: ((x + o) ** 2).sum(), np.ones((3, 3)), lambda x: 2 * (x + o).sum(0), np.zeros_like


@pair(
    "pjreddie/darknet#636",
    "the backward pass of a GRU is an empty function",
    says=ZERO,
    because="an empty function leaves the gradient at 0",
)
def gru_without_backward():
    z, h = rand(3), rand(2, seed=1)
    u = lambda w: 1 / (1 + np.exp(-w @ z))
    value = lambda w: (u(w) * h + (1 - u(w)) * np.tanh(h)).sum()
    return value, rand(2, 3, seed=2), lambda w: np.outer((h - np.tanh(h)) * u(w) * (1 - u(w)), z), np.zeros_like


def _recurrent(w, xs):
    hs = [np.zeros(2)]
    for x in xs:
        hs.append(w @ hs[-1] + x)
    return hs


@pair(
    "d2l-ai/d2l-en#2616",
    "recurrent net: the gradient of the weights leaves out that the previous state depends on them too",
    because="what is left out grows with every step, differently in each entry",
)
def recurrent_weight_once():
    xs, a = rand(3, 2), rand(3, 2, seed=1)

    def grad(w, through):
        hs, g, d = _recurrent(w, xs), np.zeros((2, 2)), np.zeros(2)
        for t in (2, 1, 0):
            d = a[t] + through * (w.T @ d)
            g += np.outer(d, hs[t])
        return g

    value = lambda w: sum((a[t] * h).sum() for t, h in enumerate(_recurrent(w, xs)[1:]))
    return value, rand(2, 2, seed=2), lambda w: grad(w, 1), lambda w: grad(w, 0)


@pair(
    "qixianbiao/RNN#2",
    "recurrent net: the gradient of a state is not handed on to the state before",
    because="the inputs' weights lack the later steps, each entry by another amount",
)
def state_not_handed_on():
    xs, v, w = rand(4, 3), rand(2, seed=1), 0.8 * rand(2, 2, seed=2)

    def run(u):
        hs = [np.zeros(2)]
        for x in xs:
            hs.append(np.tanh(w @ hs[-1] + u @ x))
        return hs[1:]

    def grad(u, on):
        hs, g, later = run(u), np.zeros((2, 3)), np.zeros(2)
        for t in (3, 2, 1, 0):
            d = (v + on * later) * (1 - hs[t] ** 2)
            g += np.outer(d, xs[t])
            later = w.T @ d
        return g

    return lambda u: sum((v * h).sum() for h in run(u)), rand(2, 3, seed=3), lambda u: grad(u, 1), lambda u: grad(u, 0)


@pair(
    "paiml/entrenar#314",
    "tied weights: the embedding gets the gradient of its own use, not that of the output layer",
    because="the use that is left out touches every row, each by another amount",
)
def tied_weights_counted_once():
    i, y = np.array([0, 2, 1, 2]), np.array([2, 1, 3, 0])
    p = lambda w: softmax(np.tanh(w[i]) @ w.T)

    def grad(w, head):
        d, h = p(w) - np.eye(4)[y], np.tanh(w[i])
        g = head * d.T @ h
        np.add.at(g, i, d @ w * (1 - h**2))
        return g

    return lambda w: -np.log(p(w))[np.arange(4), y].sum(), rand(4, 3), lambda w: grad(w, 1), lambda w: grad(w, 0)


@pair(
    "arthurdouillard/deepcourse#9",
    "course MLP: the hidden bias gets the gradient after tanh instead of before",
    says="b: looks like an inner derivative is missing: the gradient stays the same at inputs nearby",
    because="without 1 - h^2 nothing in it depends on the bias",
)
def bias_after_tanh():
    x, v = rand(5, 3), rand(4, seed=2)
    h = lambda p: np.tanh(x @ p["W"] + p["b"])

    def grad(p, right):
        d = v * (1 - h(p) ** 2)
        return {"W": x.T @ d, "b": (d if right else np.broadcast_to(v, d.shape)).sum(0)}

    return (
        lambda p: (v * h(p)).sum(),
        {"W": rand(3, 4, seed=1), "b": rand(4, seed=3)},
        lambda p: grad(p, 1),
        lambda p: grad(p, 0),
    )


@pair(
    "hanbt/learn_dl#53",
    "LSTM: the biases of two gates get the forget gate's gradient",
    says="bi: looks like another input's gradient: it equals that of bf",
    because="it is the forget gate's, copied",
)
def lstm_biases_copied():
    return lstm_case("bias")
