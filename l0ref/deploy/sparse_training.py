"""Training a pruned network without its zeros: the same numbers as under masks within rounding, in a part of the time.

    masked  ->  sparse     `sparse_twin`, and the optimiser's memory of the entries that stay: `gathered`
    sparse  ->  masked     `masked_twin`, and the memory with 0 where the masks remove: `scattered`

Sums are taken in another order, so bits differ from training under masks, and are the same in every run. Which layers
are sparse depends on how full they are alone, never on a clock. A network without a compiled chain trains under masks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from l0ref.data import Dataset
from l0ref.deploy.compact import sparse_twin
from l0ref.errors import Diverged, Interrupted
from l0ref.masks import masked
from l0ref.nn import Model
from l0ref.optim import State as Slots
from l0ref.training import History, Recipe, Trainer
from l0ref.training.fitting import watched
from l0ref.training.steps import ChainSteps
from l0ref.validate import Array

DENSEST = 0.2  # share of weights up to which no layer of the LeNets trained slower without its zeros, most much faster


def follow_sparse(
    recipe: Recipe,
    model: Model,
    data: Dataset,
    *,
    seed: int,
    memory: Slots | None = None,
    window: tuple[int, int] | None = None,
    progress: str = "auto",
    every: int = 1,
    label: str = "",
    **options: Any,
) -> tuple[Model, History, Slots]:
    """Train a masked model by a recipe, in sparse layers where that pays; return it masked, with the memory it leaves.

    memory   what the optimiser remembers of an earlier training, in the shapes of `model`; None: nothing
    window   (first, all): the schedule is one of `all` epochs, of which these begin after `first`; None: its own
    options  of `follow`, without hooks and checkpoint: what sees the states would see them without their zeros
    """
    trainer = Trainer(recipe, sparse_where_faster(model), data, seed, **options)
    if not isinstance(trainer.steps, ChainSteps):
        trainer = Trainer(recipe, model, data, seed, **options)
    state, twin = trainer.start(), trainer.model
    if memory is not None:
        parts = {name: gathered(part, model, twin) for name, part in memory.slots.items()}
        state = dataclasses.replace(state, slots=Slots(memory.step, parts))
    if window is not None:
        steps = state.steps // max(recipe.epochs, 1)  # of an epoch
        state = dataclasses.replace(state, step=window[0] * steps, steps=window[1] * steps)
    try:
        state = watched(trainer, state, progress=progress, every=every, label=label)
    except (Diverged, Interrupted) as stop:
        stop.model = None if stop.model is None else masked_twin(stop.model, model)
        raise
    trained, history = trainer.result(state)
    parts = {name: scattered(part, model, twin) for name, part in state.slots.slots.items()}
    return masked_twin(trained, model), history, Slots(state.slots.step, parts)


def sparse_where_faster(model: Model) -> Model:
    """Return the model with a sparse layer for every weight array that its mask leaves few enough of; see DENSEST."""
    few = {key: np.count_nonzero(m) <= DENSEST * m.size for key, m in model.masks.items()}
    return sparse_twin(model, only=[key for key in model.weights if few.get(key) and key not in model.patterns])


def masked_twin(twin: Model, like: Model) -> Model:
    """Return a sparse twin of the masked model `like` as a masked model: the arrays of the twin under those masks.

    >>> from l0ref import nn, prune
    >>> model = prune(nn.digits_mlp(seed=0), amount=0.9)
    >>> masked_twin(sparse_where_faster(model), model).params["fc1.weight"].shape
    (300, 64)
    """
    return like.replace(params=scattered(twin.params, like, twin), buffers=twin.buffers)


def gathered(arrays: Mapping[str, Array], model: Model, twin: Model) -> dict[str, Array]:
    """Return arrays like the parameters of a masked model as arrays like those of its sparse twin."""
    sparse = _sparse(model, twin)
    return {k: a[model.masks[k]] if k in sparse else masked(a, model.masks.get(k)) for k, a in arrays.items()}


def scattered(arrays: Mapping[str, Array], model: Model, twin: Model) -> dict[str, Array]:
    """Return arrays like the parameters of a sparse twin as arrays like those of the masked model, 0 elsewhere."""
    found = dict(arrays)
    for key in _sparse(model, twin):
        found[key] = np.zeros(model.params[key].shape, arrays[key].dtype)
        found[key][model.masks[key]] = arrays[key]
    return found


def _sparse(model: Model, twin: Model) -> set[str]:
    """The weight arrays that are sparse in the twin alone."""
    return set(twin.patterns) - set(model.patterns)
