"""Training with the gradients of autograd and MyGrad, and with the loop over batches and Adam in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from l0ref.bench.training import LAPLACE, PENALISED, PENALTY, Training
from l0ref.bench.work import Answers, Contender
from l0ref.errors import ArgumentError
from l0ref.interop.extras import need
from l0ref.nn import Conv2d, Flatten, Layer, Linear, MaxPool2d, ReLU
from l0ref.validate import Array, pair


class NumpyAdam:
    """Adam as a user of a library without optimisers writes it: w, m and v are updated in place.

    Formulas as in `l0ref.optim.adam_step`, defaults as in `l0ref.optim.Adam`.
    """

    def __init__(self, params: Mapping[str, Array], *, lr: float) -> None:
        self.params, self.lr = {k: w.copy() for k, w in params.items()}, lr
        self.m = {k: np.zeros_like(w) for k, w in params.items()}
        self.v = {k: np.zeros_like(w) for k, w in params.items()}
        self.t = 0

    def step(self, grads: Mapping[str, Array]) -> None:
        """Move every parameter against its gradient."""
        self.t += 1
        beta1, beta2 = 0.9, 0.999
        rate, root = self.lr / (1 - beta1**self.t), (1 - beta2**self.t) ** 0.5
        for key, g in grads.items():
            m, v = self.m[key], self.v[key]
            m *= beta1
            m += (1 - beta1) * g
            v *= beta2
            v += (1 - beta2) * (g * g)
            self.params[key] -= rate * m / (np.sqrt(v) / root + 1e-8)


# (parameters, images, labels) -> (data loss, gradients of data loss + penalty)
Gradient = Callable[[Mapping[str, Array], Array, Array], tuple[float, Mapping[str, Array]]]


class NumpyLoop:
    """Training with a given gradient and `NumpyAdam`."""

    def __init__(self, task: Training, gradient: Gradient) -> None:
        self.task, self.gradient = task, gradient
        self.reset()

    def contender(self, name: str) -> Contender:
        """The loop as a contender."""
        return Contender(name, self.run, reset=self.reset, answer=self.answer, problem=PENALISED)

    def reset(self) -> None:
        """Restore the initial weights and an empty state of Adam."""
        self.adam = NumpyAdam(self.task.model.params, lr=self.task.lr)

    def run(self, steps: int) -> float:
        """The timed call; returns the mean data loss."""
        data, total = self.task.data(steps), 0.0
        for rows in self.task.order(steps):
            loss, grads = self.gradient(self.adam.params, data.x[rows], data.y[rows])
            self.adam.step(grads)
            total += loss * len(rows)
        return total / len(data)

    def answer(self, mean_loss: float) -> Answers:
        """The change of the weights."""
        return self.task.moved(self.adam.params, mean_loss)


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


def mygrad_trainer(task: Training) -> Contender:
    """Return a contender whose network, loss and penalty are differentiated by MyGrad."""
    mg = need("mygrad", extra="bench")
    losses = need("mygrad.nnet.losses", extra="bench")
    prices = {k: c * PENALTY.alpha for k, c in PENALTY.factors(task.model).items()}
    beta, l2 = LAPLACE.beta, PENALTY.l2

    def gradient(params: Mapping[str, Array], x: Array, y: Array) -> tuple[float, Mapping[str, Array]]:
        tensors = {key: mg.tensor(w, copy=False) for key, w in params.items()}
        a = x
        for layer in task.model.architecture:
            a = apply(layer, a, tensors)
        data_loss = losses.softmax_crossentropy(a, y)
        penalty = 0
        for key, price in prices.items():
            w = tensors[key]
            # The factors have the type of w: MyGrad would compute in float64 with Python's numbers.
            decayed = mg.exp(-w.dtype.type(beta) * mg.abs(w))
            penalty = penalty + price * mg.sum(1 - decayed) + l2 * mg.sum(w * w)
        (data_loss + penalty).backward()
        return float(data_loss), {key: np.asarray(t.grad) for key, t in tensors.items()}

    return NumpyLoop(task, gradient).contender("MyGrad, Adam in NumPy")


def apply(layer: Layer, a: Any, params: Mapping[str, Any]) -> Any:
    """Return the output of one layer of ours, computed by MyGrad."""
    mg, layers = need("mygrad", extra="bench"), need("mygrad.nnet.layers", extra="bench")
    weight: Any = params.get(f"{layer.name}.weight")
    bias: Any = params.get(f"{layer.name}.bias")
    match layer:
        case Flatten():
            return a.reshape(len(a), -1)
        case ReLU():
            return need("mygrad.nnet.activations", extra="bench").relu(a)
        case Linear():
            return mg.matmul(a, weight.T) + bias
        case Conv2d():
            y = layers.conv_nd(a, weight, stride=layer.stride, padding=layer.padding)
            return y + bias.reshape(1, -1, 1, 1)
        case MaxPool2d():
            window = pair("kernel_size", layer.kernel_size)
            return layers.max_pool(a, window, stride=window)
    raise ArgumentError(f"layer={layer!r} is not translated to MyGrad; add it to l0ref.bench.training_numpy")
