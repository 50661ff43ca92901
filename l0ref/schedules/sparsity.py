"""The fraction pruned at a step, which never falls, for ``masks.keep_mask(amount=...)``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from l0ref.errors import ArgumentError
from l0ref.schedules.base import Schedule, check_time, in_steps, position
from l0ref.validate import between, positive


@dataclass(frozen=True)
class PolynomialSparsity(Schedule):
    """s(u) = final + (initial - final) (1 - u)^power, with u the share of the pruning phase that has passed.

    u = 0 up to step `begin`, u = 1 from step `end` on. Between them u moves only every `frequency` steps,
    counted from `begin`, so that the network can recover between two prunings; in between the value is constant.
    Exactly `initial` at u = 0 and exactly `final` at u = 1.

    initial, final  fractions pruned, 0 <= initial <= final <= 1
    begin, end      a float in [0, 1] is a fraction of the run, an int a step; begin <= end
    power           above 0; 3 prunes fast at first, while many weights can be spared
    frequency       time between two prunings, a fraction of the run or a number of steps, at least one step

    Ref  Zhu, Gupta, arXiv 1710.01878, equation (1), where power = 3, t0 = begin, n dt = end - begin, dt = frequency
    """

    gives: ClassVar[str] = "sparsity"

    initial: float = 0.0
    final: float = 0.9
    begin: float = 0.0
    end: float = 1.0
    power: float = 3.0
    frequency: float = 1

    def __post_init__(self) -> None:
        check_options(self.initial, self.final, self.power, begin=self.begin, end=self.end, frequency=self.frequency)

    def __call__(self, step: int, *, steps: int, history: Sequence[float] = ()) -> float:
        u = progress(step, steps, begin=self.begin, end=self.end, frequency=self.frequency)
        if u in (0.0, 1.0):
            return float(self.final if u else self.initial)
        pruned = self.final + (self.initial - self.final) * (1.0 - u) ** self.power
        return float(min(max(pruned, self.initial), self.final))


@dataclass(frozen=True)
class LogLinearKept(Schedule):
    """s(u) = 1 - k(u) with ln k(u) = ln k1 + (ln k0 - ln k1) (1 - u)^power, k0 = 1 - initial, k1 = 1 - final.

    With power = 1 the number of kept weights falls by the same factor in the same time, so the last step from
    100x to 200x compression gets as much time as the first from 1x to 2x. power > 1 prunes faster early and
    slower late. Options and `u` are those of PolynomialSparsity, except that final < 1.

    Ref  ours; the defaults, power 1.5 over the first 80 % of the run, come from LeNets. A good `frequency` is 1/2 epoch
    """

    gives: ClassVar[str] = "sparsity"

    initial: float = 0.0
    final: float = 0.9
    begin: float = 0.0
    end: float = 0.8
    power: float = 1.5
    frequency: float = 1

    def __post_init__(self) -> None:
        check_options(self.initial, self.final, self.power, begin=self.begin, end=self.end, frequency=self.frequency)
        if self.final == 1.0:
            raise ArgumentError(f"final={self.final!r} must be below 1: the logarithm of nothing kept is not finite")

    def __call__(self, step: int, *, steps: int, history: Sequence[float] = ()) -> float:
        u = progress(step, steps, begin=self.begin, end=self.end, frequency=self.frequency)
        if u in (0.0, 1.0):
            return float(self.final if u else self.initial)
        log_k0, log_k1 = math.log1p(-self.initial), math.log1p(-self.final)
        pruned = -math.expm1(log_k1 + (log_k0 - log_k1) * (1.0 - u) ** self.power)
        return float(min(max(pruned, self.initial), self.final))


def check_options(initial: float, final: float, power: float, *, begin: float, end: float, frequency: float) -> None:
    """Refuse fractions outside [0, 1], a falling sparsity, and times that are out of order."""
    between("initial", initial, 0.0, 1.0)
    if between("final", final, 0.0, 1.0) < initial:
        raise ArgumentError(
            f"final={final!r} is below initial={initial!r}; pruned stays pruned, so sparsity can only grow"
        )
    positive("power", power)
    for name, value in {"begin": begin, "end": end, "frequency": frequency}.items():
        check_time(name, value)
    positive("frequency", frequency)
    if isinstance(begin, float) == isinstance(end, float) and begin > end:
        raise ArgumentError(f"begin={begin!r} is later than end={end!r}; pruning ends after it begins")


def progress(step: int, steps: int, *, begin: float, end: float, frequency: float) -> float:
    """Share u of the pruning phase that had passed at the last pruning not later than `step`."""
    step, steps = position(step, steps)
    first, last = in_steps(begin, steps), in_steps(end, steps)
    if first > last:
        raise ArgumentError(f"begin={begin!r} is later than end={end!r} in a run of steps={steps}; move one of them")
    if step >= last:
        return 1.0
    if step <= first:
        return 0.0
    every = max(in_steps(frequency, steps), 1)
    return (step - first) // every * every / (last - first)
