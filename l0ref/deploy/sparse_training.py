"""Training a pruned network without its zeros: the same numbers as under masks within rounding, in less time.

    masked  ->  sparse     `sparse_twin`, and the optimiser's state of the entries that stay: `gathered`
    sparse  ->  masked     the arrays and that state, with 0 where the masks remove: `scattered`

A `SparseTrainer` takes, saves and returns masked states, and takes its steps in sparse layers; so a hook may prune
during training, and training resumes from any saved state. Sums are taken in another order, so bits differ from
training under masks, but are the same in every run. Which layers are sparse depends only on their density, never on
measured times. A network without a compiled chain trains under masks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from l0ref.data import Dataset
from l0ref.deploy.compact import sparse_twin
from l0ref.masks import masked
from l0ref.nn import Model
from l0ref.optim import State as Slots
from l0ref.penalty import Pull
from l0ref.training import History, Recipe, Trainer, TrainingState
from l0ref.training.fitting import watched
from l0ref.training.steps import ChainSteps, Steps, Task, steps_for
from l0ref.validate import Array, sealed

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
    """Train a masked model by a recipe, in sparse layers where faster; return model, history and optimiser state.

    memory   the optimiser's state after an earlier training, in the shapes of `model`; None: a fresh one
    window   (first, all): the schedule spans `all` epochs, and this training begins after `first`; None: its own epochs
    options  of `follow`, without checkpoint; hooks get masked states, and may remove more weights
    """
    trainer = SparseTrainer(recipe, model, data, seed, **options)
    state = trainer.start()
    if memory is not None:
        state = dataclasses.replace(state, slots=memory)
    if window is not None:
        steps = state.steps // max(recipe.epochs, 1)  # of an epoch
        state = dataclasses.replace(state, step=window[0] * steps, steps=window[1] * steps)
    state = watched(trainer, state, progress=progress, every=every, label=label)
    return *trainer.result(state), state.slots


class SparseTrainer(Trainer):
    """A trainer that takes steps and evaluates the validation set in sparse layers where those are faster."""

    @cached_property
    def within(self) -> SparseSteps:
        """The object that takes the steps, with the twin it uses."""
        return SparseSteps(self.task, self.recipe.batch_size)

    @cached_property
    def steps(self) -> Steps:
        """The object that takes the steps."""
        return self.within

    def row(self, state: TrainingState) -> dict[str, Any]:
        """The history's row for an epoch whose last step led to `state`."""
        return Trainer.row(dataclasses.replace(self, model=self.within.twin), self.within.inside(state))


class SparseSteps:
    """Steps between states of a masked model, computed by its sparse twin if it has one."""

    def __init__(self, task: Task, batch_size: int) -> None:
        self._task, self._batch_size = task, batch_size
        self._turn_to(task.model)

    def _turn_to(self, model: Model) -> None:
        """Continue with the twin of this model."""
        twin = sparse_where_faster(model)
        steps = steps_for(dataclasses.replace(self._task, model=twin), batch_size=self._batch_size)
        if twin is not model and not isinstance(steps, ChainSteps):
            twin, steps = model, steps_for(dataclasses.replace(self._task, model=model), batch_size=self._batch_size)
        self.model, self.twin, self._steps, self.runs = model, twin, steps, steps.runs

    def begin(self, state: TrainingState) -> None:
        """Continue from this state, whatever its masks."""
        if state.masks is not self.model.masks:
            self._turn_to(state.model(self._task.model))
        self._steps.begin(self.inside(state))

    def take(self, order: Array, *, lr: float, pull: Pull) -> float:
        """Take one step on the samples data[order]; return their mean data loss before it."""
        return self._steps.take(order, lr=lr, pull=pull)

    def state(self) -> TrainingState:
        """Return the current state of the training."""
        return self._outside(self._steps.state(), scattered)

    def lent(self) -> TrainingState:
        """The same for inspection: parts that are not read cost nothing."""
        return self._outside(self._steps.lent(), Scattered)

    def take_back(self) -> None:
        """Continue without changing the parts of the lent state that are still held."""
        self._steps.take_back()

    def inside(self, state: TrainingState) -> TrainingState:
        """Return a masked state as one of the twin."""
        if self.twin is self.model:
            return state
        slots = {name: gathered(part, self.model, self.twin) for name, part in state.slots.slots.items()}
        params = gathered(state.params, self.model, self.twin)
        return dataclasses.replace(state, params=params, masks=self.twin.masks, slots=Slots(state.slots.step, slots))

    def _outside(self, state: TrainingState, spread: Any) -> TrainingState:
        """Return a state of the twin as a masked one."""
        if self.twin is self.model:
            return state
        slots = {name: spread(part, self.model, self.twin) for name, part in state.slots.slots.items()}
        params = spread(state.params, self.model, self.twin)
        return dataclasses.replace(state, params=params, masks=self.model.masks, slots=Slots(state.slots.step, slots))


def sparse_where_faster(model: Model) -> Model:
    """Return the model with a sparse layer for every weight array whose mask keeps at most the share DENSEST."""
    few = {key: np.count_nonzero(m) <= DENSEST * m.size for key, m in model.masks.items()}
    only = [key for key in model.weights if few.get(key) and key not in model.patterns]
    return sparse_twin(model, only=only) if only else model


def gathered(arrays: Mapping[str, Array], model: Model, twin: Model) -> dict[str, Array]:
    """Return arrays like the parameters of a masked model as arrays like those of its sparse twin."""
    sparse = _sparse(model, twin)
    return {k: a[model.masks[k]] if k in sparse else masked(a, model.masks.get(k)) for k, a in arrays.items()}


def scattered(arrays: Mapping[str, Array], model: Model, twin: Model) -> dict[str, Array]:
    """Return arrays like the parameters of a sparse twin as arrays like those of the masked model, 0 elsewhere.

    >>> from l0ref import nn, prune
    >>> model = prune(nn.digits_mlp(seed=0), amount=0.9)
    >>> twin = sparse_where_faster(model)
    >>> scattered(twin.params, model, twin)["fc1.weight"].shape
    (300, 64)
    """
    found = dict(arrays)
    for key in _sparse(model, twin) & found.keys():
        found[key] = np.zeros(model.params[key].shape, arrays[key].dtype)
        found[key][model.masks[key]] = arrays[key]
    return found


class Scattered(Mapping[str, Array]):
    """`scattered`, computed for each array when it is read; the arrays are read-only."""

    def __init__(self, arrays: Mapping[str, Array], model: Model, twin: Model) -> None:
        self._arrays, self._models = arrays, (model, twin)

    def __getitem__(self, key: str) -> Array:
        return sealed(scattered({key: self._arrays[key]}, *self._models)[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _sparse(model: Model, twin: Model) -> set[str]:
    """Return the weight arrays that are sparse in the twin only."""
    return set(twin.patterns) - set(model.patterns)
