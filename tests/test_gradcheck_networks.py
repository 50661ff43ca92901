"""`check_model`: whole networks with penalty, masks, batch norm and dropout; faults of training code are named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from l0ref import nn
from l0ref.errors import ArgumentError, GradientError
from l0ref.nn import Model
from l0ref.penalty import LAYER_WEIGHTS, Penalty
from l0ref.surrogates import L0, CappedL1, Laplace
from l0ref.testing import GradcheckReport, check_model
from l0ref.testing.networks import Objective
from l0ref.testing.suites import check_named_model
from l0ref.validate import Array

Arrays = dict[str, Array]
PENALTY = Penalty(surrogate=Laplace(beta=5.0), alpha=0.03, l2=0.01)


def cnn(seed: int, *, dropout: float = 0.0) -> Model:
    """Convolution, batch norm, ReLU, max-pool, residual block, linear; all sizes different."""
    layers: list[Any] = [
        nn.Conv2d("conv1", 2, 3, 3, padding=1, bias=False),
        nn.BatchNorm2d("norm1", 3),
        nn.ReLU("relu1"),
        nn.MaxPool2d("pool1", 2),
        nn.Residual("block", (nn.Conv2d("block.conv", 3, 3, 3, padding=1), nn.Tanh("block.tanh"))),
        nn.Flatten("flatten"),
        *([nn.Dropout("drop", dropout)] if dropout else []),
        nn.Linear("fc", 12, 4),
    ]
    model = Model.init(layers, input_shape=(2, 4, 5), seed=seed, dtype=np.float64)
    rng = np.random.default_rng(seed)
    return model.replace(params={k: w + 0.1 * rng.normal(size=w.shape) for k, w in model.params.items()})


def masked(model: Model, seed: int = 0, keep: float = 0.6) -> Model:
    rng = np.random.default_rng(seed)
    return model.replace(masks={k: rng.random(model.params[k].shape) < keep for k in model.weights})


def batch(model: Model, seed: int = 0, n: int = 5) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, *model.input_shape)), rng.integers(model.classes, size=n)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_true_gradients_pass(seed: int, fast: bool, training: bool) -> None:
    model = masked(cnn(seed, dropout=0.3), seed)
    report = check_model(
        model, *batch(model, seed), penalty=PENALTY, training=training, fast_mode=fast, label_smoothing=0.1, seed=seed
    )
    assert [p.name for p in report.parameters] == list(model.params)
    assert [p.masked for p in report.parameters if p.name in model.masks] == [
        int((~m).sum()) for m in model.masks.values()
    ]
    assert report.checked == model.n_parameters - sum(p.masked for p in report.parameters)
    assert report.skipped == 0


@pytest.mark.parametrize("scheme", LAYER_WEIGHTS)
@pytest.mark.parametrize("groups", ["joint", "kind"])
def test_every_layer_weight_scheme_passes(scheme: str, groups: str) -> None:
    model = masked(cnn(0))
    penalty = Penalty(alpha=0.02, l2=1e-3, layer_weights=scheme, groups=groups)
    assert check_model(model, *batch(model), penalty=penalty, max_entries=6)


def test_zoo_network_passes() -> None:
    report = check_named_model("digits_cnn", max_entries=2)
    assert report, report.text()
    assert report.checked > 10000
    assert sum(p.masked for p in report.parameters) > 5000


def test_float32_model_is_checked_in_float64() -> None:
    model = nn.mlp((4, 5, 3), seed=0)
    assert model.dtype == np.float32
    report = check_model(model, *batch(model), penalty=PENALTY)
    assert {p.dtype for p in report.parameters} == {"float64"}
    assert report.rtol == 1e-8


def test_weights_at_zero_sit_on_the_kink_of_the_penalty() -> None:
    model = nn.mlp((4, 3, 2), seed=0, activation="tanh", dtype=np.float64)
    w = model.params["fc1.weight"].copy()
    w[1, 2] = w[0, 0] = 0.0
    model = model.replace(params={**model.params, "fc1.weight": w})
    report = check_model(model, *batch(model), penalty=PENALTY)
    found = {f.index: f for f in report.findings if f.status == "kink"}
    assert set(found) == {(0, 0), (1, 2)}
    price = 0.03 * 5.0 * 1.0  # alpha beta C of the largest layer
    for f in found.values():
        assert f.right - f.left == pytest.approx(2 * price, rel=1e-6)
        assert f.analytic == pytest.approx((f.left + f.right) / 2, rel=1e-6)  # the tape's slope alone


def test_corner_of_capped_l1_in_a_network() -> None:
    model = nn.mlp((3, 2), seed=0, dtype=np.float64)
    w = model.params["fc1.weight"].copy()
    w[0, 1] = 0.25
    model = model.replace(params={**model.params, "fc1.weight": w})
    report = check_model(model, *batch(model), penalty=Penalty(surrogate=CappedL1(theta=0.25), alpha=0.1))
    assert [f.where for f in report.findings if f.status == "kink"] == ["fc1.weight[0, 1]"]


def test_bias_before_batch_norm_is_flat_and_said_so() -> None:
    layers = (nn.Linear("fc1", 3, 4), nn.BatchNorm1d("norm", 4), nn.Tanh("tanh"), nn.Linear("fc2", 4, 2))
    model = Model.init(layers, input_shape=(3,), seed=0, dtype=np.float64)
    report = check_model(model, *batch(model, n=7))
    assert report
    assert report.notes == ("the value does not move along fc1.bias: the gradient is zero, and should be",)


# --- faults -----------------------------------------------------------------------------------------------------------


def wrong_gradient(model: Model, x: Array, y: Array, change: Callable[[Arrays, Arrays], None]) -> GradcheckReport:
    objective = Objective(model, x, y, PENALTY, True, 0.0, 0)

    def gradient(params: Arrays) -> Arrays:
        found = objective.gradient(params)
        change(found, params)
        return found

    return check_model(model, x, y, penalty=PENALTY, gradient=gradient, raise_exception=False)


def unmask(g: Arrays, _: Arrays) -> None:
    g["fc.weight"][:] += 1e-300


def drop_l0(g: Arrays, w: Arrays) -> None:
    g["block.conv.weight"] -= penalty_part(w, "block.conv.weight", PENALTY, l2=False)


def twice_l2(g: Arrays, w: Arrays) -> None:
    g["fc.weight"] += 2 * 0.01 * w["fc.weight"]


def half_l2(g: Arrays, w: Arrays) -> None:
    g["fc.weight"] -= 0.01 * w["fc.weight"]


def no_penalty(g: Arrays, w: Arrays) -> None:
    g["fc.weight"] -= penalty_part(w, "fc.weight", PENALTY, l2=True)


def penalty_part(w: Arrays, key: str, penalty: Penalty, *, l2: bool) -> Array:
    """By hand: C alpha beta exp(-beta |w|) sign(w) + 2 l2 w, C = sqrt(n / n_max); layers have 54, 81 and 48 weights."""
    size = {"conv1.weight": 54, "block.conv.weight": 81, "fc.weight": 48}[key]
    a = w[key]
    g = np.sqrt(size / 81) * penalty.alpha * 5.0 * np.exp(-5.0 * np.abs(a)) * np.sign(a)
    return g + 2 * penalty.l2 * a if l2 else g


def batch_sum(g: Arrays, _: Arrays) -> None:
    g["fc.bias"] *= 5


def one_wrong(g: Arrays, _: Arrays) -> None:
    index = np.unravel_index(np.abs(g["block.conv.weight"]).argmax(), g["block.conv.weight"].shape)
    g["block.conv.weight"][index] *= 1.001


FAULTS = [
    (drop_l0, "block.conv.weight", "a wrong term: the gradient of the l0 penalty is missing"),
    (twice_l2, "fc.weight", "a wrong term: the gradient of the l2 penalty is counted twice"),
    (half_l2, "fc.weight", "a wrong term: the gradient of the l2 penalty is half of what it should be"),
    (no_penalty, "fc.weight", "a wrong term: the gradient of the whole penalty is missing"),
    (batch_sum, "fc.bias", "a missing mean: 5 times too large, and 5 is the batch size"),
    (one_wrong, "block.conv.weight", "single entries: 1 of"),
]


@pytest.mark.parametrize(("change", "key", "diagnosis"), FAULTS, ids=[f[0].__name__ for f in FAULTS])
def test_fault_in_training_code_is_named(change: Any, key: str, diagnosis: str) -> None:
    model = cnn(1)
    report = wrong_gradient(model, *batch(model), change)
    assert [p.name for p in report.parameters if not p.passed] == [key]
    (p,) = [p for p in report.parameters if p.name == key]
    assert diagnosis in p.diagnosis
    assert report.findings[0].parameter == key


def test_gradient_under_a_mask_must_be_exactly_zero() -> None:
    model = masked(cnn(1))
    report = wrong_gradient(model, *batch(model), unmask)
    (p,) = [p for p in report.parameters if not p.passed]
    assert p.name == "fc.weight"
    assert p.failed == int((~model.masks["fc.weight"]).sum())
    assert p.diagnosis.startswith("looks like it is off by the mask: not exactly 0 where the mask is False")
    assert not model.masks["fc.weight"][p.findings[0].index]

    def unmasked_training(g: Arrays, w: Arrays) -> None:
        free = dataclasses.replace(model, masks={})
        g.update(Objective(free, *batch(model), PENALTY, True, 0.0, 0).gradient(w))

    report = wrong_gradient(model, *batch(model), unmasked_training)
    assert {p.name for p in report.parameters if not p.passed} == set(model.masks)


def test_masked_weights_take_no_part_in_the_value() -> None:
    model = masked(cnn(1))
    objective = Objective(model, *batch(model), PENALTY, True, 0.0, 0)
    moved = {k: w + 7.0 * ~model.mask(k) if k in model.masks else w for k, w in model.params.items()}
    assert objective.value(moved) == objective.value(dict(model.params))
    assert all((g[~model.masks[k]] == 0).all() for k, g in objective.gradient(moved).items() if k in model.masks)


# --- messages ---------------------------------------------------------------------------------------------------------


def test_messages() -> None:
    model = nn.mlp((3, 2), seed=0, dtype=np.float64)
    x, y = batch(model)
    with pytest.raises(
        ArgumentError, match=r"^model is int, expected an l0ref Model; check others with check_gradient"
    ):
        check_model(3, x, y)  # type: ignore[arg-type]
    with pytest.raises(GradientError, match=r"^the network raised ShapeError: x has shape \(5, 2\), expected \(N, 3\)"):
        check_model(model, x[:, :2], y)
    with pytest.raises(GradientError, match=r"^the network raised ArgumentError: target holds the class index 1\d"):
        check_model(model, x, y + 9)
    with pytest.raises(GradientError, match=r"^gradient returned no 'fc1.weight', expected a dict"):
        check_model(model, x, y, gradient=lambda _: {})
    with pytest.raises(GradientError, match=r"^gradient returned a list, expected a dict"):
        check_model(model, x, y, gradient=lambda _: [])  # type: ignore[arg-type, return-value]
    with pytest.raises(
        GradientError, match=r"^gradient raised ArgumentError: pull has the surrogate L0\(\), whose slope"
    ):
        check_model(model, x, y, penalty=Penalty(surrogate=L0(), alpha=0.1))


def test_parameters_are_named_with_their_index() -> None:
    model = nn.mlp((3, 2), seed=0, dtype=np.float64)

    def gradient(params: Arrays) -> Arrays:
        g = Objective(model, *batch(model), Penalty(), True, 0.0, 0).gradient(params)
        g["fc1.weight"][1, 2] += 0.5
        return g

    report = check_model(model, *batch(model), gradient=gradient, raise_exception=False)
    assert report.findings[0].where == "fc1.weight[1, 2]"
    assert report.target == "a network of 8 parameters"
