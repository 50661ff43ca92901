"""A second point, which decides cases that the given point leaves open.

Where the value does not move, at the optimum of a loss say, a gradient of zero agrees and so does seven times the
true one; where every entry is at a kink, anything between the slopes agrees. At a point nearby the value moves
and is smooth, and the gradient is compared there along random directions. A gradient that is right at the given point
and wrong nearby has kept values from an earlier call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from l0ref.errors import GradientError
from l0ref.testing.agreement import Rules
from l0ref.testing.differences import OutOfDomain
from l0ref.testing.findings import ParameterReport
from l0ref.testing.measure import Measure
from l0ref.testing.problem import Arrays, Problem
from l0ref.testing.scale import random_moves, scales
from l0ref.validate import Array

NEAR = 2.0**-6  # largest distance of the second point, as a share of the scale of each entry
TRIES = 3  # number of second points tried while they show nothing
RIGHT, WRONG, STILL, UNSEEN = "right", "wrong", "still", "unseen"


@dataclass(frozen=True)
class Sight:
    """The result at a second point: along all inputs together, and along each requested input.

    verdict  RIGHT, WRONG, STILL (the value does not move, and the gradient says so) or UNSEEN (noise, a kink)
    off      the error as a share of the size of its terms, where wrong
    each     {number of an input: its verdict}
    """

    verdict: str
    off: float
    each: dict[int, str]


@dataclass(frozen=True, eq=False)
class Nearby:
    """Looks at points near that of a problem. gradient: (arrays, y_bar) -> one checked array per input."""

    measure: Measure
    rules: Rules
    gradient: Callable[[Arrays, Array], list[Array]]
    rng: np.random.Generator

    def look(self, which: Sequence[int]) -> Sight:
        """Compare at a point nearby, and at further ones while an input of `which` shows nothing."""
        sight = self._once(which)
        for _ in range(TRIES - 1):
            open_ = [i for i in which if sight.each[i] in (STILL, UNSEEN)]
            if sight.verdict == WRONG or not open_:
                break
            new = self._once(open_)
            sight = Sight(new.verdict, new.off, {**sight.each, **new.each})
        return sight

    def _once(self, which: Sequence[int]) -> Sight:
        point = near(self.measure.problem, self.rng)
        moves = [
            scales(x)
            * random_moves(x.size, self.rng).reshape(x.shape)
            * self.measure.problem.hints.masks.get(name, 1.0)
            for name, x in zip(self.measure.problem.names, self.measure.problem.point, strict=True)
        ]
        try:
            found = self.gradient(point, self.measure.y_bar)
            verdict, off = self._compare(point, found, moves)
            every = range(len(moves)) if verdict == WRONG else which
            alone = {i: self._compare(point, found, moves, only=i) for i in every}
        except (GradientError, ArithmeticError, OutOfDomain):
            return Sight(UNSEEN, 0.0, dict.fromkeys(which, UNSEEN))
        off = max([off, *(far for _, far in alone.values())])
        return Sight(verdict, off, {i: seen for i, (seen, _) in alone.items()})

    def _compare(self, point: Arrays, found: Arrays, moves: Arrays, *, only: int | None = None) -> tuple[str, float]:
        """The verdict along the moves (of one input only), and the error as a share of the size of its terms."""
        chosen = [m if only in (None, i) else None for i, m in enumerate(moves)]
        along = self.measure.direction(chosen, point=point)
        terms = [g.astype(np.float64) * m for g, m in zip(found, chosen, strict=True) if m is not None]
        analytic = sum(float(t.sum()) for t in terms)
        size = max(float(np.sqrt(sum(float(np.square(t).sum()) for t in terms))), abs(along.numeric))
        if along.gap > 0 or np.isnan(size):
            return UNSEEN, 0.0
        if abs(along.numeric) <= along.noise and not any(t.any() for t in terms):
            return STILL, 0.0
        if along.noise > self.rules.rough * size:
            return UNSEEN, 0.0
        off = abs(analytic - along.numeric)
        wrong = off > 4 * float(self.rules.allowed(size, size, along.noise, size))
        return (WRONG, off / size) if wrong else (RIGHT, 0.0)


def near(problem: Problem, rng: np.random.Generator) -> list[Array]:
    """A second point; masked entries do not move."""
    shift = [scales(x) * rng.uniform(-1, 1, x.shape) * NEAR for x in problem.point]
    return [
        (x + s * problem.hints.masks.get(name, True)).astype(problem.dtype).astype(x.dtype)
        for name, x, s in zip(problem.names, problem.point, shift, strict=True)
    ]


def stale(blamed: Sequence[str], off: float, undecided: Sequence[str]) -> str:
    """Report a gradient that is wrong nearby; `undecided` names inputs that the given point leaves open."""
    where = f"in {' and in '.join(blamed)} (along a random direction off by {off:.1e} of its size)"
    if set(blamed) & set(undecided):
        return (
            "nothing was checked at the given inputs, where the value does not move or every entry stands on a kink, "
            f"and at inputs nearby the gradient is wrong, {where}"
        )
    return (
        f"stale values: the gradient is right at the given inputs and wrong at inputs nearby, {where}, as if something "
        "was saved by an earlier call"
    )


def about_open(r: ParameterReport, verdict: str, *, accepted: bool) -> tuple[list[str], list[str]]:
    """Notes and problems of an input that the given point leaves open; `accepted`: kinks need no second point."""
    notes: list[str] = []
    problems: list[str] = []
    if r.flat and (verdict == RIGHT or (verdict != WRONG and not r.rough)):
        right = "compared at inputs nearby, where it does"
        how = right if verdict == RIGHT else "the gradient is zero, and should be"
        notes.append(f"the value does not move along {r.name}: {how}")
    elif r.only_kinks and verdict == RIGHT:
        notes.append(
            f"nothing was checked at the given {r.name}: every entry stands on a kink; compared at inputs nearby"
        )
    elif r.only_kinks and verdict != WRONG and not accepted:
        problems.append(
            f"nothing was checked: every entry of {r.name} stands on a kink, where any value between the slopes is "
            "acceptable, and nothing can be seen nearby; choose other inputs, or pass kinks='accept'"
        )
    return notes, problems
