"""Proximal steps: exact zeros, the prox formula, rest points against a grid; what each optimiser does near zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0ref.optim import SGD, Adam, AdamW, Elementwise, Optimizer, Proximal
from l0ref.penalty import Penalty
from l0ref.surrogates import L0, L1, MCP, GemanMcClure, Laplace, LogSum

ONE = {"w": 1.0}


def laplace_prox(z: float, price: float, beta: float) -> float:
    """argmin 1/2 (x - z)^2 + price (1 - exp(-beta |x|)) for price beta^2 < 1: bisection on the slope, which rises."""
    a = abs(z)
    if a <= price * beta:
        return 0.0
    low, high = 0.0, a
    for _ in range(200):
        x = (low + high) / 2
        low, high = (x, high) if x - a + price * beta * np.exp(-beta * x) < 0 else (low, x)
    return float(np.copysign((low + high) / 2, z))


# --- one step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-6)])
@pytest.mark.parametrize(
    ("optimizer", "reach"),
    [
        (Proximal(SGD(lr=0.1)), 0.1),
        (Proximal(SGD(lr=0.1), metric="euclidean"), 0.1),
        (Proximal(SGD(lr=0.1, momentum=0.75)), 0.4),
        (Proximal(SGD(lr=0.1, momentum=0.75, nesterov=True), metric="euclidean"), 0.4),
        (Proximal(Adam(lr=0.1), metric="euclidean"), 0.1),
        (Proximal(Adam(lr=0.1, eps=0.5)), None),
        (Proximal(AdamW(lr=0.1, eps=0.5, weight_decay=0.3)), None),
    ],
)
def test_second_step_is_inner_step_then_prox(
    optimizer: Proximal, reach: float | None, dtype: Any, tolerance: float, rng: np.random.Generator
) -> None:
    """Two steps, so that momentum and bias corrections are not those of the first."""
    alpha, beta, l2, factor, strength = 0.05, 4.0, 0.3, 0.8, 0.5
    pull = Penalty(Laplace(beta=beta), alpha=alpha, l2=l2).pull({"w": factor}, strength=strength)
    params = {k: rng.normal(0.0, 0.05, 60).astype(dtype) for k in ("w", "b")}
    grads = [{k: rng.normal(0.0, 0.1, 60).astype(dtype) for k in params} for _ in range(2)]
    start, state = optimizer.step(params, grads[0], optimizer.init(params), pull=pull)
    got, after = optimizer.step(start, grads[1], state, pull=pull)

    smooth = {**grads[1], "w": grads[1]["w"] + 2 * l2 * start["w"]}  # the squares stay in the gradient
    inner, inner_after = optimizer.optimizer.step(start, smooth, state)
    steps = np.full(60, reach)
    if reach is None:
        v_hat = inner_after.slots["v"]["w"].astype(float) / (1 - 0.999**2)
        steps = 0.1 / (np.sqrt(v_hat) + 0.5)
    expected = [
        laplace_prox(float(z), s * strength * factor * alpha, beta) for z, s in zip(inner["w"], steps, strict=True)
    ]
    np.testing.assert_allclose(got["w"], expected, rtol=0, atol=tolerance * 0.1)
    np.testing.assert_array_equal(got["w"] == 0, np.array(expected) == 0)
    assert 0 < np.count_nonzero(got["w"] == 0) < 60
    np.testing.assert_array_equal(got["b"], inner["b"])  # no prox without a price
    assert got["w"].dtype == dtype
    assert after.step == 2
    for name, slot in after.slots.items():  # the memory never sees the l0 term
        np.testing.assert_array_equal(slot["w"], inner_after.slots[name]["w"])


@pytest.mark.parametrize("lr", [None, 0.02])
def test_step_size_follows_the_given_learning_rate(lr: float | None) -> None:
    """The dead zone of one SGD step is lr alpha beta: on its edge 0, just outside not."""
    pull = Penalty(Laplace(beta=5.0), alpha=0.1).pull(ONE)
    edge = (lr or 0.1) * 0.1 * 5
    params = {"w": np.array([edge * (1 - 1e-9), edge * (1 + 1e-6), -edge * (1 - 1e-9)])}
    optimizer = Proximal(SGD(lr=0.1))
    got, _ = optimizer.step(params, {"w": np.zeros(3)}, optimizer.init(params), lr=lr, pull=pull)
    assert (got["w"] == 0).tolist() == [True, False, True]


def test_l0_needs_and_has_its_prox() -> None:
    """The count itself: hard thresholding at sqrt(2 lr alpha)."""
    optimizer, pull = Proximal(SGD(lr=0.5)), Penalty(L0(), alpha=0.04).pull(ONE)
    params = {"w": np.array([0.19, 0.21, -0.19, -0.21])}
    got, _ = optimizer.step(params, {"w": np.zeros(4)}, optimizer.init(params), pull=pull)
    assert got["w"].tolist() == [0.0, 0.21, 0.0, -0.21]


def test_strength_zero_is_the_inner_step(rng: np.random.Generator) -> None:
    penalty = Penalty(alpha=0.5, l2=0.1)
    params, grads = {"w": rng.normal(size=9)}, {"w": rng.normal(size=9)}
    pull = penalty.pull(ONE, strength=0.0)
    for inner in (SGD(momentum=0.9), Adam()):
        got, _ = Proximal(inner).step(params, grads, inner.init(params), pull=pull)
        expected, _ = inner.step(params, grads, inner.init(params), pull=pull)
        np.testing.assert_array_equal(got["w"], expected["w"])


# --- where the steps come to rest -------------------------------------------------------------------------------------

CURVATURE = np.array([1.0, 2.0, 0.7, 1.5, 1.0, 2.0, 0.9, 1.2])
TARGET = np.array([0.02, -0.02, 0.0, 0.3, -0.4, 1.0, -2.0, 0.15])


def settle(optimizer: Optimizer, penalty: Penalty, *, steps: int) -> np.ndarray:
    """Minimise sum_i c_i / 2 (w_i - t_i)^2 + penalty, with a learning rate that falls to 0."""
    pull, params = penalty.pull(ONE), {"w": np.full(8, 0.5)}
    state = optimizer.init(params)
    for i in range(steps):
        grads = {"w": CURVATURE * (params["w"] - TARGET)}
        params, state = optimizer.step(params, grads, state, lr=optimizer.lr * (1 - i / steps) ** 2, pull=pull)
    return params["w"]


def best_on_grid(penalty: Penalty) -> np.ndarray:
    """The global minimiser of each entry's J on a grid of spacing 1e-5 that holds 0."""
    x = np.arange(-250_000, 250_001) * 1e-5
    phi = penalty.surrogate.value(x)
    bill = [
        c / 2 * (x - t) ** 2 + penalty.alpha * phi + penalty.l2 * x**2 for c, t in zip(CURVATURE, TARGET, strict=True)
    ]
    return np.array([x[np.argmin(j)] for j in bill])


INNER: dict[str, tuple[Elementwise, int]] = {
    "sgd": (SGD(lr=0.3), 200),
    "momentum": (SGD(lr=0.01, momentum=0.9), 700),
    "nesterov": (SGD(lr=0.01, momentum=0.9, nesterov=True), 700),
    "adam": (Adam(lr=0.01, betas=(0.9, 0.99)), 2000),
}
# Prices low enough that J is convex along every entry (price phi'' > -curvature), so that the grid has one answer.
PENALTIES = {
    "laplace": Penalty(Laplace(beta=5.0), alpha=0.02),
    "laplace, l2": Penalty(Laplace(beta=5.0), alpha=0.02, l2=0.05),
    "geman_mcclure": Penalty(GemanMcClure(beta=3.0), alpha=0.03),
    "log_sum": Penalty(LogSum(eps=0.5), alpha=0.05),
    "mcp": Penalty(MCP(lam=0.5, gamma=4.0), alpha=0.2),
    "l1": Penalty(L1(), alpha=0.1),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("sgd", kind) for kind in PENALTIES]
    + [("momentum", "laplace, l2"), ("momentum", "mcp"), ("nesterov", "laplace, l2")]
    + [("adam", "laplace, l2"), ("adam", "log_sum"), ("adam", "l1")],
)
def test_rest_points_are_the_minimisers(name: str, kind: str) -> None:
    (inner, steps), penalty = INNER[name], PENALTIES[kind]
    w = settle(Proximal(inner), penalty, steps=steps)
    best = best_on_grid(penalty)
    np.testing.assert_array_equal(w == 0, best == 0)
    assert 2 <= np.count_nonzero(w == 0) <= 6
    np.testing.assert_allclose(w, best, rtol=0, atol=1.1e-5)
    pressure = -CURVATURE * (w - TARGET) - 2 * penalty.l2 * w  # must be a slope of alpha phi at w
    slope, steepest = penalty.alpha * penalty.surrogate.grad(w), penalty.alpha * penalty.surrogate.slope_at_zero
    assert np.abs(pressure - slope)[w != 0].max() <= 1e-6 * steepest
    assert np.abs(pressure[w == 0]).max() <= steepest


@pytest.mark.parametrize(("lr", "settles"), [(0.02, True), (0.05, False)])
def test_momentum_and_prox_stay_in_step_below_the_bound(lr: float, settles: bool) -> None:
    """The bound lr alpha beta^2 exp(-beta w) < (1 - momentum)^2, here lr < 0.033, on both sides."""
    pull, params = Penalty(Laplace(beta=5.0), alpha=0.02).pull(ONE), {"w": np.array([0.11])}
    optimizer, last = Proximal(SGD(lr=lr, momentum=0.9)), []
    state = optimizer.init(params)
    for _ in range(1500):
        params, state = optimizer.step(params, {"w": 1.2 * (params["w"] - 0.15)}, state, pull=pull)
        last.append(float(params["w"][0]))
    assert (max(last[-200:]) - min(last[-200:]) < 1e-6) == settles
    rest = 0.09927127935  # 1.2 (w - 0.15) + 0.1 exp(-5 w) = 0
    assert 1.2 * (rest - 0.15) + 0.1 * np.exp(-5 * rest) == pytest.approx(0.0, abs=1e-7)
    assert (abs(last[-1] - rest) < 1e-6) == settles


def test_euclidean_metric_under_adam_prunes_next_to_nothing() -> None:
    """Where the own metric rests at zeros, a threshold of lr alpha beta does not catch a step of lr."""
    penalty = Penalty(Laplace(beta=5.0), alpha=0.02)
    inner, steps = INNER["adam"]
    own, euclidean = (settle(Proximal(inner, metric=m), penalty, steps=steps) for m in ("optimizer", "euclidean"))
    expected = best_on_grid(penalty)
    assert np.count_nonzero(own == 0) == np.count_nonzero(expected == 0) == 3
    assert np.abs(own - expected).max() < 1.1e-5
    assert np.abs(euclidean - expected).max() > 0.01


# --- near zero --------------------------------------------------------------------------------------------------------


def hover(optimizer: Optimizer, penalty: Penalty, *, steps: int, last: int) -> np.ndarray:
    """|w| over the last steps of 20 weights without a data gradient, from 0.002 to 0.02."""
    pull, params = penalty.pull({"w": 0.8}), {"w": np.linspace(0.002, 0.02, 20)}
    state, seen = optimizer.init(params), []
    for _ in range(steps):
        params, state = optimizer.step(params, {"w": np.zeros(20)}, state, pull=pull)
        seen.append(np.abs(params["w"]))
    return np.array(seen[-last:])


def test_hover_radius_of_sgd_is_lr_times_slope() -> None:
    """Plain SGD never reaches 0: it jumps over it, within lr C alpha beta."""
    seen = hover(SGD(lr=0.1), Penalty(Laplace(beta=5.0), alpha=1e-3), steps=600, last=100)
    radius = 0.1 * 0.8 * 1e-3 * 5
    assert seen.max() <= radius
    assert (seen.max(axis=0) >= 0.45 * radius).all()
    assert (seen > 0).all()


@pytest.mark.parametrize("alpha", [1e-7, 1e-3])
def test_hover_radius_of_adam_is_lr_whatever_alpha(alpha: float) -> None:
    seen = hover(Adam(lr=1e-3), Penalty(Laplace(beta=5.0), alpha=alpha), steps=600, last=100)
    assert seen.max() <= 3e-3
    assert np.median(seen) >= 1e-5
    assert (seen > 0).all()


@pytest.mark.parametrize("metric", ["optimizer", "euclidean"])
@pytest.mark.parametrize("inner", [SGD(lr=0.1), SGD(lr=0.1, momentum=0.9), Adam(lr=0.1)])
def test_prox_ends_on_exact_zeros(inner: Elementwise, metric: str) -> None:
    seen = hover(Proximal(inner, metric=metric), Penalty(Laplace(beta=5.0), alpha=1e-3), steps=600, last=100)
    assert not seen.any()


def test_adam_prox_removes_a_weight_without_gradient_at_once() -> None:
    """Its v_hat is 0, so its step size is lr / eps: an input that is never seen dies in the first step."""
    optimizer, pull = Proximal(Adam(lr=1e-3)), Penalty(Laplace(beta=5.0), alpha=4e-5).pull(ONE)
    params = {"w": np.array([0.1, -0.1, 0.1])}
    got, _ = optimizer.step(params, {"w": np.array([0.0, 0.0, 1.0])}, optimizer.init(params), pull=pull)
    assert (got["w"] == 0).tolist() == [True, True, False]
