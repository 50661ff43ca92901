"""Check the derivative rule of one operation against finite differences of its forward function.

For a random direction x_dot and a random cotangent y_bar the two sides of

    <y_bar, J x_dot> = <J^T y_bar, x_dot>

must agree. The left side comes from five-point differences of `forward`, the right side from `vjp`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from l0ref.autodiff.op import Op, run_forward, run_vjp
from l0ref.errors import GradientError
from l0ref.validate import Array


def check_vjp(
    op: type[Op],
    xs: Sequence[Array],
    *,
    rng: np.random.Generator,
    options: Mapping[str, Any] | None = None,
    step: float = 1e-3,
    rtol: float = 1e-7,
) -> None:
    """Raise AssertionError unless the vjp of `op` fits its forward function at the float64 inputs `xs`.

    rng      draws the direction and the cotangent, new ones for every input
    options  keyword arguments of the operation
    step     of the difference, relative to the largest entry of the input, or to 1 if that is larger; the
             error of the formula is of order step^4
    rtol     bound on the disagreement relative to |y_bar| |J x_dot|; there is no absolute tolerance,
             so a gradient of size 1e-7 is checked as strictly as one of size 1

    A check in which the value does not move along the direction would prove nothing and is refused
    with a GradientError.
    """
    arrays = tuple(np.asarray(x, dtype=np.float64) for x in xs)
    chosen = dict(options or {})
    for i, x in enumerate(arrays):
        x_dot = rng.standard_normal(x.shape)
        h = step * max(1.0, float(np.abs(x).max(initial=0.0)))
        y_dot = _five_point(op, arrays, chosen, i, h * x_dot) / h
        rule, y, saved = run_forward(op, arrays, chosen)
        y_bar = rng.standard_normal(y.shape)
        x_bar = run_vjp(op, rule, saved, y_bar, arrays, [j == i for j in range(len(arrays))])[i]
        assert x_bar is not None
        scale = float(np.linalg.norm(y_bar) * np.linalg.norm(y_dot))
        if scale == 0:
            raise GradientError(f"vacuous check: {op.__name__} does not move along input {i}; choose other inputs")
        left, right = float(np.vdot(y_bar, y_dot)), float(np.vdot(x_bar, x_dot))
        if not abs(left - right) <= rtol * scale:
            raise AssertionError(
                f"vjp of {op.__name__}, input {i}: numeric {left:.12g}, vjp {right:.12g}, "
                f"off by {abs(left - right) / scale:.1e} of scale (allowed {rtol:.1e})"
            )


def _five_point(op: type[Op], xs: tuple[Array, ...], options: dict[str, Any], i: int, step: Array) -> Array:
    """Change of the value along `step` at input `i`: (f(-2) - 8 f(-1) + 8 f(1) - f(2)) / 12, in units of `step`.

    Summed in pairs, so that a value that does not move gives exactly 0.
    """

    def along(t: float) -> Array:
        return run_forward(op, (*xs[:i], xs[i] + t * step, *xs[i + 1 :]), options)[1]

    return np.asarray(((along(-2) - along(2)) + 8 * (along(1) - along(-1))) / 12)
