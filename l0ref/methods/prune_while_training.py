"""Pruning filters while training: units are removed at events within one run, and their arrays become smaller at once.

    events     after the epochs start, start + every, ... up to stop
    share      of the budget gone after event e of E:
               linear e/E,   geometric (1 - (1 - a)^(e/E)) / a,   cubic 1 - (1 - e/E)^3,    a the fraction to remove
    criterion  l1: sum |w| of the filter;  activation: mean over samples and positions of the output of its last
               activation, behind batch normalisation;  random: uniform among the units left
    saving     1 - sum_e c(e) / (n c(first) + 10 c(final)) over n epochs,  c multiply-adds per sample: relative to
               training, pruning, and 10 epochs of fine-tuning

Removed filters stay removed: their weights, biases, momentum and batch normalisation no longer exist.

Ref      Roy, Panda, Srinivasan, Raghunathan 2020 (arXiv 2003.02800): criteria, and 41 % fewer computations than
         training, pruning and 10 epochs of retraining, from its abstract.
Departs  First epoch, interval, shares and learning rates are unknown [U]; this parameterisation and the formula of the
         saving are ours [I]. Units of linear layers are removed like filters. Units are ranked within their layer, and
         the ranks, as a share of its units, compared over layers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from l0ref import metrics
from l0ref.data import Dataset, Splits
from l0ref.errors import ArgumentError
from l0ref.masks.ranking import drop_count
from l0ref.methods.registry import NO_FEED, Feed, Pruned, calibration, method
from l0ref.nn import Model
from l0ref.optim import SGD
from l0ref.pruning.axes import coupled_axes
from l0ref.pruning.shrink import Surgery, surgery
from l0ref.pruning.trace import trace
from l0ref.pruning.units import by_layer, free_axes, places, ranked_units, remove_in_order
from l0ref.schedules import Cosine
from l0ref.streams import stream
from l0ref.training import Recipe, Trainer, TrainingState
from l0ref.validate import Array, choose, count, positive

SHAPES = ("linear", "geometric", "cubic")
CRITERIA = ("l1", "activation", "random")
RETRAINING = 10  # epochs of fine-tuning in the paper's comparison


@method(
    "prune_while_training", paper="Roy et al. 2020", kind="training", reads=("weights", "activations", "training"),
    grain="unit", records=("events", "cost", "saving", "units"), marks="[I][U]", random=True,
)  # fmt: skip
def prune_while_training(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    epochs: int = 10, lr: float = 0.05, start: int = 1, every: int = 1, stop: int | None = None,
    shape: str = "cubic", criterion: str = "l1", samples: int = 500, feed: Feed = NO_FEED,
) -> Pruned:  # fmt: skip
    """Train, and remove units after some of the epochs; their arrays become smaller at once.

    scope               with "layer" no layer loses more than its own share of the amount at any event
    epochs, lr          of SGD with momentum 0.9 and a cosine schedule
    start, every, stop  epochs after which units go, counted from 1; stop: the middle of training by default
    shape, criterion    out of "linear", "geometric", "cubic" and "l1", "activation", "random"
    samples             of the training set, for the mean activation
    record              events {epoch: share of the budget}, units {epoch: {layer: removed units, as numbered before
                        the first event}}, cost (multiply-adds per sample, by epoch), saving
    """
    choose("criterion", criterion, CRITERIA)
    asked = drop_count(amount, model.size, "entries", "")
    last = max(count("epochs", epochs, least=1) // 2, start) if stop is None else stop
    ends = [e for e in range(count("start", start, least=1), last + 1, count("every", every, least=1)) if e < epochs]
    if not ends and asked:
        raise ArgumentError(f"epochs={epochs} ends before units go, after epoch start={start}; train for more epochs")
    shares = dict(zip(ends, event_shares(shape, len(ends), amount, model.size), strict=True))
    few = calibration(model, data, samples=samples, seed=seed)
    recipe = Recipe(epochs, optimizer=SGD(lr=positive("lr", lr), momentum=0.9), schedule=Cosine(final=0.01))
    now, state = model, Trainer(recipe, model, data.train, seed).start()
    own: dict[str, Any] = {"phase": "prune", **feed}
    kept = {key: np.arange(p.size).reshape(p.shape) for key, p in (*model.params.items(), *model.buffers.items())}
    alive = {axis: np.arange(n) for axis, n in coupled_axes(model).sizes.items()}
    cost: list[float] = []
    units: dict[int, dict[str, Any]] = {}
    for end in [*ends, epochs]:
        state = Trainer(dataclasses.replace(recipe, epochs=end), now, data.train, seed, **own).run(state)
        now = state.model(now)
        cost += [float(metrics.of(now)["flops"])] * (end - len(cost))
        if end in shares:
            fraction = scope == "layer" and isinstance(amount, float | np.floating)
            limit = shares[end] * amount if fraction else int(shares[end] * asked + 0.5)
            scores = unit_scores(now, few, criterion=criterion, seed=seed, number=end)
            how = {"amount": limit, "scope": scope, "min_keep": min_keep}
            cut = event(put_back(model, now, kept), now, alive, scores, **how)
            left = {axis: alive[axis][order] for axis, order in cut.order.items()}
            units[end] = {a: np.setdiff1d(alive[a], left[a]).tolist() for a in left if left[a].size < alive[a].size}
            now, state, kept, alive = cut.model, cut_state(cut, state), cut.arrays(kept), left
    whole = put_back(model, now, kept)
    saving = 1 - sum(cost) / (epochs * cost[0] + RETRAINING * float(metrics.of(whole)["flops_nz"])) if cost[0] else 0.0
    record = {"events": shares, "units": units, "cost": cost, "saving": saving}
    return Pruned(whole, record, epochs=epochs)


def event_shares(shape: str, events: int, amount: float, size: int) -> list[float]:
    """Return the share of the budget that has gone after each event; the last one reaches 1.

    >>> event_shares("linear", 4, 0.5, 100), event_shares("cubic", 2, 0.5, 100)
    ([0.25, 0.5, 0.75, 1.0], [0.875, 1.0])
    """
    choose("shape", shape, SHAPES)
    a = amount if isinstance(amount, float) else amount / max(size, 1)
    times = [(e + 1) / events for e in range(events)]
    if shape == "linear" or a in (0, 1):
        return times
    return [1 - (1 - t) ** 3 if shape == "cubic" else (1 - (1 - a) ** t) / a for t in times]


def event(whole: Model, now: Model, alive: dict[str, Array], scores: dict[str, Array], **how: Any) -> Surgery:
    """Return the cut of `now` that removes its lowest units, as many as the budget of the whole network allows.

    alive  by axis, the units of `whole` that are those of `now`
    how    amount, scope and min_keep of `remove_in_order`
    """
    order = [(axis, int(alive[axis][i])) for axis, i in ranked_units(places(scores))]
    units = remove_in_order(whole, order, **how)[1]
    return surgery(now, by_layer([(axis, int(np.searchsorted(alive[axis], i))) for axis, i in units]))


def unit_scores(model: Model, few: Dataset, *, criterion: str, seed: int, number: int) -> dict[str, Array]:
    """Return {axis: score of each unit}; layers that write one axis are averaged."""
    axes, rng = coupled_axes(model), stream(seed, "prune", number)
    means = mean_activations(model, few.x) if criterion == "activation" else {}
    scores = {}
    for axis, size in free_axes(model).items():
        writers = axes.writers(axis)
        rows = [model.params[f"{name}.weight"].reshape(size, -1) for name in writers]
        l1, noise = [np.abs(w).sum(axis=1, dtype=np.float64) for w in rows], rng.random(size)
        scores[axis] = noise if criterion == "random" else means[axis] if means else np.mean(l1, axis=0)
    return scores


def mean_activations(model: Model, x: Array) -> dict[str, Array]:
    """Return, by axis, the mean output of each unit behind its last activation, over samples and positions."""
    total: dict[str, Array] = {}
    for found in trace(model, x):
        for axis, tensor in found.activated.items():
            a = tensor.data.astype(np.float64)
            total[axis] = total.get(axis, 0) + a.reshape(*a.shape[:2], -1).mean(axis=2).sum(axis=0) / len(x)
    return total


def cut_state(cut: Surgery, state: TrainingState) -> TrainingState:
    """Return the training state for the smaller network: parameters, buffers and optimiser slots are cut alike."""
    slots = {name: cut.arrays(arrays) for name, arrays in state.slots.slots.items()}
    m = cut.model
    return dataclasses.replace(
        state, params=m.params, masks=m.masks, buffers=m.buffers, slots=dataclasses.replace(state.slots, slots=slots)
    )


def put_back(model: Model, small: Model, kept: dict[str, Array]) -> Model:
    """Return the small network in arrays of the original shapes, with its removed units masked."""
    params = {key: np.zeros_like(p) for key, p in model.params.items()}
    buffers = {key: np.array(b) for key, b in model.buffers.items()}
    masks = {key: np.zeros(model.params[key].shape, bool) for key in model.weights}
    for key, p in small.params.items():
        params[key].flat[kept[key].ravel()] = p.ravel()
    for key, b in small.buffers.items():
        buffers[key].flat[kept[key].ravel()] = b.ravel()
    for key in masks:
        masks[key].flat[kept[key].ravel()] = small.mask(key).ravel()
    return model.replace(params=params, buffers=buffers, masks=masks)
