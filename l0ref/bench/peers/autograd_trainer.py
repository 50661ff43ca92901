"""autograd trains a fully connected network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from l0ref.bench.peers.numpy_loop import NumpyLoop
from l0ref.bench.training import LAPLACE, PENALTY, Training
from l0ref.bench.work import Contender
from l0ref.interop.extras import need
from l0ref.nn import Linear, ReLU
from l0ref.validate import Array


def autograd_trainer(task: Training) -> Contender:
    """Return a contender whose network, loss and penalty are differentiated by autograd."""
    autograd, anp = need("autograd", extra="bench"), need("autograd.numpy", extra="bench")
    prices = {k: c * PENALTY.alpha for k, c in PENALTY.factors(task.model).items()}
    beta, l2 = LAPLACE.beta, PENALTY.l2
    data_losses: list[float] = []

    def loss(params: Mapping[str, Any], x: Array, y: Array) -> Any:
        a = x.reshape(len(x), -1)
        for layer in task.model.architecture:
            if isinstance(layer, Linear):
                a = anp.dot(a, params[f"{layer.name}.weight"].T) + params[f"{layer.name}.bias"]
            elif isinstance(layer, ReLU):
                a = anp.maximum(a, 0)
        shifted = a - anp.max(a, axis=1, keepdims=True)
        log_p = shifted - anp.log(anp.sum(anp.exp(shifted), axis=1, keepdims=True))
        data_loss = -anp.mean(log_p[anp.arange(len(y)), y])
        data_losses.append(float(data_loss._value))
        penalty = 0.0
        for key, price in prices.items():
            w = params[key]
            penalty = penalty + price * anp.sum(1 - anp.exp(-beta * anp.abs(w))) + l2 * anp.sum(w * w)
        return data_loss + penalty

    differentiate = autograd.grad(loss)

    def gradient(params: Mapping[str, Array], x: Array, y: Array) -> tuple[float, Mapping[str, Array]]:
        grads = differentiate(dict(params), x, y)
        return data_losses.pop(), grads

    return NumpyLoop(task, gradient).contender("autograd, Adam in NumPy")
