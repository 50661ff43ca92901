"""Random pruning with a number of weights for each layer."""

from __future__ import annotations

import numpy as np
import pytest

from l0ref import nn
from l0ref.data import Dataset, Splits
from l0ref.errors import ArgumentError
from l0ref.methods import METHODS
from l0ref.nn import Model


def kept(model: Model) -> list[int]:
    return [int(model.mask(key).sum()) for key in model.weights]


def splits() -> Splits:
    empty = Dataset(np.zeros((1, 8)), np.zeros(1, int), 2, "none")
    return Splits(empty, empty, empty, "none", "")


def test_counts_by_layer_are_met_and_stay_nested() -> None:
    """80 + 20 weights: 3:1 of forty kept are 30 and 10; of ninety, 20 is all that the second layer has."""
    model = nn.mlp([8, 10, 2], seed=0)
    draw = METHODS["random"].run
    one = draw(model, splits(), amount=60, seed=3, budget="fc1:3/fc2:1").model
    assert kept(one) == [30, 10]
    assert kept(draw(model, splits(), amount=10, seed=3, budget={"fc1": 1, "fc2": 1}).model) == [70, 20]
    two = draw(one, splits(), amount=84, seed=3, budget={"fc1": 30, "fc2": 10}).model
    assert kept(two) == [12, 4]
    assert all((one.mask(key) >= two.mask(key)).all() for key in model.weights)
    other = draw(model, splits(), amount=60, seed=4, budget="fc1:3/fc2:1").model
    assert kept(other) == [30, 10]
    assert not np.array_equal(other.mask("fc1.weight"), one.mask("fc1.weight"))
    assert kept(draw(model, splits(), amount=97, seed=3, budget="fc1:1/fc2:1000", min_keep=1).model) == [1, 2]


def test_every_weight_of_a_layer_is_as_likely_to_stay() -> None:
    model = nn.mlp([8, 10, 2], seed=0)
    draws = [METHODS["random"].run(model, splits(), amount=60, seed=s, budget="fc1:3/fc2:1").model for s in range(200)]
    often = np.mean([draw.mask("fc1.weight") for draw in draws], axis=0)
    assert abs(often - 30 / 80).max() < 5 * np.sqrt(0.375 * 0.625 / 200)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("proportional", r"^budget='proportional' of method random must give one number for each layer"),
        ("fc1:3", r"^budget='fc1:3' must give one number for each layer"),
        ("half", r"^budget='half' is not one of"),
    ],
)
def test_other_budgets_are_refused(budget: str, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        METHODS["random"].run(nn.mlp([8, 10, 2], seed=0), splits(), amount=60, seed=0, budget=budget)
