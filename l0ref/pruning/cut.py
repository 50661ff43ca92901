"""The settings of a cut: how much is pruned, and by which method."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from l0ref import metrics
from l0ref.data import Splits
from l0ref.errors import ArgumentError, ConfigError, LayerCollapse
from l0ref.masks import largest_amount
from l0ref.methods.registry import METHODS, NO_FEED, Feed, Pruned, measured
from l0ref.nn import Model
from l0ref.pruning.prune import prune
from l0ref.pruning.score import SCORES
from l0ref.validate import between, choose, count, nonnegative

LAYER_STEPS = 10_000  # how finely a tolerance cuts with scope="layer"


@dataclass(frozen=True)
class Cut:
    """How much is pruned, and by which method. Exactly one of the first three is given.

    amount     float: fraction of all weights to remove; int: number of weights to remove
    threshold  weights with a score, |w| for magnitude, below it are removed
    tolerance  the largest cut whose validation loss stays within (1 + tolerance) times that at amount 0,
               found by bisection: over the number of weights or, with scope="layer", over the fraction taken
               from each layer, in ten-thousandths
    scope, min_keep   as in `prune`
    method     the method that chooses the weights: a name out of `l0ref.methods.METHODS`
    options    of the method, by name
    """

    amount: float | None = None
    threshold: float | None = None
    tolerance: float | None = None
    scope: str = "global"
    method: str = "magnitude"
    min_keep: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = {k: getattr(self, k) for k in ("amount", "threshold", "tolerance") if getattr(self, k) is not None}
        if len(given) != 1:
            found = ", ".join(f"{k}={v!r}" for k, v in given.items()) or "none of them"
            raise ConfigError(f"amount, threshold, tolerance: give exactly one, got {found}")
        self.check()

    def check(self) -> None:
        """Refuse a value out of range, before any training."""
        if isinstance(self.amount, float):
            between("amount", self.amount, 0.0, 1.0)
        elif self.amount is not None:
            count("amount", self.amount)
        if self.threshold is not None:
            nonnegative("threshold", self.threshold)
        if self.tolerance is not None:
            nonnegative("tolerance", self.tolerance)
        choose("scope", self.scope, ("global", "layer"))
        count("min_keep", self.min_keep)
        if choose("method", self.method, METHODS) not in SCORES and self.threshold is not None:
            raise ArgumentError(
                f"threshold={self.threshold!r} goes with method {' or '.join(map(repr, SCORES))}, "
                f"not {self.method!r}; give amount or tolerance"
            )
        METHODS[self.method].check_options(self._options())

    def check_model(self, model: Model, *, asked: str = "") -> None:
        """Refuse, before any training, an amount that would leave a layer of `model` without a weight.

        asked   start of the message, if the amount is not the one that the user gave
        """
        if self.amount is not None:
            try:
                METHODS[self.method].check_budget(model, amount=self.amount, **self._options())
            except (ArgumentError, LayerCollapse) as error:
                raise ConfigError(f"{asked}{error}") from None

    def apply(self, model: Model, data: Splits, *, seed: int, feed: Feed = NO_FEED) -> Pruned:
        """Return the model with the weights of this cut masked; it does not change if a sweep already removed as many.

        data  the method calibrates on its training set; a tolerance is measured on its validation set
        feed  batch transform and teacher for methods that train
        """
        options = self._options()

        def pruned_by(amount: float) -> Pruned:
            return METHODS[self.method].run(model, data, amount=amount, seed=seed, feed=feed, **options)

        if self.amount is not None:
            return pruned_by(self.amount)
        if self.threshold is not None:
            return measured(prune(model, threshold=self.threshold, score=self.method, seed=seed, **options))
        whole = model.size if self.scope == "global" else LAYER_STEPS

        def amount_of(part: int) -> float:
            return part if self.scope == "global" else part / whole

        def loss_after(part: int) -> float:
            return metrics.evaluate(pruned_by(amount_of(part)).model, data.validation).loss

        limit = (1 + nonnegative("tolerance", self.tolerance or 0.0)) * loss_after(0)
        return pruned_by(amount_of(largest_amount(loss_after, n=whole, limit=limit)))

    def _options(self) -> dict[str, Any]:
        """Return the keyword arguments of the method."""
        return {"scope": self.scope, "min_keep": self.min_keep, **self.options}

    def share(self, part: float, *, size: int) -> Cut:
        """Return the cut of a model of `size` weights after this part of the way, the kept share falling geometrically.

        With amount 0.99 in two rounds the first keeps 10 % and the second 1 %. A threshold, a tolerance and a
        number per layer (an int with scope="layer") are the same in every round.
        """
        if self.amount is None or part >= 1 or (self.scope == "layer" and not isinstance(self.amount, float)):
            return self
        fraction = self.amount if isinstance(self.amount, float) else self.amount / max(size, 1)
        kept = math.exp(part * math.log(1 - fraction)) if fraction < 1 else 0.0
        return dataclasses.replace(self, amount=1 - kept)
