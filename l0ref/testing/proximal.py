"""`check_prox`: is a prox the global minimiser, and does it have the properties of one?

    prox(z, t) = argmin_x q(x),   q(x) = 1/2 (x - z)^2 + t phi(x)

global minimiser      q is nowhere below q(prox(z, t)) on a grid that is refined around its best points
dead zone             prox is 0 exactly for |z| <= inf_{x > 0} x / 2 + t (phi(x) - phi(0)) / x, to the grid's resolution
odd                   prox(-z, t) = -prox(z, t) exactly, where phi is even
monotone              a larger z never gives a smaller prox: true of every phi, convex or not
firmly non-expansive  (p - p')^2 <= (p - p')(z - z'); true where phi is convex, and checked only there
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from l0ref.errors import ArgumentError, GradientError, ShapeError
from l0ref.testing.problem import quote
from l0ref.testing.prox_checks import ProxCheck, ProxReport
from l0ref.testing.verdict import failure
from l0ref.validate import Array, count, float_array, positive

Value = Callable[[Array], Any]
Prox = Callable[[Array, float], Any]
FINE = 1e-12  # how far q may lie above the grid's best, relative to the size of its terms


def check_prox(
    value: Value,
    prox: Prox,
    *,
    steps: Sequence[float] = (0.01, 0.3, 3.0),
    z: Any = None,
    dead_zone: Callable[[float], float] | None = None,
    seed: int = 0,
    target: str | None = None,
    raise_exception: bool = True,
) -> ProxReport:
    """Check a prox: global minimiser, dead zone, oddness, order, and firm non-expansiveness where phi is convex.

    value            phi, entry by entry: array -> array of its shape
    prox             (z, step) -> argmin_x 1/2 (x - z)^2 + step phi(x), entry by entry
    steps            steps to try, each > 0
    z                points to try, float64; None: 0, and 40 of both signs between 1e-3 and 10, drawn from `seed`
    dead_zone        step -> largest |z| that is mapped to 0, compared with the measured one; None: not checked
    raise_exception  raise GradcheckFailure with the report's text, instead of returning the failed report

    The grid proves a prox wrong where it finds a value lower by more than 1e-12 of the terms of q, which is about
    1e-6 in the prox itself; smaller errors pass.

    >>> import numpy as np
    >>> soft = lambda z, t: np.sign(z) * np.maximum(np.abs(z) - t, 0)
    >>> check_prox(np.abs, soft).passed
    True
    """
    times = [positive("steps", t) for t in steps]
    if not times:
        raise ArgumentError("steps is empty; give at least one step")
    points = _points(z, count("seed", seed))
    phi, p = _elementwise("value", value), _elementwise("prox", prox)
    name = target or str(getattr(prox, "__name__", type(prox).__name__))
    top = float(np.abs(points).max(initial=1.0))
    grid = symmetric_grid(top)
    convex = _convex(phi, grid)
    results = [(t, points, p(points, t)) for t in times]
    zones = {t: _measured_zone(p, t, top) for t in times}
    checks = (
        _minimises(phi, results),
        _zone(phi, zones, top),
        *([_claimed(dead_zone, zones, top)] if dead_zone is not None else []),
        _odd(phi, p, results),
        _monotone(results),
        _firm(results)
        if convex
        else ProxCheck("firmly non-expansive", None, f"phi is not convex on [-{top:g}, {top:g}]"),
    )
    report = ProxReport(name, checks, zones, convex)
    if raise_exception and not report:
        raise failure(report)
    return report


def symmetric_grid(top: float, n: int = 400) -> Array:
    """Points from -top to top: evenly spaced ones, geometrically spaced ones around 0, and 0 itself."""
    side = np.union1d(np.linspace(0, top, n)[1:], np.geomspace(top * 1e-8, top, n))
    return np.concatenate([-side[::-1], [0.0], side])


def _points(z: Any, seed: int) -> Array:
    if z is not None:
        points = float_array("z", z).astype(np.float64).reshape(-1)
        if not points.size or not np.isfinite(points).all():
            raise ArgumentError("z must hold finite entries, at least one; leave it out for a choice of points")
        return np.unique(points)
    rng = np.random.default_rng(seed)
    return np.unique(np.concatenate([[0.0], rng.choice([-1.0, 1.0], 40) * 10.0 ** rng.uniform(-3, 1, 40)]))


def _elementwise(what: str, f: Callable[..., Any]) -> Callable[..., Array]:
    """`f` with exceptions quoted, the shape of its result checked, and writing into its input refused."""

    def run(x: Array, *rest: Any) -> Array:
        given = x.copy()
        y = quote(what, f, given, *rest)
        if isinstance(y, list | tuple) or y is None:
            raise GradientError(f"{what} returned a {type(y).__name__}, expected an array like its argument")
        y = np.asarray(y)
        if y.shape != x.shape:
            raise ShapeError(f"{what} returned shape {y.shape} for shape {x.shape}; it must work entry by entry")
        if y.dtype.kind not in "fiu":
            raise GradientError(f"{what} returned {y.dtype}, expected real numbers")
        if not np.array_equal(given, x):
            raise GradientError(f"{what} writes into its input; work on a copy")
        return y.astype(np.float64)

    return run


def _energy(phi: Callable[[Array], Array], x: Array, z: Array, t: float) -> Array:
    return np.asarray(np.square(x - z) / 2 + t * phi(x.reshape(-1)).reshape(x.shape))


def _lowest(phi: Callable[[Array], Array], z: Array, t: float) -> tuple[Array, Array]:
    """For each z the best x of a grid that is refined four times around its three best points, and q there."""
    side = symmetric_grid(1.0) * 1.25
    x = np.unique(np.concatenate([side, [1.0, -1.0]]))[None, :] * np.maximum(np.abs(z), 1e-3)[:, None]
    for _ in range(4):
        q = _energy(phi, x, np.broadcast_to(z[:, None], x.shape), t)
        order = np.argsort(q, axis=1)[:, :3]
        best = np.take_along_axis(x, order, axis=1)
        width = np.take_along_axis(
            np.abs(np.gradient(np.sort(x, axis=1), axis=1)), np.clip(order, 0, None), axis=1
        ).max(1)
        around = best[:, :, None] + 2 * width[:, None, None] * np.linspace(-1, 1, 41)
        x = np.concatenate([best, around.reshape(len(z), -1), np.zeros((len(z), 1))], axis=1)
        x = np.sort(x, axis=1)
    q = _energy(phi, x, np.broadcast_to(z[:, None], x.shape), t)
    i = q.argmin(axis=1)
    rows = np.arange(len(z))
    return x[rows, i], q[rows, i]


def _minimises(phi: Callable[[Array], Array], results: Sequence[tuple[float, Array, Array]]) -> ProxCheck:
    worst, detail = 0.0, ""
    n = 0
    for t, z, x in results:
        if not np.isfinite(x).all():
            bad = float(z[~np.isfinite(x)][0])
            return ProxCheck("global minimiser", False, f"prox({bad:g}, {t:g}) is not finite")
        other, least = _lowest(phi, z, t)
        mine = _energy(phi, x, z, t)
        size = np.maximum(np.square(z) / 2, np.abs(mine)) + np.finfo(np.float64).tiny
        excess = (mine - least) / size
        i = int(excess.argmax())
        n += z.size
        if excess[i] > max(worst, FINE):
            worst = float(excess[i])
            detail = (
                f"prox({z[i]:.6g}, {t:g}) = {x[i]:.9g} with q = {mine[i]:.12g}, but x = {other[i]:.9g} "
                f"has q = {least[i]:.12g}"
            )
    return ProxCheck("global minimiser", not detail, detail or f"at {n} points no x does better")


def _measured_zone(p: Callable[..., Array], t: float, top: float) -> float:
    """The largest |z| that is mapped to 0, by bisection; `inf` if it exceeds 1e7 max(top, t)."""
    low, high = 0.0, 10 * max(top, t)
    while p(np.array([high]), t)[0] == 0:
        if high > 1e6 * max(top, t):
            return float("inf")
        low, high = high, 10 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if p(np.array([middle]), t)[0] == 0 else (low, middle)
    return low


def _zone(phi: Callable[[Array], Array], zones: dict[float, float], top: float) -> ProxCheck:
    """Compare with inf x / 2 + t (phi(x) - phi(0)) / x on a grid of x > 0, an upper bound of the dead zone."""
    for t, found in zones.items():
        x = np.geomspace(1e-9, 20 * max(top, found if np.isfinite(found) else 0.0), 20001)
        bound = float((x / 2 + t * (phi(x) - phi(np.zeros(1))[0]) / x).min())
        if abs(found - bound) > 1e-3 * bound + 1e-8:
            return ProxCheck("dead zone", False, f"step {t:g}: prox is 0 up to |z| = {found:.9g}, expected {bound:.6g}")
    text = ", ".join(f"{d:.6g} at step {t:g}" for t, d in zones.items())
    return ProxCheck("dead zone", True, f"|z| up to {text}")


def _claimed(dead_zone: Callable[[float], float], zones: dict[float, float], top: float) -> ProxCheck:
    for t, found in zones.items():
        claim = float(quote("dead_zone", dead_zone, t))
        if not abs(claim - found) <= 1e-9 * max(found, 1e-3 * top):
            return ProxCheck(
                "claimed dead zone", False, f"step {t:g}: dead_zone says {claim:.9g}, prox does {found:.9g}"
            )
    return ProxCheck("claimed dead zone", True, "dead_zone agrees with prox to 9 digits")


def _odd(
    phi: Callable[[Array], Array], p: Callable[..., Array], results: Sequence[tuple[float, Array, Array]]
) -> ProxCheck:
    for t, z, x in results:
        if not np.array_equal(phi(z), phi(-z)):
            return ProxCheck("odd", None, "phi is not even")
        off = np.abs(p(-z, t) + x)
        if off.any():
            i = int(off.argmax())
            detail = f"prox({z[i]:.6g}, {t:g}) = {x[i]:.9g}, prox({-z[i]:.6g}, {t:g}) = {p(-z, t)[i]:.9g}"
            return ProxCheck("odd", False, detail)
    return ProxCheck("odd", True, "prox(-z) = -prox(z) exactly")


def _monotone(results: Sequence[tuple[float, Array, Array]]) -> ProxCheck:
    for t, z, x in results:
        fall = np.diff(x) < -1e-12 * np.abs(z[1:])
        if fall.any():
            i = int(fall.argmax())
            detail = f"prox({z[i]:.6g}, {t:g}) = {x[i]:.9g} is above prox({z[i + 1]:.6g}, {t:g}) = {x[i + 1]:.9g}"
            return ProxCheck("monotone", False, detail)
    return ProxCheck("monotone", True, "it never falls as z rises")


def _firm(results: Sequence[tuple[float, Array, Array]]) -> ProxCheck:
    for t, z, x in results:
        dx, dz = x[:, None] - x[None, :], z[:, None] - z[None, :]
        excess = np.square(dx) - dx * dz
        bad = excess > 1e-12 * np.square(dz)
        if bad.any():
            i, j = (int(k) for k in np.argwhere(bad)[0])
            detail = f"step {t:g}: prox moves by {abs(dx[i, j]):.6g} where z moves by {abs(dz[i, j]):.6g}"
            return ProxCheck("firmly non-expansive", False, detail)
    return ProxCheck("firmly non-expansive", True, "phi is convex on the grid, and all pairs satisfy it")


def _convex(phi: Callable[[Array], Array], grid: Array) -> bool:
    """Whether phi lies below its chords: midpoints of all pairs of a thinned grid."""
    x = np.append(grid[:: max(1, grid.size // 101)], 0.0)
    a, b = (v.reshape(-1) for v in np.meshgrid(x, x))
    chord = (phi(a) + phi(b)) / 2
    return bool((phi((a + b) / 2) <= chord + 1e-12 * (1 + np.abs(chord))).all())
