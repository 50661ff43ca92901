"""Cutting planes: the best k weights of one neuron, proven, for few inputs and the three forms of `neuron`.

Each support s0 that was tried gives a cut t >= c(s0) + dc(s0)'(s - s0), which holds at every support since c is convex.
The master problem, min t under all cuts, is solved at every support of k inputs: with few inputs that costs less than a
solver of integer programs, whose absolute tolerance would pass for a proof where the optimum is small beside the cuts.
Its optimum is a lower bound, the best c(s) so far an upper one, until they meet.

Ref      Bertsimas, Van Parys (arXiv 1709.10029) for the linear form. That Phan et al. (ICDM 2020) solve their ReLU
         model by cutting planes is known from the abstract; its objective and cuts are unknown [U], these are ours [I].
         Inputs of trained layers are correlated: beyond about 16 inputs the lower bound hardly rises; see `relu`.
Departs  The master problem is not given to a solver of mixed-integer programs.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError
from l0ref.layerwise.branch_and_bound import Certificate
from l0ref.layerwise.neuron import Neuron, Value
from l0ref.layerwise.quadratic import budget
from l0ref.validate import Array, count

MOST = 16  # inputs: with more of them the bounds do not meet in reasonable time
GAP = 1e-9  # relative gap between the bounds that counts as a proof
MARGIN = 1e-10  # a cut is lowered by this times its level: rounding of r counts sqrt(gamma) ||A|| times
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
    chosen = [np.isin(np.arange(p), some) for some in itertools.combinations(range(p), k)]  # c falls with every input
    supports = np.column_stack([np.array(chosen), np.ones((len(chosen), always), bool)])
    floor, s = np.zeros(len(supports)), supports[0]  # the largest cut at each support
    best = (np.inf, s, np.zeros(p + always))
    bounds: list[tuple[float, float]] = []
    for _ in range(count("rounds", rounds, least=1)):
        found = neuron.value(s)
        if found.c < best[0]:
            best = (found.c, s, found.weights)
        slope, level = _cut(neuron, s, found)
        floor = np.maximum(floor, level + supports @ slope)
        s, lower = supports[int(floor.argmin())], float(floor.min())
        bounds.append((min(lower, best[0]), best[0]))
        if proven := best[0] - lower <= GAP * best[0]:
            break
    lowers, uppers = np.array(bounds).T
    record = {"weights": best[2], "support": best[1], "lower": lowers, "upper": uppers}
    return Certificate(float(lowers[-1]), float(uppers[-1]), proven, len(bounds), record)


def _cut(neuron: Neuron, s: Support, found: Value) -> tuple[Array, float]:
    """Return (slope, level) of t >= level + slope's, the dual objective of `found` at other supports.

    A slope of -level already lowers the cut to t >= 0 once that j is chosen; a steeper one adds nothing, since t >= 0
    anyway, and makes the other slopes vanish in rounding. So slopes outside of s are clipped at -level.
    """
    slope = -neuron.gamma / 2 * np.square(found.r)
    level = (found.least - float(slope @ s)) * (1 - MARGIN)  # the largest value of the cut, at s = 0
    return np.where(s, slope, np.maximum(slope, min(-level, 0.0))), level
