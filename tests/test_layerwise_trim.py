"""Net-Trim's program against a linear program, its constraints, and what convexity says of its solutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0ref.layerwise.trim import Trimmed, trim
from l0ref.methods import METHODS
from l0ref.validate import Array
from tests.method_contract import networks


def layer(rng: np.random.Generator, *, p: int = 60, n: int = 10, m: int = 4) -> tuple[Array, Array, Array]:
    X = np.column_stack([rng.standard_normal((p, n - 1)), np.ones(p)])
    W = rng.standard_normal((n, m))
    return X, W, np.maximum(X @ W, 0.0)


def solved(X: Array, Y: Array, epsilon: float, **options: Any) -> Trimmed:
    options = {"rho": 20.0, "iterations": 6000, "tolerance": 1e-12} | options
    return trim(X, Y, active=Y > 1e-6, ceiling=np.zeros(Y.shape), epsilon=epsilon, **options)


def test_solutions_meet_the_constraints_and_are_smaller_than_the_trained_weights(rng: np.random.Generator) -> None:
    X, W, Y = layer(rng)
    size = float(np.linalg.norm(Y))
    sums = []
    for g in (0.02, 0.1, 0.3, 0.7):
        U = solved(X, Y, g * size).weights
        assert np.linalg.norm((X @ U - Y)[Y > 0]) <= g * size * (1 + 1e-3)
        assert (X @ U)[Y <= 0].max() <= 1e-3 * size
        assert np.linalg.norm(np.maximum(X @ U, 0.0) - Y) <= g * size * (1 + 1e-3)
        sums.append(np.abs(U).sum())
    assert sums[0] <= np.abs(W).sum() * (1 + 1e-4)
    assert sums == sorted(sums, reverse=True)
    middle = np.abs(solved(X, Y, 0.2 * size).weights).sum()
    assert middle <= (sums[1] + sums[2]) / 2 * (1 + 1e-4)  # convex in eps
    assert not solved(X, Y, 1.001 * size).weights.any()


def test_a_neuron_that_never_answers_and_scaling(rng: np.random.Generator) -> None:
    X, _, Y = layer(rng)
    Y[:, 2] = 0.0
    epsilon = 0.1 * float(np.linalg.norm(Y))
    U = solved(X, Y, epsilon).weights
    assert not U[:, 2].any()
    scale = float(np.abs(U).max())
    np.testing.assert_allclose(solved(7 * X, 7 * Y, 7 * epsilon).weights, U, atol=1e-9 * scale)
    np.testing.assert_allclose(solved(X, 3 * Y, 3 * epsilon).weights, 3 * U, atol=2e-3 * scale)


def test_without_slack_it_is_a_linear_program(rng: np.random.Generator) -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="needs SciPy: the extra exact")
    X, W = rng.standard_normal((12, 20)), np.zeros((20, 1))
    W[[2, 7, 11, 19], 0] = [1.0, -2.0, 0.5, 1.5]
    Y = np.maximum(X @ W, 0.0)
    on = Y[:, 0] > 0
    split = np.column_stack([X, -X])
    best = optimize.linprog(np.ones(40), A_eq=split[on], b_eq=Y[on, 0], A_ub=split[~on], b_ub=np.zeros((~on).sum()))
    U = solved(X, Y, 0.0, iterations=20000).weights
    assert np.abs(U).sum() == pytest.approx(best.fun, rel=1e-5)
    np.testing.assert_allclose(U[:, 0], best.x[:20] - best.x[20:], atol=1e-4)


def test_the_regularised_form_is_stationary(rng: np.random.Generator) -> None:
    X, W = rng.standard_normal((50, 8)), rng.standard_normal((8, 3))
    Y = X @ W
    lam = 40.0
    every = np.ones(Y.shape, bool)
    U = trim(X, Y, active=every, ceiling=Y, lam=lam, rho=5.0, iterations=5000, tolerance=1e-12).weights
    slope = 2 / lam * X.T @ (X @ U - Y)
    used = U != 0
    assert used.any()
    assert not used.all()
    np.testing.assert_allclose(slope[used], -np.sign(U[used]), atol=1e-4)
    assert np.abs(slope[~used]).max() <= 1 + 1e-4


def test_conjugate_gradients_find_the_same(rng: np.random.Generator) -> None:
    X, _, Y = layer(rng)
    epsilon = 0.1 * float(np.linalg.norm(Y))
    direct, cg = (solved(X, Y, epsilon, iterations=500, solver=s).weights for s in ("direct", "cg"))
    np.testing.assert_allclose(cg, direct, atol=1e-6)


def test_sparse_neurons_are_recovered(rng: np.random.Generator) -> None:
    W = np.zeros((32, 2))
    W[[3, 9], 0] = W[[1, 30], 1] = [1.0, -1.5]
    X = rng.standard_normal((120, 32))
    Y = np.maximum(X @ W, 0.0)
    np.testing.assert_allclose(solved(X, Y, 0.0).weights, W, atol=1e-4)


def test_net_trim_with_refit_and_in_cascade() -> None:
    model, data = networks()["mlp"]
    wanted = model.logits(data.train.x)

    def run(**options: Any) -> tuple[float, float]:
        quick = {"amount": 0.4, "seed": 0, "iterations": 80, "searches": 4} | options
        found = METHODS["net_trim"].run(model, data, **quick)
        assert found.record["removed"] == found.record["asked"]
        return found.record["error"]["fc1.weight"], float(np.linalg.norm(found.model.logits(data.train.x) - wanted))

    plain, cascade, parallel = run(), run(refit=True), run(refit=True, scheme="parallel")
    assert cascade[0] < plain[0]
    assert cascade[0] == parallel[0]  # the first layer sees the same
    assert cascade[1] != parallel[1]
    assert run(lam=4.0)[0] < 1
