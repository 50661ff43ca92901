"""What training carries from step to step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from l0ref.masks import masked
from l0ref.nn import Model
from l0ref.optim import State as Slots
from l0ref.validate import Array, fitting_masks


@dataclass(frozen=True)
class TrainingState:
    """A value: a step makes a new one. Hooks receive it and may return a changed copy.

    params, masks, buffers   as in the Model
    slots                    the optimiser's memory
    step, steps              optimiser steps done in this fit, and how many it will do
    epoch                    number of the current epoch, from 1
    """

    params: Mapping[str, Array]
    masks: Mapping[str, Array]
    buffers: Mapping[str, Array]
    slots: Slots
    step: int
    steps: int
    epoch: int

    def with_masks(self, masks: Mapping[str, Array]) -> TrainingState:
        """Return the state under other masks, the weights they remove set to zero at once."""
        fitting_masks(masks, self.params)
        params = dict(self.params) | {k: masked(self.params[k], m) for k, m in masks.items()}
        return dataclasses.replace(self, masks=dict(masks), params=params)

    def model(self, like: Model) -> Model:
        """Return the model of this moment, with the architecture of `like`."""
        return like.replace(params=self.params, masks=self.masks, buffers=self.buffers)

    def first_bad(self) -> str | None:
        """Return the name of the first parameter with a NaN or an infinite entry, if there is one."""
        return next((k for k, p in self.params.items() if not np.isfinite(p).all()), None)
