"""Criteria of sensitivity against differences, identities and loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from l0ref.data import Dataset, Splits
from l0ref.methods import METHODS, Pruned
from l0ref.methods.connection_sensitivity import balanced, hessian_times_gradient, loss_gradients
from l0ref.methods.registry import calibration
from l0ref.nn import Model
from tests.method_contract import networks


def run(name: str, model: Model, data: Splits, amount: float, seed: int = 0, **options: Any) -> Pruned:
    return METHODS[name].run(model, data, amount=amount, seed=seed, **options)


def loss(model: Model, data: Dataset, temperature: float = 1.0) -> float:
    """Mean cross-entropy, written out."""
    z = model.logits(data.x) / temperature
    z = z - z.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), data.y]))


def moved(model: Model, key: str, change: Any) -> Model:
    return model.replace(params={**model.params, key: model.params[key] + change})


def smooth() -> tuple[Model, Splits]:
    """The network of linear layers with tanh instead of ReLU, so that second derivatives exist everywhere."""
    from l0ref import nn

    return nn.mlp((12, 7, 5, 3), seed=2, activation="tanh", dtype=np.float64), networks()["mlp"][1]


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_gradients_are_slopes_of_the_loss(network: str, rng: np.random.Generator) -> None:
    model, data = networks()[network]
    few = data.train.take(np.arange(7))
    for t in (1.0, 200.0):
        grads = loss_gradients(model, few, temperature=t)
        assert set(grads) == set(model.params)
        for key, g in grads.items():
            way = rng.standard_normal(g.shape)
            slope = (loss(moved(model, key, 1e-6 * way), few, t) - loss(moved(model, key, -1e-6 * way), few, t)) / 2e-6
            assert slope == pytest.approx(float((g * way).sum()), rel=2e-5)


def test_gradients_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = networks()["mlp"]
    whole = loss_gradients(model, data.train)
    monkeypatch.setattr("l0ref.methods.connection_sensitivity.CHUNK", 7)
    for key, g in loss_gradients(model, data.train).items():
        np.testing.assert_allclose(g, whole[key], rtol=1e-10, atol=1e-14)


def test_snip_is_the_slope_of_a_mask_and_sums_to_one() -> None:
    model, data = smooth()
    found = run("snip", model, data, 0.7, samples=9, seed=4)
    scores = found.record["scores"]
    assert sum(float(s.sum()) for s in scores.values()) == pytest.approx(1.0, rel=1e-12)
    few = calibration(model, data, samples=9, seed=4)
    w = model.params["fc2.weight"]
    slopes = np.zeros(w.shape)
    for i in np.ndindex(w.shape):
        gate = np.zeros(w.shape)
        gate[i] = 1e-5 * w[i]
        slopes[i] = (loss(moved(model, "fc2.weight", gate), few) - loss(moved(model, "fc2.weight", -gate), few)) / 2e-5
    share = scores["fc2.weight"] / scores["fc2.weight"].sum()
    np.testing.assert_allclose(share, np.abs(slopes) / np.abs(slopes).sum(), rtol=1e-6, atol=1e-8)
    kept = np.concatenate([scores[k][found.model.masks[k]] for k in model.weights])
    gone = np.concatenate([scores[k][~found.model.masks[k]] for k in model.weights])
    assert gone.max() < kept.min()


def test_grasp_multiplies_by_the_hessian(rng: np.random.Generator) -> None:
    model, data = smooth()
    few = balanced(data.train, 4, seed=0)
    assert np.bincount(few.y).max() == 4
    t = 3.0
    curved = hessian_times_gradient(model, few, temperature=t)
    g = {k: v for k, v in loss_gradients(model, few, temperature=t).items() if k in model.weights}
    way = {k: rng.standard_normal(v.shape) for k, v in g.items()}
    length = np.sqrt(sum((v**2).sum() for v in g.values()))
    a, b = 1e-3, 1e-3 / length

    def at(s: float, r: float) -> float:
        params = {k: p + s * a * way[k] + r * b * g[k] if k in g else p for k, p in model.params.items()}
        return loss(model.replace(params=params), few, t)

    second = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / (4 * a * b)
    assert second == pytest.approx(sum(float((way[k] * curved[k]).sum()) for k in g), rel=1e-4)


def test_grasp_is_that_of_two_half_batches_up_to_a_factor() -> None:
    """As the authors' code: g added up over two halves, then each half's H times it, added up."""
    model, data = smooth()
    few = balanced(data.train, 2, seed=0)
    halves = [few.take(np.arange(len(few))[i::2]) for i in (0, 1)]
    assert len(halves[0]) == len(halves[1])
    keys, t, a = model.weights, 200.0, 1e-4
    g = {k: sum(loss_gradients(model, half, temperature=t)[k] for half in halves) for k in keys}
    ends = []
    for s in (a, -a):
        there = model.replace(params={k: p + s * g[k] if k in g else p for k, p in model.params.items()})
        ends.append({k: sum(loss_gradients(there, half, temperature=t)[k] for half in halves) for k in keys})
    ours = hessian_times_gradient(model, few, temperature=t)
    for k in keys:
        theirs = (ends[0][k] - ends[1][k]) / (2 * a)
        np.testing.assert_allclose(theirs, 4 * ours[k], rtol=1e-4, atol=1e-6 * np.abs(theirs).max())


def test_grasp_steps_along_the_gradient_of_the_weights_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a step so long that its length shows."""
    monkeypatch.setattr("l0ref.methods.connection_sensitivity.STEP", 0.05)
    model, data = smooth()
    model = METHODS["random"].run(model, data, amount=0.7, seed=0).model
    g = {k: loss_gradients(model, data.train)[k] * model.mask(k) for k in model.weights}
    w, way = (np.concatenate([part[k].ravel() for k in model.weights]) for part in (model.params, g))
    t = 0.05 * max(np.linalg.norm(w), 1.0) / np.linalg.norm(way)
    ends = []
    for s in (t, -t):
        there = model.replace(params={k: p + s * g[k] if k in g else p for k, p in model.params.items()})
        ends.append(loss_gradients(there, data.train))
    for k, found in hessian_times_gradient(model, data.train, temperature=1.0).items():
        np.testing.assert_allclose(found, (ends[0][k] - ends[1][k]) / (2 * t), rtol=1e-11, atol=1e-13)


def test_grasp_removes_the_largest_scores() -> None:
    model, data = networks()["mlp"]
    found = run("grasp", model, data, 0.6)
    scores = found.record["scores"]
    curved = hessian_times_gradient(model, balanced(data.train, 25, seed=0), temperature=200.0)
    for key in model.weights:
        np.testing.assert_array_equal(scores[key], -model.params[key] * curved[key])
    kept = np.concatenate([scores[k][found.model.masks[k]] for k in model.weights])
    gone = np.concatenate([scores[k][~found.model.masks[k]] for k in model.weights])
    assert kept.max() < gone.min()
    assert kept.min() < 0 < gone.max()
