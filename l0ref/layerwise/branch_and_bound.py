"""Branch and bound for the best support: a lower bound, and the best support found, until they meet or time ends.

The node of smallest bound is split at the most fractional input of its relaxation: once forced in, once out. Where few
supports are left, all are tried. The bounds that `certify` returns are valid whenever it stops, at the limit or at
Ctrl-C: a node that is being split stays in the bound.
"""

from __future__ import annotations

import heapq
import itertools
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError
from l0ref.layerwise.perspective import Groups, Split, relax
from l0ref.layerwise.quadratic import Quadratic, budget
from l0ref.layerwise.search import Solution, solve
from l0ref.validate import Array, choose, positive

GAP = 1e-6  # relative gap between lower and upper bound that counts as a proof
STEPS, FIRST_STEPS = 25, 200  # linear systems per node at most, and for the root
KICKS = 100  # for the first incumbent
EVERY = 1.0  # seconds between two lines of progress


@dataclass(frozen=True)
class Certificate:
    """Bounds of the smallest f of a neuron with k weights: lower <= f <= upper.

    proven  upper is the smallest f, to the relative gap `GAP`; never where rounding of f exceeds that
    nodes   number of nodes that were split
    record  weights, support: of `upper`; seconds, lower, upper: both bounds over time; root: the first bound;
            interrupted: whether it was stopped by Ctrl-C
    """

    lower: float
    upper: float
    proven: bool
    nodes: int
    record: dict[str, Any] = field(default_factory=dict)


def certify(
    layer: Quadratic,
    k: int,
    *,
    incumbent: Array | Solution | None = None,
    time_limit: float = 60.0,
    progress: str = "none",
) -> Certificate:
    """Bound the smallest f of one neuron with `k` weights, from both sides.

    layer      of one output, such as `Quadratic.row(i)`, with a ridge
    k          at most the number of inputs, constant ones included, which get no weight
    incumbent  a support to start from, or weights or a solution with that support; None: that of `solve` with kicks
    time_limit  seconds; the node being split at the limit is finished
    progress   "lines": both bounds every second on standard error; "auto": if that is a terminal; "none"

    >>> import numpy as np
    >>> X = np.random.default_rng(0).standard_normal((50, 6))
    >>> found = certify(Quadratic.from_samples(X, X @ np.arange(6.0)), 2)
    >>> found.proven, np.flatnonzero(found.record["support"]).tolist()
    (True, [4, 5])
    """
    if len(layer.moments) != 1:
        raise ArgumentError(f"layer has {len(layer.moments)} outputs, one is proven at a time; pass layer.row(i)")
    k = min(budget("k", k, layer.shape[1], "a neuron"), len(layer.gram))
    start = solve(layer, k, seed=0, tries=KICKS) if incumbent is None else incumbent
    support = layer.narrow(np.asarray(start.support if isinstance(start, Solution) else start, bool))[0]
    if support.sum() > k:
        raise ArgumentError(f"incumbent has {support.sum()} weights, more than k={k}; give one of at most k")

    def value(support: NDArray[np.bool_]) -> tuple[float, float]:
        """Return f plus and minus its rounding: w'dG w of the linear system, |dG| <= 3 |S| eps |G|, and the sums."""
        S = np.flatnonzero(support)
        G, q, e = layer.gram[np.ix_(S, S)], layer.moments[0, S], float(layer.energy[0])
        w = np.linalg.solve(G, q)
        size = np.abs(w)
        rounding = float((3 * len(S) + 2) * np.finfo(float).eps * (e + size @ np.abs(G) @ size))
        f = max(e - float(q @ w), 0.0)
        return f + rounding, f - rounding

    problem = Problem(Split.of(layer.gram, layer.moments[0], float(layer.energy[0])), value)
    proof = Search(problem, k, support).run(time_limit, progress=progress)
    support = layer.widen(proof.record["support"][None])
    return replace(proof, record={**proof.record, "weights": layer.refit(support), "support": support})


class Problem:
    """The problem as the search uses it: a split of its quadratic part, bounds of nodes, and values of supports.

    value   of a support: f from above and from below, as far apart as rounding may have moved it

    A node with `leaves` supports or fewer is enumerated, which costs less than to bound and split it.
    """

    leaves = 64

    def __init__(self, split: Split, value: Callable[[NDArray[np.bool_]], tuple[float, float]]) -> None:
        self.split, self.value = split, value

    def bound(
        self, g: Groups, forced: NDArray[np.bool_], free: NDArray[np.bool_], k: int, *, steps: int, enough: float
    ) -> float:
        """Return a bound of the supports of k inputs: all of `forced`, the others from `free`; see `relax`."""
        return relax(self.split, g, forced, free, k, steps=steps, enough=enough)


@dataclass(frozen=True, order=True)
class _Node:
    bound: float
    number: int
    forced: NDArray[np.bool_] = field(compare=False)
    free: NDArray[np.bool_] = field(compare=False)
    groups: Groups = field(compare=False)


class Search:
    """The open nodes, the incumbent, and the smallest bound of the nodes that were closed.

    k, support  number of weights, and a support to start from, both with the inputs that are `forced` in
    """

    def __init__(
        self, problem: Problem, k: int, support: NDArray[np.bool_], forced: NDArray[np.bool_] | None = None
    ) -> None:
        self.problem, self.k = problem, k
        self.size = np.sqrt(np.diag(problem.split.M) + problem.split.d)
        self.forced = np.zeros(len(support), bool) if forced is None else forced
        self.support, self.upper = support, problem.value(support)[0]
        self.open: list[_Node] = []
        self.closed, self.made, self.nodes = np.inf, 0, 0
        self.trace: list[tuple[float, float, float]] = []

    @property
    def lower(self) -> float:
        """The smallest bound of all open and closed nodes, or the best value if that is smaller."""
        return min(self.upper, self.closed, self.open[0].bound if self.open else np.inf)

    @property
    def cut(self) -> float:
        """The bound from which on a node need not be split."""
        return self.upper * (1 - GAP)

    def run(self, time_limit: float, *, most: float = np.inf, progress: str = "none") -> Certificate:
        """Split nodes until the bounds meet, time ends, `most` have been split, or Ctrl-C."""
        show = choose("progress", progress, ("auto", "lines", "none"))
        lines = show == "lines" or (show == "auto" and sys.stderr.isatty())
        positive("time_limit", time_limit)
        begin, interrupted, root, told = time.perf_counter(), False, 0.0, 0.0
        whole = Groups.start(self.problem.split)
        in_hand: _Node | None = _Node(0.0, 0, self.forced, ~self.forced, whole.copy())  # 0 bounds a sum of squares
        try:
            self._meet(self.forced, ~self.forced, whole, 0.0, steps=FIRST_STEPS)
            root, in_hand = self.lower, None
            while self.open and self.open[0].bound < self.cut:
                now = time.perf_counter() - begin
                self._note(now)
                if now > time_limit or self.nodes >= most:
                    break
                if lines and now - told > EVERY:
                    told = now
                    bounds = f"{self.lower:.6g} .. {self.upper:.6g}"
                    sys.stderr.write(f"certify  {now:.0f} s  {self.nodes} nodes  {bounds}\n")
                in_hand = self.open[0]  # assigned before the pop: an interrupt may come between the two
                heapq.heappop(self.open)
                self._branch(in_hand)
                in_hand = None
        except KeyboardInterrupt:
            interrupted = True
        if in_hand is not None:
            heapq.heappush(self.open, in_hand)
        lower = self.lower
        self.trace.append((time.perf_counter() - begin, lower, self.upper))
        seconds, lowers, uppers = (np.array(part) for part in zip(*self.trace, strict=True))
        record = {
            "support": self.support, "seconds": seconds, "lower": lowers, "upper": uppers, "root": root,
            "interrupted": interrupted,
        }  # fmt: skip
        return Certificate(lower, self.upper, lower >= self.cut, self.nodes, record)

    def _note(self, now: float) -> None:
        if not self.trace or (self.lower, self.upper) != self.trace[-1][1:]:
            self.trace.append((now, self.lower, self.upper))

    def _branch(self, node: _Node) -> None:
        """Try the support that the relaxation of a node prefers, and bound its two halves."""
        g, free = node.groups, np.flatnonzero(node.free)
        size = np.abs(g.w[free]) * self.size[free]
        size = size / max(float(size.max(initial=0.0)), 1e-300)
        likely = free[np.argsort(-(g.z[free] + 1e-6 * size), kind="stable")[: self.k - int(node.forced.sum())]]
        self._try(node.forced, likely)
        j = free[int(np.argmax(np.minimum(g.z[free], 1 - g.z[free]) + 1e-6 * size))]
        rest = node.free.copy()
        rest[j] = False
        inside = node.forced.copy()
        inside[j] = True
        self._meet(inside, rest, g.copy(), node.bound)
        self._meet(node.forced, rest, g.copy(), node.bound)
        self.nodes += 1

    def _meet(
        self, forced: NDArray[np.bool_], free: NDArray[np.bool_], g: Groups, above: float, steps: int = STEPS
    ) -> None:
        """Handle a node: try all its supports if they are few, else bound it and open or close it."""
        names = np.flatnonzero(free)
        room = min(self.k - int(forced.sum()), names.size)
        if math.comb(names.size, room) <= self.problem.leaves:
            for more in itertools.combinations(names, room):
                self.closed = min(self.closed, max(above, self._try(forced, np.array(more, np.intp))))
            self.made += 1
            return
        bound = max(above, self.problem.bound(g, forced, free, self.k, steps=steps, enough=self.cut))
        self.made += 1
        if bound < self.cut:
            heapq.heappush(self.open, _Node(bound, self.made, forced, free, g))
        else:
            self.closed = min(self.closed, bound)

    def _try(self, forced: NDArray[np.bool_], more: NDArray[np.intp]) -> float:
        """Take a support if it is the best so far; return a bound of its value from below."""
        support = forced.copy()
        support[more] = True
        value, least = self.problem.value(support)
        if value < self.upper:
            self.support, self.upper = support, value
        return least
