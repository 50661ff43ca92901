"""Surrogates of the l0 norm against mpmath at 50 digits, from the smallest subnormal to 1e300."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from l0ref.surrogates import SURROGATES, Surrogate
from tests.oracles_surrogates import CASES, PLAIN
from tests.oracles_surrogates_exact import FORMULA, FORMULAS, exact, mp, ulp, ulps_off

pytestmark = pytest.mark.crosscheck

ALL = [pytest.param(name, p, id=f"{name}-{'-'.join(map(str, p.values()))}") for name in CASES for p in CASES[name]]
SMOOTH = {"Gaussian", "L2"}  # no kink at 0

MAGNITUDES = [
    *(5e-324, 1e-323, 1.7e-321, 3e-310, 2.2250738585072014e-308, 1e-300, 1e-200, 1e-162, 3e-154, 1e-100, 1e-30),
    *(1e-16, 1e-8, 1e-5, 1e-3, 0.01, 0.03, 0.07, 0.1, 0.2, 0.25, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 3.5, 5.0, 7.0),
    *(10.0, 20.0, 38.0, 50.0, 100.0, 150.0, 177.0, 355.0, 370.0, 500.0, 709.0, 745.0, 1e3, 1e4, 1e6, 1e8, 1e16),
    *(1e100, 1e150, 1e154, 1e155, 1e160, 1e200, 1e290, 1e300),
]  # fmt: skip


def points(parameters: dict[str, float], rng: np.random.Generator) -> Any:
    """The magnitudes, some of them in units of each parameter, and random ones over all exponents."""
    middle = np.array([u for u in MAGNITUDES if 1e-9 < u < 1e9])
    units = [scale * middle for p in parameters.values() for scale in (p, 1 / p)]
    return np.concatenate([MAGNITUDES, *units, 10 ** rng.uniform(-320, 300, 30), 10 ** rng.uniform(-3, 3, 30)])


def make(name: str, parameters: dict[str, float]) -> Surrogate:
    return SURROGATES[name](**parameters)


# --- value and gradient against 50 digits -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_value_is_within_4_ulp(name: str, parameters: dict[str, float], rng: np.random.Generator) -> None:
    u = points(parameters, rng)
    phi = make(name, parameters)
    got = phi.value(u)
    np.testing.assert_array_equal(phi.value(-u), got)
    for x, y in zip(u.tolist(), got.tolist(), strict=True):
        true = exact(name, x, parameters)[0]
        assert ulps_off(y, true) <= 4, f"{phi}.value({x!r}) = {y!r}, should be {float(true)!r}"


@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_gradient_is_within_4_ulp_times_its_condition(
    name: str, parameters: dict[str, float], rng: np.random.Generator
) -> None:
    u = points(parameters, rng)
    phi = make(name, parameters)
    got = phi.grad(u)
    np.testing.assert_array_equal(phi.grad(-u), -got)
    for x, y in zip(u.tolist(), got.tolist(), strict=True):
        _, slope, bend = exact(name, x, parameters)
        condition = max(1.0, float(abs(x * bend / slope))) if slope else 1.0
        assert ulps_off(y, slope) <= 4 * condition, f"{phi}.grad({x!r}) = {y!r}, should be {float(slope)!r}"


@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_slope_at_zero_is_the_limit_of_the_gradient(name: str, parameters: dict[str, float]) -> None:
    phi = make(name, parameters)
    near = 1e-200
    if name in SMOOTH:
        assert phi.slope_at_zero == 0.0
        assert phi.grad(np.array([near]))[0] < 1e-180
    elif name in ("Lp", "L0"):  # phi has no slope there: phi(u) / u grows beyond bounds
        assert phi.slope_at_zero == np.inf
        assert phi.value(np.array([near]))[0] / near > 100
    else:
        true = float(exact(name, near, parameters)[1])
        assert phi.slope_at_zero == pytest.approx(true, rel=1e-15, abs=0)
        assert phi.grad(np.array([near]))[0] == pytest.approx(true, rel=1e-15, abs=0)


@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_infinite_weights_have_the_limits(name: str, parameters: dict[str, float]) -> None:
    phi = make(name, parameters)
    w = np.array([np.inf, -np.inf])
    value, grad = phi.value(w), phi.grad(w)
    assert value[0] == value[1]
    if name in ("LogSum", "Lp", "L1", "L2"):
        assert value[0] == np.inf
    else:
        assert value[0] == pytest.approx(float(exact(name, 1e300, parameters)[0]), rel=1e-14, abs=0)
    assert grad[0] == -grad[1] == {"L1": 1.0, "L2": np.inf}.get(name, 0.0)
    np.testing.assert_array_equal(phi.prox(w, 0.3), w)


@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_float32_is_float64_rounded(name: str, parameters: dict[str, float], rng: np.random.Generator) -> None:
    phi = make(name, parameters)
    u = np.concatenate([10 ** rng.uniform(-30, 30, 100), rng.uniform(0, 3, 100), [1e-45, 3e38]])
    w = (u * rng.choice([-1, 1], u.size)).astype(np.float32)
    wide = w.astype(np.float64)
    got, want = phi.value(w), phi.value(wide)
    assert got.dtype == np.float32
    representable = want < 3.4e38
    np.testing.assert_allclose(got[representable], want[representable], rtol=1e-6, atol=3e-45)
    assert (got[~representable] == np.inf).all()
    got, want = phi.grad(w), phi.grad(wide)
    assert got.dtype == np.float32
    for x, g, true in zip(wide.tolist(), got.tolist(), want.tolist(), strict=True):
        _, slope, bend = exact(name, abs(x), parameters)
        condition = max(1.0, float(abs(x * bend / slope))) if slope else 1.0
        if abs(true) < 3.4e38:
            assert abs(g - true) <= condition * max(5e-7 * abs(true), 1e-44), f"{phi}.grad({x!r})"
    moved = phi.prox(w, 0.3)
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(moved, phi.prox(wide, 0.3).astype(np.float32))


@pytest.mark.parametrize("name", ["Gaussian", "Arctan", "Tanh", "Lp"])
def test_curvature_that_newton_runs_on(name: str, rng: np.random.Generator) -> None:
    for parameters in CASES[name]:
        phi: Any = make(name, parameters)
        unit = {"sigma": 1.0, "beta": -1.0, "p": 0.0}[next(iter(parameters))]
        u = rng.uniform(0.05, 4.0, 30) * next(iter(parameters.values())) ** unit
        true = np.array([float(exact(name, x, parameters)[2]) for x in u.tolist()])
        assert (np.abs(phi.curvature(u) - true) <= 1e-14 * (np.abs(true) + np.abs(phi.slope(u) / u))).all()


# --- the measure itself -----------------------------------------------------------------------------------------------


def test_ulp_measure() -> None:
    for x in (1.0, 1.5, 2.0, 0.1, 1e300, 5e-324, 1e-310, 2.2250738585072014e-308):
        assert float(ulp(mp.mpf(x))) == math.ulp(x)
        assert ulps_off(math.nextafter(x, math.inf), mp.mpf(x)) == 1.0
        assert ulps_off(x, mp.mpf(x)) == 0.0
    assert ulps_off(np.inf, mp.mpf(10) ** 400) == 0.0
    assert ulps_off(1e308, mp.mpf(10) ** 400) == np.inf


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_two_oracles_agree(name: str) -> None:
    for parameters in CASES[name]:
        u = np.geomspace(0.02, 50.0, 20)
        plain = PLAIN[name](u, **parameters)
        true = [float(exact(name, x, parameters)[0]) for x in u.tolist()]
        np.testing.assert_allclose(plain, true, rtol=1e-13, atol=0)


def test_exact_oracles_equal_the_table_of_cases() -> None:
    assert sorted(FORMULA) == sorted(CASES)
    assert sorted(FORMULA.values()) == sorted(FORMULAS)
