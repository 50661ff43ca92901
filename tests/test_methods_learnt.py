"""Learnt thresholds and hard concrete gates: formulas to 50 digits, gradients, draws, what training does to them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from l0ref import nn, ops
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.methods import METHODS
from l0ref.methods.hard_concrete import BETA, GAMMA, ZETA, Gated, expected_l0, gate, open_probability
from l0ref.methods.learned_threshold import Thresholded, ends, regulariser, relative, thresholded
from l0ref.methods.reparameterised import Priced, unwrapped, wrapped
from tests.method_contract import networks

MLP, DATA = networks()["mlp"]
W = np.array([-3.0, -1.2, -1.0, -0.9, -0.3, 0.0, 0.25, 0.8, 1.0, 1.1, 2.5])


def v_and_slopes(w: Any, t: float, beta: float) -> tuple[Any, Any, Any]:
    """v with its slopes along w and t, by the tape."""
    x, up = Tensor(w), Tensor(np.array([t]))
    y = thresholded(x, up, up, beta=beta)
    rows = [grad(y, [x, up], y_bar=row) for row in np.eye(len(w))]
    return y.data, np.array([row[0][i] for i, row in enumerate(rows)]), np.array([row[1][0] for row in rows])


def test_threshold_and_slopes_to_fifty_digits() -> None:
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 50
    beta, t = 7.0, 0.75

    def s(a: Any) -> Any:
        return 1 / (1 + mpmath.exp(-a))

    y, along_w, along_t = v_and_slopes(W, t, beta)
    for i, number in enumerate(W):
        w = mpmath.mpf(float(number))
        p, n = s(beta * (w - t)), s(beta * (-w - t))
        exact = max(w - t, 0) + t * p - max(-w - t, 0) - t * n
        assert y[i] == pytest.approx(float(exact), rel=1e-13, abs=1e-15)
        assert along_w[i] == pytest.approx(
            float((w > t) + (w < -t) + beta * t * (p * (1 - p) + n * (1 - n))), rel=1e-12
        )
        exact_t = -(w > t) + (w < -t) + p - n - beta * t * (p * (1 - p) - n * (1 - n))
        assert along_t[i] == pytest.approx(float(exact_t), rel=1e-11, abs=1e-13)


def test_threshold_is_odd_and_the_identity_at_zero_and_hard_far_away() -> None:
    y, *_ = v_and_slopes(W, 0.75, 7.0)
    odd, *_ = v_and_slopes(-W, 0.75, 7.0)
    np.testing.assert_allclose(odd, -y, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(v_and_slopes(W, 0.0, 7.0)[0], W)
    assert y[W == 0] == 0
    hard, *_ = v_and_slopes(W, 0.95, 500.0)
    np.testing.assert_allclose(hard, np.where(np.abs(W) > 0.95, W, 0), atol=1e-9)


def test_a_threshold_of_zero_is_the_dense_network() -> None:
    soft = wrapped(MLP, lambda layer: Thresholded(layer.name, layer))
    np.testing.assert_allclose(soft.logits(DATA.test.x), MLP.logits(DATA.test.x), rtol=1e-14)
    assert "fc1.threshold" in soft.params
    both = wrapped(MLP, lambda layer: Thresholded(layer.name, layer, asymmetric=True, first=0.2))
    up, down = ends(Tensor(both.params["fc1.threshold"]), 1.0)
    assert (float(up), float(down)) == (0.2, 0.2)
    assert nn.layer.from_json(nn.layer.to_json(soft.architecture[0])) == soft.architecture[0]


def test_hardening_changes_less_as_beta_grows() -> None:
    change = []
    for beta in (20.0, 100.0, 1000.0):
        soft = wrapped(MLP, lambda layer, b=beta: Thresholded(layer.name, layer, first=0.2, beta=b))
        cut = MLP.replace(
            params={k: np.where(np.abs(p) > 0.2, p, 0) if k in MLP.weights else p for k, p in MLP.params.items()}
        )
        change.append(float(np.abs(soft.logits(DATA.test.x) - cut.logits(DATA.test.x)).max()))
    assert change[0] > change[1] > change[2]


@pytest.mark.parametrize("kind", ["exp", "count", "l1"])
def test_regularisers_against_differences(kind: str) -> None:
    params = {"a.weight": np.array([[0.5, -0.2], [0.9, -1.4]]), "a.threshold": np.array([0.3])}
    penalty = Priced(
        l2=0.1,
        value_of=lambda t: regulariser(t, kind=kind, lam=0.7, beta=5.0, rate=2.0),
        keys=("a.weight", "a.threshold"),
    )
    slopes = penalty.pull({}).gradient(params)
    for key, p in params.items():
        for i in range(p.size):
            ends_ = []
            for h in (1e-6, -1e-6):
                moved = p.copy()
                moved.flat[i] += h
                ends_.append(penalty.terms({**params, key: moved}, {"a.weight": 1.0}).total)
            assert slopes[key].flat[i] == pytest.approx((ends_[0] - ends_[1]) / 2e-6, rel=1e-6, abs=1e-9)


def test_thresholds_rise_under_the_regulariser_and_stay_non_negative() -> None:
    run = METHODS["learned_threshold"].run
    weak, strong = (
        run(MLP, DATA, amount=0.5, seed=0, epochs=10, lam=lam, rate=5.0, lr=5e-3).record for lam in (0.0, 1.0)
    )
    assert all(s[0] > w[0] for s, w in zip(strong["thresholds"].values(), weak["thresholds"].values(), strict=True))
    assert strong["learnt"] > weak["learnt"]
    assert min(t[0] for t in weak["thresholds"].values()) >= 0


def test_ranking_is_by_the_threshold_of_the_sign() -> None:
    w = np.array([0.0, 0.3, -0.3])
    np.testing.assert_allclose(relative(w, np.array([0.1, 0.6])), [0, 3, 0.5], rtol=1e-12)
    assert relative(w, np.array([0.0]))[1] == np.finfo(np.float64).max
    assert relative(w, np.array([0.0]))[0] == 0


# --- hard concrete ----------------------------------------------------------------------------------------------------


def test_open_probability_is_the_share_of_draws() -> None:
    rng = np.random.default_rng(0)
    for log_alpha in (-2.0, 0.0, 1.5):
        z = gate(Tensor(np.full(10**6, log_alpha)), rng.random(10**6)).data
        p = float(open_probability(Tensor(np.array(log_alpha))))
        assert abs((z != 0).mean() - p) < 4 * math.sqrt(p * (1 - p) / z.size)
        assert z.min() >= 0
        assert z.max() <= 1


def test_gates_to_fifty_digits() -> None:
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 50
    beta, gamma, zeta = mpmath.mpf(2) / 3, mpmath.mpf("-0.1"), mpmath.mpf("1.1")
    for log_alpha, u in ((0.3, 0.4), (-1.7, 0.9), (2.2, 0.2), (-6.0, 0.5), (8.0, 0.7)):
        a, x = mpmath.mpf(log_alpha), mpmath.mpf(u)
        s = 1 / (1 + mpmath.exp(-(mpmath.log(x) - mpmath.log(1 - x) + a) / beta))
        exact = min(mpmath.mpf(1), max(mpmath.mpf(0), s * (zeta - gamma) + gamma))
        drawn, used = gate(Tensor(np.array([log_alpha])), np.array([u])), gate(Tensor(np.array([log_alpha])), None)
        assert float(drawn) == pytest.approx(float(exact), rel=1e-13, abs=1e-15)
        test_time = min(mpmath.mpf(1), max(mpmath.mpf(0), (zeta - gamma) / (1 + mpmath.exp(-a)) + gamma))
        assert float(used) == pytest.approx(float(test_time), rel=1e-13, abs=1e-15)
        p = 1 / (1 + mpmath.exp(-(a - beta * mpmath.log(-gamma / zeta))))
        assert float(open_probability(Tensor(np.array(log_alpha)))) == pytest.approx(float(p), rel=1e-13)
    assert (BETA, GAMMA, ZETA) == (2 / 3, -0.1, 1.1)


def test_the_expected_number_counts_the_weights_behind_a_gate() -> None:
    logs = {"a.log_alpha": Tensor(np.array([[0.0], [1.0]]))}
    p = open_probability(logs["a.log_alpha"]).data.sum()
    assert float(expected_l0(logs, lam=0.5, behind={"a.log_alpha": 12.0})) == pytest.approx(0.5 * 12 * p, rel=1e-14)


def test_open_gates_are_the_network_and_closed_ones_are_none() -> None:
    soft = wrapped(MLP, lambda layer: Gated(layer.name, layer, by_unit=layer.name == "fc1"))
    assert soft.params["fc1.log_alpha"].shape == (10, 1)
    assert soft.params["fc2.log_alpha"].shape == (8, 10)
    wide = {k: np.full_like(p, 50.0) if k.endswith("log_alpha") else p for k, p in soft.params.items()}
    np.testing.assert_allclose(soft.replace(params=wide).logits(DATA.test.x), MLP.logits(DATA.test.x), rtol=1e-13)
    shut = {k: -p if k.endswith("log_alpha") else p for k, p in wide.items()}
    closed = soft.replace(params=shut).logits(DATA.test.x)
    np.testing.assert_allclose(closed, np.broadcast_to(MLP.params["fc3.bias"], closed.shape), rtol=1e-13)
    back = unwrapped(MLP, soft, {})
    assert back.architecture == MLP.architecture


def test_a_higher_price_closes_gates() -> None:
    for name in ("hard_concrete", "hard_concrete_units"):
        records = [
            METHODS[name].run(MLP, DATA, amount=0.5, seed=0, epochs=15, lr=0.05, lam=lam).record for lam in (0.0, 0.05)
        ]
        assert records[1]["expected"] < records[0]["expected"]
        assert records[1]["open"] <= records[0]["open"]


def test_gradient_of_a_gate_against_differences() -> None:
    a, u = np.array([0.2, -0.5]), np.array([0.45, 0.6])
    x = Tensor(a)
    (slope,) = grad(ops.sum(gate(x, u)), [x])
    for i in range(2):
        h = np.eye(2)[i] * 1e-6
        plus, minus = (float(ops.sum(gate(Tensor(a + s * h), u))) for s in (1, -1))
        assert slope[i] == pytest.approx((plus - minus) / 2e-6, rel=1e-7)
