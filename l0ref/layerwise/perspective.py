"""A lower bound of f over all supports of k inputs, some inputs forced in and some out.

G is split, G = M + D with D diagonal and positive and M positive semi-definite. For any weights w,

    min f >= e - w'M w - sum_in v_i^2 / d_i - sum of the r largest v_i^2 / d_i over free i,     v = q - M w,

with r = k - (number forced in) and w = 0 on inputs forced out: the part of M is replaced by its tangent at w, and the
part of D gives each input of the support its price. Thus no error in the search for w can make the bound invalid. The
best w solves the perspective relaxation

    min over w, z   w'M w - 2 q'w + sum_i d_i w_i^2 / z_i        0 <= z <= 1, sum of free z <= r

whose optimality conditions, with s = sign(w) and a threshold tau, divide the free inputs into three groups:

    z = 1        |w_i| sqrt(d_i) >= tau       row i:  (M w)_i + d_i w_i = q_i
    0 < z < 1    |w_i| sqrt(d_i) < tau        row i:  (M w)_i + tau s_i sqrt(d_i) = q_i
    z = 0        w_i = 0, |v_i| <= tau sqrt(d_i)    one row more: sum_frac s_i sqrt(d_i) w_i = tau (r - number at 1)

Solving and regrouping alternate until nothing changes, which takes few systems from the groups of a similar problem.

Ref  The bound was derived here [I]; the relaxation is the perspective reformulation (Frangioni and Gentile 2006), and
     the split that of Zheng, Sun and Li (2014). Departs: D = t / [G^-1]_ii instead of a semi-definite program, which
     raised the bound at the root but did not lower the number of nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import ArgumentError
from l0ref.layerwise.quadratic import is_independent
from l0ref.validate import Array

AT_ONE, FRACTIONAL, AT_ZERO = 2, 1, 0
SAFE = 1 - 1e-9  # factor of D, so that M stays positive semi-definite in floating point
MARGIN = 1e-12  # a bound is lowered by this times e, for rounding


@dataclass(frozen=True)
class Split:
    """The problem of one neuron with G = M + D."""

    M: Array
    d: Array
    q: Array
    energy: float

    @classmethod
    def of(cls, gram: Array, q: Array, energy: float) -> Split:
        """Split w'G w - 2 q'w + energy with D = t / [G^-1]_ii, t as large as M allows."""
        if len(gram) and not is_independent(gram):
            raise ArgumentError(
                "quadratic has inputs that depend on each other, which leaves no bound; make it with ridge=1e-3"
            )
        d = 1 / np.diag(np.linalg.inv(gram)) if len(gram) else np.zeros(0)
        root = np.sqrt(d)
        t = np.linalg.eigvalsh(gram / np.outer(root, root))[0] if len(gram) else 1.0
        d = d * float(t) * SAFE
        return cls(gram - np.diag(d), d, q, energy)

    def bound(self, w: Array, forced: NDArray[np.bool_], free: NDArray[np.bool_], r: int) -> tuple[float, Array]:
        """Return the bound that w gives, and v; w counts as 0 for an input forced out."""
        w = np.where(forced | free, w, 0.0)
        Mw = self.M @ w
        v = self.q - Mw
        prices = v**2 / self.d
        best = np.sort(prices[free])[::-1][: max(r, 0)].sum()
        return self.energy * (1 - MARGIN) - float(w @ Mw + prices[forced].sum() + best), v


@dataclass
class Groups:
    """State of the search for the best w: the group of each input (z at 1, between, at 0), its sign, w and z."""

    group: NDArray[np.int8]
    sign: Array
    w: Array
    z: Array

    @classmethod
    def start(cls, split: Split) -> Groups:
        """Start with all inputs between 0 and 1, at the dense optimum."""
        w = np.linalg.solve(split.M + np.diag(split.d), split.q)
        return cls(np.full(w.size, FRACTIONAL, np.int8), np.where(w >= 0, 1.0, -1.0), w, np.zeros(w.size))

    def copy(self) -> Groups:
        """Return a copy that may be changed."""
        return Groups(self.group.copy(), self.sign.copy(), self.w.copy(), self.z.copy())


def relax(
    split: Split, g: Groups, forced: NDArray[np.bool_], free: NDArray[np.bool_], k: int, *, steps: int, enough: float
) -> float:
    """Return the best bound found and leave its w and z in `g`; stop early at `enough`, or after `steps` systems."""
    r, best, idle = k - int(forced.sum()), -np.inf, 0
    root = np.sqrt(split.d)
    g.group[forced], g.group[~(forced | free)] = AT_ONE, AT_ZERO
    w = g.w
    for _ in range(steps):
        left = _within_budget(g, free, np.abs(w) * root, w, r)
        w, tau = _system(split, g, forced, free, root, left)
        bound, v = split.bound(w, forced, free, r)
        if bound > best:
            idle = 0 if bound > best + 1e-12 * abs(best) else idle + 1
            best, g.w = bound, w
            share = g.sign * w * root / tau if tau > 0 else np.full(w.size, 0.5)
            g.z = np.where(g.group == AT_ONE, 1.0, np.where(g.group == FRACTIONAL, np.clip(share, 0, 1), 0.0))
        else:
            idle += 1
        if best >= enough or idle > 4 or not _regroup(g, free, np.abs(w) * root, w, v / root, tau, left):
            break
    return best


def _within_budget(g: Groups, free: NDArray[np.bool_], size: Array, w: Array, r: int) -> int:
    """Keep at most r free inputs at 1, one less if others are between; return the sum of z left for the latter."""
    ones = np.flatnonzero(free & (g.group == AT_ONE))
    between = bool((free & (g.group == FRACTIONAL)).any())
    if ones.size > r or (between and ones.size == r):
        many = ones.size - r + int(between or ones.size > r)
        weak = ones[np.argsort(size[ones], kind="stable")[: min(many, ones.size)]]
        g.group[weak], g.sign[weak] = FRACTIONAL, np.where(w[weak] >= 0, 1.0, -1.0)
    left = r - int((free & (g.group == AT_ONE)).sum())
    if left <= 0:
        g.group[free & (g.group == FRACTIONAL)] = AT_ZERO
    return left


def _system(
    split: Split, g: Groups, forced: NDArray[np.bool_], free: NDArray[np.bool_], root: Array, left: int
) -> tuple[Array, float]:
    """Solve the rows of the groups; return w and tau, -1 if no input is between 0 and 1."""
    used = np.flatnonzero((forced | free) & (g.group != AT_ZERO))
    between = g.group[used] == FRACTIONAL
    w = np.zeros(split.q.size)
    if not used.size:
        return w, -1.0
    T = split.M[used[:, None], used]
    T.flat[:: used.size + 1] += np.where(between, 1e-12, 1.0) * split.d[used]
    e = np.where(between, g.sign[used] * root[used], 0.0)
    dense, slope = np.linalg.solve(T, np.column_stack([split.q[used], e])).T  # w = dense - tau slope, e'w = tau left
    tau = float(e @ dense) / (left + float(e @ slope)) if between.any() else -1.0
    w[used] = dense - tau * slope
    return w, tau


def _regroup(g: Groups, free: NDArray[np.bool_], size: Array, w: Array, slack: Array, tau: float, left: int) -> bool:
    """Regroup by |w| sqrt(d), v / sqrt(d) and tau; return whether anything changed."""
    one, zero = free & (g.group == AT_ONE), free & (g.group == AT_ZERO)
    between = free & (g.group == FRACTIONAL)
    if not between.any():
        high, low = np.abs(slack[zero]).max(initial=0.0), size[one].min(initial=np.inf)
        if left > 0 and high > 0:
            tau = 0.999999 * high
        elif high > low:
            tau = float(np.sqrt((low**2 + high**2) / 2))
        else:
            return False
    tau = max(tau, 1e-12)
    share = g.sign * w
    demoted = one & (size < tau * (1 - 1e-10))
    entered = zero & (np.abs(slack) > tau * (1 + 1e-10))
    promoted, removed = between & (share > 0) & (size > tau * (1 + 1e-10)), between & (share * size < 0)
    g.sign[demoted], g.sign[entered] = np.where(w[demoted] >= 0, 1.0, -1.0), np.where(slack[entered] >= 0, 1.0, -1.0)
    g.group[demoted | entered], g.group[promoted], g.group[removed] = FRACTIONAL, AT_ONE, AT_ZERO
    return bool((demoted | entered | promoted | removed).any())
