"""One neuron with few inputs, in three forms: the least objective of a support, by its dual.

    min over w, ||w||_0 <= k of   1/2 ||y - A w||^2 + loss(B w) + 1/(2 gamma) ||w||^2

    linear   A all samples, no B                              the neuron before its activation
    soft     A samples with y > 0, B the others               loss = 1/2 ||max(0, B w)||^2, the squared ReLU outputs
    hard     the same                                         B w <= 0, so that the ReLU outputs are 0

Over supports s in {0, 1}^p the minimum c(s) is convex when it is written by its dual,

    c(s) = max over a, mu >= 0 of  a'y - 1/2 ||a||^2 [- 1/2 ||mu||^2 if soft] - gamma/2 sum_j s_j r_j^2
    r = A'a - B'mu,   dc/ds_j = -gamma/2 r_j^2 for every j,   w_j = gamma s_j r_j

`cuts` and `relu` find the best support, with a proof.

Ref  Bertsimas, Van Parys (arXiv 1709.10029) for the linear form; the ReLU forms are ours [I].
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from l0ref.layerwise.nonnegative import nonnegative_least_squares
from l0ref.validate import Array, choose, float_array, positive

FORMS = ("linear", "soft", "hard")


@dataclass(frozen=True)
class Value:
    """c(s) with the weights that attain it, and r; see the text of the module.

    least  the dual objective: at most c(s), however far from their optimum the weights are
    """

    c: float
    weights: Array
    r: Array
    least: float


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
        """Return the problem of inputs X (N, p) and target outputs y (N), behind the ReLU in "soft" and "hard"."""
        choose("form", form, FORMS)
        X, y = float_array("X", X).astype(np.float64), float_array("y", y).astype(np.float64)
        on = np.ones(len(y), bool) if form == "linear" else y > 0
        return cls(X[on], y[on], X[~on], positive("gamma", gamma), form)

    def value(self, support: Array) -> Value:
        """Return c(s) of a support, or of numbers s in [0, 1], which scale the columns by sqrt(s)."""
        s = np.asarray(support, np.float64)
        root, live = np.sqrt(s), s > 0
        A, B = self.A[:, live] * root[live], self.B[:, live] * root[live]
        v, mu = self._hard(A, B) if self.form == "hard" else self._soft(A, B)
        a = self.y - A @ v
        c = (a @ a + v @ v / self.gamma) / 2 + (mu @ mu / 2 if self.form == "soft" else 0.0)
        w, r = np.zeros(len(s)), self.A.T @ a - self.B.T @ mu
        w[live] = v * root[live]
        gap = self.gamma / 2 * np.square(v / self.gamma - r[live] * root[live]).sum()
        return Value(float(c), w, r, float(c - gap + (mu @ (B @ v) if self.form == "hard" else 0.0)))

    def _soft(self, A: Array, B: Array) -> tuple[Array, Array]:
        """Newton's method on the samples with B v > 0; a full step that does not lower the objective is shortened.

        Exact once a full step leaves this set as it is; how far v is from exact otherwise, `least` says.
        """
        H, q = np.eye(A.shape[1]) / self.gamma + A.T @ A, A.T @ self.y

        def objective(v: Array, b: Array) -> float:
            return float(v @ H @ v / 2 - v @ q + np.square(np.maximum(b, 0.0)).sum() / 2)

        v, b = np.zeros(len(q)), np.zeros(len(B))  # b = B v
        for _ in range(len(B) + 50):
            over = B[b > 0]
            full = np.linalg.solve(H + over.T @ over, q)
            ahead = B @ full
            if (settled := np.array_equal(b > 0, ahead > 0)) or objective(full, ahead) < objective(v, b):
                v, b = full, ahead
            else:
                step = full - v
                v = v + _length(b, ahead - b, float(step @ (H @ v - q)), float(step @ H @ step)) * step
                b = B @ v
            if settled:
                break
        return v, np.maximum(b, 0.0)

    def _hard(self, A: Array, B: Array) -> tuple[Array, Array]:
        """Compute the multipliers of B v <= 0 by non-negative least squares, then v."""
        H, q = np.eye(A.shape[1]) / self.gamma + A.T @ A, A.T @ self.y
        if not len(B) or not len(q):
            return np.linalg.solve(H, q), np.zeros(len(B))
        low = np.linalg.cholesky(H)
        left, right = np.linalg.solve(low, B.T), np.linalg.solve(low, q)
        mu = nonnegative_least_squares(left, right)
        return np.linalg.solve(H, q - B.T @ mu), mu


def _length(b: Array, along: Array, slope: float, curvature: float) -> float:
    """Return argmin over t in [0, 1] of slope t + curvature t^2 / 2 + 1/2 ||max(0, b + t along)||^2.

    Its derivative rises, along a straight line between two kinks.
    """

    def derivative(t: float) -> float:
        return slope + curvature * t + float(np.maximum(b + t * along, 0.0) @ along)

    turns = (b > 0) != (b + along > 0)
    ends: list[float] = [0.0, *np.sort(-b[turns] / along[turns]).tolist(), 1.0]
    i = bisect_left(ends, 0.0, lo=1, hi=len(ends) - 1, key=derivative)
    low, high = derivative(ends[i - 1]), derivative(ends[i])
    if low >= 0 or high <= 0:
        return ends[i - 1] if low >= 0 else ends[i]
    return ends[i - 1] + (ends[i] - ends[i - 1]) * low / (low - high)
