"""Layer-wise pruning of a network: few weights per layer, fitted to the outputs of the trained layer on samples.

    parallel  every layer sees the inputs of the trained network
    cascade   every layer sees the outputs of the layers pruned before it, and is fitted to the trained outputs

A layer is pruned or repaired by a function of its `Quadratic`: `solve`, or one of `layerwise.repair`. The biases are
optimal for the new weights. Layer-wise methods share the other functions: samples, budgets, masks of an exact size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from l0ref.layerwise import Quadratic, solve
from l0ref.layerwise.operator import answers, groups_of, layer_of, patches
from l0ref.layerwise.repair import REPAIRS, repair
from l0ref.nn import Layer, Model, Residual
from l0ref.nn.activations import ELEMENTWISE
from l0ref.pruning.prune import prune_by
from l0ref.pruning.score import SCORES
from l0ref.pruning.trace import CHUNK, trace
from l0ref.validate import Array, choose, count

Fit = Callable[[Quadratic, str, slice], tuple[Array, Array]]  # layer, its key, its rows -> weights (M, P), mask


def samples_of(
    model: Model, key: str, x: Array, *, inputs: Model | None = None, chunk: int = CHUNK, group: int | None = None
) -> Iterator[tuple[Array, Array]]:
    """Yield the input rows of a layer, (N, P), and its pre-activations, (N, M), for `chunk` of the samples x at a time.

    inputs  another network of the same architecture, from which the inputs are taken; None: `model`
    group   of a convolution that has groups
    """
    layer, name = layer_of(model, key), key.removesuffix(".weight")
    own = trace(model, x, chunk=chunk)
    pairs = zip(trace(inputs, x, chunk=chunk), own, strict=True) if inputs is not None else ((s, s) for s in own)
    for entering, aimed_at in pairs:
        yield (
            patches(layer, entering.entering[name].data, group=group),
            answers(layer, aimed_at.leaving[name].data, group=group),
        )


def layer_quadratic(model: Model, key: str, x: Array, *, ridge: float = 1e-3, **options: Any) -> Quadratic:
    """Return the quadratic of one layer of `model`, its ridge towards the weights; `options` as in `samples_of`."""
    layer = layer_of(model, key)
    rows = dict(groups_of(layer))[options.get("group")]
    weight = model.params[f"{layer.name}.weight"][rows]
    chunks = samples_of(model, key, x, **options)
    return Quadratic.from_chunks(
        chunks, ridge=ridge, weights=weight.reshape(len(weight), -1), centred=f"{layer.name}.bias" in model.params
    )


def inputs_and_answers(
    now: Model, trained: Model, key: str, x: Array, *, group: int | None = None
) -> tuple[Array, Array]:
    """Return the inputs of a layer in `now`, (N, P), and its pre-activations in `trained`, (N, M), as float64 rows."""
    parts = zip(*samples_of(trained, key, x, inputs=None if now is trained else now, group=group), strict=True)
    inputs, wanted = (np.concatenate(part).astype(np.float64) for part in parts)
    return inputs, wanted


def prune_layers(model: Model, x: Array, keep: Mapping[str, int], *, driver: str = "cascade", seed: int = 0) -> Model:
    """Return the model with at most keep[key] weights in each layer named, fitted to samples x; others do not change.

    keep    by weight array; each group of a convolution keeps as many as magnitude pruning of the layer leaves it
    driver  "parallel" or "cascade"

    >>> from l0ref import data, nn
    >>> images = data.load("digits", seed=0).train.x[:200]
    >>> small = prune_layers(nn.digits_mlp(seed=0), images, {"fc2.weight": 900})
    >>> int(small.masks["fc2.weight"].sum())
    900
    """
    for key in keep:
        layer_of(model, key)
        count(f"keep[{key!r}]", keep[key])

    def fit(layer: Quadratic, key: str, rows: slice) -> tuple[Array, Array]:
        w, k = np.abs(model.params[key]), keep[key]
        if rows != slice(None):
            largest = np.argsort(-w, axis=None, kind="stable")[:k]
            k = int(np.isin(np.arange(w.size).reshape(w.shape)[rows], largest).sum())
        found = solve(layer, k, scope="layer", seed=seed)
        return found.weights, found.support

    return _in_turn(model, [key for key in model.weights if key in keep], x, driver, fit)


def repaired(pruned: Model, trained: Model, x: Array, *, how: str = "least_squares", driver: str = "cascade") -> Model:
    """Return the pruned model with the remaining weights repaired, layer by layer, to fit the trained outputs on x.

    how     "least_squares", "obs", "bias_and_scale", "reweighting" or "none": see `layerwise.repair`
    driver  "parallel" or "cascade"
    """
    if choose("how", how, REPAIRS) == "none":
        return pruned

    def fit(layer: Quadratic, key: str, rows: slice) -> tuple[Array, Array]:
        mask = pruned.mask(key)[rows]
        return repair(layer, mask.reshape(len(mask), -1), how=how), mask

    return _in_turn(trained, trained.weights, x, driver, fit)


def _in_turn(model: Model, keys: Sequence[str], x: Array, driver: str, fit: Fit) -> Model:
    """Return the model with the weights and masks that `fit` finds, one layer after another, and optimal biases."""
    cascade, done = choose("driver", driver, ("parallel", "cascade")) == "cascade", model
    for key in keys:
        found = []
        for group, rows in groups_of(layer_of(model, key)):
            layer = layer_quadratic(model, key, x, inputs=done if cascade else None, group=group)
            weights, mask = fit(layer, key, rows)
            found.append((weights, np.asarray(layer.bias(weights)), mask))
        done = with_layer(done, key, *(np.concatenate(part) for part in zip(*found, strict=True)))
    return done


def with_layer(model: Model, key: str, weights: Array, biases: Array, mask: Array) -> Model:
    """Return the model with new weights, mask and, if the layer has one, bias, in the shape and dtype of the layer."""
    shape, bias = model.params[key].shape, key.replace(".weight", ".bias")
    params = {**model.params, key: weights.reshape(shape).astype(model.dtype)}
    if bias in params:
        params[bias] = biases.astype(model.dtype)
    return model.replace(params=params, masks={**model.masks, key: mask.reshape(shape)})


def magnitude_plan(model: Model, *, amount: float, scope: str, min_keep: int) -> dict[str, Array]:
    """Return the masks of magnitude pruning, which say how many weights each layer, and each row, keeps."""
    pruned = prune_by(model, SCORES["magnitude"](model, None), amount=amount, scope=scope, min_keep=min_keep)
    return {key: pruned.masks[key] for key in model.weights}


def activation_behind(layers: Sequence[Layer], key: str) -> Layer | None:
    """Return the activation directly behind the layer of a weight, or None."""
    for layer, after in zip_longest(layers, layers[1:]):
        if key in layer.weights():
            inner = (layer.body, layer.shortcut) if isinstance(layer, Residual) else ()
            found = [activation_behind(part, key) for part in inner]
            return next(filter(None, found), None) if inner else after if isinstance(after, ELEMENTWISE) else None
    return None


def exact_mask(weights: Array, plan: Array, model: Model, key: str) -> Array:
    """Return a mask of as many weights as `plan` keeps: the largest of `weights`, then the largest trained ones."""
    alive, trained = model.mask(key), np.abs(model.params[key])
    order = np.lexsort((-trained.ravel(), -np.abs(weights).ravel(), ~alive.ravel()))
    mask = np.zeros(plan.size, bool)
    mask[order[: int(plan.sum())]] = True
    return mask.reshape(plan.shape)
