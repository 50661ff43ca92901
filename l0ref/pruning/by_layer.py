"""What methods share that go through a network layer by layer: budgets, the samples of a layer, exact masks."""

from __future__ import annotations

import numpy as np

from l0ref.nn import Layer, Model
from l0ref.nn.activations import ELEMENTWISE
from l0ref.nn.sequence import leaves
from l0ref.pruning.prune import prune_by
from l0ref.pruning.score import SCORES
from l0ref.pruning.trace import answers, layer_of, patches, trace
from l0ref.validate import Array


def magnitude_plan(model: Model, *, amount: float, scope: str, min_keep: int) -> dict[str, Array]:
    """Return the masks of magnitude pruning: how many weights each layer, and each row, keeps."""
    pruned = prune_by(model, SCORES["magnitude"](model, None), amount=amount, scope=scope, min_keep=min_keep)
    return {key: pruned.masks[key] for key in model.weights}


def inputs_and_answers(now: Model, trained: Model, key: str, x: Array) -> tuple[Array, Array]:
    """Return what enters a layer of `now`, (N, P), and its pre-activations in `trained`, (N, M), as float64 rows."""
    layer = layer_of(trained, key)
    inputs = [patches(layer, s[key].inputs) for s in trace(now, x, keys=[key])]
    wanted = [answers(layer, s[key].preactivations) for s in trace(trained, x, keys=[key])]
    return np.concatenate(inputs).astype(np.float64), np.concatenate(wanted).astype(np.float64)


def activation_behind(model: Model, key: str) -> Layer | None:
    """Return the activation directly behind the layer of a weight, or None."""
    layers = list(leaves(model.architecture))
    place = layers.index(layer_of(model, key)) + 1
    return layers[place] if place < len(layers) and isinstance(layers[place], ELEMENTWISE) else None


def exact_mask(weights: Array, plan: Array, model: Model, key: str) -> Array:
    """Return a mask of as many weights as `plan` keeps: the largest found, then, if too few, the largest trained."""
    alive, trained = model.mask(key), np.abs(model.params[key])
    order = np.lexsort((-trained.ravel(), -np.abs(weights).ravel(), ~alive.ravel()))
    mask = np.zeros(plan.size, bool)
    mask[order[: int(plan.sum())]] = True
    return mask.reshape(plan.shape)
