"""Faults that show only in further calls: at the output instead of the input, nearby, or with another cotangent.

The derivative of tanh is 1 - tanh(x)^2, or 1 - y^2 in terms of its value y. Code that mixes the two up applies a
formula for y to x, or one for x to y. Code that forgets an inner derivative returns the same everywhere. Code that
ignores the strides of an array reads the cotangent in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from l0ref.errors import GradientError
from l0ref.testing.agreement import Rows
from l0ref.testing.measure import Measure
from l0ref.testing.nearby import near
from l0ref.testing.problem import Arrays
from l0ref.validate import Array

CLOSE = 1e-6  # share of the largest entry to which two gradients must agree
Gradient = Callable[[Arrays, Array], list[Array]]


def suspects(measure: Measure, gradient: Gradient, which: int, rows: Rows) -> dict[str, Array]:
    """Return {mistake: the gradient that it would give}, flat, for a wrong gradient of input number `which`."""
    if rows.index.size != measure.problem.point[which].size or rows.kink.any() or not np.isfinite(rows.analytic).all():
        return {}
    try:
        return {**dict(_at_output(measure, gradient, rows)), **dict(_reordered(measure, gradient, which, rows))}
    except (GradientError, ArithmeticError):  # the function does not exist there
        return {}


def unmoved(measure: Measure, gradient: Gradient, which: int, found: Array, rng: np.random.Generator) -> bool:
    """Whether the gradient is the same at inputs nearby, where the slopes of the value differ."""
    beside = near(measure.problem, rng)
    moves = [measure.lengths[which] if i == which else None for i in range(len(beside))]
    try:
        if not found.any() or not np.array_equal(gradient(beside, measure.y_bar)[which], found):
            return False
        here, there = (measure.direction(moves, point=p) for p in (None, beside))
    except (GradientError, ArithmeticError):
        return False
    return abs(here.numeric - there.numeric) > CLOSE * abs(here.numeric) + here.noise + there.noise


def _at_output(measure: Measure, gradient: Gradient, rows: Rows) -> Iterator[tuple[str, Array]]:
    """The output used in place of the input, in a function of one array that works entry by entry."""
    points = measure.problem.point
    if len(points) != 1 or measure.y0.size != points[0].size or not _close(_slopes(measure, points[0]), rows.numeric):
        return
    y = measure.y0.reshape(points[0].shape).astype(points[0].dtype)
    if _close(gradient([y], measure.y_bar)[0].reshape(-1), rows.numeric):
        yield "a formula for the output: the gradient is right if it is given f(x), and is given x", rows.analytic
    yield "the derivative at the output: f' is taken at f(x) instead of x", _slopes(measure, y)


def _reordered(measure: Measure, gradient: Gradient, which: int, rows: Rows) -> Iterator[tuple[str, Array]]:
    """The cotangent read in row order where it is stored in column order, or the reverse."""
    shape, y_bar = measure.calls.shape, measure.y_bar
    if measure.problem.cotangent and len(shape) > 1:
        for other in (y_bar.reshape(shape).T.reshape(shape), y_bar.reshape(shape[::-1]).T):
            again = gradient(measure.problem.point, other.reshape(-1))[which].reshape(-1)
            if _close(again, rows.numeric):
                yield "the cotangent in another order: its memory is read as if it were transposed", rows.analytic


def _slopes(measure: Measure, point: Array) -> Array:
    """y_bar f' at a point, from one direction that moves all entries."""
    lengths = measure.lengths[0]
    along = measure.direction([lengths], point=[point])
    return np.asarray(along.y_bar * along.slopes.numeric / lengths.reshape(-1))


def _close(a: Array, b: Array) -> bool:
    with np.errstate(invalid="ignore"):
        return bool((np.abs(a - b) <= CLOSE * np.abs(b).max(initial=0.0)).all())
