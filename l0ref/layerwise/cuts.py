"""Cutting planes: the best k weights of one neuron, proven, for few inputs and three kinds of answer.

    min over w, ||w||_0 <= k of   1/2 ||y - A w||^2 + loss(B w) + 1/(2 gamma) ||w||^2

    linear   A all samples, no B                              the neuron before its activation
    soft     A samples with y > 0, B the others               loss = 1/2 ||max(0, B w)||^2, what a ReLU answers there
    hard     the same                                         B w <= 0, as a ReLU must be silent there

Over supports s in {0, 1}^p the minimum c(s) is convex once it is written by its dual,

    c(s) = max over a, mu >= 0 of  a'y - 1/2 ||a||^2 [- 1/2 ||mu||^2 if soft] - gamma/2 sum_j s_j r_j^2
    r = A'a - B'mu,   dc/ds_j = -gamma/2 r_j^2 for every j,   w_j = gamma s_j r_j

so each support that was tried gives a cut t >= c(s0) + dc(s0)'(s - s0) that no support lies below. The master
problem, min t under all cuts and sum s <= k, is a small mixed-integer linear program (HiGHS by SciPy, extra `exact`);
its optimum is a lower bound, to HiGHS's tolerance, the best c(s) so far an upper one, and they meet.

Ref      Bertsimas, Van Parys (arXiv 1709.10029) for the linear form. That Phan et al. (ICDM 2020) solve their ReLU
         model by cutting planes is known from the abstract; its objective and cuts are unknown [U], these are ours [I].
         Inputs of trained layers correlate: beyond some 16 of them the lower bound hardly rises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError, ConfigError
from l0ref.validate import Array, choose, count, float_array, positive

FORMS = ("linear", "soft", "hard")
MOST = 16  # inputs: beyond, the bound does not close in any time
Support = NDArray[np.bool_]


@dataclass(frozen=True)
class Proven:
    """The best support, with its weights (p); lower = upper within the tolerance, or the rounds ran out.

    bounds  (lower, upper) after each round
    """

    weights: Array
    support: Support
    lower: float
    upper: float
    bounds: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Value:
    """c(s) with the weights that attain it, and the r of the text above."""

    c: float
    weights: Array
    r: Array


@dataclass(frozen=True)
class Neuron:
    """The problem of one neuron: A (n, p), y (n), B (m, p), gamma and the form."""

    A: Array
    y: Array
    B: Array
    gamma: float
    form: str

    @classmethod
    def of(cls, X: Array, y: Array, *, gamma: float, form: str) -> Neuron:
        """Return the problem of inputs X (N, p) and answers y (N); a ReLU's answers are 0 or more."""
        choose("form", form, FORMS)
        X, y = float_array("X", X).astype(np.float64), float_array("y", y).astype(np.float64)
        on = np.ones(len(y), bool) if form == "linear" else y > 0
        return cls(X[on], y[on], X[~on], positive("gamma", gamma), form)

    def value(self, support: Array) -> Value:
        """Return c(s); s may be a support, or numbers in [0, 1] that stand for columns scaled by sqrt(s)."""
        s = np.asarray(support, np.float64)
        root, live = np.sqrt(s), s > 0
        A, B = self.A[:, live] * root[live], self.B[:, live] * root[live]
        v, mu = self._hard(A, B) if self.form == "hard" else self._soft(A, B)
        a = self.y - A @ v
        c = (a @ a + v @ v / self.gamma) / 2 + (mu @ mu / 2 if self.form == "soft" else 0.0)
        w = np.zeros(len(s))
        w[live] = v * root[live]
        return Value(float(c), w, self.A.T @ a - self.B.T @ mu)

    def _soft(self, A: Array, B: Array) -> tuple[Array, Array]:
        """Newton's method on the samples with B v > 0; each step is exact once they stand."""
        ridge, q = np.eye(A.shape[1]) / self.gamma, A.T @ self.y
        over = np.zeros(len(B), bool)
        for _ in range(len(B) + 50):
            v = np.linalg.solve(ridge + A.T @ A + B[over].T @ B[over], q)
            if np.array_equal(over, now := B @ v > 0):
                break
            over = now
        return v, np.maximum(B @ v, 0.0)

    def _hard(self, A: Array, B: Array) -> tuple[Array, Array]:
        """The multipliers of B v <= 0 by non-negative least squares, then v."""
        H, q = np.eye(A.shape[1]) / self.gamma + A.T @ A, A.T @ self.y
        if not len(B) or not len(q):
            return np.linalg.solve(H, q), np.zeros(len(B))
        low = np.linalg.cholesky(H)
        left, right = np.linalg.solve(low, B.T), np.linalg.solve(low, q)
        mu = _scipy().nnls(left, right, maxiter=100 * len(B))[0]
        return np.linalg.solve(H, q - B.T @ mu), np.asarray(mu)


def cutting_planes(neuron: Neuron, k: int, *, always: int = 0, tolerance: float = 1e-9, rounds: int = 2000) -> Proven:
    """Return the best support of at most `k` inputs, and the proof: bounds that meet.

    always     this many of the last inputs are in every support and not counted: 1 for a bias as a column of ones
    tolerance  relative to the upper bound, at which the two count as one
    rounds     cuts at most; then the bounds returned are true and apart
    """
    p = neuron.A.shape[1] - always
    if p > MOST:
        raise ArgumentError(f"X has {p} inputs, at most {MOST} can be proven by cutting planes; use solve")
    k = min(count("k", k), p)
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
        if best[0] - lower <= tolerance * max(best[0], 1e-300):
            break
    return Proven(best[2], best[1], *bounds[-1], tuple(bounds))


def _cut(neuron: Neuron, s: Support, found: Value) -> tuple[Array, float]:
    """Return (slope, level) of t >= level + slope's.

    With any j outside of s chosen, a slope of -(the largest value of the cut) makes it say t >= 0 already; a steeper
    one says no more, and would drown all others in rounding.
    """
    slope = -neuron.gamma / 2 * np.square(found.r)
    level = found.c - float(slope @ s)  # the largest value: all of s dropped, nothing chosen
    return np.where(s, slope, np.maximum(slope, -level)), level


def _master(cuts: list[tuple[Array, float]], k: int, always: int) -> tuple[Support, float]:
    """Return argmin over supports of the largest cut, and that minimum."""
    opt = _scipy()
    slopes = np.array([slope for slope, _ in cuts])
    rows = np.column_stack([np.ones(len(cuts)), -slopes])  # t - slope's >= level
    p = slopes.shape[1]
    levels = np.array([level for _, level in cuts])
    scale = float(levels.max()) or 1.0  # t counts in units of it
    rows[:, 1:], levels = rows[:, 1:] / scale, levels / scale
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
