"""Factors for a base value: the learning rate, or the strength of the penalty.

Notation: t = step / steps in [0, 1]. All except OneCycle and LinearWarmup begin at exactly 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from l0ref.errors import ArgumentError
from l0ref.schedules.base import Schedule, check_time, position
from l0ref.validate import between, choose, count, nonnegative, positive


@dataclass(frozen=True)
class Constant(Schedule):
    """f = 1 at every step."""

    def __call__(self, step: int, *, steps: int, history: Sequence[float] = ()) -> float:
        position(step, steps)
        return 1.0


@dataclass(frozen=True)
class StepDecay(Schedule):
    """f = factor^k after k drops.

    every   time between drops. A float in (0, 1] is a fraction of the run: drop k = 1, 2, ... falls at step
            floor(k * every * steps + 0.5), never before step 1. An int is a number of steps: drop k falls
            at step k * every
    factor  multiplier of each drop, in (0, 1]
    """

    every: float = 1 / 3
    factor: float = 0.1

    def __post_init__(self) -> None:
        check_time("every", self.every)
        positive("every", self.every)
        between("factor", positive("factor", self.factor), 0.0, 1.0)

    def __call__(self, step: int, *, steps: int, history: Sequence[float] = ()) -> float:
        step, steps = position(step, steps)
        if not isinstance(self.every, float):
            return float(self.factor ** (step // self.every))
        # the largest k with k * every * steps + 0.5 < step + 1
        passed = (step + 0.5) / (self.every * steps) if step else 1.0
        return float(self.factor ** (math.ceil(passed) - 1)) if math.isfinite(passed) else float(self.factor == 1)


@dataclass(frozen=True)
class Cosine(Schedule):
    """f = final + (1 - final) (1 + cos(pi t)) / 2: exactly 1 at step 0 and exactly `final` at step == steps.

    The last update of a run is made at step == steps - 1, a little above `final`.

    final  factor at the end, in [0, 1]; 0.01 takes Adam from 1e-3 to 1e-5
    Ref    Loshchilov, Hutter, ICLR 2017, arXiv 1608.03983, without restarts
    """

    final: float = 0.01

    def __post_init__(self) -> None:
        between("final", self.final, 0.0, 1.0)

    def __call__(self, step: int, *, steps: int, history: Sequence[float] = ()) -> float:
        step, steps = position(step, steps)
        return _cosine(1.0, self.final, step / steps)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """A cosine rise from `start` to 1 over the first `warm` of the run, then a cosine fall to `final`.

    f = start + (1 - start) (1 - cos(pi t / warm)) / 2          for t < warm
    f = final + (1 - final) (1 + cos(pi (t - warm) / (1 - warm))) / 2   from there on

    The base value is the peak. warm, start and final lie in [0, 1]; warm = 0 is Cosine(final).

    Ref  Smith, Topin, arXiv 1708.07120. The defaults are those of torch.optim.lr_scheduler.OneCycleLR,
         which however ends one step earlier.
    """

    warm: float = 0.3
    start: float = 0.04
    final: float = 4e-6

    def __post_init__(self) -> None:
        between("warm", self.warm, 0.0, 1.0)
        between("start", self.start, 0.0, 1.0)
        between("final", self.final, 0.0, 1.0)

    def __call__(self, step: int, *, steps: int, history: Sequence[float] = ()) -> float:
        step, steps = position(step, steps)
        t = step / steps
        if t < self.warm:
            return _cosine(self.start, 1.0, t / self.warm)
        if self.warm == 1.0:
            return 1.0
        return _cosine(1.0, self.final, (t - self.warm) / (1.0 - self.warm))


@dataclass(frozen=True)
class LinearWarmup(Schedule):
    """f = min(t / fraction, 1): 0 at step 0, exactly 1 from `fraction` of the run on.

    Meant for the penalty strength: the network learns something before weights are pulled to zero.

    fraction  in [0, 1]; 0 is no warm-up, f = 1 throughout
    """

    fraction: float = 0.3

    def __post_init__(self) -> None:
        between("fraction", self.fraction, 0.0, 1.0)

    def __call__(self, step: int, *, steps: int, history: Sequence[float] = ()) -> float:
        step, steps = position(step, steps)
        t = step / steps
        return 1.0 if t >= self.fraction else t / self.fraction


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """f = max(factor^k, minimum), where k counts how often the validation value has stopped improving.

    A value improves if it beats the best earlier one by more than `min_delta`. After `patience` epochs
    in a row without improvement k grows by one and the count of epochs begins anew; the best value stays.
    All of this is computed from `history` at every call; `step` and `steps` have no influence.

    patience   epochs, at least 1
    factor     in (0, 1)
    minimum    lowest factor, in [0, 1]
    mode       "max" if a larger value is better (accuracy), "min" for a loss
    min_delta  in the units of `history`, 0 or more

    Ref  The authors' code of Oliveira, Batista, Seara, Neural Networks 171 (2024), Experiment 5:
         validation accuracy, patience 8, factor 0.5, learning rate 1e-3 [I] down to 1e-6;
         min_delta 1e-4 is Keras's default, which they leave alone [I].
    """

    patience: int = 8
    factor: float = 0.5
    minimum: float = 1e-3
    mode: str = "max"
    min_delta: float = 1e-4

    def __post_init__(self) -> None:
        count("patience", self.patience, least=1)
        if positive("factor", self.factor) >= 1.0:
            raise ArgumentError(f"factor={self.factor!r} must be below 1: each reduction multiplies by it")
        between("minimum", self.minimum, 0.0, 1.0)
        choose("mode", self.mode, ("min", "max"))
        nonnegative("min_delta", self.min_delta)

    def __call__(self, step: int, *, steps: int, history: Sequence[float] = ()) -> float:
        position(step, steps)
        sign = 1.0 if self.mode == "max" else -1.0
        best, waited, reductions = -math.inf, 0, 0
        for epoch, value in enumerate(history):
            if not math.isfinite(value):
                raise ArgumentError(f"history[{epoch}]={value!r} must be finite; stop the run where it diverged")
            if sign * value > best + self.min_delta:
                best, waited = sign * value, 0
                continue
            waited += 1
            if waited == self.patience:
                waited, reductions = 0, reductions + 1
        return float(max(self.factor**reductions, self.minimum))


def _cosine(first: float, last: float, u: float) -> float:
    """Half a cosine from `first` at u = 0 to `last` at u = 1, exact at both ends."""
    return last + (first - last) * (1.0 + math.cos(math.pi * u)) / 2.0 if u > 0.0 else float(first)
