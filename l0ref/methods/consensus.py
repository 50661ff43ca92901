"""Weights pulled towards a target, and the multipliers that move the target: the parts that SLR and ADMM share.

    minimise f(W) + sum_n [Z_n has at most l_n non-zeros]  subject to W_n = Z_n
    L(W, Z, Lam) = f(W) + sum_n <Lam_n, W_n - Z_n> + rho/2 ||W_n - Z_n||^2

Up to a constant the last two terms are rho/2 ||W - T||^2 with the target T = Z - Lam/rho, an ordinary penalty for the
training loop. The multipliers and Z are updated between two epochs, by the rules in `l0ref.methods.slr`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError
from l0ref.masks.applied import masked
from l0ref.masks.ranking import Mask, drop_count, first_to_go
from l0ref.nn import Model
from l0ref.penalty import Penalty, PenaltyTerms, Pull
from l0ref.pruning.prune import prune_by
from l0ref.surrogates import L1
from l0ref.validate import Array, choose

Arrays = Mapping[str, Array]
CHANGING = ("w", "z", "lam", "step", "k", "size")  # attributes of a Relaxation, without its record
RECORDS = ("residual", "steps", "alphas", "conditions", "loss")
STRUCTURES = ("element", "column", "filter")


@dataclass(frozen=True)
class ConsensusPull(Pull):
    """rho/2 sum (w - target)^2, the form that a training step uses."""

    targets: Arrays = field(default_factory=dict)
    rho: float = 0.0

    def gradient(self, params: Arrays) -> dict[str, Array]:
        """Return {key: rho (w - target)} in the dtype of the weights."""
        return {key: (self.rho * (params[key] - t)).astype(params[key].dtype) for key, t in self.targets.items()}


@dataclass(frozen=True)
class Consensus(Penalty):
    """The penalty of the W-step; `targets` = Z - Lam/rho is updated between epochs and read when an epoch begins."""

    rho: float = 0.1
    targets: dict[str, Array] = field(default_factory=dict)

    def factors(self, model: Model) -> dict[str, float]:
        """Return 1 for every weight array."""
        return dict.fromkeys(model.weights, 1.0)

    def pull(self, factors: Mapping[str, float], *, strength: float = 1.0) -> Pull:
        """Return the penalty as the optimiser uses it in the epoch that begins."""
        return ConsensusPull(L1(), {}, 0.0, dict(self.targets), self.rho)

    def terms(self, params: Arrays, factors: Mapping[str, float]) -> PenaltyTerms:
        """Return rho/2 ||w - target||^2 by weight array, as the l2 term."""
        gaps = gap(params, self.targets)
        return PenaltyTerms({}, {key: self.rho / 2 * float((d * d).sum(dtype=np.float64)) for key, d in gaps.items()})


@dataclass
class Relaxation:
    """W, Z, the multipliers and the step size between two epochs; every change is recorded.

    project   weights -> the nearest weights within the budget of non-zeros
    loss      weights -> f
    """

    rho: float
    project: Callable[[Arrays], dict[str, Array]]
    loss: Callable[[Arrays], float]
    w: dict[str, Array]
    big_m: float = 300.0
    r: float = 0.1
    step: float = 0.01
    admm: bool = False

    def __post_init__(self) -> None:
        self.z = self.project(self.w)
        self.lam = {key: np.zeros_like(w) for key, w in self.w.items()}
        self.k, self.size = 1, norm(gap(self.w, self.z))
        self.record: dict[str, list[Any]] = {name: [] for name in RECORDS}

    def carried(self) -> dict[str, Any]:
        """Return all that changes between epochs, for the state of the training."""
        return {name: getattr(self, name) for name in CHANGING} | {
            "record": {k: list(v) for k, v in self.record.items()}
        }

    def take_up(self, carried: Mapping[str, Any]) -> None:
        """Continue from the values that a state carried; a state before the first update carries nothing."""
        for name, value in carried.items():
            setattr(self, name, value)

    def targets(self) -> dict[str, Array]:
        """Return Z - Lam/rho, the centre of the quadratic of the next W-step."""
        return {key: z - self.lam[key] / self.rho for key, z in self.z.items()}

    def lagrangian(self, w: Arrays, z: Arrays, f: float) -> float:
        """Return L(W, Z, Lam), given f(W)."""
        g = gap(w, z)
        return f + sum(float((self.lam[k] * d).sum() + self.rho / 2 * (d * d).sum()) for k, d in g.items())

    def after_epoch(self, w: Arrays) -> None:
        """Update the multipliers after the W-step, take the Z-step, and update the multipliers again."""
        before, f_before, f = self.w, self.loss(self.w), self.loss(w)
        self.w = {key: np.array(w[key], np.float64) for key in before}
        if not self.admm:
            holds = self.k == 1 or self.lagrangian(self.w, self.z, f) < self.lagrangian(before, self.z, f_before)
            self.update(holds)
        old = self.z
        self.z = self.project({key: v + self.lam[key] / self.rho for key, v in self.w.items()})
        if self.admm:
            self.lam = {key: self.lam[key] + self.rho * d for key, d in gap(self.w, self.z).items()}
        else:
            now, high = (self.lagrangian(self.w, z, f) for z in (self.z, old))
            self.update(now <= high + 1e-12 * abs(high) + 1e-300)
        self.record["residual"].append(norm(gap(self.w, self.z)))
        self.record["loss"].append(f)

    def update(self, holds: bool) -> None:
        """Add s g to Lam, s = alpha_k s ||g before|| / ||g||, if the condition holds and g is not 0.

        Where W = Z at the start there is no g before, and the ratio of the first update is 1.
        """
        g = gap(self.w, self.z)
        size = norm(g)
        self.record["conditions"].append(float(holds))
        if not holds or size == 0:
            return
        alpha = 1 - 1 / (self.big_m * self.k ** (1 - 1 / self.k**self.r))
        self.step *= alpha * (self.size or size) / size
        self.lam = {key: self.lam[key] + self.step * d for key, d in g.items()}
        self.k, self.size = self.k + 1, size
        self.record["alphas"].append(alpha)
        self.record["steps"].append(self.step)


def gap(w: Arrays, z: Arrays) -> dict[str, Array]:
    """Return W - Z by weight array."""
    return {key: w[key] - z[key] for key in z}


def norm(g: Arrays) -> float:
    """Return the sum of the norms of the layers, not the root of the sum of squares."""
    return sum(float(np.sqrt((d * d).sum())) for d in g.values())


def kept(model: Model, w: Arrays, *, structure: str, amount: float, scope: str, min_keep: int) -> dict[str, Mask]:
    """Return the masks of the nearest weights within the budget: the largest magnitudes, columns or filters.

    structure  "element": single weights, an exact number; "column" and "filter": columns and rows of the matrix
               (out, rest), those of smallest norm, in every layer as many as its amount of weights allows
    """
    if choose("structure", structure, STRUCTURES) == "element":
        scores = {key: np.abs(w[key]) for key in model.weights}
        return dict(prune_by(model, scores, amount=amount, scope=scope, min_keep=min_keep).masks)
    if scope != "layer":
        raise ArgumentError(f"structure={structure!r} is exact within layers only; pass scope='layer', not {scope!r}")
    return {key: _groups(model.mask(key), w[key], structure == "filter", amount, min_keep) for key in model.weights}


def _groups(alive: Mask, w: Array, by_row: bool, amount: float, min_keep: int) -> Mask:
    matrix = (w * alive).reshape(w.shape[0], -1)
    score = np.sqrt(np.square(matrix).sum(axis=1 if by_row else 0))
    each = matrix.shape[1 if by_row else 0]
    most = score.size - max(1, -(-min_keep // max(each, 1)))
    drop = min(drop_count(amount, w.size, "entries", "") // max(each, 1), most)
    keep = np.ones(score.size, bool)
    keep[first_to_go(score, np.arange(score.size), drop)] = False
    stays = np.broadcast_to(keep[:, None] if by_row else keep, matrix.shape)
    return np.asarray(alive & stays.reshape(w.shape))


def projection(model: Model, **how: Any) -> Callable[[Arrays], dict[str, Array]]:
    """Return the map to the nearest weights within the budget; weights masked in `model` stay 0."""

    def project(w: Arrays) -> dict[str, Array]:
        masks = kept(model, w, **how)
        return {key: masked(np.asarray(w[key], np.float64), masks[key]) for key in model.weights}

    return project
