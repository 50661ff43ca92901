"""The Fisher diagonal against one gradient for every sample, and the order it gives."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from l0ref import nn
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.data import Dataset, Splits
from l0ref.methods import METHODS
from l0ref.methods.curvature import hessian_diagonals
from l0ref.methods.fisher import drawn, fisher_diagonal
from l0ref.methods.registry import calibration
from l0ref.nn import Model
from l0ref.streams import stream

SEED = int(os.environ.get("L0REF_SEED", "0"))


def convolutional() -> Model:
    """Groups, strides, padding, dilation, a shortcut and a batch norm, ahead of two linear layers."""
    layers = (
        nn.Conv2d("conv1", 2, 4, 3, padding=1), nn.ReLU("r1"),
        nn.Conv2d("conv2", 4, 6, (3, 2), stride=(2, 1), dilation=(1, 2), padding=1, groups=2), nn.Tanh("t2"),
        nn.Residual("sum", (nn.Conv2d("inner", 6, 6, 1, groups=3), nn.ReLU("r3"))), nn.BatchNorm2d("norm", 6),
        nn.Flatten("flat"), nn.Linear("fc1", 108, 7), nn.ReLU("r4"), nn.Linear("fc2", 7, 4),
    )  # fmt: skip
    return Model.init(layers, input_shape=(2, 6, 6), seed=SEED, dtype=np.float64)


NETWORKS: dict[str, Any] = {
    "linear": lambda: nn.mlp((5, 8, 6, 4), seed=SEED, dtype=np.float64),
    "convolutional": convolutional,
}


def made_up(model: Model, n: int) -> Splits:
    rng = np.random.default_rng([SEED, 3])
    x = rng.standard_normal((n, *model.input_shape)).astype(model.dtype)
    part = Dataset(x, rng.integers(0, 4, n), 4, "made up")
    return Splits(part, part, part, "made up", "none")


def one_by_one(model: Model, x: Any, labels: Any) -> dict[str, Any]:
    """The mean over samples of squared gradients of log p(label), each on a tape of its own."""
    total = {key: np.zeros_like(model.params[key]) for key in model.weights}
    for image, label in zip(x, labels, strict=True):
        params = {key: Tensor(p) for key, p in model.params.items()}
        z, _ = model.forward(image[None], params=params)
        p = np.exp(z.data[0] - z.data[0].max())
        bar = -p / p.sum()
        bar[label] += 1
        for key, g in zip(model.weights, grad(z, [params[k] for k in model.weights], y_bar=bar[None]), strict=True):
            total[key] += g**2 / len(x)
    return total


@pytest.mark.parametrize("name", NETWORKS)
def test_fisher_is_the_mean_of_squared_gradients_of_each_sample(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, chunk = NETWORKS[name](), 7
    monkeypatch.setattr("l0ref.methods.fisher.CHUNK", chunk)
    data = made_up(model, 17).train
    found = fisher_diagonal(model, data, rng=np.random.default_rng(9))
    rng = np.random.default_rng(9)
    labels = np.concatenate([drawn(model.logits(data.x[i : i + chunk]), rng) for i in range(0, 17, chunk)])
    assert len(set(labels.tolist())) > 1
    for key, f in one_by_one(model, data.x, labels).items():
        assert f.max() > 0
        np.testing.assert_allclose(found[key], f, rtol=1e-9, atol=1e-12 * f.max())


def test_labels_are_drawn_from_the_model() -> None:
    """As often as its probabilities say, whatever is added to all logits; four standard errors."""
    z = np.log([0.6, 0.3, 0.1, 0.0 + 1e-30]) + 500.0
    n = 20_000
    labels = drawn(np.tile(z, (n, 1)), np.random.default_rng([SEED, 4]))
    shares = np.bincount(labels, minlength=4) / n
    np.testing.assert_allclose(shares, [0.6, 0.3, 0.1, 0.0], atol=4 * 0.5 / np.sqrt(n))
    assert shares[3] == 0


def test_score_record_and_randomness() -> None:
    model = NETWORKS["linear"]()
    data = made_up(model, 60)
    run = METHODS["fisher"].run
    found = run(model, data, amount=0.5, seed=4, samples=20)
    few = calibration(model, data, samples=20, seed=4)
    diagonal = fisher_diagonal(model, few, rng=stream(4, "calibrate", 1))
    gone, left = [], []
    for key in model.weights:
        np.testing.assert_array_equal(found.record["fisher"][key], diagonal[key])
        score = np.abs(model.params[key]) * np.sqrt(np.sqrt(diagonal[key]))
        np.testing.assert_allclose(found.record["scores"][key], score, rtol=1e-12)
        gone.append(score[~found.model.mask(key)])
        left.append(score[found.model.mask(key)])
    assert np.concatenate(gone).max() <= np.concatenate(left).min()
    other = run(model, data, amount=0.5, seed=5, samples=20).record["fisher"]
    assert any((other[key] != diagonal[key]).any() for key in model.weights)
    plain = run(model, data, amount=0.5, seed=4, power=0.0).model
    by_size = METHODS["magnitude"].run(model, data, amount=0.5, seed=4).model
    for key in model.weights:
        np.testing.assert_array_equal(plain.mask(key), by_size.mask(key))
    with pytest.raises(ValueError, match=r"^power=-1 must be 0 or greater"):
        run(model, data, amount=0.5, seed=4, power=-1)


def test_tiny_gradients_in_float32_do_not_vanish() -> None:
    """Squares are taken in float64: in float32 those of a network that is sure of itself would be 0."""
    model = NETWORKS["linear"]().astype(np.float32)
    sure = model.replace(params={**model.params, "fc3.bias": np.float32([60, 0, 0, 0])})
    found = fisher_diagonal(sure, made_up(sure, 20).train, rng=np.random.default_rng(0))
    assert 0 < max(f.max() for f in found.values()) < 1e-40


def test_a_regression_has_no_labels_to_draw() -> None:
    model = NETWORKS["linear"]()
    data = made_up(model, 20)
    values = Dataset(data.train.x, model.logits(data.train.x), 0, "values")
    with pytest.raises(
        ValueError, match=r"^data='made up' has no classes to draw labels from; use method='magnitude'$"
    ):
        METHODS["fisher"].run(model, Splits(values, values, values, "made up", "none"), amount=0.5, seed=0)


def test_its_mean_over_labels_is_the_diagonal_of_gauss_newton() -> None:
    """Two ways to one matrix: an average over many draws comes near `curvature.hessian_diagonals`."""
    model = NETWORKS["linear"]()
    data = made_up(model, 5).train
    rng = np.random.default_rng([SEED, 5])
    mean = sum(fisher_diagonal(model, data, rng=rng)["fc3.weight"] for _ in range(400)) / 400
    exact = hessian_diagonals(model, data)["fc3"][:, :-1]
    np.testing.assert_allclose(mean, exact, rtol=0.25, atol=0.05 * exact.max())
