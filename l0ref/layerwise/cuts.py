"""Cutting planes: the best k weights of one neuron, proven, for few inputs and the three forms of `neuron`.

Each support s0 that was tried gives a cut t >= c(s0) + dc(s0)'(s - s0), which holds at every support since c is convex.
The master problem, min t under all cuts and sum s <= k, is a small mixed-integer linear program (HiGHS through SciPy,
extra `exact`); its optimum is a lower bound, to HiGHS's tolerance, the best c(s) so far an upper one, until they meet.

Ref      Bertsimas, Van Parys (arXiv 1709.10029) for the linear form. That Phan et al. (ICDM 2020) solve their ReLU
         model by cutting planes is known from the abstract; its objective and cuts are unknown [U], these are ours [I].
         Inputs of trained layers are correlated: beyond about 16 inputs the lower bound hardly rises; see `relu`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError, ConfigError
from l0ref.layerwise.branch_and_bound import Certificate
from l0ref.layerwise.neuron import Neuron, Value
from l0ref.layerwise.quadratic import budget
from l0ref.validate import Array, count

MOST = 16  # inputs: with more of them the bounds do not meet in reasonable time
GAP = 1e-9  # relative gap between the bounds that counts as a proof
Support = NDArray[np.bool_]


def cutting_planes(neuron: Neuron, k: int, *, always: int = 0, rounds: int = 2000) -> Certificate:
    """Return the best support of at most `k` inputs, and the proof: bounds that meet.

    The record has weights and support (p + always), and lower and upper after each cut; `nodes` counts the cuts.

    always  number of inputs, the last ones, that are in every support and not counted: 1 for a bias, a column of ones
    rounds  cuts at most; if they run out, the returned bounds are valid but do not meet
    """
    p = neuron.A.shape[1] - always
    if p > MOST:
        raise ArgumentError(f"X has {p} inputs, at most {MOST} can be proven by cutting planes; use layerwise.relu")
    budget("k", k, p, "the neuron")
    s = np.append(np.arange(p) < k, np.ones(always, bool))
    lower, best = 0.0, (np.inf, s, np.zeros(p + always))
    cuts: list[tuple[Array, float]] = []
    bounds: list[tuple[float, float]] = []
    for _ in range(count("rounds", rounds, least=1)):
        found = neuron.value(s)
        if found.c < best[0]:
            best = (found.c, s, found.weights)
        cuts.append(_cut(neuron, s, found))
        s, t = _master(cuts, k, always)
        lower = max(lower, t)
        bounds.append((min(lower, best[0]), best[0]))
        if proven := best[0] - lower <= GAP * max(best[0], 1e-300):
            break
    lowers, uppers = np.array(bounds).T
    record = {"weights": best[2], "support": best[1], "lower": lowers, "upper": uppers}
    return Certificate(float(lowers[-1]), float(uppers[-1]), proven, len(cuts), record)


def _cut(neuron: Neuron, s: Support, found: Value) -> tuple[Array, float]:
    """Return (slope, level) of t >= level + slope's.

    A slope of -level already lowers the cut to t >= 0 once that j is chosen; a steeper one adds nothing, since t >= 0
    anyway, and makes the other slopes vanish in rounding. So slopes outside of s are clipped at -level.
    """
    slope = -neuron.gamma / 2 * np.square(found.r)
    level = found.c - float(slope @ s)  # the largest value of the cut, at s = 0
    return np.where(s, slope, np.maximum(slope, -level)), level


def _master(cuts: list[tuple[Array, float]], k: int, always: int) -> tuple[Support, float]:
    """Return argmin over supports of the largest cut, and that minimum."""
    opt, p = _scipy(), len(cuts[0][0])
    slopes, levels = np.array([slope for slope, _ in cuts]), np.array([level for _, level in cuts])
    scale = float(levels.max()) or 1.0  # t counts in units of it
    rows, levels = np.column_stack([np.ones(len(cuts)), -slopes / scale]), levels / scale  # t - slope's >= level
    budget = opt.LinearConstraint(np.append(0.0, np.ones(p))[None], -np.inf, k + always)
    least = np.append(0.0, np.arange(p) >= p - always)
    found = opt.milp(
        np.append(1.0, np.zeros(p)), integrality=np.append(0, np.ones(p)),
        bounds=opt.Bounds(least, np.append(np.inf, np.ones(p))),
        constraints=[opt.LinearConstraint(rows, levels, np.inf), budget], options={"mip_rel_gap": 0.0},
    )  # fmt: skip
    if found.x is None:
        raise ArithmeticError(f"the master problem was not solved: {found.message}; scale the samples")
    s = np.asarray(found.x[1:] > 0.5)
    return s, max(level + float(slope @ s) for slope, level in cuts)


def _scipy() -> Any:
    try:
        from scipy import optimize
    except ImportError:
        raise ConfigError("scipy is not installed; cutting planes need it: pip install 'l0ref[exact]'") from None
    return optimize
