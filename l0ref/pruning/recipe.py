"""The settings of a compression: how a phase trains, and how much is cut."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from l0ref import metrics
from l0ref.data import Dataset, Splits
from l0ref.errors import ConfigError
from l0ref.masks import largest_amount
from l0ref.nn import Model
from l0ref.optim import Adam, Optimizer
from l0ref.penalty import Penalty
from l0ref.pruning.prune import prune
from l0ref.schedules import Constant, Cosine, Schedule
from l0ref.training import History, fit
from l0ref.validate import choose, nonnegative


@dataclass(frozen=True)
class Recipe:
    """How one phase trains: what `fit` takes, less model, data and seed.

    The defaults anneal the learning rate to a hundredth: with a constant rate the weights hover around
    zero at a distance of about lr, and a cut through that cloud is arbitrary.
    """

    epochs: int
    optimizer: Optimizer = field(default_factory=Adam)
    schedule: Schedule = field(default_factory=lambda: Cosine(final=0.01))
    penalty: Penalty = field(default_factory=Penalty)
    warmup: Schedule = field(default_factory=Constant)
    batch_size: int = 64
    label_smoothing: float = 0.0
    select: str = "last"
    monitor: str = "val_loss"
    patience: int | None = None
    threshold: float = 1e-2

    def fit(self, model: Model, data: Splits, *, seed: int, **options: Any) -> tuple[Model, History]:
        """Train `model` on the training set, watched on the validation set; `options` are those of `fit`."""
        return fit(model, data.train, validation=data.validation, seed=seed, **vars(self), **options)


@dataclass(frozen=True)
class Cut:
    """How much is pruned, and in which order. Exactly one of the first three is given.

    amount     float: fraction of all weights that goes; int: count of weights that go
    threshold  weights with |w| below it go
    tolerance  the largest count whose validation loss stays within (1 + tolerance) times that before
               the cut; found by bisection
    scope, score, min_keep   as in `prune`
    """

    amount: float | None = None
    threshold: float | None = None
    tolerance: float | None = None
    scope: str = "global"
    score: str = "magnitude"
    min_keep: int = 0

    def __post_init__(self) -> None:
        given = {k: getattr(self, k) for k in ("amount", "threshold", "tolerance") if getattr(self, k) is not None}
        if len(given) != 1:
            found = ", ".join(f"{k}={v!r}" for k, v in given.items()) or "none of them"
            raise ConfigError(f"amount, threshold, tolerance: give exactly one, got {found}")
        if self.tolerance is not None:
            nonnegative("tolerance", self.tolerance)
            choose("scope", self.scope, ("global",))

    def apply(self, model: Model, validation: Dataset, *, seed: int) -> Model:
        """Return the model with the weights masked that this cut removes."""
        options: dict[str, Any] = {"scope": self.scope, "score": self.score, "min_keep": self.min_keep, "seed": seed}
        gone = pruned_count(model)
        if isinstance(self.amount, float) and self.amount * model.size + 0.5 < gone:
            return model  # an earlier sweep took more than this round asks for
        if self.tolerance is None:
            return prune(model, amount=self.amount, threshold=self.threshold, **options)

        def loss_after(removed: int) -> float:
            return metrics.evaluate(prune(model, amount=removed, **options), validation).loss

        limit = (1 + self.tolerance) * loss_after(gone)
        return prune(model, amount=largest_amount(loss_after, n=model.size, limit=limit, start=gone), **options)

    def share(self, part: float) -> Cut:
        """Return a cut that takes the model this part of the way, on a logarithmic scale of kept weights.

        With amount 0.99 in two rounds the first keeps 10 % and the second 1 %. A threshold or a tolerance is
        the same in every round.
        """
        if not isinstance(self.amount, float) or part >= 1:
            return self
        kept = math.exp(part * math.log(1 - self.amount)) if self.amount < 1 else 0.0
        return Cut(amount=1 - kept, scope=self.scope, score=self.score, min_keep=self.min_keep)


def pruned_count(model: Model) -> int:
    """Return how many weights the masks of a model remove."""
    return sum(int((~mask).sum()) for mask in model.masks.values())
