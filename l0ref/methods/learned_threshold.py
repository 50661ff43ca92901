"""Automated pruning: one threshold per layer, learnt with the weights by backpropagation.

    v(w, t) = relu(w - t) + t s(beta (w - t)) - relu(-w - t) - t s(beta (-w - t)),    s the logistic function, t >= 0

A layer computes with v(w, t) instead of w. A few 1/beta away from |w| = t, v is close to the hard threshold: w if
|w| > t, else 0. With p = s(beta (w - t)), n = s(beta (-w - t)):

    dv/dw = [w > t] + [w < -t] + beta t (p (1 - p) + n (1 - n))
    dv/dt = -[w > t] + [w < -t] + p - n - beta t (p (1 - p) - n (1 - n))

v is odd in w, v(w, 0) = w, v(0, t) = 0, v(t, t) is about t / 2. The asymmetric form has one threshold for each sign.
Without a regulariser nothing pulls t up:

    exp     lam sum_l exp(-t_l)                count   lam sum_l mean_l(p + n), the smooth share that stays
    l1      lam sum |v(w, t)|                  and always l2 sum w^2

Kink     at |w| = t the one-sided slopes of relu are 0 and 1; we take 0, as `ops.relu` does
Ref      Manessi, Rozza, Bianco, Napoletano, Schettini 2018 (arXiv 1712.01721); v and its gradients as two independent
         sources give them. The paper's regulariser, beta, first t and learning rates are unknown [U]; "exp" is that
         of a later method, the others are ours [I].
Departs  At the end weights are ranked by |w| / t of their layer and an exact amount goes, so that runs are comparable;
         `learnt` counts the weights that the thresholds alone would remove. Training computes with v(w, t), the result
         with w: they differ around |w| = t, and if the amount is below `learnt`, weights that v had closed come back.
         v is composed of operations of the tape, which computes both derivatives.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from l0ref import ops
from l0ref.autodiff.tensor import Tensor
from l0ref.data import Splits
from l0ref.methods.registry import NO_FEED, Feed, Pruned, method
from l0ref.methods.reparameterised import Priced, Reparameterised, unwrapped, wrapped
from l0ref.nn import Conv2d, Linear, Model
from l0ref.optim import Adam
from l0ref.pruning.prune import prune_by
from l0ref.training import TrainingState, fit
from l0ref.validate import Array, choose, count, flag, nonnegative, positive

REGULARISERS = ("exp", "count", "l1")


def thresholded(w: Tensor, up: Tensor, down: Tensor, *, beta: float) -> Tensor:
    """Return v(w, t) with threshold `up` for positive and `down` for negative weights; see the text of the module."""
    high, low = w - up, -w - down
    return ops.relu(high) + up * ops.sigmoid(beta * high) - ops.relu(low) - down * ops.sigmoid(beta * low)


@dataclass(frozen=True)
class Thresholded(Reparameterised):
    """A layer that computes with v(w, t).

    `<name>.threshold` holds t / rate: one entry or, if asymmetric, one for positive and one for negative weights. Under
    Adam, which moves every parameter by about lr, t moves `rate` times as far.
    """

    beta: float = 200.0
    rate: float = 1.0
    first: float = 0.0
    asymmetric: bool = False

    def extra(self, *, dtype: Any) -> dict[str, Array]:
        """Return the threshold over its rate."""
        return {f"{self.name}.threshold": np.full(2 if self.asymmetric else 1, self.first / self.rate, dtype)}

    def effective(self, params: Mapping[str, Tensor], *, rng: np.random.Generator | None) -> dict[str, Tensor]:
        """Return v(w, t)."""
        up, down = ends(params[f"{self.name}.threshold"], self.rate)
        return {self.key: thresholded(params[self.key], up, down, beta=self.beta)}


def ends(stored: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """Return the thresholds for positive and for negative weights as tensors of one entry."""
    t = stored * rate
    first = ops.sum(t * np.eye(t.size, dtype=t.dtype)[0], axis=0, keepdims=True)
    last = ops.sum(t * np.eye(t.size, dtype=t.dtype)[-1], axis=0, keepdims=True)
    return first, last


def regulariser(tensors: Mapping[str, Tensor], *, kind: str, lam: float, beta: float, rate: float) -> Tensor:
    """Return the chosen regulariser, summed over layers; "exp" takes the mean of two thresholds of one layer."""
    total = Tensor(np.zeros((), next(iter(tensors.values())).dtype))
    for key, stored in tensors.items():
        if not key.endswith(".threshold"):
            continue
        up, down = ends(stored, rate)
        w = tensors[key.removesuffix("threshold") + "weight"]
        if kind == "exp":
            part = ops.sum(ops.exp(-up)) if stored.size == 1 else ops.sum(ops.exp(-up) + ops.exp(-down)) * 0.5
        elif kind == "count":
            part = ops.mean(ops.sigmoid(beta * (w - up)) + ops.sigmoid(beta * (-w - down)))
        else:
            part = ops.sum(ops.abs(thresholded(w, up, down, beta=beta)))
        total = total + part * lam
    return total


@method(
    "learned_threshold", paper="Manessi et al. 2018", kind="training", reads=("weights", "gradients", "training"),
    records=("thresholds", "learnt"), marks="[I][U]", random=True,
)  # fmt: skip
def learned_threshold(
    model: Model, data: Splits, *, amount: float, seed: int, scope: str = "global", min_keep: int = 0,
    epochs: int = 10, lr: float = 1e-3, rate: float = 1.0, beta: float = 200.0, first: float = 0.01,
    lam: float = 0.1, l2: float = 1e-5, regulariser_kind: str = "exp", asymmetric: bool = False, feed: Feed = NO_FEED,
) -> Pruned:  # fmt: skip
    """Train weights and thresholds together, then prune by |w| / t.

    epochs, lr       of Adam; rate: factor by which thresholds move faster than weights
    beta             sharpness, in 1 / weight; beta t should reach 20 or so
    first            t before training, in units of a weight
    lam, l2          strengths of the regulariser and of sum w^2
    regulariser_kind "exp", "count" or "l1"; asymmetric: one threshold for each sign
    record           thresholds {weight array: t at the end}; learnt: the number of weights with |w| <= t
    """
    choose("regulariser_kind", regulariser_kind, REGULARISERS)
    make = partial(
        _made, beta=positive("beta", beta), rate=positive("rate", rate), first=nonnegative("first", first),
        asymmetric=flag("asymmetric", asymmetric),
    )  # fmt: skip
    soft = wrapped(model, make)
    keys = tuple(k for k in soft.params if k.endswith(".threshold") or k in soft.weights)
    value = partial(regulariser, kind=regulariser_kind, lam=nonnegative("lam", lam), beta=beta, rate=rate)
    penalty = Priced(l2=l2, value_of=value, keys=keys)
    trained, _ = fit(
        soft, data.train, epochs=count("epochs", epochs), seed=seed, optimizer=Adam(lr=lr), penalty=penalty,
        progress="none", after_step=stay_positive, phase="prune", **feed,
    )  # fmt: skip
    limits = {key: trained.params[key.removesuffix("weight") + "threshold"] * rate for key in model.weights}
    hard = unwrapped(model, trained, {})
    scores = {key: relative(hard.params[key], t) for key, t in limits.items()}
    learnt = sum(int((score <= 1).sum()) for score in scores.values())
    pruned = prune_by(hard, scores, amount=amount, scope=scope, min_keep=min_keep)
    record = {"thresholds": {k: t.astype(np.float64).tolist() for k, t in limits.items()}, "learnt": learnt}
    return Pruned(pruned, record, epochs=epochs)


def _made(layer: Linear | Conv2d, **settings: Any) -> Thresholded:
    return Thresholded(layer.name, layer, **settings)


def stay_positive(state: TrainingState) -> TrainingState | None:
    """Set thresholds that a step has made negative to 0."""
    low = {k: np.maximum(p, 0) for k, p in state.params.items() if k.endswith(".threshold") and (p < 0).any()}
    return dataclasses.replace(state, params={**state.params, **low}) if low else None


def relative(w: Array, t: Array) -> Array:
    """Return |w| over the threshold of its sign, in float64; at threshold 0 the largest float, or 0 where w is 0."""
    limit = np.where(w >= 0, t[0], t[-1]).astype(np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        ratio = np.divide(np.abs(w), limit, out=np.where(w == 0, 0.0, np.inf), where=limit > 0)
    return np.asarray(np.minimum(ratio, np.finfo(np.float64).max))
