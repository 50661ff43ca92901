"""Net-Trim's program against a linear program, its constraints, and what convexity says of its solutions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from l0ref.layerwise.operator import Operator, groups_of, patches
from l0ref.layerwise.trim import Trimmed, trim
from l0ref.methods import METHODS
from l0ref.methods.net_trim import _Layer
from l0ref.nn import Conv2d
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
    optimize = pytest.importorskip("scipy.optimize", reason="needs SciPy, for the oracle")
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


def steps(X: Array, Y: Array, V: Array, *, radius: float | None, lam: float, rho: float, a: float, n: int) -> Any:
    """The loop of the text with loops over entries: W2, what is left of the copies after each step, moves of W3."""
    c = 0.3 * np.sqrt((X.T @ X).max())
    X, Y, V = X / c, Y / c, V / c
    (P, M), N = Y.shape, X.shape[1]
    w3 = u2 = np.zeros((N, M))
    u1, left, moves = np.zeros((P, M)), [], []
    for _ in range(n):
        Z = X @ w3 - u1
        off = np.sqrt(sum((Z[p, m] - Y[p, m]) ** 2 for p in range(P) for m in range(M) if Y[p, m] > 0))
        w1 = np.empty((P, M))
        for p, m in np.ndindex(P, M):
            if Y[p, m] <= 0:
                w1[p, m] = min(Z[p, m], V[p, m])
            elif radius is not None:
                w1[p, m] = Y[p, m] + min(1.0, radius / c / off) * (Z[p, m] - Y[p, m])
            else:  # argmin of (c^2 / lam) (x - y)^2 + rho / 2 (x - z)^2
                w1[p, m] = (rho * Z[p, m] + 2 * c * c / lam * Y[p, m]) / (rho + 2 * c * c / lam)
        w2 = np.sign(w3 - u2) * np.maximum(np.abs(w3 - u2) - 1 / rho, 0.0)
        r1, r2 = a * w1 + (1 - a) * X @ w3, a * w2 + (1 - a) * w3
        before, w3 = w3, np.linalg.solve(X.T @ X + np.eye(N), X.T @ (r1 + u1) + r2 + u2)
        moves.append(float(np.linalg.norm(w3 - before)))
        u1, u2 = u1 + r1 - X @ w3, u2 + r2 - w3
        left.append((np.linalg.norm(w1 - X @ w3) + np.linalg.norm(w2 - w3)) / np.linalg.norm(Y))
    return w2, left, moves


@pytest.mark.parametrize("block", [7, 10_000])
@pytest.mark.parametrize("a", [1.0, 1.8])
@pytest.mark.parametrize("lam", [None, 4.0])
def test_every_step_is_that_of_the_text(
    lam: float | None, a: float, block: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only where it ends: a scaling, a sign or a multiplier that only changes the way is seen, too."""
    monkeypatch.setattr("l0ref.layerwise.trim.BLOCK", block)
    X, _, Y = layer(rng, m=3)
    V = 0.1 * rng.random(Y.shape)
    radius = 0.1 * float(np.linalg.norm(Y)) if lam is None else None
    options: dict[str, Any] = {"epsilon": radius} if lam is None else {"lam": lam}
    for n in (1, 2, 9):
        found = trim(X, Y, active=Y > 0, ceiling=V, rho=7.0, relaxation=a, iterations=n, **options)
        weights, left, _ = steps(X, Y, V, radius=radius, lam=lam or 1.0, rho=7.0, a=a, n=n)
        np.testing.assert_allclose(found.weights, weights, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(found.residuals, left, rtol=1e-8)
    assert np.abs(weights).max() > 0


def test_steps_end_when_the_copy_that_joins_stands_still(rng: np.random.Generator) -> None:
    X, _, Y = layer(rng)
    epsilon = 0.1 * float(np.linalg.norm(Y))
    *_, moves = steps(X, Y, np.zeros(Y.shape), radius=epsilon, lam=1.0, rho=20.0, a=1.0, n=60)
    least = 2 * min(moves) / (X.shape[1] * Y.shape[1])  # times the size N M
    options: dict[str, Any] = {"active": Y > 0, "ceiling": np.zeros(Y.shape), "rho": 20.0}
    found = trim(X, Y, epsilon=epsilon, iterations=60, tolerance=least, **options).residuals
    assert 1 < len(found) == next(i for i, move in enumerate(moves, 1) if move < 2 * min(moves))


def test_relaxation_ends_at_the_same_solution_sooner(rng: np.random.Generator) -> None:
    X, _, Y = layer(rng)
    options: dict[str, Any] = {"active": Y > 0, "ceiling": np.zeros(Y.shape), "lam": 4.0, "rho": 5.0}
    best = trim(X, Y, iterations=6000, tolerance=0.0, **options).weights
    plain, relaxed = (trim(X, Y, iterations=200, relaxation=a, **options) for a in (1.0, 1.8))
    assert np.linalg.norm(relaxed.weights - best) < np.linalg.norm(plain.weights - best)
    for a in (0.9, 2.0):
        with pytest.raises(ValueError, match=rf"^relaxation={a} must lie in \[1, 2\): 1 is none, 1\.8 the authors'"):
            trim(X, Y, relaxation=a, **options)


def test_conjugate_gradients_find_the_same(rng: np.random.Generator) -> None:
    X, _, Y = layer(rng)
    epsilon = 0.1 * float(np.linalg.norm(Y))
    direct, cg = (solved(X, Y, epsilon, iterations=500, solver=s).weights for s in ("direct", "cg"))
    np.testing.assert_allclose(cg, direct, atol=1e-6)


def test_sparse_neurons_are_recovered(rng: np.random.Generator) -> None:
    s, n, mu = 2, 32, 1.5
    W = np.zeros((n, 2))
    W[[3, 9], 0] = W[[1, 30], 1] = [1.0, -1.5]
    X = rng.standard_normal((round((11 * s + 7) * mu * np.log(n)), n))  # 1 - n^(1 - mu) or better, by theory
    Y = np.maximum(X @ W, 0.0)
    np.testing.assert_allclose(solved(X, Y, 0.0).weights, W, atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_as_an_operator_is_its_patches(groups: int, rng: np.random.Generator) -> None:
    conv = Conv2d("conv", 4, 6, 3, stride=2, groups=groups, bias=False)
    x = rng.standard_normal((5, 4, 8, 7))
    A, K = Operator(conv, x), 36 // groups
    U = rng.standard_normal((K, 6))
    Z = rng.standard_normal((5 * 3 * 3, 6))
    assert float(np.vdot(A(U), Z)) == pytest.approx(float(np.vdot(U, A.adjoint(Z))), rel=1e-12)
    Y = np.maximum(A(U), 0.0)
    options: dict[str, Any] = {"active": Y > 1e-6, "ceiling": np.zeros(Y.shape), "iterations": 40, "rho": 20.0}
    for group, rows in groups_of(conv):
        rows_of_x = patches(conv, x, group=group)
        np.testing.assert_allclose(A(U)[:, rows], rows_of_x @ U[:, rows], rtol=1e-10, atol=1e-12)
        squares = np.broadcast_to(np.square(rows_of_x).sum(axis=0)[:, None], U[:, rows].shape)
        np.testing.assert_allclose(A.squares()[:, rows], squares, rtol=1e-10)
    found = trim(A, Y, epsilon=0.1 * float(np.linalg.norm(Y)), **options).weights
    assert 0 < np.count_nonzero(found) < found.size
    if groups == 1:
        whole = trim(patches(conv, x), Y, epsilon=0.1 * float(np.linalg.norm(Y)), solver="cg", **options).weights
        np.testing.assert_allclose(found, whole, rtol=1e-6, atol=1e-9)


def test_the_regularised_form_separates_by_neuron(rng: np.random.Generator) -> None:
    X, _, Y = layer(rng, m=3)
    options: dict[str, Any] = {"lam": 4.0, "rho": 5.0, "iterations": 4000, "tolerance": 1e-12}

    def of(y: Array) -> Array:
        return trim(X, y, active=y > 1e-6, ceiling=np.zeros(y.shape), **options).weights

    whole = of(Y)
    alone = np.concatenate([of(Y[:, [m]]) for m in range(3)], axis=1)
    np.testing.assert_allclose(whole, alone, atol=1e-4 * float(np.abs(whole).max()))
    assert (X @ whole)[Y <= 1e-6].max() <= 1e-3 * np.abs(Y).max()


def test_bounds_of_parallel_and_cascade(rng: np.random.Generator) -> None:
    """Errors behind each layer, in a network whose layers have sums of |.| of 1, and in another."""
    sizes, near, gamma = (10, 8, 6, 5), 1 + 5e-3, 1.2
    for normalised in (True, False):
        Ws = [rng.standard_normal(shape) for shape in pairwise(sizes)]
        Ws = [W / np.abs(W).sum() for W in Ws] if normalised else Ws
        Y = [rng.standard_normal((50, sizes[0]))]
        for W in Ws:
            Y.append(np.maximum(Y[-1] @ W, 0.0))
        size = [float(np.linalg.norm(y)) for y in Y]
        eps = [0.2 * size[1], 0.1 * size[2], 0.15 * size[3]]
        Us = [solved(x, y, e, iterations=3000).weights for x, y, e in zip(Y, Y[1:], eps, strict=False)]
        signal, error, total = Y[0], 0.0, 0.0
        for U, y, e in zip(Us, Y[1:], eps, strict=True):
            signal, total = np.maximum(signal @ U, 0.0), total + e
            last, error = error, float(np.linalg.norm(signal - y))
            assert 0 < error <= (np.linalg.norm(U, 2) * last + e) * near
            assert not normalised or error <= total * near
        signal = np.maximum(Y[0] @ Us[0], 0.0)
        for W, before, y in zip(Ws[1:], Y[1:], Y[2:], strict=False):
            now, on = signal @ W, y > 1e-6
            slack = float(np.sqrt(gamma) * np.linalg.norm((now - y)[on]))
            U = trim(signal, y, active=on, ceiling=now, epsilon=slack, rho=20.0, iterations=3000).weights
            bound = np.sqrt(gamma) * np.linalg.norm((signal - before) @ W)
            signal = np.maximum(signal @ U, 0.0)
            assert 0 < np.linalg.norm(signal - y) <= bound * near
        assert not normalised or np.linalg.norm(signal - Y[-1]) <= eps[0] * gamma * near  # sqrt(gamma) for two layers


def test_the_last_layer_has_no_inequality(rng: np.random.Generator) -> None:
    X, W = rng.standard_normal((60, 10)), rng.standard_normal((10, 3))
    Y = X @ W
    epsilon = 0.2 * float(np.linalg.norm(Y))
    U = trim(X, Y, active=np.ones(Y.shape, bool), ceiling=Y - 1e9, epsilon=epsilon, rho=20.0, iterations=4000).weights
    assert np.linalg.norm(X @ U - Y) == pytest.approx(epsilon, rel=1e-3)
    assert 0 < np.abs(U).sum() < np.abs(W).sum()


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
    assert run(lam=4.0, rho=5.0, relaxation=1.8)[0] < 1


@pytest.mark.parametrize(("off", "tried"), [(0, 1), (1, 1), (2, 5), (-2, 1)])
def test_a_search_counts_weights_without_biases_and_ends_within_one_percent(
    off: int, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 120 weights 100 are to stay: 99 to 101 are close enough, and all biases stay in any case."""
    model, data = networks()["mlp"]
    levels: list[float] = []

    def answer(a: Array, Y: Array, *, epsilon: float, **_: Any) -> Trimmed:
        u = np.ones((a.shape[1], Y.shape[1]))
        u.flat[100 + off : 120] = 0
        levels.append(epsilon)
        return Trimmed(u, (0.0,))

    monkeypatch.setattr("l0ref.methods.net_trim.trim", answer)
    layer = _Layer(model, model, "fc1.weight", data.train.x, None, slack=False)
    u, level, _ = layer.searched(100, gamma=1.1, risk=1.0, lam=0.0, searches=4, solver="direct")
    assert np.count_nonzero(u[:-1]) == 100 + off
    assert u[-1].all()
    assert len(levels) == tried
    assert level == levels[0]  # the first of equals
    assert (np.diff(levels) > 0).all()


def test_a_search_ends_below_the_root_of_gamma_times_the_norm_of_the_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all weights stay at every level, each level is halfway from the last to that end."""
    model, data = networks()["mlp"]
    levels: list[float] = []

    def answer(a: Array, Y: Array, *, epsilon: float, **_: Any) -> Trimmed:
        levels.append(epsilon)
        return Trimmed(np.ones((a.shape[1], Y.shape[1])), (0.0,))

    monkeypatch.setattr("l0ref.methods.net_trim.trim", answer)
    layer = _Layer(model, model, "fc1.weight", data.train.x, None, slack=False)
    layer.searched(10, gamma=4.0, risk=1.0, lam=0.0, searches=3, solver="direct")
    outputs = np.maximum(data.train.x @ model.params["fc1.weight"].T + model.params["fc1.bias"], 0)
    end = 2 * float(np.linalg.norm(outputs))
    assert levels == pytest.approx([0, end / 2, end * 3 / 4, end * 7 / 8], rel=1e-4, abs=1e-9)


def test_a_search_prefers_too_many_weights_to_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 120 weights 30 are to stay, and the tries leave 120, 0 and 100: a layer of zeros is the furthest of all."""
    model, data = networks()["mlp"]
    left = iter([120, 0, 100])

    def answer(a: Array, Y: Array, **_: Any) -> Trimmed:
        u = np.ones((a.shape[1], Y.shape[1]))
        u.flat[next(left) : 120] = 0
        return Trimmed(u, (0.0,))

    monkeypatch.setattr("l0ref.methods.net_trim.trim", answer)
    layer = _Layer(model, model, "fc1.weight", data.train.x, None, slack=False)
    u, *_ = layer.searched(30, gamma=1.1, risk=1.0, lam=0.0, searches=2, solver="direct")
    assert np.count_nonzero(u[:-1]) == 100


def test_risk_lowers_the_smallest_epsilon_of_the_last_layer_of_a_cascade() -> None:
    model, data = networks()["mlp"]

    def epsilon(risk: float, scheme: str = "cascade") -> dict[str, float]:
        options = {"iterations": 40, "risk": risk, "scheme": scheme}  # all weights stay: the first epsilon is taken
        return METHODS["net_trim"].run(model, data, amount=0.0, seed=0, **options).record["epsilon"]

    fair, bold = epsilon(1.0), epsilon(0.35)
    assert fair["fc1.weight"] == bold["fc1.weight"] == pytest.approx(0.0, abs=1e-12)  # its inputs are the trained ones
    assert fair["fc2.weight"] == bold["fc2.weight"] > 0
    assert bold["fc3.weight"] == pytest.approx(0.35 * fair["fc3.weight"], rel=1e-9)
    assert fair["fc3.weight"] > 0
    assert epsilon(0.35, "parallel") == epsilon(1.0, "parallel")
    with pytest.raises(ValueError, match=r"^risk=-1.0 must be"):
        epsilon(-1.0)
    with pytest.raises(ValueError, match=r"^gamma=0.9 must lie in \[1, inf\]"):
        METHODS["net_trim"].run(model, data, amount=0.4, seed=0, gamma=0.9)


def test_convolutions_by_conjugate_gradients_keep_their_biases() -> None:
    model, data = networks()["cnn"]
    found = METHODS["net_trim"].run(model, data, amount=0.4, seed=0, iterations=60, searches=3, solver="cg")
    assert found.record["removed"] == found.record["asked"]
    for name in ("conv1", "conv2"):
        np.testing.assert_array_equal(found.model.params[f"{name}.bias"], model.params[f"{name}.bias"])
        assert found.record["error"][f"{name}.weight"] < 0.9
    assert not np.array_equal(found.model.params["fc1.bias"], model.params["fc1.bias"])
