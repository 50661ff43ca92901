"""Faults that show only when function or gradient are asked again at another point: the output taken for the input.

The derivative of tanh is 1 - tanh(x)^2, or 1 - y^2 in terms of its value y. Code that mixes the two up applies a
formula for y to x, or one for x to y. Both can be tried, where each entry of y depends on its own entry of x.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from l0ref.errors import GradientError
from l0ref.testing.compare import Rows
from l0ref.testing.measure import Measure
from l0ref.testing.problem import Arrays
from l0ref.validate import Array

CLOSE = 1e-6  # share of the largest entry to which the two must agree


def at_output(measure: Measure, gradient: Callable[[Arrays, Array], list[Array]], rows: Rows) -> dict[str, Array]:
    """Return {what is wrong: the gradient that it would give}, flat, for a function of one array, entry by entry."""
    points = measure.problem.point
    if len(points) != 1 or measure.y0.size != points[0].size or rows.index.size != points[0].size or rows.kink.any():
        return {}
    x, found = points[0], {}
    y = measure.y0.reshape(x.shape).astype(x.dtype)
    try:
        if not _close(_slopes(measure, x), rows.numeric):  # entries are not on their own
            return {}
        found["the derivative at the output: f' is taken at f(x) instead of x"] = _slopes(measure, y)
        given_y = gradient([y], measure.y_bar)[0]
        if _close(given_y.reshape(-1), rows.numeric):
            found["a formula for the output: the gradient is right if it is given f(x), and is given x"] = rows.analytic
    except (GradientError, ArithmeticError):
        pass
    return found


def _slopes(measure: Measure, point: Array) -> Array:
    """y_bar f' at a point, all entries moved at once."""
    lengths = measure.lengths[0]
    along = measure.direction([lengths], point=[point])
    return np.asarray(along.y_bar * along.slopes.numeric / lengths.reshape(-1))


def _close(a: Array, b: Array) -> bool:
    with np.errstate(invalid="ignore"):
        return bool((np.abs(a - b) <= CLOSE * np.abs(b).max(initial=0.0)).all())
