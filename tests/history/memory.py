"""What one call leaves behind for the next: buffers that are not cleared, arrays that are changed in place."""

from __future__ import annotations

import numpy as np

from l0ref import nn
from l0ref.penalty import Penalty
from tests.history.case import network, pair, rand

AGAIN = "not deterministic: two backward passes at the same inputs differ"


@pair(
    "karpathy/micrograd#53",
    "inner nodes keep their gradients, so a second backward pass counts them again",
    says=AGAIN,
    because="the first call is right, the second is not",
)
def inner_nodes_keep_gradients():
    state = {"c": 0.0}

    def grad(v, keep):
        a, b, d = v
        c = (state["c"] if keep else 0.0) + d
        if keep:
            state["c"] = c
        return np.array([c, c, a + b])

    return lambda v: (v[0] + v[1]) * v[2], np.array([3.0, 2.0, 1.0]), lambda v: grad(v, False), lambda v: grad(v, True)


@network(
    "karpathy/micrograd#102",
    "only the leaves are zeroed between two passes of training",
    says=AGAIN,
    because="every call adds to what the one before left",
)
def network_gradients_add_up():
    model = nn.mlp((4, 3, 2), seed=0, dtype=np.float64)
    total = {k: np.zeros(w.shape) for k, w in model.params.items()}

    def wrong(true, _):
        for k, g in true.items():
            total[k] += g
        return {k: g.copy() for k, g in total.items()}

    return model, rand(5, 4), np.array([0, 1, 1, 0, 1]), Penalty(alpha=0.01), wrong


@pair(
    "PaddlePaddle/Paddle#18728",
    "RoIAlign on the CPU adds into a gradient buffer that is never cleared",
    says=AGAIN,
    because="every call adds to what the one before left",
)
def buffer_never_cleared():
    i, t, c, buffer = np.array([0, 1, 1, 2]), np.array([0.2, 0.5, 0.8, 0.4]), rand(4), np.zeros(4)

    def grad(_, g):
        np.add.at(g, i, c * (1 - t))
        np.add.at(g, i + 1, c * t)
        return g.copy()

    value = lambda x: (c * ((1 - t) * x[i] + t * x[i + 1])).sum()
    return value, rand(4, seed=1), lambda x: grad(x, np.zeros(4)), lambda x: grad(x, buffer)


@pair(
    "pytorch/pytorch#197887",
    "a saved activation is changed in place between forward and backward, unnoticed",
    says="the gradient changes what the value reads",
    because="the activation is what the value reads",
)
def saved_activation_changed():
    x, c = rand(3, 2), rand(3, 4, seed=1)

    def wrong(_):
        np.add(x, 1.0, out=x)
        return x.T @ c

    return lambda w: (c * (x @ w)).sum(), rand(2, 4, seed=2), lambda _: x.T @ c, wrong
