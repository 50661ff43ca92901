"""Proximal maps and dead zones of the surrogates: no grid search finds better, whatever the step."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.surrogates import (
    L0,
    L1,
    L2,
    MCP,
    SCAD,
    SURROGATES,
    Arctan,
    CappedL1,
    Gaussian,
    GemanMcClure,
    Laplace,
    LinearizedLaplace,
    LogSum,
    Lp,
    Surrogate,
    Tanh,
    TransformedL1,
)
from l0ref.surrogates.roots import lambert_w0
from tests.oracles_surrogates import CASES, PLAIN, least, zone

# Parameters and steps that reach every regime: convex, at its edge, concave near 0, concave everywhere.
STEPS = (1e-3, 0.02, 0.04, 0.1, 0.25, 0.5, 1.0, 1.7, 3.0, 4.0, 30.0)
PARAMETERS: dict[str, list[dict[str, float]]] = {
    **{name: [{"beta": b} for b in (5.0, 1.0, 0.2, 60.0)] for name in CASES if CASES[name][0].keys() == {"beta"}},
    "Gaussian": [{"sigma": s} for s in (0.1, 0.5, 1.0, 0.01)],
    "LogSum": [{"eps": e} for e in (0.1, 1.0, 0.01, 5.0)],
    "CappedL1": [{"theta": t} for t in (0.5, 0.02, 2.0)],
    "SCAD": [{"lam": lam, "a": a} for lam, a in ((0.5, 3.0), (1.0, 3.7), (0.3, 2.05), (0.1, 20.0))],
    "MCP": [{"lam": lam, "gamma": g} for lam, g in ((0.5, 4.0), (1.0, 1.7), (2.0, 0.3), (0.1, 20.0))],
    "Lp": [{"p": p} for p in (0.5, 2 / 3, 0.3, 0.9, 0.02)],
    "TransformedL1": [{"a": a} for a in (1.0, 0.1, 10.0, 0.01)],
    "L0": [{}],
    "L1": [{}],
    "L2": [{}],
}
ALL = [pytest.param(name, p, id=f"{name}-{'-'.join(map(str, p.values()))}") for name in CASES for p in PARAMETERS[name]]
SMOOTH = ("Gaussian", "L2")


def make(name: str, parameters: dict[str, float]) -> Surrogate:
    return SURROGATES[name](**parameters)


def interesting(phi: Surrogate, step: float) -> Any:
    """Positive numbers around the dead zone, around the units of phi and far out."""
    edge = phi.dead_zone(step)
    near = [edge * f for f in (0.5, 1 - 1e-6, 1 + 1e-6, 1.01, 1.1, 1.5)] if edge else []
    return np.array([*near, 1e-3, 0.1, 0.3, 0.7, 1.0, 1.6, 2.6, 5.0, 12.0])


def energy(name: str, x: Any, z: Any, step: float, parameters: dict[str, float]) -> Any:
    return (x - z) ** 2 / 2 + step * PLAIN[name](np.abs(x), **parameters)


# --- the global minimum -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_no_grid_search_finds_better(name: str, parameters: dict[str, float]) -> None:
    phi = make(name, parameters)
    for step in STEPS:
        z = interesting(phi, step)
        x = phi.prox(z, step)
        assert ((x >= 0) & (x <= z)).all()
        got = energy(name, x, z, step, parameters)
        scale = z**2 / 2 + step * PLAIN[name](z, **parameters)
        excess = (got - least(name, z, step, parameters)) / scale
        worst = int(excess.argmax())
        assert excess[worst] <= 4e-16, f"{phi}.prox({z[worst]}, {step}) is {excess[worst]:.1e} above the grid"


@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_prox_is_odd_and_monotone(name: str, parameters: dict[str, float], rng: np.random.Generator) -> None:
    phi = make(name, parameters)
    for step in STEPS:
        edge = phi.dead_zone(step)
        z = np.sort(
            np.concatenate([rng.uniform(0, 4, 400), edge * rng.uniform(0.9, 1.2, 100), np.geomspace(1, 99, 50)])
        )
        x = phi.prox(z, step)
        np.testing.assert_array_equal(phi.prox(-z, step), -x)
        assert (np.diff(x) >= -4e-16 * z[1:]).all()
        assert (x <= z).all()
        assert x[-1] > 0


@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_prox_is_stationary_to_the_last_digits(
    name: str, parameters: dict[str, float], rng: np.random.Generator
) -> None:
    """X - z + step phi'(x) = 0 with the gradient of the package, which has tests of its own."""
    phi = make(name, parameters)
    found = 0
    for step in STEPS:
        z = np.concatenate([interesting(phi, step), 10 ** rng.uniform(-4, 8, 50)])
        x = phi.prox(z, step)
        z, x = z[x > 0], x[x > 0]
        pull = step * phi.grad(x)
        if name == "CappedL1":
            assert (np.minimum(abs(x - z), abs(x - z + step)) <= 1e-15 * (z + step)).all()
        else:
            bend = np.abs(phi.grad(x * (1 + 1e-7)) - phi.grad(x)) / 1e-7  # phi'(x) errs by the rounding of x
            assert (np.abs(x - z + pull) <= 8e-16 * (z + pull + step * bend)).all()
        found += x.size
    assert found > 100


@pytest.mark.parametrize(("beta", "a"), [(1e-3, 0.01), (1e-6, 1e-3), (1e-12, 2.0), (1e-3, 1e-9)])
@pytest.mark.parametrize(
    "name", ["Laplace", "GemanMcClure", "Arctan", "Tanh", "LinearizedLaplace", "LogSum", "TransformedL1"]
)
def test_prox_keeps_its_digits_where_phi_is_nearly_a_line(name: str, beta: float, a: float) -> None:
    """For tiny beta the prox is a - step phi'(0) up to terms of relative order beta a."""
    key = {"LogSum": "eps", "TransformedL1": "a"}.get(name, "beta")
    phi = make(name, {key: beta if key == "beta" else 1 / beta})
    step = a / 4 / phi.slope_at_zero
    (got,) = phi.prox(np.array([a]), step)
    assert got == pytest.approx(0.75 * a, rel=max(1e-14, 2 * beta * a), abs=0)


@pytest.mark.parametrize("beta", [0.5, 5.0])
def test_arctan_prox_is_the_best_root_of_the_cubic(beta: float) -> None:
    phi = Arctan(beta=beta)
    for step, z in itertools.product((0.01, 0.3, 2.0, 15.0), np.linspace(0.05, 6, 60).tolist()):
        roots = np.roots([beta**2, -z * beta**2, 1.0, 2 * step * beta / math.pi - z])
        real = roots[(abs(roots.imag) < 1e-9) & (roots.real > 0)].real
        candidates = np.concatenate([[0.0], real])
        best = candidates[energy("Arctan", candidates, z, step, {"beta": beta}).argmin()]
        np.testing.assert_allclose(phi.prox(np.array([z]), step), [best], rtol=1e-7, atol=1e-12)


# --- dead zones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "beta", "edge"),
    [(0.01, 5, 0.05), (0.04, 5, 0.2), (0.1, 5, 0.40893), (0.1, 10, 0.44440), (0.1, 50, 0.44721)],
)
def test_dead_zone_of_laplace(step: float, beta: float, edge: float) -> None:
    """A table measured once, to five digits; independent of this code."""
    phi = Laplace(beta=beta)
    assert phi.dead_zone(step) == pytest.approx(edge, abs=5.01e-6)
    got = phi.prox(np.array([edge - 1e-5, edge + 1e-5]), step)
    assert got[0] == 0 < got[1]


@pytest.mark.parametrize(("alpha", "beta"), [(0.01, 5.0), (0.3, 2.0), (2.0, 0.5)])
def test_laplace_with_l2_is_convex_from_half_of_its_modulus_on(alpha: float, beta: float) -> None:
    """alpha phi(w) + l2 w^2 is convex for w > 0 if and only if 2 l2 >= alpha beta^2, the modulus."""
    w = np.linspace(0.0, 5 / beta, 501)
    for share, convex in ((0.98, False), (1.0, True), (1.02, True)):
        value = alpha * Laplace(beta=beta).value(w) + share * alpha * beta**2 / 2 * w**2
        bend = value[2:] - 2 * value[1:-1] + value[:-2]
        assert bool((bend >= -1e-12 * alpha).all()) == convex


@pytest.mark.parametrize(("slope", "stays"), [(-0.999, True), (0.999, True), (1.001, False), (-1.001, False)])
def test_a_zero_weight_stays_while_the_slope_of_the_loss_is_below_that_of_laplace(slope: float, stays: bool) -> None:
    """0 is the least of (slope alpha beta) w + curve w^2 / 2 + alpha phi(w) near 0, by proximal steps and a grid."""
    alpha, beta, eta = 0.02, 5.0, 0.5
    pull = slope * alpha * beta
    w = np.linspace(-1e-3, 1e-3, 2001)
    best = w[np.argmin(pull * w + w**2 / 2 + alpha * Laplace(beta=beta).value(w))]
    moved = float(Laplace(beta=beta).prox(np.array([-eta * pull]), eta * alpha)[0])
    assert (abs(best) < 1e-12) == (moved == 0.0) == stays
    assert best * pull <= 0


def test_dead_zone_of_laplace_between_its_bounds() -> None:
    for step, beta in itertools.product((1e-4, 0.05, 0.3, 2.0, 50.0), (0.5, 5.0, 20.0, 500.0)):
        edge, load = Laplace(beta=beta).dead_zone(step), step * beta**2
        if load <= 1:
            assert edge == pytest.approx(step * beta, rel=1e-15)
        else:
            assert (1 + math.log(load)) / beta < edge <= math.sqrt(2 * step) * (1 + 1e-15)
    assert Laplace(beta=1e4).dead_zone(0.02) == pytest.approx(0.2, rel=1e-6)


@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_dead_zone_is_where_the_prox_leaves_zero(name: str, parameters: dict[str, float]) -> None:
    phi = make(name, parameters)
    for step in (*STEPS, 1e-9, 1e4):
        edge = phi.dead_zone(step)
        assert isinstance(edge, float)
        if name in SMOOTH:
            assert edge == 0
            assert (phi.prox(np.array([1e-12, 1e-3]), step) > 0).all()
            continue
        assert edge > 0
        assert phi.prox(edge * np.array([0.0, 1e-9, 0.5, 1 - 1e-9]), step).tolist() == [0.0] * 4
        assert (phi.prox(edge * np.array([1 + 1e-9, 1.001, 2.0]), step) > 0).all()


@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_dead_zone_is_the_least_ratio(name: str, parameters: dict[str, float]) -> None:
    phi = make(name, parameters)
    for step in STEPS:
        if name not in SMOOTH:
            assert phi.dead_zone(step) == pytest.approx(zone(name, step, parameters), rel=3e-6)
        assert phi.dead_zone(step) <= step * phi.slope_at_zero * (1 + 1e-15)


@pytest.mark.parametrize("load", [0.9, 1.0, 1.0001, 1.001, 1.02, 1.1])
def test_dead_zone_where_the_prox_begins_to_jump(load: float) -> None:
    """At step beta^2 = 1 the prox turns from continuous to jumping; just above, the jump is small and hard to find.

    With phi(u) = beta u (1 - s / 2 + k s^2), s = beta u, the least of x / 2 + step phi(x) / x is, to second order in
    e = load - 1, step beta (1 - e^2 / (16 k)): k = 1/6 for Laplace, 1/3 for the logarithm.
    """
    for phi, step, k in (
        (Laplace(beta=5.0), load / 25, 1 / 6),
        (LogSum(eps=0.2), load / 25, 1 / 3),
        (LogSum(eps=7.0), load * 49, 1 / 3),
    ):
        edge, e = phi.dead_zone(step), max(load - 1, 0.0)
        assert phi.prox(edge * np.array([1 - 1e-7, 1 + 1e-7]), step).astype(bool).tolist() == [False, True]
        assert edge == pytest.approx(step * phi.slope_at_zero * (1 - e**2 / (16 * k)), rel=e**3 + 1e-15)


def test_step_zero_moves_nothing() -> None:
    z = np.array([0.0, 1e-300, -0.1, 7.0])
    for name, cases in CASES.items():
        phi = make(name, cases[0])
        assert phi.dead_zone(0.0) == 0.0
        np.testing.assert_array_equal(phi.prox(z, 0.0), z)
        np.testing.assert_array_equal(phi.prox(z, np.array([0.0, 0.0, 50.0, 0.0]))[[0, 1, 3]], z[[0, 1, 3]])


# --- ties and known answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phi", "step", "z", "x"),
    [
        (L0(), 2.0, 2.0, 0.0),  # 2 ties with 0
        (L0(), 2.0, np.nextafter(2.0, 3), np.nextafter(2.0, 3)),
        (CappedL1(theta=1.0), 1.0, 1.5, 0.5),  # 1.5 ties with 0.5
        (CappedL1(theta=1.0), 1.0, np.nextafter(1.5, 2), np.nextafter(1.5, 2)),
        (CappedL1(theta=1.0), 8.0, 4.0, 0.0),  # 4 ties with 0
        (MCP(lam=0.5, gamma=4.0), 4.0, 2.0, 0.0),  # everything up to 2 ties
        (MCP(lam=0.5, gamma=4.0), 16.0, 4.0, 0.0),  # 4 ties with 0
        (MCP(lam=0.5, gamma=4.0), 16.0, np.nextafter(4.0, 5), np.nextafter(4.0, 5)),
        (MCP(lam=0.5, gamma=4.0), 2.0, 1.5, 1.0),
        (LinearizedLaplace(beta=0.5), 4.0, 2.0, 0.0),  # everything up to 2 ties
        (LinearizedLaplace(beta=0.5), 9.0, 3.0, 0.0),  # 3 ties with 0
        (SCAD(lam=1.0, a=3.0), 2.0, 3.0, 1.0),  # everything from 1 to 3 ties
        (SCAD(lam=1.0, a=3.0), 3.0, 3.5, 0.5),  # 3.5 ties with 0.5
        (SCAD(lam=1.0, a=3.0), 3.0, np.nextafter(3.5, 4), np.nextafter(3.5, 4)),
        (SCAD(lam=1.0, a=3.0), 9.0, 6.0, 0.0),  # 6 ties with 0
        (SCAD(lam=1.0, a=3.0), 1.0, 2.5, 2.0),
        (SCAD(lam=1.0, a=3.0), 1.0, 3.5, 3.5),
        (Lp(p=0.5), 1.0, 1.5, 0.0),  # 1 ties with 0
        (Lp(p=2 / 3), 1.5, 2.0, 0.0),  # 1 ties with 0
        (L1(), 1.0, 3.0, 2.0),
        (L2(), 1.0, 3.0, 1.0),
        (GemanMcClure(beta=1.0), 2.0, 1.5, 0.0),  # 1 ties with 0
        (GemanMcClure(beta=1.0), 2.0, 2.0 + 2 / 9, 2.0),
        (TransformedL1(a=1.0), 1.0, 1.5, 0.0),  # 1 ties with 0
        (LogSum(eps=1.0), 6.0, 4.0, 0.0),  # 2 is a minimum, 0 a better one
        (LogSum(eps=1.0), 2.0, 3.0, 1 + math.sqrt(2)),
        (Laplace(beta=1.0), 1.0, 1 + math.exp(-1.0), 1.0),
        (Gaussian(sigma=1.0), 1.0, 1 + math.exp(-0.5), 1.0),
        (Tanh(beta=1.0), 0.5, 1 + 0.5 / math.cosh(1.0) ** 2, 1.0),
        (Arctan(beta=1.0), 1.0, 1 + 1 / math.pi, 1.0),
    ],
)
def test_known_proximal_points(phi: Surrogate, step: float, z: float, x: float) -> None:
    np.testing.assert_allclose(phi.prox(np.array([z, -z]), step), [x, -x], rtol=4e-16, atol=0)


@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_zeros_of_a_prox_are_positive_and_far_entries_stay(name: str, parameters: dict[str, float]) -> None:
    phi = make(name, parameters)
    got = phi.prox(np.array([-1e-300, -0.0, 0.0]), 0.7)
    zeros = got[got == 0]
    assert zeros.size >= 2
    assert not np.signbit(zeros).any()
    for dtype, far in ((np.float64, 1e300), (np.float32, 3e38)):
        z = np.array([far, -far, far / 1e10], dtype=dtype)
        np.testing.assert_allclose(phi.prox(z, 0.7) * (2.4 if name == "L2" else 1.0), z, rtol=1e-6)


# --- steps as arrays, types, messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", CASES)
def test_steps_may_differ_by_entry(name: str, dtype: Any, rng: np.random.Generator) -> None:
    phi = make(name, CASES[name][0])
    z = rng.normal(0, 2, (3, 4)).astype(dtype)
    for shape in ((3, 4), (4,), (3, 1), ()):
        step = np.asarray(rng.uniform(0.01, 4, shape), dtype=dtype)
        got = phi.prox(z, step)
        assert (got.shape, got.dtype) == (z.shape, z.dtype)
        each = [float(t) for t in np.broadcast_to(step, z.shape).reshape(-1)]
        alone = [phi.prox(a.reshape(1), t)[0] for a, t in zip(z.reshape(-1), each, strict=True)]
        np.testing.assert_array_equal(got.reshape(-1), alone)
    np.testing.assert_array_equal(phi.prox(z, 1), phi.prox(z, np.float32(1.0)))


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (-0.5, ArgumentError, r"^step=-0\.5 must be finite and 0 or greater, at most 1e\+200$"),
        (np.array([1.0, np.nan, 1.0]), ArgumentError, r"^step=nan must be finite and 0 or greater, at most 1e\+200$"),
        (np.inf, ArgumentError, r"^step=inf must be finite and 0 or greater, at most 1e\+200$"),
        (
            np.ones((2, 3)),
            ShapeError,
            r"^step has shape \(2, 3\), which does not broadcast to z of shape \(3,\); pass a",
        ),
        (
            np.ones(2),
            ShapeError,
            r"^step has shape \(2,\), which does not broadcast to z of shape \(3,\); pass a number",
        ),
        (np.ones(3, dtype=bool), DTypeError, r"^step has dtype bool, expected numbers; pass one, or an array"),
        ("1", DTypeError, r"^step has dtype <U1, which is not numeric"),
    ],
)
def test_bad_steps(step: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Laplace(beta=5.0).prox(np.ones(3), step)


# --- Lambert's W ------------------------------------------------------------------------------------------------------


def test_lambert_w0_solves_its_equation() -> None:
    w = -np.concatenate([np.geomspace(1e-300, 0.5, 200), np.linspace(0.5, 0.999, 100)])
    y = w * np.exp(w)
    # dw / dy = 1 / (e^w (1 + w)), so the rounding of y moves w by up to eps |w| / (1 + w)
    assert (np.abs(lambert_w0(y) - w) <= 1e-15 * np.abs(w) / (1 + w)).all()


def test_lambert_w0_at_its_ends() -> None:
    got = lambert_w0(np.array([0.0, -math.exp(-1.0), -0.5, -math.exp(-1.0) * (1 - 1e-12)]))
    assert got[:3].tolist() == [0.0, -1.0, -1.0]  # below -1/e it is read as -1/e
    assert got[3] == pytest.approx(-1 + math.sqrt(2e-12), rel=3e-8)
