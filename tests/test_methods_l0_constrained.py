"""Layers under an l0 constraint: the solver within masks, steps through the activation, the proven forms."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from l0ref import nn
from l0ref.data import Splits
from l0ref.layerwise import Certificate, Quadratic, solve
from l0ref.methods import METHODS, Pruned, l0_constrained
from l0ref.nn import Model
from l0ref.nn.activations import ELEMENTWISE
from tests.method_contract import networks, splits


def run(model: Model, data: Splits, amount: float, seed: int = 0, **options: Any) -> Pruned:
    return METHODS["l0_constrained"].run(model, data, amount=amount, seed=seed, **options)


def test_allowed_inputs_only_and_the_best_of_them(rng: np.random.Generator) -> None:
    X = rng.standard_normal((60, 7))
    X[:, 2] = 1.0  # constant, so not a live input
    y = X @ rng.standard_normal(7)
    allowed = np.array([True, False, True, True, True, False, True])
    row = Quadratic.from_samples(X, y[:, None], ridge=1e-3).row(0)
    w = solve(row.within(allowed), 2, seed=0).weights
    assert not w[~allowed].any()
    assert np.count_nonzero(w) == 2
    pairs = (np.isin(np.arange(7), c) for c in itertools.combinations([0, 3, 4, 6], 2))
    assert row.objective(w) == pytest.approx(min(row.objective(row.refit(s)) for s in pairs), rel=1e-9)


LIMITS = {"Clip": {"min": -0.3, "max": 0.6}}
ACTIVATIONS = {each.__name__: each("act", **LIMITS.get(each.__name__, {})) for each in ELEMENTWISE}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_steps_through_every_activation_lower_its_error(name: str) -> None:
    layers = (nn.Linear("fc1", 12, 10), ACTIVATIONS[name], nn.Linear("fc2", 10, 3))
    model, data = Model.init(layers, input_shape=(12,), seed=1, dtype=np.float64), splits((12,), n=200)
    before, after = (run(model, data, 0.5, scheme="parallel", newton=n).record["activated"] for n in (0, 8))
    assert after["fc1.weight"] < before["fc1.weight"] * (1 - 1e-4)
    assert after["fc2.weight"] == before["fc2.weight"]  # the last layer has no activation
    plain = METHODS["magnitude"].run(model, data, amount=0.5, seed=0).model
    rest = model.replace(params={**model.params, "fc1.weight": plain.params["fc1.weight"]})
    first = [{k: v for k, v in m.params.items() if "fc1" in k} for m in (rest, model)]
    pruned, wanted = (nn.Model(model.architecture[:2], (12,), params).logits(data.train.x) for params in first)
    assert after["fc1.weight"] < np.linalg.norm(pruned - wanted) / np.linalg.norm(wanted)


def test_steps_through_the_activation_end_where_its_error_is_stationary() -> None:
    model, data = nn.mlp((12, 4, 3), seed=1, activation="tanh", dtype=np.float64), splits((12,), n=200)
    found = run(model, data, 0.5, scheme="parallel", newton=40).model
    w, b, x = found.params["fc1.weight"], found.params["fc1.bias"], data.train.x
    y = np.tanh(x @ model.params["fc1.weight"].T + model.params["fc1.bias"])
    a = np.tanh(x @ w.T + b)
    slope = ((a - y) * (1 - a**2)).T @ x
    assert np.abs(slope[w != 0]).max() < 1e-5 * np.abs(slope[w == 0]).max()


def test_a_step_that_raises_the_error_by_little_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = networks()["mlp"]
    start, calls = run(model, data, 0.6, newton=0).model, itertools.count()

    def uphill(task: Any, i: int, s: Any, v: Any) -> tuple[float, Any, Any]:
        return 1.0 + 1e-6 * next(calls), np.eye(len(v)), np.ones(len(v))

    monkeypatch.setattr(l0_constrained._Task, "_squares", uphill)
    for key, w in run(model, data, 0.6, newton=5).model.params.items():
        np.testing.assert_array_equal(w, start.params[key])
    assert next(calls) > 0


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_samples_a_few_at_a_time_give_the_same_steps(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = networks()[kind]
    at_once = run(model, data, 0.6).model
    monkeypatch.setattr(l0_constrained, "SAMPLES", 7)
    in_sevens = run(model, data, 0.6).model
    for key, w in at_once.params.items():
        np.testing.assert_allclose(in_sevens.params[key], w, rtol=1e-8, atol=1e-10)


def test_the_cascade_aims_at_the_trained_outputs() -> None:
    model, data = networks()["mlp"]
    cascade, parallel = (run(model, data, 0.6, scheme=s).model for s in ("cascade", "parallel"))
    wanted = model.logits(data.train.x)
    apart = [np.linalg.norm(m.logits(data.train.x) - wanted) for m in (cascade, parallel)]
    assert apart[0] < apart[1]
    np.testing.assert_array_equal(cascade.params["fc1.weight"], parallel.params["fc1.weight"])


@pytest.mark.parametrize("proof", ["bounds", "cuts"])
@pytest.mark.parametrize("form", ["soft", "hard"])
def test_the_relu_forms_are_proven_and_silent_where_they_must_be(form: str, proof: str) -> None:
    model, data = nn.mlp((6, 4, 3), seed=1, dtype=np.float64), splits((6,), n=80)
    found = run(model, data, 0.4, form=form, proof=proof)
    assert 0 <= found.record["gap"]["fc1.weight"] < 1e-5
    assert found.record["removed"] == found.record["asked"]
    z = data.train.x @ model.params["fc1.weight"].T + model.params["fc1.bias"]
    answer = data.train.x @ found.model.params["fc1.weight"].T + found.model.params["fc1.bias"]
    if form == "hard":
        assert answer[z <= 0].max() < 1e-6
    assert 0 < found.record["activated"]["fc1.weight"] < 1


def test_the_gap_of_a_layer_is_the_largest_of_all_its_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = (nn.Conv2d("conv", 2, 4, 2, groups=2), nn.ReLU("relu"), nn.Flatten("flat"), nn.Linear("fc", 36, 3))
    model = Model.init(layers, input_shape=(2, 4, 4), seed=1, dtype=np.float64)
    prove, gaps = l0_constrained.prove, iter([0.25, 0.5, 0.125, 0.0])

    def apart(*args: Any, **options: Any) -> Certificate:
        return dataclasses.replace(prove(*args, **options), lower=1 - next(gaps), upper=1.0)

    monkeypatch.setattr(l0_constrained, "prove", apart)
    found = run(model, splits((2, 4, 4)), 0.5, form="soft")
    assert found.record["gap"] == {"conv.weight": 0.5}
    assert next(gaps, None) is None


def test_layers_keep_exactly_what_magnitude_leaves_them() -> None:
    model, data = networks()["cnn"]
    found, plain = run(model, data, 0.7).model, METHODS["magnitude"].run(model, data, amount=0.7, seed=0).model
    assert {k: int(m.sum()) for k, m in found.masks.items()} == {k: int(m.sum()) for k, m in plain.masks.items()}
