"""How a gradient behaves from one call to the next, which a single right answer does not show.

Each function yields a sentence per fault, or nothing:

repeatable     a second call at the same inputs returns the same gradient
proportional   TIMES times the cotangent gives TIMES times the gradient, as J^T y_bar must
undisturbed    evaluating the function elsewhere between its forward and its backward pass changes nothing
fresh          the arrays returned by the first call have not changed since
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from l0ref.errors import GradientError
from l0ref.testing.measure import Measure
from l0ref.testing.nearby import near
from l0ref.testing.problem import Arrays
from l0ref.validate import Array

TIMES = -1024.0  # exact in sums and products, and large enough to expose a clipped gradient
ULPS = 64.0  # rounding allowed in any case, in units in the last place of the largest entry


@dataclass(frozen=True, eq=False)
class Behaviour:
    """One gradient at the point of a problem.

    gradient    (arrays, y_bar) -> one checked array per input
    kept        a copy of its result at the point, taken immediately
    nondet_tol  how far two calls may differ
    """

    measure: Measure
    gradient: Callable[[Arrays, Array], list[Array]]
    kept: Sequence[Array]
    nondet_tol: float
    rng: np.random.Generator

    def repeatable(self) -> Iterator[str]:
        """Compute the gradient again, after the value has been evaluated elsewhere."""
        again = self.gradient(self.measure.problem.point, self.measure.y_bar)
        for name, a, b in zip(self.measure.problem.names, self.kept, again, strict=True):
            if (far := apart(a, b)) > self.nondet_tol:
                where, first, second = _worst(name, a, b)
                yield (
                    f"not deterministic: two backward passes at the same inputs differ by {far:.3g} in {where} "
                    f"({first:.6g}, then {second:.6g}); nondet_tol is {self.nondet_tol:g}, and a gradient must not "
                    "depend on what was evaluated in between"
                )

    def proportional(self) -> Iterator[str]:
        """Compute the gradient for TIMES times the cotangent."""
        if not self.measure.problem.cotangent:
            return
        larger = self.gradient(self.measure.problem.point, TIMES * self.measure.y_bar)
        for name, a, b in zip(self.measure.problem.names, self.kept, larger, strict=True):
            rounding = ULPS * float(np.finfo(a.dtype).eps) * float(np.abs(a).max(initial=0.0)) + self.nondet_tol
            if apart(TIMES * a, b) > abs(TIMES) * rounding:
                where, want, got = _worst(name, TIMES * a, b)
                yield (
                    f"not proportional to the cotangent: with {TIMES:g} times the cotangent the gradient of {where} is "
                    f"{got:.6g}, expected {want:.6g}; it must be the transposed Jacobian times the cotangent"
                )

    def undisturbed(self) -> Iterator[str]:
        """Evaluate the function nearby between its forward and its backward pass."""
        problem = self.measure.problem
        if problem.interrupted is None:
            return
        try:
            found = self.measure.calls.interrupted(problem.point, near(problem, self.rng), self.measure.y_bar)
        except GradientError:  # the function does not exist there
            return
        for name, a, b in zip(problem.names, self.kept, found, strict=True):
            if apart(a, b) > self.nondet_tol:
                where, before, after = _worst(name, a, b)
                yield (
                    "stale values: evaluating the function elsewhere between its forward and its backward pass changes "
                    f"the gradient of {where} from {before:.6g} to {after:.6g}; keep what each call saves apart"
                )

    def fresh(self, held: Sequence[Array]) -> Iterator[str]:
        """Compare the arrays of the first call with their copy, after other gradients have been computed."""
        for name, a, b in zip(self.measure.problem.names, held, self.kept, strict=True):
            if not np.array_equal(a, b, equal_nan=True):
                yield (
                    f"aliasing: the gradient of {name} returned first changed when the next one was computed; "
                    "return a fresh array each time"
                )


def apart(a: Array, b: Array) -> float:
    """Largest difference; 0 where both are the same NaN or infinity, infinite where only one is."""
    gap = _gaps(a, b)
    return float(gap.max(initial=0.0))


def _gaps(a: Array, b: Array) -> Array:
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        gap = np.where(same, 0.0, np.abs(np.asarray(a, np.float64) - b))
    return np.where(np.isnan(gap), np.inf, gap)


def _worst(name: str, a: Array, b: Array) -> tuple[str, float, float]:
    """Name of the entry where two gradients differ most, and both values there."""
    index = np.unravel_index(int(np.argmax(_gaps(a, b))), a.shape)
    where = f"[{', '.join(str(int(k)) for k in index)}]" if a.ndim else ""
    return f"{name}{where}", float(a[index]), float(b[index])
