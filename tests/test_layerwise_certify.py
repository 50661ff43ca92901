"""Bounds on the best support of a neuron, against every support there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from l0ref.errors import ArgumentError
from l0ref.layerwise import Quadratic, branch_and_bound, certify, solve
from l0ref.layerwise.branch_and_bound import Problem, Search
from l0ref.layerwise.perspective import Groups, Split, relax
from tests.naive import layerwise as naive
from tests.test_layerwise import instance

pytestmark = pytest.mark.kernels


def best(X, y, k):
    return naive.best_of_all(X, y, k, lam=naive.ridge(X, 1e-3))[0]


@pytest.fixture(autouse=True)
def splits_to_the_end(monkeypatch):
    """No part of a tree is tried as a whole: problems of these sizes would be no tree at all."""
    monkeypatch.setattr(Problem, "leaves", 1)


@pytest.mark.parametrize(("p", "k"), [(1, 0), (1, 1), (9, 0), (9, 1), (9, 3), (9, 5), (9, 8), (9, 9)])
def test_proof_is_that_of_brute_force_even_from_a_bad_start(p, k, rng):
    for _ in range(3):
        X, y = instance(rng, p=p)
        layer = Quadratic.from_samples(X, y)
        worst = np.argsort(np.argsort(layer.moments[0] ** 2)) < k
        found, right = certify(layer, k, incumbent=worst), best(X, y, k)
        assert found.proven
        assert found.upper == pytest.approx(right, rel=1e-9)
        assert found.lower <= right * (1 + 1e-9)
        assert found.record["root"] <= right * (1 + 1e-9)
        assert layer.objective(found.record["weights"]) == pytest.approx(found.upper, rel=1e-9)
        assert (np.diff(found.record["lower"]) >= 0).all()
        assert (np.diff(found.record["upper"]) <= 0).all()


def test_no_weights_whatever_give_a_bound_above_the_best(rng):
    X, y = instance(rng)
    layer, right = Quadratic.from_samples(X, y), best(X, y, 3)
    split = Split.of(layer.gram, layer.moments[0], float(layer.energy[0]))
    assert (split.d > 0).all()
    none, every = np.zeros(8, bool), np.ones(8, bool)
    for scale in (0.0, 0.1, 1.0, 10.0):
        for _ in range(10):
            w = layer.refit(rng.random(8) < 0.6) + scale * rng.standard_normal(8)
            assert split.bound(w, none, every, 3)[0] <= right


def test_what_is_left_of_the_quadratic_stays_convex_in_floating_point(rng):
    for _ in range(20):
        X, y = instance(rng)
        layer = Quadratic.from_samples(X, y)
        assert np.linalg.eigvalsh(Split.of(layer.gram, layer.moments[0], float(layer.energy[0])).M)[0] > 0


def test_bound_of_what_is_forced_in(rng):
    X, y = instance(rng)
    layer, forced = Quadratic.from_samples(X, y), np.arange(8) < 2
    split = Split.of(layer.gram, layer.moments[0], float(layer.energy[0]))
    alone = layer.refit(forced)  # with nothing to choose the bound is the value itself
    assert split.bound(alone, forced, np.zeros(8, bool), 0)[0] == pytest.approx(layer.objective(alone), rel=1e-9)
    held = [[0, 1, i, j] for i in range(2, 8) for j in range(2, i)]
    right = min(layer.objective(layer.refit(np.isin(np.arange(8), S))) for S in held)
    found = relax(split, Groups.start(split), forced, ~forced, 4, steps=200, enough=np.inf)
    assert 0.1 * right < found <= right
    for _ in range(40):
        w = layer.refit(forced | (rng.random(8) < 0.4)) + 0.1 * rng.standard_normal(8)
        assert split.bound(w, forced, ~forced, 2)[0] <= right


def test_what_was_left_aside_stays_in_the_bound(rng, monkeypatch):
    monkeypatch.setattr("l0ref.layerwise.branch_and_bound.GAP", 0.5)
    apart = 0
    for _ in range(10):
        X, y = instance(rng, n=40, p=9, mix=3.0)
        found, right = certify(Quadratic.from_samples(X, y), 3, incumbent=np.arange(9) < 3), best(X, y, 3)
        assert found.lower <= right * (1 + 1e-9) <= found.upper * (1 + 2e-9)
        apart += found.upper > right * (1 + 1e-6)
    assert apart > 0  # else a bound that is too high would not show


def test_few_supports_are_all_tried(rng, monkeypatch):
    for _ in range(5):
        X, y = instance(rng, n=40, p=12, mix=3.0)
        layer = Quadratic.from_samples(X, y)
        split = certify(layer, 4, incumbent=np.arange(12) < 4)
        monkeypatch.setattr(Problem, "leaves", 64)
        tried = certify(layer, 4, incumbent=np.arange(12) < 4)
        monkeypatch.setattr(Problem, "leaves", 1)
        assert tried.proven
        assert tried.upper == pytest.approx(best(X, y, 4), rel=1e-9)
        assert tried.nodes <= split.nodes
        assert (np.diff(tried.record["lower"]) >= 0).all()


@pytest.mark.parametrize("stop", [0, 1, 2, 5])
def test_what_is_interrupted_tells_the_truth(stop, rng, monkeypatch):
    X, y = instance(rng, n=40, p=10, mix=3.0)
    calls, meet = [], Search._meet

    def interrupted(self, *args, **options):
        calls.append(1)
        if len(calls) > stop:
            raise KeyboardInterrupt
        meet(self, *args, **options)

    monkeypatch.setattr(Search, "_meet", interrupted)
    found, right = certify(Quadratic.from_samples(X, y), 4, incumbent=np.arange(10) < 4), best(X, y, 4)
    assert found.record["interrupted"]
    assert not found.proven
    assert found.lower < right < found.upper * (1 + 1e-9)


@pytest.mark.parametrize("stop", [1, 4])
def test_a_node_between_queue_and_hand_stays_in_the_bound(stop, rng, monkeypatch):
    X, y = instance(rng, n=40, p=10, mix=3.0)
    calls, pop = [], branch_and_bound.heapq.heappop

    def interrupted(queue):
        calls.append(pop(queue))
        if len(calls) == stop:
            raise KeyboardInterrupt  # after the node has left the queue, before anybody has it
        return calls[-1]

    monkeypatch.setattr(branch_and_bound.heapq, "heappop", interrupted)
    found, right = certify(Quadratic.from_samples(X, y), 4, incumbent=np.arange(10) < 4), best(X, y, 4)
    assert found.record["interrupted"]
    assert found.lower <= calls[-1].bound < right


def test_time_limit_and_lines(rng, capsys, monkeypatch):
    X, y = instance(rng, n=60, p=14, mix=3.0)
    monkeypatch.setattr("l0ref.layerwise.branch_and_bound.EVERY", 0.0)
    found = certify(Quadratic.from_samples(X, y), 6, incumbent=np.arange(14) < 6, time_limit=1e-9, progress="lines")
    assert not found.proven
    assert found.lower <= best(X, y, 6) <= found.upper * (1 + 1e-9)
    certify(Quadratic.from_samples(X, y), 4, progress="lines")
    assert "certify  0 s  0 nodes  " in capsys.readouterr().err


def test_what_is_refused(rng):
    X, Y = instance(rng, m=2)
    layer = Quadratic.from_samples(X, Y)
    with pytest.raises(ArgumentError, match=r"^layer has 2 outputs, one is proven at a time; pass layer.row\(i\)$"):
        certify(layer, 2)
    with pytest.raises(ArgumentError, match=r"^incumbent has 3 weights, more than k=2; give one of at most k$"):
        certify(layer.row(0), 2, incumbent=np.arange(8) < 3)
    with pytest.raises(ArgumentError, match=r"^k=9 is more than the 8 inputs of a neuron; keep at most 8$"):
        certify(layer.row(0), 9)
    X[:, 1] = 0.5  # constant: a budget of all inputs is that of those that vary
    assert certify(Quadratic.from_samples(X, Y[:, 0]), 8).record["support"].sum() == 7
    X[:, 1] = X[:, 2]
    with pytest.raises(ArgumentError, match=r"^quadratic has inputs that depend on each other, which leaves no bound"):
        certify(Quadratic.from_samples(X, Y[:, 0], ridge=0.0), 2)


def test_a_solution_or_its_weights_are_a_start_as_a_support_is(rng):
    X, y = instance(rng, p=9)
    layer = Quadratic.from_samples(X, y)
    start = solve(layer, 3, seed=0, tries=0)
    first, *others = [
        certify(layer, 3, incumbent=given, time_limit=1e-9).record["upper"][0]
        for given in (start.support, start, start.weights)
    ]
    assert first == pytest.approx(start.objective, rel=1e-9)
    assert others == [first, first]


@pytest.mark.parametrize("leaves", [1, 64])
@pytest.mark.parametrize(("noise", "proven"), [(1e-2, True), (1e-6, False), (1e-8, False)])
def test_what_rounding_hides_is_not_proven(noise, proven, leaves, monkeypatch):
    """The value of a support is a difference of sums as large as the energy: the last digits of that are unknown."""
    monkeypatch.setattr(Problem, "leaves", leaves)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X, w = rng.standard_normal((30, 8)), np.zeros(8)
        w[rng.permutation(8)[:3]] = 3.0, 1.0, 3 * noise
        y = X @ w + noise * rng.standard_normal(30)
        layer = Quadratic.from_samples(X, y, ridge=1e-14)
        found, right = certify(layer, 3, incumbent=np.arange(8) < 3), naive.best_of_all(X, y, 3, lam=layer.lam)[0]
        assert found.lower <= right * (1 + 1e-6)
        assert found.upper >= right * (1 - 1e-6)
        assert found.proven == proven


def test_200_kicks_end_within_two_per_cent_of_the_best_of_all_supports(rng):
    S, above = np.array(list(itertools.combinations(range(20), 6))), []
    for _ in range(4):
        X, y = instance(rng, n=60, p=20, mix=3.0)
        layer = Quadratic.from_samples(X, y)
        G, q = layer.gram[S[:, :, None], S[:, None, :]], layer.moments[0, S]
        right = layer.energy[0] - (q * np.linalg.solve(G, q[..., None])[..., 0]).sum(axis=1).max()
        above.append(solve(layer, 6, seed=0, tries=200).objective / right)
    assert min(above) > 1 - 1e-9
    assert np.mean(above) < 1.02
