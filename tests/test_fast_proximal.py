"""The compiled prox of the Laplace surrogate against the readable one and, at 40 digits, against its equation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0ref.autodiff.op import backend
from l0ref.errors import ArgumentError, DTypeError, ShapeError
from l0ref.fast.step import prox as proximal
from l0ref.fast.step.prox import PART, laplace_prox
from l0ref.penalty import Pull
from l0ref.surrogates import Laplace
from l0ref.validate import Array

pytestmark = pytest.mark.kernels
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
EDGES = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -1e-40, 1e30, -1e300]


def weights(scale: float, dtype: Any, rng: np.random.Generator) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        return np.concatenate([EDGES, scale * rng.standard_normal(150)]).astype(dtype)


@each_dtype
@pytest.mark.parametrize("beta", [1.0, 5.0, 50.0])
@pytest.mark.parametrize("step", [0.0, 1e-12, 1e-6, 1e-3, 0.04, 0.2, 3.0, "each"])
@pytest.mark.parametrize("scale", [1e-3, 0.1, 10.0])
def test_prox_is_that_of_the_surrogate(
    scale: float, step: Any, beta: float, dtype: Any, rng: np.random.Generator
) -> None:
    z = weights(scale, dtype, rng)
    t = np.abs(rng.standard_normal(z.size)) / beta**2 if step == "each" else step
    with np.errstate(all="ignore"):  # without the compiler infinite entries are told of
        got = laplace_prox(z, t, beta=beta)
    want = Laplace(beta=beta).prox(z, t)
    np.testing.assert_array_equal(got == 0, want == 0)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want))
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    # x = |z| - t beta e^(-beta x): an error of one rounding in z grows to 1 / (1 - t beta^2 e^(-beta x)) in x
    slack = 1 - np.broadcast_to(t, z.shape)[finite] * beta**2 * np.exp(-beta * np.abs(want[finite].astype(float)))
    allowed = 8 * np.finfo(dtype).eps * np.abs(z[finite].astype(float)) / np.maximum(slack, 1e-6)
    assert (np.abs(got[finite].astype(float) - want[finite]) <= allowed).all()
    assert got.dtype == dtype


@pytest.mark.parametrize(
    ("scale", "step", "beta"), [(1e-3, 1e-6, 1.0), (1e-3, 1e-3, 1.0), (0.1, 0.04, 1.0), (0.1, 1e-4, 5.0)]
)
def test_prox_solves_its_equation(scale: float, step: float, beta: float, rng: np.random.Generator) -> None:
    mpmath = pytest.importorskip("mpmath", reason="needs the extra `crosscheck`")
    z = scale * np.abs(rng.standard_normal(60))
    x = laplace_prox(z, step, beta=beta)
    assert (x > 0).sum() > 10
    with mpmath.workdps(40):
        for a, b in zip(z[x > 0].tolist(), x[x > 0].tolist(), strict=True):
            exact = mpmath.findroot(lambda u, a=a: u - a + step * beta * mpmath.exp(-beta * u), b)
            slack = 1 - step * beta**2 * mpmath.exp(-beta * exact)
            assert abs(b - exact) <= 4e-16 * a / slack


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [0, 1, PART - 1, PART + 1, 3 * PART + 7])
def test_any_size_on_any_number_of_threads(
    size: int, threads: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proximal, "threads_for", lambda _: threads)
    z, t = rng.standard_normal(size), 0.1 * np.abs(rng.standard_normal(size))
    before = z.copy()
    for step in (t, 0.03):
        np.testing.assert_allclose(laplace_prox(z, step, beta=5.0), Laplace(beta=5.0).prox(z, step), rtol=1e-9)
    np.testing.assert_array_equal(z, before)


def test_shapes_and_layouts(rng: np.random.Generator) -> None:
    z = rng.standard_normal((6, 4))
    for x in (z, np.asfortranarray(z), z[::2, 1:], z[0, 0]):
        for t in (0.05, np.full(np.shape(x), 0.05)):
            got = laplace_prox(x, t, beta=5.0)
            assert got.shape == np.shape(x)
            assert got.flags.c_contiguous
            np.testing.assert_allclose(got, Laplace(beta=5.0).prox(x, t), rtol=1e-12)


@pytest.mark.parametrize(
    ("step", "error", "said"),
    [
        (-1.0, ArgumentError, r"^step=-1.0 must be finite and 0 or greater, at most 1e\+200$"),
        (np.nan, ArgumentError, r"^step=nan must be finite"),
        (np.ones(4), ShapeError, r"^step has shape \(4,\), which does not broadcast to z of shape \(3,\)"),
        ("a", DTypeError, r"^step has dtype <U1, which is not numeric"),
    ],
)
def test_wrong_steps_are_refused_as_by_the_surrogate(step: Any, error: type[Exception], said: str) -> None:
    for prox in (lambda: laplace_prox(np.ones(3), step, beta=5.0), lambda: Laplace(beta=5.0).prox(np.ones(3), step)):
        with pytest.raises(error, match=said):
            prox()


def test_a_penalty_takes_the_compiled_prox_for_laplace_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(proximal, "prox_by_steps", lambda *args: called.append(args[0].size))
    pull = Pull(Laplace(beta=5.0), {"w": 0.01})
    with backend("numpy"):
        pull.prox({"w": np.ones(3)}, {"w": 0.1})
    assert called == []
    with backend("numba"):
        pull.prox({"w": np.ones(3)}, {"w": 0.1})
    assert called == [3]
