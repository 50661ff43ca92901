"""A network layer by layer: each layer gets few weights that answer its samples as the trained one does.

    parallel  every layer sees the inputs of the trained network
    cascade   every layer sees the inputs that the layers pruned before it leave, and aims at the trained answers

What happens to a layer is a function of its `Quadratic`; by default `solve`. Biases are the best for the new weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.layerwise import Quadratic, solve
from l0ref.nn import Conv2d, Model
from l0ref.pruning.trace import answers, layer_of, patches, trace
from l0ref.validate import Array, choose, count

Fit = Callable[[Quadratic, int], tuple[Array, Array]]  # quadratic, weights that stay -> weights (M, P), support


def layer_quadratic(
    model: Model, key: str, x: Array, *, inputs: Model | None = None, ridge: float = 1e-3, chunk: int = 256
) -> Quadratic:
    """Return the quadratic of one layer of `model` on samples x, the ridge towards its weights.

    inputs  another network, of the same architecture, whose signals enter the layer; its own if None
    """
    layer, weight = layer_of(model, key), model.params[key]
    if isinstance(layer, Conv2d) and layer.groups > 1:
        raise ArgumentError(f"key={key!r} is a convolution of {layer.groups} groups; use patches of each group")
    sources = trace(inputs or model, x, keys=[key], chunk=chunk), trace(model, x, keys=[key], chunk=chunk)

    def chunks() -> Iterator[tuple[Array, Array]]:
        for entering, aimed_at in zip(*sources, strict=True):
            yield patches(layer, entering[key].inputs), answers(layer, aimed_at[key].preactivations)

    return Quadratic.from_chunks(chunks(), ridge=ridge, weights=weight.reshape(len(weight), -1))


def prune_layers(
    model: Model, x: Array, keep: Mapping[str, int], *, driver: str = "cascade", seed: int = 0, fit: Fit | None = None
) -> Model:
    """Return the model with at most keep[key] weights in each layer named, fitted to samples x; others as they are.

    driver  "parallel" or "cascade"
    fit     what is done with a layer; None: `solve` with a budget for the layer as a whole

    >>> from l0ref import data, nn
    >>> images = data.load("digits", seed=0).train.x[:200]
    >>> small = prune_layers(nn.digits_mlp(seed=0), images, {"fc2.weight": 900})
    >>> int(small.masks["fc2.weight"].sum())
    900
    """
    choose("driver", driver, ("parallel", "cascade"))
    for key in keep:
        layer_of(model, key)
        count(f"keep[{key!r}]", keep[key])

    def solved(layer: Quadratic, k: int) -> tuple[Array, Array]:
        found = solve(layer, k, scope="layer", seed=seed)
        return found.weights, found.support

    done = model
    for key in (k for k in model.weights if k in keep):
        layer = layer_quadratic(model, key, x, inputs=done if driver == "cascade" else None)
        weights, support = (fit or solved)(layer, keep[key])
        shape, bias = model.params[key].shape, key.replace(".weight", ".bias")
        params = {**done.params, key: weights.reshape(shape)}
        if bias in params:
            params[bias] = np.asarray(layer.bias(weights))
        done = done.replace(params=params, masks={**done.masks, key: support.reshape(shape)})
    return done
