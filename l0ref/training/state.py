"""The state of a training: everything that decides how it continues, as one value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.masks import masked
from l0ref.nn import Model
from l0ref.optim import State as Slots
from l0ref.training.history import History
from l0ref.validate import Array, fitting_masks


@dataclass(frozen=True)
class TrainingState:
    """An immutable value: a step makes a new one. Hooks receive it and may return a changed copy.

    Together with the arguments of `fit` it determines the rest of the training: a training continued from a state,
    after any step, ends with the same bits as the training the state is from. No array of a state is written later.
    Parameters and slots given to `after_step` are read-only.

    params, masks, buffers   as in the Model
    slots                    the optimiser's memory
    step, steps              optimiser steps done in this fit, and how many it will do
    epoch, batch             number of the epoch of the next step, from 1, and number of its batches that are done
    loss_sum                 sum of the data loss over the samples of those batches
    dropout                  state of the bit generator that drives dropout, plain numbers by name; None: the one at
                             the beginning of the epoch
    history                  the finished epochs
    best                     with select="best", the model of the best epoch so far
    carried                  numbers and arrays by name, for hooks to carry from step to step
    """

    params: Mapping[str, Array]
    masks: Mapping[str, Array]
    buffers: Mapping[str, Array]
    slots: Slots
    step: int
    steps: int
    epoch: int
    batch: int = 0
    loss_sum: float = 0.0
    dropout: Mapping[str, Any] | None = None
    history: History = field(default_factory=History)
    best: Model | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)

    def with_masks(self, masks: Mapping[str, Array]) -> TrainingState:
        """Return the state under other masks, with the weights that they remove set to zero."""
        fitting_masks(masks, self.params)
        params = dict(self.params) | {k: masked(self.params[k], m) for k, m in masks.items()}
        return dataclasses.replace(self, masks=dict(masks), params=params)

    def check_masks(self) -> None:
        """Refuse a state with a weight that is not 0 where its mask removes it."""
        for key, keep in self.masks.items():
            if np.any(self.params[key][~keep]):
                raise ArgumentError(f"state.params[{key!r}] is not 0 where its mask removes it; use state.with_masks")

    def model(self, like: Model) -> Model:
        """Return the current model, with the architecture of `like`."""
        return like.replace(params=self.params, masks=self.masks, buffers=self.buffers)

    def first_bad(self) -> str | None:
        """Return the name of the first parameter with a NaN or an infinite entry, if there is one."""
        return next((k for k, p in self.params.items() if not np.isfinite(p).all()), None)
