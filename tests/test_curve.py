"""Accuracy of one network pruned ever deeper, against a ranking by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from l0ref import nn
from l0ref.data import Dataset, Splits
from l0ref.errors import L0RefError
from l0ref.experiment.curve import pruning_curve
from l0ref.nn import Model
from l0ref.pruning import Cut

RATIOS = (1.0, 7.0, 2.0, 40 / 3)


@pytest.fixture
def problem(rng: np.random.Generator) -> tuple[Model, Splits]:
    """A linear network with 40 weights, and labels it often gets right."""
    model = nn.mlp((8, 5), seed=3, dtype=np.float64)
    x = rng.standard_normal((300, 8))
    noisy = x @ model.params["fc1.weight"].T + 0.3 * rng.standard_normal((300, 5))
    return model, splits(Dataset(x, noisy.argmax(axis=1), 5, "made up"))


def splits(data: Dataset) -> Splits:
    """Only the validation set is read; the others are empty."""
    none = data.take(np.arange(0))
    return Splits(none, data, none, "made up", "none")


def accuracy_by_hand(model: Model, data: Dataset, kept: int) -> float:
    """Keep the `kept` largest |w| of a linear network."""
    w = model.params["fc1.weight"].copy().ravel()
    for i in sorted(range(w.size), key=lambda i: abs(w[i]))[: w.size - kept]:
        w[i] = 0.0
    scores = data.x @ w.reshape(5, 8).T + model.params["fc1.bias"]
    return sum(int(np.argmax(row) == label) for row, label in zip(scores, data.y, strict=True)) / len(data)


def test_pruning_curve_by_hand(problem: tuple[Model, Splits]) -> None:
    model, data = problem
    before = {k: v.copy() for k, v in model.params.items()}
    got = pruning_curve(model, data, RATIOS)
    assert got == [accuracy_by_hand(model, data.validation, math.floor(40 / ratio)) for ratio in RATIOS]
    assert len(set(got)) == len(RATIOS)
    assert all(np.array_equal(model.params[k], before[k]) for k in before)
    assert model.masks == {}


def test_pruning_curve_of_no_ratios(problem: tuple[Model, Splits]) -> None:
    assert pruning_curve(*problem, []) == []


def test_random_scores_follow_the_seed(problem: tuple[Model, Splits]) -> None:
    chance = Cut(amount=0.0, method="random")
    first, again, other = (pruning_curve(*problem, [2.0, 4.0], like=chance, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert first != pruning_curve(*problem, [2.0, 4.0])


def test_no_layer_collapses() -> None:
    model = nn.mlp((6, 4, 3), seed=0, dtype=np.float64)
    tiny = model.replace(params={**model.params, "fc2.weight": model.params["fc2.weight"] * 1e-6})
    data = Dataset(np.ones((2, 6)), np.array([0, 1]), 3, "made up")
    assert len(pruning_curve(tiny, splits(data), [9.0])) == 1


@pytest.mark.parametrize(
    ("ratios", "options", "said"),
    [
        ([0.5], {}, r"^ratio=0\.5 must lie in \[1, 40\]"),
        ([41.0], {}, r"^ratio=41\.0 must lie in \[1, 40\]"),
        ([40.0], {"like": Cut(amount=0.0, min_keep=2)}, r"^amount=39 leaves 1 of 40 weights, and the layer keeps"),
    ],
)
def test_pruning_curve_refuses(
    problem: tuple[Model, Splits], ratios: list[float], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(L0RefError, match=said):
        pruning_curve(*problem, ratios, **options)
