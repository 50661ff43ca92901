"""Criteria that read activations, against loops and the gate identity."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import numpy as np
import pytest

from l0ref import nn
from l0ref.data import Splits
from l0ref.errors import ArgumentError
from l0ref.methods import METHODS, Pruned
from l0ref.methods.connection_sensitivity import loss_gradients
from l0ref.methods.thinet import contributions, greedy, scales
from l0ref.methods.unit_criteria import taylor_scores
from l0ref.nn import Model
from l0ref.pruning.axes import coupled_axes
from l0ref.pruning.trace import signals, trace
from l0ref.pruning.units import free_axes
from tests.method_contract import networks
from tests.test_methods_sensitivity import loss


def run(name: str, model: Model, data: Splits, amount: float, seed: int = 0, **options: Any) -> Pruned:
    return METHODS[name].run(model, data, amount=amount, seed=seed, **options)


def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of a criterion come in several parts, the last of which is smaller."""
    monkeypatch.setattr("l0ref.methods.unit_criteria.trace", functools.partial(trace, chunk=4))
    monkeypatch.setattr("l0ref.methods.unit_criteria.CHUNK", 4)


def test_wanda_scores_and_shares_of_rows() -> None:
    model, data = networks()["cnn"]
    found = run("wanda", model, data, 0.5)
    entering = {k: t.data for k, t in signals(model, data.train.x).entering.items()}
    w = model.params["conv1.weight"]
    for f, c, r, s in itertools.product(*map(range, w.shape)):
        norm = np.sqrt(sum((entering["conv1"][:, c, i + r, j + s] ** 2).sum() for i in range(4) for j in range(4)))
        assert found.record["scores"]["conv1.weight"][f, c, r, s] == pytest.approx(abs(w[f, c, r, s]) * norm, rel=1e-10)
    norms = np.sqrt((entering["fc1"] ** 2).sum(axis=0))
    np.testing.assert_allclose(
        found.record["scores"]["fc1.weight"], np.abs(model.params["fc1.weight"]) * norms, rtol=1e-9
    )
    for key in model.weights:
        kept = found.model.masks[key].reshape(len(model.params[key]), -1)
        assert np.ptp(kept.sum(axis=1)) <= 1
        score = found.record["scores"][key].reshape(kept.shape)
        assert all(s[~m].max() <= s[m].min() for s, m in zip(score, kept, strict=True))


def test_the_four_ways_to_ask_what_a_relu_unit_is_worth_agree() -> None:
    model, data = networks()["mlp"]
    gates = taylor_scores(model, data, samples=10**6, seed=0, absolute="sum")
    grads = loss_gradients(model, data.train)
    for name, reader in (("fc1", "fc2"), ("fc2", "fc3")):
        w, b, out = f"{name}.weight", f"{name}.bias", f"{reader}.weight"
        incoming = (model.params[w] * grads[w]).sum(axis=1) + model.params[b] * grads[b]
        outgoing = (model.params[out] * grads[out]).sum(axis=0)
        np.testing.assert_allclose(incoming, outgoing, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(gates[name], np.abs(incoming), rtol=1e-9, atol=1e-14)
        for unit in (0, 3):
            ends = []
            for gate in (1 + 1e-6, 1 - 1e-6):
                scaled = model.params[out].copy()
                scaled[:, unit] *= gate
                ends.append(loss(model.replace(params={**model.params, out: scaled}), data.train))
            assert abs(ends[0] - ends[1]) / 2e-6 == pytest.approx(gates[name][unit], rel=1e-4, abs=1e-8)


def test_taylor_of_each_sample_and_of_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    small_chunks(monkeypatch)
    model, data = networks()["cnn"]
    few = Splits(data.train.take(np.arange(6)), data.validation, data.test, "few", "none")
    scores = taylor_scores(model, few, samples=6, seed=0, absolute="sample")
    parts = [few.train.take(np.array([i])) for i in range(6)]
    alone = [Splits(part, data.validation, data.test, "one", "none") for part in parts]
    one = [taylor_scores(model, each, samples=1, seed=0, absolute="sum") for each in alone]
    for axis, s in scores.items():
        np.testing.assert_allclose(s, np.mean([each[axis] for each in one], axis=0), rtol=1e-9, atol=1e-15)
    grads = loss_gradients(model, few.train)
    gate = (model.params["conv1.weight"] * grads["conv1.weight"]).sum(axis=(1, 2, 3))
    gate += model.params["conv1.bias"] * grads["conv1.bias"]
    summed = taylor_scores(model, few, samples=6, seed=0, absolute="sum")["conv1"]
    np.testing.assert_allclose(summed, np.abs(gate) / 16, rtol=1e-9)  # a mean over 4 x 4 places, not a sum
    found = run("taylor", model, few, 0.3)
    normed = {a: s / np.sqrt((s**2).sum()) for a, s in found.record["scores"].items()}
    masks = found.model.masks
    alive = {a: masks[f"{a}.weight"].reshape(len(s), -1).any(axis=1) for a, s in normed.items()}
    assert max(s[~alive[a]].max(initial=0.0) for a, s in normed.items()) <= min(
        s[alive[a]].min() for a, s in normed.items()
    )
    with pytest.raises(ArgumentError, match=r"^absolute='mean' is not one of 'sample', 'sum'"):
        run("taylor", model, few, 0.3, absolute="mean")


def test_apoz_counts_exact_zeros_of_the_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    small_chunks(monkeypatch)
    model, data = networks()["cnn"]
    found = run("apoz", model, data, 0.3)
    x = data.train.x
    w, b = model.params["conv1.weight"], model.params["conv1.bias"]
    zeros = np.zeros(4)
    for n, f, i, j in itertools.product(range(len(x)), range(4), range(4), range(4)):
        zeros[f] += (x[n, :, i : i + 3, j : j + 3] * w[f]).sum() + b[f] <= 0
    np.testing.assert_allclose(found.record["scores"]["conv1"], zeros / (len(x) * 16), rtol=1e-12)
    np.testing.assert_array_equal(found.record["scores"]["fc1"], 0.0)  # tanh has no exact zeros
    scores = found.record["scores"]
    alive = {a: found.model.masks[f"{a}.weight"].reshape(len(s), -1).any(axis=1) for a, s in scores.items()}
    gone = np.concatenate([s[~alive[a]] for a, s in found.record["scores"].items()])
    assert gone.min() >= max(s[alive[a]].max() for a, s in found.record["scores"].items())


def test_nisp_carries_importance_back() -> None:
    model = networks()["mlp"][0]
    scores = run("nisp", model, networks()["mlp"][1], 0.4).record["scores"]
    w2, w3 = (np.abs(model.params[f"fc{i}.weight"]) for i in (2, 3))
    np.testing.assert_allclose(scores["fc2"], w3.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(scores["fc1"], w3.sum(axis=0) @ w2, rtol=1e-12)
    model = networks()["cnn"][0]
    scores = run("nisp", model, networks()["cnn"][1], 0.4).record["scores"]
    f1, f2, c2 = (np.abs(model.params[f"{k}.weight"]) for k in ("fc1", "fc2", "conv2"))
    np.testing.assert_allclose(scores["fc1"], f2.sum(axis=0), rtol=1e-12)
    features = scores["fc1"] @ f1
    by_filter = [sum(features[4 * c + i] for i in range(4)) for c in range(3)]
    np.testing.assert_allclose(scores["conv2"], by_filter, rtol=1e-12)
    by_channel = [sum(scores["conv2"][f] * c2[f, c].sum() for f in range(3)) for c in range(4)]
    np.testing.assert_allclose(scores["conv1"], by_channel, rtol=1e-12)


def test_thinet_is_greedy_and_scales_by_least_squares(rng: np.random.Generator) -> None:
    x = rng.standard_normal((50, 6)) + 0.5
    q = x.T @ x
    order = greedy(q, np.zeros(6, bool))
    gone: list[int] = []
    for j in order:
        left = [i for i in range(6) if i not in gone]
        assert int(j) == min(left, key=lambda i: (x[:, [*gone, i]].sum(axis=1) ** 2).sum())
        gone.append(int(j))
    before = np.array([False, False, True, False, False, True])
    order, gone = greedy(q, before).tolist(), []
    assert order[:2] == [2, 5]  # what they still pass on stays, so that it is no part of what is lost
    for j in order[2:]:
        left = [i for i in (0, 1, 3, 4) if i not in gone]
        assert j == min(left, key=lambda i: (x[:, [*gone, i]].sum(axis=1) ** 2).sum())
        gone.append(j)
    left_mask = np.array([True, False, True, True, False, True])
    v = scales(q, left_mask)
    expected = np.linalg.lstsq(x[:, left_mask], x.sum(axis=1), rcond=None)[0]
    np.testing.assert_allclose(v[left_mask], expected, rtol=1e-9)
    assert not v[~left_mask].any()
    np.testing.assert_array_equal(scales(np.zeros((3, 3)), np.array([True, False, True])), [1.0, 0.0, 1.0])


def test_thinet_contributions_add_up_to_what_the_reader_puts_out() -> None:
    model, data = networks()["mlp"]
    q = contributions(model, data.train, outputs=200, seed=0)
    out = signals(model, data.train.x).leaving["fc3"].data - model.params["fc3.bias"]
    mean = q["fc2"].sum() / (200 * len(data.train))
    assert mean == pytest.approx(float((out**2).mean()), rel=0.1)  # samples of the same outputs
    found = run("thinet", model, data, 0.4)
    w, scaled = model.params["fc3.weight"], found.model.params["fc3.weight"]
    np.testing.assert_allclose(scaled, w * found.record["scale"]["fc2"], rtol=1e-12)
    assert found.record["order"]["fc1"].size == 10


def test_thinet_leaves_the_constants_of_units_that_had_gone() -> None:
    """A padded reader cannot take the constant of a unit without incoming weights into its bias."""
    layers = (nn.Conv2d("conv1", 2, 6, 3, padding=1), nn.ReLU("relu1"), nn.Conv2d("conv2", 6, 4, 3, padding=1),
              nn.ReLU("relu2"), nn.Flatten("flat"), nn.Linear("fc", 144, 3))  # fmt: skip
    model, data = Model.init(layers, input_shape=(2, 6, 6), seed=0, dtype=np.float64), networks()["cnn"][1]
    mask, bias = np.ones((6, 2, 3, 3), bool), model.params["conv1.bias"].copy()
    mask[2], bias[2] = False, 1.5
    model = model.replace(params={**model.params, "conv1.bias": bias}, masks={"conv1.weight": mask})
    x = data.test.x
    nothing = run("thinet", model, data, 18)
    np.testing.assert_allclose(nothing.model.logits(x), model.logits(x), rtol=1e-9, atol=1e-9)
    found = run("thinet", model, data, 18 + 162 + 18 + 27)  # a unit of conv2, then one of conv1
    scale, units = found.record["scale"]["conv1"], [0, 1, 3, 4, 5]
    assert scale[2] == 1
    left = scale[units] != 0
    assert left.sum() == 4
    q = contributions(model, data.train, outputs=10, seed=0)["conv1"][np.ix_(units, units)]
    root = np.linalg.cholesky(q).T
    np.testing.assert_allclose(scale[units][left], np.linalg.lstsq(root[:, left], root.sum(axis=1), rcond=None)[0])


def test_grouped_convolutions_keep_their_units_and_readers_within_a_sum_are_read() -> None:
    data = networks()["cnn"][1]
    ends = (nn.GlobalAvgPool2d("pool"), nn.Linear("fc", 4, 6), nn.ReLU("act"), nn.Linear("out", 6, 3))
    for groups in (1, 2, 4):  # 4: depthwise, which mixes nothing
        body = (nn.Conv2d("a", 4, 4, 3, padding=1, groups=groups),)
        layers = (nn.Conv2d("stem", 2, 4, 3), nn.Residual("sum", body), *ends)
        model = Model.init(layers, input_shape=(2, 6, 6), seed=0, dtype=np.float64)
        assert coupled_axes(model).readers("stem") == (("fc",) if groups == 4 else ("a", "fc"))
        assert set(free_axes(model)) == ({"fc"} if groups == 2 else {"stem", "fc"})
        for name in ("thinet", "nisp", "apoz", "fpgm", "matrix_pivoting"):
            found = run(name, model, data, 0.5)
            assert 0 < found.record["removed"] <= found.record["asked"]
            assert groups != 2 or name == "matrix_pivoting" or found.model.mask("stem.weight").all()
        if groups == 1:  # both readers of what stays are scaled alike
            found, scale = run("thinet", model, data, 0.5), run("thinet", model, data, 0.5).record["scale"]["stem"]
            assert (scale == 0).any()
            rows = (scale != 0)[:, None, None, None] * np.ones((4, 4, 3, 3))
            expected = model.params["a.weight"] * scale[None, :, None, None] * rows
            np.testing.assert_allclose(found.model.params["a.weight"], expected, rtol=1e-12)


def test_importance_goes_back_through_a_sum_and_its_body() -> None:
    layers = (nn.Conv2d("stem", 2, 4, 3), nn.Residual("sum", (nn.Conv2d("a", 4, 4, 3, padding=1),)),
              nn.GlobalAvgPool2d("pool"), nn.Linear("fc", 4, 3))  # fmt: skip
    model = Model.init(layers, input_shape=(2, 6, 6), seed=0, dtype=np.float64)
    behind = np.abs(model.params["fc.weight"]).sum(axis=0)
    before = behind + np.abs(model.params["a.weight"]).sum(axis=(2, 3)).T @ behind
    np.testing.assert_allclose(run("nisp", model, networks()["cnn"][1], 0.1).record["scores"]["stem"], before)


def test_residual_networks_run_through_every_criterion() -> None:
    last = nn.Conv2d("b", 4, 3, 3, padding=1)
    body = (nn.Conv2d("a", 3, 4, 3, padding=1), nn.BatchNorm2d("norm", 4), nn.ReLU("relu"), last)
    layers = (nn.Conv2d("stem", 2, 3, 3), nn.Residual("sum", body), nn.ReLU("out"), nn.GlobalAvgPool2d("pool"),
              nn.Linear("fc", 3, 3))  # fmt: skip
    model = Model.init(layers, input_shape=(2, 6, 6), seed=0, dtype=np.float64)
    data = networks()["cnn"][1]
    for name in ("apoz", "taylor", "nisp", "fpgm", "thinet", "wanda", "obd", "exact_obs"):
        found = run(name, model, data, 0.4)
        assert 0 < found.record["removed"] <= found.record["asked"]
    found_signals = signals(model, data.train.x)
    assert set(found_signals.activated) == {"stem", "a", "fc"}
    assert found_signals.activated["stem"].data.min() == 0.0  # behind the sum and its ReLU
    np.testing.assert_allclose(found_signals.logits.data, model.logits(data.train.x), rtol=1e-10, atol=1e-12)
