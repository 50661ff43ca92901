"""MyGrad trains a network of linear layers, convolutions, ReLU and max-pooling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from l0ref.bench.peers.numpy_loop import NumpyLoop
from l0ref.bench.training import LAPLACE, PENALTY, Training
from l0ref.bench.work import Contender
from l0ref.errors import ArgumentError
from l0ref.interop.extras import need
from l0ref.nn import Conv2d, Flatten, Layer, Linear, MaxPool2d, ReLU
from l0ref.validate import Array, pair


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
    weight, bias = params.get(f"{layer.name}.weight"), params.get(f"{layer.name}.bias")
    match layer:
        case Flatten():
            return a.reshape(len(a), -1)
        case ReLU():
            return need("mygrad.nnet.activations", extra="bench").relu(a)
        case Linear():
            return mg.matmul(a, weight.T) + bias  # type: ignore[union-attr]
        case Conv2d():
            y = layers.conv_nd(a, weight, stride=layer.stride, padding=layer.padding)
            return y + bias.reshape(1, -1, 1, 1)  # type: ignore[union-attr]
        case MaxPool2d():
            window = pair("kernel_size", layer.kernel_size)
            return layers.max_pool(a, window, stride=window)
    raise ArgumentError(f"layer={layer!r} is not translated to MyGrad; add it to l0ref.bench.peers.mygrad_trainer")
