"""Steps in place, for the training loop: the same numbers as `Optimizer.step`, without fresh arrays.

All parameters of a network stand one after another in one array, and so do gradients and every slot; the loop works
on views of them. A compiled pass updates all of them at once: `l0ref.fast.step.update`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from sys import getrefcount
from typing import Any

import numpy as np

from l0ref.autodiff import twins
from l0ref.optim.adam import Adam, AdamW
from l0ref.optim.base import Optimizer, State, check, check_slope, flushed_weights, rate_of
from l0ref.optim.proximal import Proximal
from l0ref.optim.sgd import SGD
from l0ref.penalty import Pull
from l0ref.surrogates import Laplace
from l0ref.validate import Array


def steps_in_place(optimizer: Optimizer) -> bool:
    """Return whether there is a compiled step in place: for SGD with momentum, Adam, AdamW, and Proximal of these."""
    inner = optimizer.optimizer if type(optimizer) is Proximal else optimizer
    return type(inner) in (Adam, AdamW) or (type(inner) is SGD and inner.momentum > 0)


class InPlace:
    """An optimiser with its own copies of one network's arrays; arrays are copied on the way in and out.

    params, grads  views by key, between two steps: parameters to read and gradients to fill
    """

    def __init__(
        self, optimizer: Optimizer, params: Mapping[str, Array], state: State, masks: Mapping[str, Array]
    ) -> None:
        self._slot_names = tuple(optimizer.init({}).slots)
        check(params, params, state, self._slot_names, masks)
        self._update, self._proximal = twins.module("step.update"), twins.module("step.prox")
        self.optimizer, self.step_number = optimizer, state.step
        self._shapes = {key: w.shape for key, w in params.items()}
        sizes = [w.size for w in params.values()]
        self._bounds = [0, *accumulate(sizes)]
        w = self._joined(params)
        slots = tuple(self._joined(state.slots[name]) for name in self._slot_names)
        keep = self._joined({k: masks.get(k, np.ones(s, bool)) for k, s in self._shapes.items()} if masks else {})
        pulls = np.zeros((len(sizes), 3), w.dtype)
        self._pulled: Pull | None = None  # the pull whose numbers `pulls` holds
        self._flat = self._update.Flat(w, np.zeros_like(w), slots, keep.astype(bool), np.array(self._bounds), pulls)
        self.params, self.grads = self._views(w), self._views(self._flat.g)

    def step(self, *, lr: float, pull: Pull) -> None:
        """Update all parameters by one step against the gradients and the penalty."""
        o, lr = self.optimizer, rate_of(self.optimizer, lr)
        if isinstance(o, Proximal):
            self._descend(o.optimizer, lr, pull.smooth())
            self._shrink(o, lr, pull)
        else:
            check_slope(pull)
            self._descend(o, lr, pull)

    def _descend(self, o: Any, lr: float, pull: Pull) -> None:
        """The step of an optimiser that follows gradients."""
        self._set_pull(pull)
        self.step_number += 1
        if isinstance(o, SGD):
            self._update.momentum_step_here(self._flat, lr=lr, momentum=o.momentum, nesterov=o.nesterov)
            return
        decay = o.weight_decay if isinstance(o, AdamW) else 0.0
        (beta1, beta2), t = o.betas, self.step_number
        self._update.adam_step_here(self._flat, lr=lr, beta1=beta1, beta2=beta2, eps=o.eps, weight_decay=decay, t=t)

    def _shrink(self, o: Proximal, lr: float, pull: Pull) -> None:
        """The prox after that step, on each array that has a price; compiled for Laplace."""
        inner, phi, t = o.optimizer, pull.surrogate, self.step_number
        for key, price in pull.prices.items():
            w = self.params[key]
            slots = tuple(self._views(slot)[key] for slot in self._flat.slots)
            if not isinstance(phi, Laplace):
                w[...] = flushed_weights(phi.prox(w, o.step_sizes(slots, lr=lr, t=t) * price))
            elif o.metric == "optimizer" and isinstance(inner, Adam):
                step = (lr, 1 - inner.betas[1] ** t, inner.eps)
                self._proximal.laplace_prox_here(
                    w.reshape(-1), slots[1].reshape(-1), beta=phi.beta, price=price, step=step
                )
            else:
                alone = np.empty(0, w.dtype), (inner.reach(lr), 1.0, 0.0)
                self._proximal.laplace_prox_here(w.reshape(-1), alone[0], beta=phi.beta, price=price, step=alone[1])

    def taken_out(self) -> tuple[dict[str, Array], State]:
        """Return copies of the parameters and of the optimiser's state."""
        slots = zip(self._slot_names, self._flat.slots, strict=True)
        state = State(self.step_number, {name: self._views(slot.copy()) for name, slot in slots})
        return self._views(self._flat.w.copy()), state

    def lent(self) -> tuple[dict[str, Array], State]:
        """Return parameters and the optimiser's state as read-only views, valid until `take_back`."""
        self._holders = self._held()
        w, *slots = (self._views(a, lent=True) for a in (self._flat.w, *self._flat.slots))
        return w, State(self.step_number, dict(zip(self._slot_names, slots, strict=True)))

    def take_back(self) -> None:
        """End the loan; if a lent view is still referenced, its holder keeps the arrays and copies take their place."""
        if self._held() != self._holders:
            flat = self._flat
            self._flat = replace(flat, w=flat.w.copy(), slots=tuple(slot.copy() for slot in flat.slots))
            self.params = self._views(self._flat.w)

    def _held(self) -> list[int]:
        """Number of references to each array, views of it included."""
        return [getrefcount(a) for a in (self._flat.w, *self._flat.slots)]

    def _set_pull(self, pull: Pull) -> None:
        """Set prices for the compiled passes; the slope of a surrogate they do not know is added to the gradients."""
        phi, pulls = pull.surrogate, self._flat.pulls
        if isinstance(phi, Laplace) and pull is self._pulled:
            return
        pulls[...], self._pulled = 0, pull
        if isinstance(phi, Laplace):
            for i, key in enumerate(self._shapes):
                if key in pull.prices:
                    pulls[i] = phi.beta, pull.prices[key] * phi.beta, 2 * pull.l2
            return
        for key, slope in pull.gradient(self.params).items():
            self.grads[key] += slope

    def _joined(self, arrays: Mapping[str, Array]) -> Array:
        return np.concatenate([arrays[key].reshape(-1) for key in self._shapes]) if arrays else np.empty(0)

    def _views(self, flat: Array, *, lent: bool = False) -> dict[str, Array]:
        ends = zip(self._shapes.items(), self._bounds[:-1], self._bounds[1:], strict=True)
        views = {key: flat[a:b].reshape(shape) for (key, shape), a, b in ends}
        for view in views.values():
            view.flags.writeable = not lent
        return views
