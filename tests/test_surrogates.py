"""Surrogates of the l0 norm: value and gradient against 50 digits, limits, kinks, types, messages, the registry.

The proximal maps have their tests in test_surrogates_prox.py.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from l0ref import surrogates
from l0ref.errors import ArgumentError, DTypeError
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
    by_name,
)
from l0ref.surrogates.base import PART
from tests.house import registry_gaps
from tests.oracles_surrogates import CASES, PLAIN

ALL = [pytest.param(name, p, id=f"{name}-{'-'.join(map(str, p.values()))}") for name in CASES for p in CASES[name]]
ONE = [pytest.param(name, ps[0], id=name) for name, ps in CASES.items()]
EVERY = [SURROGATES[name](**ps[0]) for name, ps in CASES.items()]


def make(name: str, parameters: dict[str, float]) -> Surrogate:
    return SURROGATES[name](**parameters)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_exactly_zero_at_zero(name: str, parameters: dict[str, float], dtype: Any) -> None:
    phi = make(name, parameters)
    zero = np.array([0.0, -0.0], dtype=dtype)
    assert phi.value(zero).tolist() == [0.0, 0.0]
    assert phi.grad(zero).tolist() == [0.0, 0.0]
    assert phi.prox(zero, 0.3).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_gradient_is_the_five_point_difference_of_the_value(name: str, parameters: dict[str, float]) -> None:
    phi = make(name, parameters)
    unit = 1.0 if name in ("L0", "L1", "L2", "Lp") else next(iter(parameters.values()))
    unit = 1 / unit if "beta" in parameters else unit
    w = np.concatenate([s * unit * np.array([0.11, 0.37, 0.83, 1.31, 2.63, 4.7]) for s in (1, -1)])
    h = 1e-3 * np.abs(w)
    numeric = (phi.value(w - 2 * h) - 8 * phi.value(w - h) + 8 * phi.value(w + h) - phi.value(w + 2 * h)) / (12 * h)
    scale = np.abs(phi.value(w) / w)
    assert (scale > 0).all()
    assert (np.abs(phi.grad(w) - numeric) <= 1e-9 * scale).all()
    assert name == "L0" or (phi.grad(w) != 0).any()


# --- kinks and corners ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phi", "w", "value", "grad"),
    [
        (CappedL1(theta=0.5), 0.5, 0.5, 0.0),
        (CappedL1(theta=0.5), np.nextafter(0.5, 0), np.nextafter(0.5, 0), 1.0),
        (LinearizedLaplace(beta=4.0), 0.25, 0.5, 0.0),
        (LinearizedLaplace(beta=4.0), 0.125, 0.375, 2.0),
        (SCAD(lam=0.5, a=3.0), 0.5, 0.25, 0.5),
        (SCAD(lam=0.5, a=3.0), 1.0, 0.4375, 0.25),
        (SCAD(lam=0.5, a=3.0), 1.5, 0.5, 0.0),
        (MCP(lam=0.5, gamma=4.0), 1.0, 0.375, 0.25),
        (MCP(lam=0.5, gamma=4.0), 2.0, 0.5, 0.0),
        (GemanMcClure(beta=4.0), 0.25, 0.5, 1.0),
        (TransformedL1(a=0.25), 1.0, 1.0, 0.2),
        (LogSum(eps=0.5), math.expm1(1.0) / 2, 1.0, 2 / math.e),
        (Arctan(beta=2.0), 0.5, 0.5, 2 / math.pi),
        (Laplace(beta=2.0), math.log(2) / 2, 0.5, 1.0),
        (Gaussian(sigma=1.0), math.sqrt(2 * math.log(2)), 0.5, math.sqrt(2 * math.log(2)) / 2),
        (Tanh(beta=2.0), math.atanh(0.5) / 2, 0.5, 1.5),
        (Lp(p=0.5), 4.0, 2.0, 0.25),
        (L0(), 1e-300, 1.0, 0.0),
        (L1(), 3.0, 3.0, 1.0),
        (L2(), 3.0, 9.0, 6.0),
    ],
)
def test_known_points(phi: Surrogate, w: float, value: float, grad: float) -> None:
    at = np.array([w, -w])
    np.testing.assert_allclose(phi.value(at), [value, value], rtol=4e-16, atol=0)
    np.testing.assert_allclose(phi.grad(at), [grad, -grad], rtol=4e-16, atol=0)


def test_linearized_laplace_is_mcp_with_derived_parameters(rng: np.random.Generator) -> None:
    for alpha, beta in ((1.0, 5.0), (0.02, 5.0), (3.0, 0.4), (1e-5, 100.0)):
        phi, mcp = LinearizedLaplace(beta=beta), MCP(lam=alpha * beta, gamma=1 / (alpha * beta**2))
        w = rng.normal(0.0, 1 / beta, 200)
        np.testing.assert_allclose(alpha * phi.value(w), mcp.value(w), rtol=1e-14, atol=0)
        near = alpha * beta * 1e-15  # where the slope is a small difference, it errs by ulps of its terms
        assert (np.abs(alpha * phi.grad(w) - mcp.grad(w)) <= near).all()
        for step in (0.3 / (alpha * beta**2), 3.0 / (alpha * beta**2)):  # convex; a hard threshold
            z = 3 * w
            np.testing.assert_allclose(phi.prox(z, step * alpha), mcp.prox(z, step), rtol=1e-12, atol=0)
            assert phi.dead_zone(step * alpha) == pytest.approx(mcp.dead_zone(step), rel=1e-14, abs=0)


def test_linearized_laplace_has_the_tangent_of_the_slope_of_laplace(rng: np.random.Generator) -> None:
    w = rng.uniform(-1, 1, 100) * 1e-6
    np.testing.assert_allclose(LinearizedLaplace(beta=5.0).grad(w), Laplace(beta=5.0).grad(w), rtol=1e-9, atol=0)


def test_transformed_l1_is_a_multiple_of_geman_mcclure(rng: np.random.Generator) -> None:
    w = rng.normal(size=100)
    one, other = TransformedL1(a=0.25), GemanMcClure(beta=4.0)
    np.testing.assert_allclose(one.value(w), 1.25 * other.value(w), rtol=1e-15, atol=0)
    np.testing.assert_allclose(one.prox(w, 0.1), other.prox(w, 0.125), rtol=1e-14, atol=0)


# --- limits -----------------------------------------------------------------------------------------------------------

COUNTS = [
    (Laplace(beta=1e9), 1.0, 1e-15),
    (LinearizedLaplace(beta=1e9), 2.0, 1e-15),
    (GemanMcClure(beta=1e9), 1.0, 1e-6),
    (Gaussian(sigma=1e-6), 1.0, 1e-15),
    (LogSum(eps=1e-15), 1 / math.log1p(1e15), 0.05),
    (Arctan(beta=1e9), 1.0, 1e-6),
    (Tanh(beta=1e9), 1.0, 1e-15),
    (CappedL1(theta=1e-6), 1e6, 1e-15),
    (SCAD(lam=1e-6, a=3.0), 0.5e12, 1e-15),
    (MCP(lam=1e-6, gamma=4.0), 0.5e12, 1e-15),
    (Lp(p=1e-6), 1.0, 1e-4),
    (TransformedL1(a=1e-9), 1.0, 1e-6),
    (L0(), 1.0, 0.0),
]
LINES = [
    (Laplace(beta=1e-9), 1e9),
    (LinearizedLaplace(beta=1e-9), 1e9),
    (GemanMcClure(beta=1e-9), 1e9),
    (LogSum(eps=1e9), 1e9),
    (Arctan(beta=1e-9), math.pi / 2 * 1e9),
    (Tanh(beta=1e-9), 1e9),
    (CappedL1(theta=1e9), 1.0),
    (SCAD(lam=1e9), 1e-9),
    (MCP(lam=1e9), 1e-9),
    (Lp(p=1 - 1e-9), 1.0),
    (TransformedL1(a=1e9), 1.0),
    (L1(), 1.0),
]


@pytest.mark.parametrize(("phi", "factor", "rtol"), COUNTS)
def test_limit_counts_non_zeros(phi: Surrogate, factor: float, rtol: float, rng: np.random.Generator) -> None:
    w = rng.uniform(0.01, 3.0, 500) * rng.choice([-1, 0, 1], 500)
    count = np.count_nonzero(w)
    assert 0 < count < 500
    assert factor * phi.value(w).sum() == pytest.approx(count, rel=max(rtol, 1e-13), abs=0)
    assert "count of non-zeros" in phi.limit


@pytest.mark.parametrize(("phi", "factor"), LINES)
def test_other_limit_is_the_absolute_value(phi: Surrogate, factor: float, rng: np.random.Generator) -> None:
    w = rng.normal(size=100)
    np.testing.assert_allclose(factor * phi.value(w), np.abs(w), rtol=1e-8, atol=0)
    assert "|w|" in phi.limit


def test_wide_gaussian_is_a_square(rng: np.random.Generator) -> None:
    w = rng.normal(size=100)
    np.testing.assert_allclose(2e12 * Gaussian(sigma=1e6).value(w), w**2, rtol=1e-11, atol=0)


# --- arrays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(0,), (2, 0), (), (1,), (1, 1), (3, 4)])
def test_shape_and_dtype_are_kept_and_inputs_left_alone(
    shape: tuple[int, ...], dtype: Any, rng: np.random.Generator
) -> None:
    for name, cases in CASES.items():
        check_arrays(make(name, cases[0]), shape, dtype, rng)


def check_arrays(phi: Surrogate, shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> None:
    w = np.asarray(rng.normal(size=shape), dtype=dtype)
    before = w.copy()
    w.flags.writeable = False
    for got in (phi.value(w), phi.grad(w), phi.prox(w, 0.1), phi.prox(w, np.full(shape, 0.1, dtype=dtype))):
        assert isinstance(got, np.ndarray)
        assert (got.shape, got.dtype) == (shape, dtype)
        assert not np.shares_memory(got, w)
    np.testing.assert_array_equal(w, before)
    flat = w.reshape(-1)
    np.testing.assert_array_equal(phi.value(w).reshape(-1), phi.value(flat))


@pytest.mark.parametrize(("name", "parameters"), ONE)
def test_large_arrays_are_worked_on_piece_by_piece(
    name: str, parameters: dict[str, float], rng: np.random.Generator
) -> None:
    phi = make(name, parameters)
    w = rng.normal(size=(3, PART - 5))
    step = rng.uniform(0.01, 1.0, w.shape)
    np.testing.assert_array_equal(phi.value(w), [phi.value(row) for row in w])
    np.testing.assert_array_equal(phi.grad(w), [phi.grad(row) for row in w])
    np.testing.assert_array_equal(phi.prox(w, step), [phi.prox(*pair) for pair in zip(w, step, strict=True)])


@pytest.mark.parametrize(("name", "parameters"), ONE)
def test_order_in_memory_does_not_matter(name: str, parameters: dict[str, float], rng: np.random.Generator) -> None:
    phi = make(name, parameters)
    w = rng.normal(size=(6, 5))
    for view in (w.T, w[::2, ::-1], np.asfortranarray(w)):
        for rule in (phi.value, phi.grad, lambda x, phi=phi: phi.prox(x, 0.1)):
            np.testing.assert_array_equal(rule(view), rule(np.ascontiguousarray(view)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_nan_comes_out_without_a_warning(name: str, parameters: dict[str, float], dtype: Any) -> None:
    phi = make(name, parameters)
    w = np.array([0.5, np.nan, -0.5, -np.nan], dtype=dtype)
    for got, sound in (
        (phi.value(w), phi.value(w[::2])),
        (phi.grad(w), phi.grad(w[::2])),
        (phi.prox(w, 0.1), phi.prox(w[::2], 0.1)),
    ):
        assert np.isnan(got).tolist() == [False, True, False, True]
        np.testing.assert_array_equal(got[::2], sound)


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("number", [1e-15, 1e15])
def test_extreme_parameters_stay_finite(name: str, number: float) -> None:
    fields = [field.name for field in dataclasses.fields(SURROGATES[name])]
    sound = {"p": min(number, 0.5), "a": max(number, 2.5) if name == "SCAD" else number}
    phi = make(name, {field: sound.get(field, number) for field in fields})
    for dtype, largest in ((np.float64, 1e300), (np.float32, 3e38)):
        w = np.array([0.0, 1e-45, 1e-30, 1.0, 1e30, largest], dtype=dtype)
        for got in (phi.value(w[:-1]), phi.grad(w[1:-1]), phi.prox(w, 1e-3), phi.prox(w, 1e3)):
            assert (got >= 0).all()
        assert np.isfinite(phi.prox(w, 1.0)).all()


# --- parameters, names, the registry ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Laplace(beta=0.0), r"^beta=0\.0 must be greater than 0$"),
        (lambda: Laplace(beta=float("nan")), r"^beta=nan must be finite$"),
        (lambda: Laplace(beta="5"), r"^beta='5' must be a real number, not str$"),
        (lambda: LinearizedLaplace(beta=-1.0), r"^beta=-1\.0 must be greater than 0$"),
        (lambda: GemanMcClure(beta=1e16), r"^beta=1e\+16 must lie in \[1e-15, 1e\+15\]$"),
        (lambda: Gaussian(sigma=1e-16), r"^sigma=1e-16 must lie in \[1e-15, 1e\+15\]$"),
        (lambda: LogSum(eps=0.0), r"^eps=0\.0 must be greater than 0$"),
        (lambda: Arctan(beta=float("inf")), r"^beta=inf must be finite$"),
        (lambda: Tanh(beta=True), r"^beta=True must be a real number, not bool$"),
        (lambda: CappedL1(theta=-0.5), r"^theta=-0\.5 must be greater than 0$"),
        (lambda: SCAD(lam=0.0), r"^lam=0\.0 must be greater than 0$"),
        (lambda: SCAD(lam=1.0, a=2.0), r"^a=2\.0 must be greater than 2; 3\.7 is usual$"),
        (lambda: MCP(lam=1.0, gamma=0.0), r"^gamma=0\.0 must be greater than 0$"),
        (lambda: Lp(p=1.0), r"^p=1\.0 must be less than 1; use L1\(\) for p = 1 and L2\(\) for p = 2$"),
        (lambda: Lp(p=0.0), r"^p=0\.0 must be greater than 0$"),
        (lambda: TransformedL1(a=0.0), r"^a=0\.0 must be greater than 0$"),
        (lambda: by_name("laplac", beta=5.0), r"^name='laplac' is not one of .*; did you mean 'laplace'\?$"),
        (lambda: by_name("laplace", b=5.0), r"^b=5\.0 is not a parameter of surrogate 'laplace', which has: beta$"),
        (lambda: by_name("l0", beta=5.0), r"^beta=5\.0 is not a parameter of surrogate 'l0', which has: none$"),
        (lambda: by_name("laplace"), r"^name='laplace' is a surrogate that needs beta; give beta=\.\.\.$"),
        *((lambda s=s: s.dead_zone(1e308), r"^step=1e\+308 must lie in \[0, 1e\+200\]") for s in EVERY),
        *((lambda s=s: s.prox(np.ones(2), 1e308), r"^step=1e\+308 must be .*, at most 1e\+200") for s in EVERY),
        (lambda: Laplace(beta=5.0).dead_zone(-1.0), r"^step=-1\.0 must be 0 or greater$"),
    ],
)
def test_bad_parameters(call: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        call()


@pytest.mark.parametrize(("name", "parameters"), ONE)
@pytest.mark.parametrize("size", [1e-15, 1.5, 1e15])
def test_the_largest_step_gives_a_finite_dead_zone(name: str, parameters: dict[str, float], size: float) -> None:
    changed = {key: size if key in ("beta", "eps", "lam", "sigma", "theta") else v for key, v in parameters.items()}
    phi = make(name, changed)
    edge = phi.dead_zone(1e200)
    assert 0 <= edge < math.inf
    assert np.isfinite(phi.prox(np.array([-1.0, 1e15, 1e300]), 1e200)).all()


@pytest.mark.parametrize("rule", ["value", "grad", "prox"])
def test_integers_are_refused(rule: str) -> None:
    more = (0.1,) if rule == "prox" else ()
    name = "z" if rule == "prox" else "w"
    with pytest.raises(DTypeError, match=rf"^{name} has dtype int64, expected float32 or float64"):
        getattr(Laplace(beta=5.0), rule)(np.arange(3), *more)


NAMES = {
    "laplace": Laplace(beta=0.5),
    "linearized_laplace": LinearizedLaplace(beta=0.5),
    "geman_mcclure": GemanMcClure(beta=0.5),
    "gaussian": Gaussian(sigma=0.5),
    "log_sum": LogSum(eps=0.5),
    "arctan": Arctan(beta=0.5),
    "tanh": Tanh(beta=0.5),
    "capped_l1": CappedL1(theta=0.5),
    "scad": SCAD(lam=0.5),
    "mcp": MCP(lam=0.5),
    "lp": Lp(p=0.5),
    "transformed_l1": TransformedL1(a=0.5),
    "l0": L0(),
    "l1": L1(),
    "l2": L2(),
}


@pytest.mark.parametrize("name", NAMES)
def test_by_name(name: str) -> None:
    got = by_name(name, **dataclasses.asdict(NAMES[name]))  # type: ignore[call-overload]
    assert got == NAMES[name]
    assert got.name == name
    assert hash(got) == hash(NAMES[name])


def test_usual_parameters_need_not_be_named() -> None:
    assert by_name("scad", lam=1.0) == SCAD(lam=1.0, a=3.7)
    assert by_name("mcp", lam=1.0) == MCP(lam=1.0, gamma=3.0)


def test_parameters_become_plain_floats_and_do_not_widen_float32() -> None:
    phi = Laplace(beta=np.float64(5.0))
    assert type(phi.beta) is float
    assert type(Laplace(beta=5).beta) is float
    assert phi.grad(np.ones(3, dtype=np.float32)).dtype == np.float32
    with pytest.raises(dataclasses.FrozenInstanceError, match="beta"):
        phi.beta = 3.0  # type: ignore[misc]


def test_registry_equals_the_tables() -> None:
    own = [name for name, cls in SURROGATES.items() if cls.__module__.startswith("l0ref.")]
    for table in (CASES, PLAIN, [type(phi).__name__ for phi in NAMES.values()]):
        assert registry_gaps(own, table) == []
    assert sorted(surrogates.__all__) == sorted([*own, "SURROGATES", "Surrogate", "by_name"])


def test_a_name_is_taken_once_and_a_stranger_may_register() -> None:
    with pytest.raises(
        TypeError, match=r"^surrogate 'Laplace' is already registered by l0ref\.surrogates\.exponential"
    ):
        type("Laplace", (Surrogate,), {})
    try:
        cls = type("HalfL1Test", (L1,), {"phi": lambda _, u: u / 2, "__module__": __name__})
        assert by_name("half_l1_test").value(np.array([-3.0])).tolist() == [1.5]
        assert cls.name == "half_l1_test"
        bare = type("BareTest", (Surrogate,), {"__module__": __name__})()
        for call in (bare.value, bare.grad, lambda w: bare.prox(w, 1.0), lambda _: bare.dead_zone(1.0)):
            with pytest.raises(NotImplementedError, match=r"^BareTest must define"):
                call(np.ones(1))
        assert bare.dead_zone(0.0) == 0.0
        with pytest.raises(NotImplementedError, match=r"^BareTest must define slope_at_zero"):
            _ = bare.slope_at_zero
    finally:
        SURROGATES.pop("HalfL1Test", None)
        SURROGATES.pop("BareTest", None)


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_surrogate_says_what_it_is(name: str) -> None:
    cls = SURROGATES[name]
    text = cls.__doc__ or ""
    for word in ("phi(w) =", "Gradient", "Kink", "Prox", "Dead zone", "Limit", "Ref"):
        assert word in text, f"{name} has no {word}"
    for parameter in CASES[name][0]:
        assert f"\n    {parameter} " in text, f"{name} does not explain {parameter}"
    assert cls.limit
    assert cls.reference
