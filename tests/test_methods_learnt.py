"""Learnt thresholds and hard concrete gates: formulas to 50 digits, gradients, draws, what training does to them."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

import numpy as np
import pytest

from l0ref import nn, ops
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.methods import METHODS
from l0ref.methods.hard_concrete import BETA, GAMMA, ZETA, Gated, expected_l0, gate, open_probability
from l0ref.methods.learned_threshold import Thresholded, ends, regulariser, relative, thresholded
from l0ref.methods.reparameterised import Priced, unwrapped, wrapped
from tests.method_contract import biased, networks

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
    run, options = METHODS["learned_threshold"].run, {"epochs": 10, "rate": 5.0, "lr": 5e-3}
    records = [run(MLP, DATA, amount=0.5, seed=0, lam=lam, **options).record for lam in (0.0, 0.1, 0.3, 1.0)]
    for weak, strong in itertools.pairwise(records):
        assert all(s[0] > w[0] for s, w in zip(strong["thresholds"].values(), weak["thresholds"].values(), strict=True))
        assert strong["learnt"] > weak["learnt"]
    assert min(t[0] for t in records[0]["thresholds"].values()) >= 0


@pytest.mark.parametrize("kind", ["exp", "count", "l1"])
def test_without_the_loss_a_threshold_rises_and_fewer_weights_stay(kind: str) -> None:
    w = np.random.default_rng(0).standard_normal((8, 8))
    value = partial(regulariser, kind=kind, lam=0.1, beta=5.0, rate=1.0)
    pull = Priced(value_of=value, keys=("a.weight", "a.threshold")).pull({})
    t, left = [np.array([0.1])], []
    for _ in range(30):
        t.append(t[-1] - 0.2 * pull.gradient({"a.weight": w, "a.threshold": t[-1]})["a.threshold"])
        left.append(int((np.abs(w) > t[-1]).sum()))
    assert (np.diff(np.ravel(t)) > 0).all()
    assert left == sorted(left, reverse=True)
    assert left[-1] < left[0]


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
    assert float(expected_l0(logs, lam=0.5, behind={"a.log_alpha": np.array([12.0])})) == pytest.approx(
        0.5 * 12 * p, rel=1e-14
    )


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


UNITS = {
    "linear": (nn.Linear("a", 6, 4), (5, 6)),
    "linear without bias": (nn.Linear("a", 6, 4, bias=False), (5, 6)),
    "convolution": (nn.Conv2d("a", 4, 4, 3, padding=1, groups=2), (2, 4, 5, 5)),
}


@pytest.mark.parametrize("name", UNITS)
def test_a_gate_of_a_unit_multiplies_its_output_and_has_the_slope_of_that(name: str) -> None:
    """Bias included; slopes of all parameters against differences, with the same draw each time."""
    inner, shape = UNITS[name]
    layer, rng = Gated("a", inner, by_unit=True), np.random.default_rng(8)
    params = layer.parameters(rng=rng, dtype=np.float64)
    params = {k: rng.standard_normal(p.shape) for k, p in params.items()} | {
        "a.log_alpha": np.reshape([-9.0, -0.4, 0.6, 0.1], params["a.log_alpha"].shape)
    }
    x = rng.standard_normal(shape)

    def output(p: dict[str, Any]) -> Any:
        tensors = {k: Tensor(v) for k, v in p.items()}
        y, _ = layer.forward(Tensor(x), tensors, {}, training=True, rng=np.random.default_rng(3))
        return y, tensors

    y, tensors = output(params)
    plain, _ = inner.forward(Tensor(x), tensors, {}, training=True, rng=None)
    z = gate(tensors["a.log_alpha"], np.random.default_rng(3).random(params["a.log_alpha"].shape)).data.ravel()
    assert z[0] == 0 < z[1:].min() < 1
    np.testing.assert_allclose(y.data, plain.data * z.reshape(4, *[1] * (x.ndim - 2)), rtol=1e-12, atol=1e-13)
    way = rng.standard_normal(y.shape)
    slopes = dict(zip(tensors, grad(y, list(tensors.values()), y_bar=way), strict=True))
    for key, p in params.items():
        turn = rng.standard_normal(p.shape)
        plus, minus = (float((output({**params, key: p + h * turn})[0].data * way).sum()) for h in (1e-6, -1e-6))
        assert float((slopes[key] * turn).sum()) == pytest.approx((plus - minus) / 2e-6, rel=1e-6)


def test_units_whose_gates_are_closed_go_without_a_change_of_the_network() -> None:
    options: dict[str, Any] = {"seed": 0, "epochs": 80, "lr": 0.1, "lam": 2e-3}
    whole, cut = (METHODS["hard_concrete_units"].run(MLP, DATA, amount=amount, **options) for amount in (0, 60))
    gone = {n: ~cut.model.mask(f"{n}.weight").any(axis=1) for n in ("fc1", "fc2")}
    for name, units in gone.items():
        closed = gate(Tensor(whole.record["log_alpha"][f"{name}.weight"]), None).data.ravel() == 0
        assert units.any()
        assert closed[units].all()
        assert not closed.all()
        assert not whole.model.params[f"{name}.bias"][closed].any()
    x = DATA.test.x
    np.testing.assert_allclose(cut.model.logits(x), whole.model.logits(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["hard_concrete", "hard_concrete_units"])
def test_the_record_counts_the_weights_that_were_left(name: str) -> None:
    once = METHODS["random"].run(MLP, DATA, amount=0.6, seed=0).model
    found = METHODS[name].run(once, DATA, amount=0.6, seed=0, epochs=40, lr=0.1, lam=1e-3)
    expected, open_ = 0.0, 0
    for key, logs in found.record["log_alpha"].items():
        for place in zip(*np.nonzero(once.mask(key)), strict=True):
            log_alpha = logs[place] if logs.shape == once.mask(key).shape else logs[place[0], 0]
            expected += 1 / (1 + math.exp(-log_alpha + 2 / 3 * math.log(0.1 / 1.1)))
            open_ += 1.2 / (1 + math.exp(-log_alpha)) > 0.1
    assert found.record["expected"] == pytest.approx(expected, rel=1e-12)
    assert found.record["open"] == open_
    assert 0 < open_ < once.size - found.record["removed"]


def test_batch_normalisation_undoes_an_open_gate_of_a_unit_in_training_and_a_closed_unit_is_constant() -> None:
    layers = (nn.Linear("a", 12, 4), nn.BatchNorm1d("norm", 4), nn.ReLU("relu"), nn.Linear("b", 4, 3))
    model = biased(nn.Model.init(layers, input_shape=(12,), seed=0, dtype=np.float64))
    soft = wrapped(model, lambda layer: Gated(layer.name, layer, by_unit=layer.name == "a"))
    tensors = {key: Tensor(p) for key, p in soft.params.items()}
    draws, u = [], np.random.default_rng(1)
    for logs in (np.full((4, 1), 50.0), np.array([[1.0], [0.5], [2.0], [-50.0]])):
        y, _ = soft.architecture[0].forward(
            Tensor(DATA.train.x), tensors | {"a.log_alpha": Tensor(logs)}, {}, training=True, rng=u
        )
        z, _ = soft.architecture[1].forward(y, tensors, model.buffers, training=True, rng=None)
        draws.append(z.data)
    np.testing.assert_allclose(draws[1][:, :3], draws[0][:, :3], rtol=0, atol=1e-2)  # up to eps of the variance
    np.testing.assert_allclose(draws[1][:, 3], model.params["norm.bias"][3], rtol=1e-12)


def test_no_two_layers_begin_with_the_same_noise() -> None:
    logs = METHODS["hard_concrete"].run(MLP, DATA, amount=0.0, seed=0, epochs=0).record["log_alpha"].values()
    noise = np.concatenate([v.ravel() for v in logs])
    assert np.unique(noise).size == noise.size


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
