"""Differences of a problem's value: along one entry after another, along all of them at once, along a direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from l0ref.testing.agreement import Rows
from l0ref.testing.differences import FIRST, RUNGS, OutOfDomain
from l0ref.testing.kinks import Slopes, slopes
from l0ref.testing.problem import Calls, Problem
from l0ref.testing.scale import scales
from l0ref.validate import Array

TINY = 1e-20  # step of the complex step: no difference is formed, so nothing cancels
NARROW = 2.0**-8  # an entry this much smaller than its length may need a length of its own,
DOUBT = 1e-6  # if its slope has a kink or more noise than this share of it
MOST_SHARES = 200_000  # numbers kept for the diagnosis


class Along(NamedTuple):
    """Slopes of the components of y along a direction, and the cotangent that weights them."""

    slopes: Slopes
    y_bar: Array

    @property
    def numeric(self) -> float:
        """Two-sided slope; at kinks the mean of the one-sided ones."""
        s = self.slopes
        with np.errstate(invalid="ignore"):
            middle = np.where(s.kink, (s.left + s.right) / 2, s.numeric)
        middle = np.where(np.isnan(middle), s.numeric, middle)  # inf - inf: two vertical slopes of opposite sign
        return float(self.y_bar @ middle)

    @property
    def noise(self) -> float:
        """Bound on the error of `numeric`."""
        return float(np.abs(self.y_bar) @ self.slopes.noise)

    @property
    def gap(self) -> float:
        """The largest jump of the slope at a kink, infinite at a vertical one; 0 without a kink."""
        s = self.slopes
        with np.errstate(invalid="ignore"):  # inf - inf: both sides of an entry are vertical
            jump = np.abs(self.y_bar * (s.right - s.left))
        return float(np.nan_to_num(jump, nan=np.inf)[s.kink].max(initial=0.0))

    @property
    def doubtful(self) -> bool:
        """Whether there is a kink or much noise, which a smaller step might resolve."""
        return bool(self.slopes.kink.any()) or self.noise > DOUBT * abs(self.numeric)


def spacing_of(problem: Problem, calls: Calls, y0: Array) -> float:
    """Relative spacing of the values: that of their type, or of float32 if they turn out to be rounded to it.

    At random points nearby, a value computed in float64 is not representable in float32.
    """
    own, single = float(np.finfo(y0.dtype).eps), float(np.finfo(np.float32).eps)
    rng = np.random.default_rng(0)
    shifts = [[scales(x) * rng.uniform(-1, 1, x.shape) / 1024 for x in problem.point] for _ in range(3)]
    try:
        near = [calls.value_near([x + d for x, d in zip(problem.point, shift, strict=True)]) for shift in shifts]
    except OutOfDomain:
        return own
    moved = np.concatenate([y[(y != y0) & np.isfinite(y)] for y in near])
    with np.errstate(over="ignore"):
        rounded = moved.size > 0 and bool((moved == moved.astype(np.float32)).all())
        crude = bool((moved == moved.astype(np.float16)).all())  # a count, or the like
    return single if rounded and not crude else own


class Measure:
    """Takes differences at the point of a problem, for one value y0 = y(point) and cotangent y_bar."""

    def __init__(self, problem: Problem, calls: Calls, y0: Array, y_bar: Array, *, eps: float | None, rtol: float):
        self.problem, self.calls, self.y0, self.y_bar = problem, calls, y0, y_bar.reshape(-1)
        self.step, self.rtol = eps, rtol
        self.lengths = [scales(x) if eps is None else np.ones(x.shape) for x in problem.point]
        self.spacing = spacing_of(problem, calls, y0)
        self.complex_works = problem.complex_value is not None

    def direction(self, moves: Sequence[Array | None], *, point: Sequence[Array] | None = None) -> Along:
        """Slopes along x + t move at t = 0, one move per input (None: fixed); x is `point` or the problem's."""
        base = self.problem.point if point is None else point
        y0 = self.y0 if point is None else self.calls.value_near(base)

        def line(t: float) -> Array:
            return self.calls.value_near(
                [x if m is None else (x + t * m).astype(x.dtype, copy=False) for x, m in zip(base, moves, strict=True)]
            ).astype(np.float64)

        given = self.step is not None
        first = self.step if self.step is not None else FIRST
        rungs = 1 if given else RUNGS
        found = slopes(line, y0.astype(np.float64), first=first, eps=self.spacing, rtol=self.rtol, rungs=rungs)
        return Along(found, self.y_bar)

    def entries(self, which: int, indices: Array, analytic: Array) -> Rows:
        """One row for each flat index of input number `which`."""
        lengths = self.lengths[which]
        if self.problem.elementwise:
            return self._all_at_once(lengths, analytic.reshape(-1))
        self.shares: list[Array] = []
        rows = [self._entry(which, int(i), float(lengths.flat[i])) for i in indices]
        columns = np.array(rows, dtype=np.float64).reshape(len(indices), 10).T
        numeric, noise, left, right, low, high, kink, step, size, by_complex = columns
        chosen = analytic.reshape(-1)[indices].astype(np.float64)
        return Rows(
            indices, chosen, numeric, noise, left, right, low, high, kink > 0, step, size, by_complex > 0,
            self._parts(lengths.reshape(-1)[indices]),
        )  # fmt: skip

    def _entry(self, which: int, i: int, length: float) -> tuple[float, ...]:
        along = self._along_entry(which, i, length)
        own = float(scales(self.problem.point[which].reshape(-1)[i : i + 1])[0])
        if self.step is None and own < NARROW * length and along.doubtful:
            again = self._along_entry(which, i, own)
            along, length = (again, own) if not again.doubtful else (along, length)
        s, y_bar = along.slopes, along.y_bar
        if self.y0.size * self.problem.point[which].size <= MOST_SHARES:
            self.shares.append(y_bar * s.numeric / length)
        numeric, noise = along.numeric, along.noise
        parts = y_bar * s.left, y_bar * s.right  # contributions of each component of y
        matters = along.gap > self.rtol * abs(numeric) + noise
        still = abs(numeric) <= noise  # terms cancel, and a complex step would return their rounding error
        exact = None if matters or still else self._complex(which, i, length, numeric, noise)
        if exact is not None:
            numeric, noise = exact, 16 * self.spacing * abs(exact)
        with np.errstate(invalid="ignore"):  # infinite slopes of both signs
            left, right = (float(part.sum()) if matters else numeric for part in parts)
        low, high = float(np.minimum(*parts).sum()), float(np.maximum(*parts).sum())
        step = float(s.step.min(initial=np.inf)) * length
        size = float(np.abs(y_bar) @ np.abs(self.y0))
        values = (numeric, noise, left, right, low, high)
        return (*(v / length for v in values), float(matters), step, size / length, float(exact is not None))

    def _along_entry(self, which: int, i: int, length: float) -> Along:
        move = np.zeros(self.problem.point[which].shape)
        move.flat[i] = length
        return self.direction([move if j == which else None for j in range(len(self.problem.point))])

    def _parts(self, lengths: Array) -> dict[str, Array]:
        """{mistake: slopes} if only a part of the Jacobian were counted, or none of it."""
        shape = self.calls.shape
        if not self.shares or not shape or len(self.shares) != lengths.size:
            return {}
        flat = np.array(self.shares)
        each = flat.reshape(lengths.size, *shape)
        found: dict[str, Array] = {}
        if flat.shape[0] == flat.shape[1] > 1:  # as many inputs as outputs
            found["the cotangent itself: it is passed on without the derivative of this function"] = self.y_bar
            found["the diagonal of the Jacobian alone: the effect on other entries of the result is missing"] = (
                flat.diagonal()
            )
        for axis in range(len(shape)):
            for place, word in ((0, "first"), (-1, "last")):
                if shape[axis] > 1:
                    part = np.take(each, place, axis=axis + 1).reshape(lengths.size, -1).sum(axis=1)
                    text = (
                        f"a missing sum: of {shape[axis]} entries along axis {axis} of the result only the {word} is "
                        "counted, as where a broadcast is not summed or a loop ends early"
                    )
                    found[text] = part
        return found

    def _all_at_once(self, lengths: Array, analytic: Array) -> Rows:
        """Rows of an elementwise function: all entries move at once, component i of y gives the slope of entry i."""
        s = self.direction([lengths]).slopes
        length, n = lengths.reshape(-1), self.y0.size
        with np.errstate(invalid="ignore"):
            middle = np.where(s.kink, np.nan_to_num((s.left + s.right) / 2, nan=0.0), s.numeric) / length
        noise, exact = s.noise / length, self._complex_all(length)
        if exact is not None:
            close = ~s.kink & (np.abs(middle) > noise) & (np.abs(exact - middle) <= noise + 1e-6 * np.abs(middle))
            middle = np.where(close, exact, middle)
            noise = np.where(close, 16 * self.spacing * np.abs(exact), noise)
        left, right = (np.where(s.kink, side / length, middle) for side in (s.left, s.right))
        by_complex = np.zeros(n, dtype=bool) if exact is None else close
        low, high = np.minimum(left, right), np.maximum(left, right)
        size = np.abs(self.y0) / length
        return Rows(
            np.arange(n), analytic.astype(np.float64), middle, noise, left, right, low, high, s.kink, s.step * length,
            size, by_complex,
        )  # fmt: skip

    def _complex(self, which: int, i: int, length: float, numeric: float, noise: float) -> float | None:
        """Slope from Im y(x + i TINY) / TINY, if the function takes complex numbers and agrees with the differences."""
        if not self.complex_works:
            return None
        xs = [x.astype(np.complex128) for x in self.problem.point]
        xs[which].flat[i] += 1j * TINY * length
        y = self._complex_value(xs)
        if y is None:
            return None
        slope = float(self.y_bar @ (y.imag / TINY))
        return slope if abs(slope - numeric) <= noise + 1e-6 * abs(numeric) else None

    def _complex_all(self, length: Array) -> Array | None:
        x = self.problem.point[0]
        y = self._complex_value([x + 1j * TINY * length.reshape(x.shape)]) if self.complex_works else None
        return None if y is None else y.imag / TINY / length

    def _complex_value(self, xs: list[Array]) -> Array | None:
        y = self.calls.complex_value(xs)
        good = y is not None and y.dtype.kind == "c" and y.size == self.y0.size and bool(np.isfinite(y).all())
        self.complex_works = self.complex_works and good
        return y.reshape(-1) if good else None
