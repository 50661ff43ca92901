"""Steps in place, for the training loop: the same numbers as `Optimizer.step`, without fresh arrays.

All parameters of a network stand one after another in one array, and so do gradients and every slot; what the loop
passes on are views of them. Compiled passes step over everything at once: `l0ref.fast.update`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import numpy as np

from l0ref.optim.adam import Adam, AdamW
from l0ref.optim.base import Optimizer, State, check, check_slope, rate_of
from l0ref.optim.sgd import SGD
from l0ref.penalty import Pull
from l0ref.surrogates import Laplace
from l0ref.validate import Array


def steps_in_place(optimizer: Optimizer) -> bool:
    """Return whether there is a compiled step in place: for SGD with momentum, Adam and AdamW."""
    return type(optimizer) in (Adam, AdamW) or (type(optimizer) is SGD and optimizer.momentum > 0)


class InPlace:
    """One optimiser at work on one network's arrays, which are its own: copies are made on the way in and out.

    params, grads  views by key, to be read and filled between two steps
    """

    def __init__(
        self, optimizer: Optimizer, params: Mapping[str, Array], state: State, masks: Mapping[str, Array]
    ) -> None:
        from l0ref.fast import update  # Numba is loaded with it

        self._slot_names = tuple(optimizer.init({}).slots)
        check(params, params, state, self._slot_names, masks)
        self._kernels, self.optimizer, self.step_number = update, optimizer, state.step
        self._shapes = {key: w.shape for key, w in params.items()}
        sizes = [w.size for w in params.values()]
        self._bounds = [0, *accumulate(sizes)]
        w = self._joined(params)
        slots = tuple(self._joined(state.slots[name]) for name in self._slot_names)
        keep = self._joined({k: masks.get(k, np.ones(s, bool)) for k, s in self._shapes.items()} if masks else {})
        pulls = np.zeros((len(sizes), 3), w.dtype)
        self._flat = update.Flat(w, np.zeros_like(w), slots, keep.astype(bool), np.array(self._bounds), pulls)
        self.params, self.grads = self._views(w), self._views(self._flat.g)

    def step(self, *, lr: float, pull: Pull) -> None:
        """One step on everything, against the gradients and the penalty."""
        lr = rate_of(self.optimizer, lr)
        check_slope(pull)
        self._set_pull(pull)
        self.step_number += 1
        o: Any = self.optimizer
        if isinstance(o, SGD):
            self._kernels.momentum_step_here(self._flat, lr=lr, momentum=o.momentum, nesterov=o.nesterov)
            return
        decay = o.weight_decay if isinstance(o, AdamW) else 0.0
        (beta1, beta2), t = o.betas, self.step_number
        self._kernels.adam_step_here(self._flat, lr=lr, beta1=beta1, beta2=beta2, eps=o.eps, weight_decay=decay, t=t)

    def taken_out(self) -> tuple[dict[str, Array], State]:
        """Return copies of the parameters and of the optimiser's state."""
        slots = zip(self._slot_names, self._flat.slots, strict=True)
        state = State(self.step_number, {name: self._views(slot.copy()) for name, slot in slots})
        return self._views(self._flat.w.copy()), state

    def _set_pull(self, pull: Pull) -> None:
        """Prices for the compiled passes; a surrogate they do not know is added to the gradients here."""
        phi, pulls = pull.surrogate, self._flat.pulls
        pulls[...] = 0
        if isinstance(phi, Laplace):
            for i, key in enumerate(self._shapes):
                if key in pull.prices:
                    pulls[i] = phi.beta, pull.prices[key] * phi.beta, 2 * pull.l2
            return
        for key, slope in pull.gradient(self.params).items():
            self.grads[key] += slope

    def _joined(self, arrays: Mapping[str, Array]) -> Array:
        return np.concatenate([arrays[key].reshape(-1) for key in self._shapes]) if arrays else np.empty(0)

    def _views(self, flat: Array) -> dict[str, Array]:
        ends = zip(self._shapes.items(), self._bounds[:-1], self._bounds[1:], strict=True)
        return {key: flat[a:b].reshape(shape) for (key, shape), a, b in ends}
