"""Branch and bound for one neuron in the three forms of `neuron`: bounds of c(s) over supports, ReLU included.

For multipliers mu >= 0 and any weights w,

    1/2 ||max(0, B w)||^2 >= mu'B w - 1/2 ||mu||^2    (soft)        0 >= mu'B w  wherever B w <= 0    (hard)

so that with mu fixed c is bounded by a quadratic of w, whose matrix A'A + I / gamma is split as in `perspective`. The
bound is valid for any mu and w. The best pair solves the perspective relaxation of the form itself. Its w is found by
active sets: the quadratic with the samples T = {B w > 0} added to the fitted ones is relaxed, and T updated from its w,
until T does not change; then mu = max(0, B w). In the hard form the rows of B are scaled by a large number, a penalty,
whose value approaches that of the constraint from below.

Ref  Derived here [I]; how Phan et al. (ICDM 2020) bound their ReLU model beyond cutting planes is unknown [U].
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from l0ref.layerwise.branch_and_bound import Certificate, Problem, Search
from l0ref.layerwise.neuron import Neuron
from l0ref.layerwise.perspective import MARGIN, Groups, Split, relax
from l0ref.layerwise.quadratic import budget
from l0ref.validate import Array, count

ROUNDS = 10  # updates of T, at most, for each penalty
PENALTIES = (1e3, 1e5)  # of the hard form, relative to the curvature of the fitted samples


def prove(
    neuron: Neuron, k: int, *, always: int = 0, time_limit: float = 60.0, nodes: int | None = None,
    progress: str = "none",
) -> Certificate:  # fmt: skip
    """Bound the smallest c of a support of at most `k` inputs, from both sides; see `certify`, whose record it has.

    always      number of inputs, the last ones, in every support and not counted: 1 for a bias as a column of ones
    time_limit  seconds; the node being split at the limit is finished
    nodes       that are split at most; None: as many as time allows. Unlike seconds, the same on every machine

    >>> import numpy as np
    >>> X = np.random.default_rng(0).standard_normal((80, 20))
    >>> found = prove(Neuron.of(X, np.maximum(X @ (np.arange(20) > 17), 0.0), gamma=10.0, form="hard"), 2)
    >>> found.proven, np.flatnonzero(found.record["support"]).tolist()
    (True, [18, 19])
    """
    p = neuron.A.shape[1] - count("always", always)
    budget("k", k, p, "the neuron")
    most = np.inf if nodes is None else count("nodes", nodes)
    forced = np.arange(p + always) >= p
    problem = Relu(neuron)
    dense = np.abs(Groups.start(problem.split).w) * np.where(forced, 0.0, 1.0)
    start = forced | (np.argsort(np.argsort(-dense, kind="stable")) < k)
    search = Search(problem, k + always, start, forced)
    found = search.run(time_limit, most=most, progress=progress)
    weights = neuron.value(found.record["support"]).weights
    return dataclasses.replace(found, record={**found.record, "weights": weights})


class Relu(Problem):
    """Bounds and values of a neuron, for the search. A bound costs as much as many values, so `leaves` is larger."""

    leaves = 400

    def __init__(self, neuron: Neuron) -> None:
        A, y, p = neuron.A, neuron.y, neuron.A.shape[1]
        self.neuron, self.energy = neuron, float(y @ y) / 2
        gram = (A.T @ A + np.eye(p) / neuron.gamma) / 2
        power = float(np.square(neuron.B).sum()) or 1.0
        stiff = [t * float(np.trace(gram)) / power for t in PENALTIES] if neuron.form == "hard" else [0.5]
        self.scaled = [neuron.B * np.sqrt(t) for t in stiff]  # so that the term added to w'G w is ||max(0, B w)||^2

        def value(support: NDArray[np.bool_]) -> tuple[float, float]:
            found = neuron.value(support)
            return found.c, found.least

        super().__init__(Split.of(gram, A.T @ y / 2, self.energy), value)

    def bound(
        self, g: Groups, forced: NDArray[np.bool_], free: NDArray[np.bool_], k: int, *, steps: int, enough: float
    ) -> float:
        """Return the best bound of the rounds; see the text of the module."""
        best, inside = -np.inf, forced | free
        for B in self.scaled:
            over = B @ np.where(inside, g.w, 0.0) > 0
            for _ in range(ROUNDS):
                within = dataclasses.replace(self.split, M=self.split.M + B[over].T @ B[over])
                relax(within, g, forced, free, k, steps=steps, enough=np.inf)
                pull = B @ np.where(inside, g.w, 0.0)
                best = max(best, self.bound_of(g.w, B.T, np.maximum(pull, 0.0), forced, free, k))
                if best >= enough:
                    return best
                if np.array_equal(over, now := pull > 0):
                    break
                over = now
        return best

    def bound_of(
        self, w: Array, Bt: Array, mu: Array, forced: NDArray[np.bool_], free: NDArray[np.bool_], k: int
    ) -> float:
        """Return the bound given by weights w and multipliers mu >= 0 of the rows of B; Bt is B'."""
        energy = self.energy - (float(mu @ mu) if self.neuron.form == "soft" else 0.0)
        split = dataclasses.replace(self.split, q=self.split.q - Bt @ mu, energy=energy)
        return split.bound(w, forced, free, k - int(forced.sum()))[0] - MARGIN * self.energy
