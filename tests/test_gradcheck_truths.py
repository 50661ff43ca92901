"""No false alarm: 500 random true gradients, at awkward points, in both modes.

Networks with masks and penalties, surrogates at their corners, ties, stationary points, flat parts, inputs of very
different sizes. A refusal of any of them is a fault of the checker.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from l0ref import nn, ops
from l0ref.penalty import Penalty
from l0ref.surrogates import L1, Laplace, Lp
from l0ref.testing import check_gradient, check_model, gradcheck
from l0ref.testing.samples import SURROGATE_SAMPLES, surrogate_points

Rng = np.random.Generator
Truth = Callable[[Rng, bool], Any]
SEED = int(os.environ.get("L0REF_SEED", "0"))
FAST = pytest.mark.parametrize("fast", [False, True], ids=["full", "fast"])


def pair(value: Any, gradient: Any, x: Any, fast: bool, **options: Any) -> Any:
    return check_gradient(value, gradient, x, fast_mode=fast, raise_exception=False, **options)


def network(rng: Rng, fast: bool) -> Any:
    seed, activation = int(rng.integers(1000)), str(rng.choice(["relu", "tanh"]))
    model = nn.mlp((4, 5, 3), seed=seed, activation=activation, dtype=np.float64)
    params = {k: w * (rng.random(w.shape) < 0.8) for k, w in model.params.items()}  # weights exactly at 0
    masks = {k: rng.random(model.params[k].shape) < 0.7 for k in model.weights}
    penalty = Penalty(surrogate=[Laplace(beta=5.0), L1(), Lp(p=0.5)][rng.integers(3)], alpha=0.02, l2=0.01)
    x, y = rng.normal(size=(4, 4)) * 10.0 ** rng.integers(-3, 3), rng.integers(3, size=4)
    model = model.replace(params=params, masks=masks)
    return check_model(model, x, y, penalty=penalty, fast_mode=fast, raise_exception=False)


def surrogate(rng: Rng, fast: bool) -> Any:
    name = str(rng.choice(sorted(set(SURROGATE_SAMPLES) - {"L0"})))
    phi, x = SURROGATE_SAMPLES[name][0], surrogate_points(name, rng, n=8)
    return pair(lambda w: float(phi.value(w).sum()), phi.grad, x, fast)


def surrogate_entrywise(rng: Rng, fast: bool) -> Any:
    name = str(rng.choice(sorted(SURROGATE_SAMPLES)))
    phi = SURROGATE_SAMPLES[name][0]
    return pair(phi.value, phi.grad, surrogate_points(name, rng), fast, elementwise=True)


def tied_maximum(rng: Rng, fast: bool) -> Any:
    x = rng.integers(0, 3, (3, 4)).astype(float)
    c = rng.normal(size=3)
    first = rng.random() < 0.5

    def gradient(x: Any) -> Any:
        top = x == x.max(1, keepdims=True)
        share = np.eye(4)[x.argmax(1)] if first else top / top.sum(1, keepdims=True)
        return c[:, None] * share

    return pair(lambda x: (c * x.max(1)).sum(), gradient, x, fast)


def tied_inputs(rng: Rng, fast: bool) -> Any:
    a, b = (rng.integers(-1, 2, 5).astype(float) for _ in range(2))
    return gradcheck(
        lambda a, b: ops.maximum(a, b) * ops.exp(ops.minimum(a, b)), [a, b], fast_mode=fast, raise_exception=False
    )


def pooled(rng: Rng, fast: bool) -> Any:
    x = rng.integers(0, 3, (1, 2, 4, 4)).astype(float)
    return gradcheck(lambda x: ops.max_pool2d(x, 2, stride=1), x, fast_mode=fast, raise_exception=False)


def rectified(rng: Rng, fast: bool) -> Any:
    """A linear map of ReLUs, some of them exactly at 0."""
    w, x = rng.normal(size=(4, 5)), rng.normal(size=5) * (rng.random(5) < 0.6)
    return pair(lambda x: (w @ np.maximum(x, 0)).sum(), lambda x: w.sum(0) * (x > 0), x, fast)


def all_at_kinks(rng: Rng, fast: bool) -> Any:
    c = rng.normal(size=4)
    return pair(lambda x: (c * np.abs(x)).sum(), lambda x: c * np.sign(x), np.zeros(4), fast)


def least_squares(rng: Rng, fast: bool) -> Any:
    a, w = rng.normal(size=(7, 3)) * 10.0 ** rng.integers(-2, 3), rng.normal(size=3)
    y = a @ w if rng.random() < 0.5 else rng.normal(size=7)
    best = np.linalg.lstsq(a, y, rcond=None)[0]
    return pair(lambda w: ((a @ w - y) ** 2).mean(), lambda w: 2 * a.T @ (a @ w - y) / 7, best, fast)


def bell(rng: Rng, fast: bool) -> Any:
    s = 10.0 ** rng.uniform(-2, 2)
    f = lambda x: float(np.exp(-(s * x**2).sum()))  # noqa: E731
    return pair(f, lambda x: -2 * s * x * f(x), np.zeros(3), fast)


def flat_part(rng: Rng, fast: bool) -> Any:
    x = rng.choice([-3.0, 0.2, 0.4, 5.0], 6)
    x[0] = 0.3
    return pair(lambda x: (np.clip(x, -1, 1) ** 3).sum(), lambda x: 3 * x**2 * (np.abs(x) < 1), x, fast)


def flat_array(rng: Rng, fast: bool) -> Any:
    x = {"a": rng.normal(size=3), "b": rng.normal(size=(2, 3))}
    soft = lambda b: np.exp(b) / np.exp(b).sum(1, keepdims=True)  # noqa: E731
    value = lambda p: np.sin(p["a"]).sum() + soft(p["b"]).sum()  # noqa: E731
    return pair(value, lambda p: {"a": np.cos(p["a"]), "b": 0 * p["b"]}, x, fast)


def badly_scaled(rng: Rng, fast: bool) -> Any:
    c = 10.0 ** rng.uniform(-6, 6, 5)
    x = rng.normal(size=5) / c
    return pair(lambda x: np.tanh(c * x).sum(), lambda x: c * (1 - np.tanh(c * x) ** 2), x, fast)


def small_or_large(rng: Rng, fast: bool) -> Any:
    s = 10.0 ** rng.uniform(-12, 12)
    x = rng.normal(size=(2, 3))
    return pair(lambda x: s * np.sin(x).sum(), lambda x: s * np.cos(x), x, fast)


def logistic(rng: Rng, fast: bool) -> Any:
    a, y = rng.normal(size=(8, 3)), rng.integers(2, size=8) * 2.0 - 1
    value = lambda w: np.logaddexp(0, -y * (a @ w)).sum()  # noqa: E731
    slope = lambda w: -a.T @ (y / (1 + np.exp(y * (a @ w))))  # noqa: E731
    w = np.zeros(3)
    for _ in range(int(rng.integers(0, 60))):  # on the way to the optimum, or near it
        w = w - 0.2 * slope(w)
    return pair(value, slope, w, fast)


TRUTHS: tuple[Truth, ...] = (
    network, surrogate, surrogate_entrywise, tied_maximum, tied_inputs, pooled, rectified, all_at_kinks, least_squares,
    bell, flat_part, flat_array, badly_scaled, small_or_large, logistic,
)  # fmt: skip
ROUNDS = 34  # times 15 kinds: 510


def refused(rounds: range, fast: bool) -> list[str]:
    found = []
    for k in rounds:
        for truth in TRUTHS:
            report = truth(np.random.default_rng([SEED, k, TRUTHS.index(truth)]), fast)
            if not report:
                found.append(f"{truth.__name__} {k}: {report.text()}")
    return found


@FAST
def test_true_gradients_are_accepted(fast: bool) -> None:
    assert refused(range(2), fast) == []


@pytest.mark.slow
@FAST
@pytest.mark.parametrize("part", range(4))
def test_500_true_gradients_are_accepted(part: int, fast: bool) -> None:
    assert len(TRUTHS) * ROUNDS >= 500
    assert refused(range(2 + part, ROUNDS, 4), fast) == []
