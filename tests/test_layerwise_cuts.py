"""Cutting planes against brute force over all supports, in all three forms; duality, slopes, cuts and bounds."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from l0ref.errors import ArgumentError
from l0ref.layerwise.cuts import _cut, cutting_planes
from l0ref.layerwise.neuron import FORMS, Neuron
from l0ref.validate import Array
from tests.naive import layerwise as naive


def problem(rng: np.random.Generator, form: str, *, p: int = 8, n: int = 30) -> Neuron:
    X = rng.standard_normal((n, p))
    y = X @ rng.standard_normal(p) + 0.3 * rng.standard_normal(n)
    return Neuron.of(X, y if form == "linear" else np.maximum(y, 0.0), gamma=0.7, form=form)


def brute_force(neuron: Neuron, k: int) -> float:
    p = neuron.A.shape[1]
    return min(neuron.value(np.isin(np.arange(p), c)).c for c in itertools.combinations(range(p), k))


def by_hand(neuron: Neuron, support: tuple[int, ...]) -> float:
    """The objective minimised over the weights of a support by a general optimiser."""
    optimize = pytest.importorskip("scipy.optimize", reason="needs SciPy, for the oracle")
    A, B = neuron.A[:, list(support)], neuron.B[:, list(support)]

    def objective(w: Array) -> float:
        over = np.maximum(B @ w, 0.0) if neuron.form == "soft" else np.zeros(1)
        return float(((neuron.y - A @ w) ** 2).sum() + (over**2).sum() + (w**2).sum() / neuron.gamma) / 2

    limits = [optimize.LinearConstraint(B, -np.inf, 0.0)] if neuron.form == "hard" and len(B) else []
    method = {"constraints": limits, "method": "SLSQP", "options": {"maxiter": 500, "ftol": 1e-14}}
    found = optimize.minimize(objective, np.zeros(len(support)), **method)
    return float(found.fun)


@pytest.mark.parametrize("form", FORMS)
def test_values_are_minima(form: str, rng: np.random.Generator) -> None:
    neuron = problem(rng, form)
    for support in ((0, 3), (1, 2, 5), (4,)):
        s = np.isin(np.arange(8), support)
        found = neuron.value(s)
        assert found.c == pytest.approx(by_hand(neuron, support), rel=1e-6)
        assert not found.weights[~s].any()
        np.testing.assert_allclose(found.weights[s], neuron.gamma * found.r[s], rtol=1e-7, atol=1e-9)
        if form == "hard":
            assert (neuron.B @ found.weights).max() <= 1e-9


@pytest.mark.parametrize("form", FORMS)
def test_primal_is_dual(form: str, rng: np.random.Generator) -> None:
    neuron = problem(rng, form)
    s = np.array([1, 0, 1, 1, 0, 0, 1, 0], float)
    found = neuron.value(s)
    a = neuron.y - neuron.A @ found.weights
    over = np.maximum(neuron.B @ found.weights, 0.0) if form == "soft" else np.zeros(0)
    dual = a @ neuron.y - (a @ a + over @ over) / 2 - neuron.gamma / 2 * (s * found.r**2).sum()
    assert found.c == pytest.approx(float(dual), rel=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_slopes_are_differences(form: str, rng: np.random.Generator) -> None:
    neuron = problem(rng, form)
    s = rng.uniform(0.3, 0.9, 8)
    slope = -neuron.gamma / 2 * neuron.value(s).r ** 2
    for j in range(8):
        step = 1e-6 * (np.arange(8) == j)
        difference = (neuron.value(s + step).c - neuron.value(s - step).c) / 2e-6
        assert difference == pytest.approx(slope[j], rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("form", FORMS)
def test_no_cut_lies_above_a_true_value_and_the_optimum_is_that_of_brute_force(
    form: str, rng: np.random.Generator
) -> None:
    neuron = problem(rng, form)
    supports = [np.isin(np.arange(8), c) for c in itertools.combinations(range(8), 3)]
    values = [neuron.value(s) for s in supports]
    for s, found in list(zip(supports, values, strict=True))[::7]:
        slope, level = _cut(neuron, s, found)
        assert level + slope @ s == pytest.approx(found.c, rel=1e-9)
        for other, value in zip(supports, values, strict=True):
            assert level + slope @ other <= value.c * (1 + 1e-9)
    best = int(np.argmin([value.c for value in values]))
    proven = cutting_planes(neuron, 3)
    assert proven.upper == pytest.approx(values[best].c, rel=1e-9)
    np.testing.assert_array_equal(proven.record["support"], supports[best])
    assert proven.lower == pytest.approx(proven.upper, rel=1e-8)
    lower, upper = proven.record["lower"], proven.record["upper"]
    assert (np.diff(lower) >= 0).all()
    assert (np.diff(upper) <= 0).all()
    assert (lower <= values[best].c * (1 + 1e-7)).all()
    assert proven.proven
    few = cutting_planes(neuron, 3, rounds=1)
    assert not few.proven
    assert few.lower < few.upper  # stopped early, the bounds are true and apart


def test_a_bias_is_in_every_support_and_not_counted(rng: np.random.Generator) -> None:
    X = np.column_stack([rng.standard_normal((40, 5)), np.ones(40)])
    y = X[:, 1] * 2 + 3.0
    proven = cutting_planes(Neuron.of(X, y, gamma=1e6, form="linear"), 1, always=1)
    assert np.flatnonzero(proven.record["support"]).tolist() == [1, 5]
    np.testing.assert_allclose(proven.record["weights"][[1, 5]], [2.0, 3.0], rtol=1e-5)
    with pytest.raises(ArgumentError, match=r"^X has 17 inputs, at most 16 can be proven by cutting planes; use lay"):
        cutting_planes(Neuron.of(np.ones((3, 17)), np.ones(3), gamma=1.0, form="linear"), 1)


@pytest.mark.parametrize("form", ["linear", "soft", pytest.param("hard", marks=pytest.mark.slow)])
def test_fourteen_inputs_end_where_brute_force_does(form: str, rng: np.random.Generator) -> None:
    neuron = dataclasses.replace(problem(rng, form, p=14, n=40), gamma=0.02)  # a large ridge: few cuts
    proven, least = cutting_planes(neuron, 2), brute_force(neuron, 2)
    assert proven.upper == pytest.approx(least, rel=1e-9)
    assert proven.lower == pytest.approx(least, rel=1e-8)
    with pytest.raises(ArgumentError, match=r"^k=15 is more than the 14 inputs of the neuron; keep at most 14$"):
        cutting_planes(neuron, 15)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_active_and_no_weight(form: str) -> None:
    neuron = Neuron.of(np.ones((4, 2)), np.zeros(4), gamma=1.0, form=form)
    proven = cutting_planes(neuron, 1)
    assert proven.upper == pytest.approx(0.0, abs=1e-12)
    assert not proven.record["weights"].any()
    assert cutting_planes(neuron, 0).record["support"].sum() == 0


@pytest.mark.parametrize("noise", [1e-2, 1e-3, 1e-4, 1e-6])
def test_an_optimum_that_is_small_beside_the_cuts_is_proven_and_right(noise: float) -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        X, w = rng.standard_normal((20, 6)), np.zeros(6)
        w[rng.permutation(6)[:3]] = 3.0, 1.0, 3 * noise
        neuron = Neuron.of(X, X @ w + noise * rng.standard_normal(20), gamma=1e6, form="linear")
        right = min(
            naive.neuron_minimum(neuron.A[:, s], neuron.y, neuron.B[:, s], 1e6, "linear")
            for s in itertools.combinations(range(6), 3)
        )
        found = cutting_planes(neuron, 3)
        assert found.proven
        assert found.upper == pytest.approx(right, rel=1e-8)
        assert found.lower <= right * (1 + 1e-9)


def test_weights_far_from_their_optimum_give_cuts_that_hold_all_the_same(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    neuron = problem(rng, "soft")
    supports = [np.isin(np.arange(8), c) for c in itertools.combinations(range(8), 3)]
    values, right = np.array([neuron.value(s).c for s in supports]), brute_force(neuron, 3)
    soft = Neuron._soft

    def far(self: Neuron, A: Array, B: Array) -> tuple[Array, Array]:
        v = soft(self, A, B)[0] + 0.3 * rng.standard_normal(A.shape[1])
        return v, np.maximum(B @ v, 0.0)

    monkeypatch.setattr(Neuron, "_soft", far)
    for s in supports[::5]:
        slope, level = _cut(neuron, s, neuron.value(s))
        assert (level + np.array(supports) @ slope <= values).all()
    found = cutting_planes(neuron, 3, rounds=60)
    assert not found.proven
    assert found.lower <= right < found.upper
