"""Branch and bound of the ReLU forms, against every support there is."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from l0ref.errors import ArgumentError
from l0ref.layerwise.branch_and_bound import Search
from l0ref.layerwise.neuron import FORMS, Neuron, _length
from l0ref.layerwise.nonnegative import nonnegative_least_squares
from l0ref.layerwise.perspective import Groups
from l0ref.layerwise.relu import Relu, prove
from l0ref.validate import Array
from tests.naive import layerwise as naive


def problem(rng: np.random.Generator, form: str, *, p: int, n: int = 40) -> Neuron:
    """Inputs that correlate, as those of trained layers do."""
    X = rng.standard_normal((n, p)) @ (np.eye(p) + 0.3 * rng.standard_normal((p, p)))
    y = X @ rng.standard_normal(p) + 0.3 * rng.standard_normal(n)
    return Neuron.of(X, y if form == "linear" else np.maximum(y, 0.0), gamma=10.0, form=form)


@pytest.fixture(autouse=True)
def splits_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """No part of a tree is tried as a whole: problems of these sizes would be no tree at all."""
    monkeypatch.setattr(Relu, "leaves", 1)


def values(neuron: Neuron, k: int, held: tuple[int, ...] = ()) -> dict[tuple[int, ...], float]:
    """c of every support of k inputs with all of `held`, by another algorithm than the neuron's own."""
    if neuron.form == "hard":
        pytest.importorskip("scipy", reason="needs SciPy, for the oracle")
    every = itertools.combinations([i for i in range(neuron.A.shape[1]) if i not in held], k - len(held))
    supports = [(*held, *more) for more in every]
    A, B = neuron.A, neuron.B
    return {s: naive.neuron_minimum(A[:, s], neuron.y, B[:, s], neuron.gamma, neuron.form) for s in supports}


def rarely_active(seed: int, form: str) -> tuple[Neuron, int]:
    """A neuron of few samples and a large gamma, active on few of them: full Newton steps of some supports cycle."""
    rng = np.random.default_rng(seed)
    n, p, k = (int(rng.integers(*ends)) for ends in ((8, 14), (6, 8), (4, 6)))
    X = rng.normal(size=(n, p)) * np.exp(rng.normal(size=p) * rng.integers(0, 4))
    y = np.maximum(rng.normal(size=n) * 3 - 2, 0.0)
    y[0] += 1.0
    return Neuron.of(X, y, gamma=10.0 ** int(rng.integers(2, 7)), form=form), k


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("p", "k"), [(1, 0), (1, 1), (7, 0), (7, 3), (7, 7), (14, 2), (14, 3)])
def test_proof_is_that_of_brute_force(form: str, p: int, k: int, rng: np.random.Generator) -> None:
    neuron = problem(rng, form, p=p)
    right = values(neuron, k)
    best = min(right.values())
    found = prove(neuron, k)
    assert found.proven
    assert found.upper == pytest.approx(best, rel=1e-9)
    assert best * (1 - 2e-6) <= found.lower <= best * (1 + 1e-9)
    assert neuron.value(found.record["support"]).c == pytest.approx(best, rel=1e-9)
    assert not found.record["weights"][~found.record["support"]].any()
    assert (np.diff(found.record["lower"]) >= 0).all()
    assert (np.diff(found.record["upper"]) <= 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_values_of_rarely_active_neurons_are_minima_and_proofs_true(form: str) -> None:
    for seed in (5, 9, 14, 23, 27, 30, 35, 42):
        neuron, k = rarely_active(seed, form)
        right = values(neuron, k)
        for support, c in right.items():
            found = neuron.value(np.isin(np.arange(neuron.A.shape[1]), support))
            assert found.c == pytest.approx(c, rel=1e-6)
            assert found.least == pytest.approx(found.c, rel=1e-6)
        if seed in (23, 42):
            proof = prove(neuron, k, nodes=100)
            assert proof.lower <= min(right.values()) * (1 + 1e-6) <= proof.upper * (1 + 2e-6)
            assert proof.proven == (proof.upper <= min(right.values()) * (1 + 2e-6))


@pytest.mark.parametrize("slope", [-50.0, -8.0, -2.0, 0.0, 3.0])
def test_no_step_length_on_a_grid_is_better(slope: float, rng: np.random.Generator) -> None:
    t = np.linspace(0.0, 1.0, 2001)
    for m in (0, 1, 6, 30):
        b, along = rng.standard_normal((2, m))
        b[:1], along[:2] = 0.0, along[:2] * 4

        def squared(t: Array, b: Array = b, along: Array = along) -> Array:
            return slope * t + t**2 + np.square(np.maximum(b + np.outer(t, along), 0.0)).sum(axis=1) / 2

        length = _length(b, along, slope, 2.0)
        assert 0 <= length <= 1
        assert squared(np.array([length]))[0] <= squared(t).min() + 1e-12


@pytest.mark.parametrize("leaves", [1, 400])
def test_values_that_did_not_settle_are_not_proven(leaves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With full steps only, Newton's method cycles at the best support."""
    monkeypatch.setattr("l0ref.layerwise.neuron._length", lambda *_: 1.0)
    monkeypatch.setattr(Relu, "leaves", leaves)
    for seed in (23, 42):
        neuron, k = rarely_active(seed, "soft")
        right = values(neuron, k)
        found = prove(neuron, k, nodes=100)
        assert not found.proven
        assert found.lower <= min(right.values()) * (1 + 1e-9) < found.upper


@pytest.mark.parametrize("form", FORMS)
def test_no_weights_and_multipliers_whatever_give_a_bound_above_the_best(form: str, rng: np.random.Generator) -> None:
    neuron = problem(rng, form, p=7)
    bounds, forced = Relu(neuron), np.arange(7) == 2
    everything, with_two = min(values(neuron, 3).values()), min(values(neuron, 3, (2,)).values())
    none, free, reached = np.zeros(7, bool), np.ones(7, bool), -np.inf
    for _ in range(60):
        w = neuron.value(rng.random(7) < 0.6).weights + rng.choice([0.0, 0.1, 1.0]) * rng.standard_normal(7)
        B = bounds.scaled[-1]
        mu = np.maximum(B @ w, 0.0) * rng.choice([1.0, 0.1]) + np.abs(rng.standard_normal(len(B))) * rng.choice([0, 1])
        assert bounds.bound_of(w, B.T, mu, none, free, 3) <= everything * (1 + 1e-9)
        assert bounds.bound_of(w, B.T, mu, forced, ~forced, 3) <= with_two * (1 + 1e-9)
    for held, right in ((none, everything), (forced, with_two)):
        g = Groups.start(bounds.split)
        reached = bounds.bound(g, held, ~held, 3, steps=200, enough=np.inf)
        assert 0 < reached <= right * (1 + 1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_with_nothing_to_choose_the_bound_is_the_value(form: str, rng: np.random.Generator) -> None:
    neuron, support = problem(rng, form, p=6), np.arange(6) < 4
    bounds = Relu(neuron)
    found = bounds.bound(Groups.start(bounds.split), support, np.zeros(6, bool), 4, steps=200, enough=np.inf)
    assert neuron.value(support).c * (0.95 if form == "hard" else 1 - 1e-6) < found <= neuron.value(support).c


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("leaves", [2, 30, 400])
def test_few_supports_are_all_tried(form: str, leaves: int, rng: np.random.Generator, monkeypatch: Any) -> None:
    """The proof is the same, with fewer nodes; with none where the whole tree is small."""
    for _ in range(3):
        neuron = problem(rng, form, p=10)
        split = prove(neuron, 4)
        with monkeypatch.context() as patch:
            patch.setattr(Relu, "leaves", leaves)
            tried = prove(neuron, 4)
        assert tried.proven
        assert tried.upper == split.upper == pytest.approx(min(values(neuron, 4).values()), rel=1e-9)
        assert tried.upper * (1 - 2e-6) <= tried.lower <= tried.upper
        assert (tried.nodes == 0) == (leaves == 400)
        assert tried.nodes <= split.nodes


@pytest.mark.parametrize("form", ["soft", "hard"])
@pytest.mark.parametrize("stop", [0, 1, 4])
def test_interruption_and_limits_tell_the_truth(
    form: str, stop: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    neuron = problem(rng, form, p=9)
    best, calls, meet = min(values(neuron, 3).values()), [], Search._meet
    for limit in ({"nodes": stop}, {"time_limit": 1e-9}):
        found = prove(neuron, 3, **limit)
        assert found.nodes <= stop + (0 if "nodes" in limit else 1)
        assert found.lower <= best * (1 + 1e-9) <= found.upper * (1 + 2e-9)

    def interrupted(*args: object, **options: object) -> None:
        calls.append(1)
        if len(calls) > stop:
            raise KeyboardInterrupt
        meet(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Search, "_meet", interrupted)
    found = prove(neuron, 3)
    assert found.record["interrupted"]
    assert found.lower <= best * (1 + 1e-9) <= found.upper * (1 + 2e-9)


@pytest.mark.parametrize("form", FORMS)
def test_a_bias_is_in_every_support_and_not_counted(form: str, rng: np.random.Generator) -> None:
    X = np.column_stack([rng.standard_normal((60, 6)), np.ones(60)])
    neuron = Neuron.of(X, np.maximum(X[:, 1] * 2 + 3.0, 0.0), gamma=1e6, form=form)
    found = prove(neuron, 1, always=1)
    assert np.flatnonzero(found.record["support"]).tolist() == [1, 6]
    held = {support: c for support, c in values(neuron, 2).items() if 6 in support}
    assert found.upper == pytest.approx(min(held.values()), rel=1e-6)
    for _ in range(3):
        neuron = problem(rng, form, p=7)
        held = {support: c for support, c in values(neuron, 3).items() if 6 in support}
        assert prove(neuron, 2, always=1).upper == pytest.approx(min(held.values()), rel=1e-6)
    neuron = problem(rng, form, p=7)
    with pytest.raises(ArgumentError, match=r"^k=7 is more than the 6 inputs of the neuron; keep at most 6$"):
        prove(neuron, 7, always=1)


@pytest.mark.parametrize("shape", [(5, 0), (1, 1), (6, 3), (4, 30), (12, 12)])
def test_nonnegative_least_squares_ends_at_its_minimum(shape: tuple[int, int], rng: np.random.Generator) -> None:
    for rank, small in ((max(1, min(shape) // 2), 1.0), (min(shape), 1.0), (min(shape), 1e-4)):
        F = rng.standard_normal((shape[0], max(rank, 0))) @ rng.standard_normal((max(rank, 0), shape[1]))
        b = small * rng.standard_normal(shape[0])
        c = nonnegative_least_squares(F, b)
        slope: Array = F.T @ (b - F @ c)
        size = 1e-9 * small * np.abs(F).sum()
        assert (c >= 0).all()
        assert np.abs(slope[c > 0]).max(initial=0.0) <= size
        assert slope.max(initial=0.0) <= size
        nnls = pytest.importorskip("scipy.optimize", reason="the oracle of this test").nnls
        if shape[1]:
            assert np.linalg.norm(F @ c - b) == pytest.approx(nnls(F, b)[1], rel=1e-9, abs=1e-12)
