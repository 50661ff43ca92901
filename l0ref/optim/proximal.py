"""Proximal steps: the data loss through its gradient, the l0 term through its prox, which gives exact zeros."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.optim.adam import Adam
from l0ref.optim.base import Arrays, Elementwise, Optimizer, State, flushed_weights, rate_of
from l0ref.penalty import Pull
from l0ref.validate import Array, choose

METRICS = ("optimizer", "euclidean")


@dataclass(frozen=True)
class Proximal(Optimizer):
    """A step of another optimiser on L + l2 sum w^2, then the prox of the l0 term.

    w <- step of `optimizer` with the gradient of L + l2 sum w^2
    w <- argmin_x 1/2 (x - w)^2 + s C_l alpha phi(x)      on weights only, entry by entry; then `flushed_weights`

    optimizer  SGD, Adam or AdamW; its slots never see the l0 term
    metric     the choice of s:
               "optimizer"  how far the optimiser moves an entry per unit of constant gradient:
                            lr / (1 - momentum) for SGD, lr / (sqrt(v_hat) + eps), entry by entry, for Adam
               "euclidean"  one number for all entries: lr / (1 - momentum) for SGD, lr for Adam

    Where the steps come to rest under metric="optimizer" (and no weight decay), -dL/dw - 2 l2 w is a slope of
    C_l alpha phi at w: a stationary point of J. Hence the division by 1 - momentum: without it momentum 0.9 makes
    the penalty ten times too weak. For Adam the two metrics differ, and "euclidean" does not rest at stationary
    points of J: entries move by about lr whatever their gradient, against a threshold lr C_l alpha phi'(0+). It is
    offered because it is often written that way; with alpha as for plain Adam it prunes next to nothing.

    With momentum the prox acts at once and the gradient with delay; the two are consistent only while
    lr C_l alpha (-phi'') < (1 - momentum)^2 at the rest point [I]. Laplace: certain if lr C_l alpha beta^2 is below
    (1 - momentum)^2, as it is by far for every useful alpha.

    The l2 term is smooth and stays in the gradient. No threshold is needed afterwards: weights inside the
    surrogate's dead zone are exactly 0.

    Ref   Parikh and Boyd 2014, Proximal Algorithms, section 4.2 (forward-backward splitting)

    >>> import numpy as np
    >>> from l0ref.optim import SGD
    >>> from l0ref.penalty import Penalty
    >>> penalty = Penalty(alpha=0.01)
    >>> optimizer = Proximal(SGD(lr=0.1))
    >>> params = {"fc1.weight": np.array([0.001, 2.0])}
    >>> grads = {"fc1.weight": np.zeros(2)}
    >>> pull = penalty.pull({"fc1.weight": 1.0})
    >>> params, state = optimizer.step(params, grads, optimizer.init(params), pull=pull)
    >>> float(params["fc1.weight"][0])
    0.0
    """

    optimizer: Elementwise = field(default_factory=Adam)
    metric: str = "optimizer"

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, Elementwise):
            raise ArgumentError(f"optimizer={self.optimizer!r} has no step sizes for a prox; pass SGD, Adam or AdamW")
        choose("metric", self.metric, METRICS)

    @property
    def lr(self) -> float:
        return self.optimizer.lr

    def init(self, params: Arrays) -> State:
        return self.optimizer.init(params)

    def step(
        self,
        params: Arrays,
        grads: Arrays,
        state: State,
        *,
        lr: float | None = None,
        masks: Arrays | None = None,
        pull: Pull | None = None,
    ) -> tuple[dict[str, Array], State]:
        if pull is None:
            raise ArgumentError(
                f"pull=None leaves a proximal step without its penalty; pass penalty.pull(factors), or step with "
                f"{self.optimizer!r} itself"
            )
        new, after = self.optimizer.step(params, grads, state, lr=lr, masks=masks, pull=pull.smooth())
        rate = rate_of(self, lr)
        slots = {key: tuple(after.slots[name][key] for name in self.optimizer.slot_names) for key in pull.prices}
        steps = {key: self.step_sizes(slots[key], lr=rate, t=after.step) for key in pull.prices}
        return {**new, **{key: flushed_weights(w) for key, w in pull.prox(new, steps).items()}}, after

    def step_sizes(self, slots: tuple[Array, ...], *, lr: float, t: int) -> float | Array:
        """Return s of the prox for one array, from its slots after step t; 0 where they are NaN.

        The weight is NaN there as well, and stays so for the caller to see.
        """
        if self.metric == "euclidean":
            return self.optimizer.reach(lr)
        step = np.asarray(self.optimizer.prox_step(slots, lr=lr, t=t))
        return np.where(np.isnan(step), 0, step)
