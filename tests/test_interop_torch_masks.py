"""Masks of l0ref and of torch.nn.utils.prune: equal without ties, and explained where they differ."""

from __future__ import annotations

import numpy as np
import pytest

from l0ref import nn, prune
from l0ref.errors import ArgumentError
from l0ref.interop.torch import compare_masks, from_torch, to_torch

torch = pytest.importorskip("torch", reason="needs the extra `crosscheck`")
pytestmark = pytest.mark.crosscheck
tprune = pytest.importorskip("torch.nn.utils.prune", reason="needs the extra `crosscheck`")


def owners(model, module):
    return [(module.get_submodule(key.removesuffix(".weight")), "weight") for key in model.weights]


@pytest.mark.parametrize("amount", [0.1, 0.73, 0.95, 40])
@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn"])
def test_global_unstructured_is_our_prune(name, amount):
    model = nn.MODELS[name](seed=3)
    module = to_torch(model)
    tprune.global_unstructured(owners(model, module), tprune.L1Unstructured, amount=amount)
    ours = prune(model, amount=amount)
    theirs = from_torch(module, input_shape=model.input_shape)
    assert all((theirs.masks[k] == ours.masks[k]).all() for k in model.weights)
    assert all((theirs.params[k] == ours.params[k]).all() for k in model.params)
    assert compare_masks(ours, module)


@pytest.mark.parametrize("amount", [0.31, 0.9, 17])
def test_l1_unstructured_is_our_prune_layer_by_layer(amount):
    model = nn.digits_cnn(seed=4)
    module = to_torch(model)
    for owner, what in owners(model, module):
        tprune.l1_unstructured(owner, what, amount=amount)
    found = compare_masks(prune(model, amount=amount, scope="layer"), module)
    assert found.reason == "equal"
    assert [row.ours for row in found.rows] == [row.theirs for row in found.rows]


W1 = np.array([[1.0, -2.0, 2.0], [3.0, 2.0, 5.0]])
W2 = np.array([[2.0, 4.0], [-2.0, 7.0]])


def two_layers(mask1, mask2, *, theirs=None, w1=W1, w2=W2):
    """A model pruned by two masks, and a module of the same weights pruned by two others."""
    params = {"a.weight": w1, "b.weight": w2}
    layers = (nn.Linear("a", 3, 2, bias=False), nn.Linear("b", 2, 2, bias=False))
    model = nn.Model(layers, (3,), params)
    module = to_torch(model)
    for (owner, what), mask in zip(owners(model, module), theirs, strict=True):
        tprune.custom_from_mask(owner, what, torch.tensor(mask))
    masks = {"a.weight": np.array(mask1, dtype=bool), "b.weight": np.array(mask2, dtype=bool)}
    return model.replace(masks=masks), module


ALL2 = [[1, 1], [1, 1]]
CASES = {  # our two masks, their two masks, reason
    "equal": ([[0, 1, 1], [1, 1, 1]], ALL2, [[0, 1, 1], [1, 1, 1]], ALL2, "equal"),
    "tie in a layer": ([[0, 0, 1], [1, 1, 1]], ALL2, [[0, 1, 0], [1, 1, 1]], ALL2, "tie"),
    "tie, the last one": ([[0, 0, 1], [1, 1, 1]], ALL2, [[0, 1, 1], [1, 0, 1]], ALL2, "tie"),
    "tie across layers": ([[0, 0, 1], [1, 1, 1]], ALL2, [[0, 1, 1], [1, 1, 1]], [[0, 1], [1, 1]], "tie"),
    "tie in both layers": (
        [[0, 0, 1], [1, 1, 1]], [[0, 1], [1, 1]], [[0, 1, 0], [1, 1, 1]], [[1, 1], [0, 1]], "tie",
    ),
    "one more": ([[0, 0, 0], [1, 0, 1]], ALL2, [[0, 0, 0], [0, 0, 1]], ALL2, "count"),
    "one fewer": ([[0, 0, 0], [0, 0, 1]], ALL2, [[0, 0, 0], [1, 0, 1]], ALL2, "count"),
    "one more in each layer": ([[0, 0, 0], [1, 0, 1]], [[0, 1], [0, 1]], [[0, 0, 0], [0, 0, 1]], [[0, 0], [0, 1]],
                               "count"),
    "a count of ties": ([[0, 0, 1], [1, 1, 1]], ALL2, [[0, 0, 0], [1, 1, 1]], ALL2, "count"),
    "a larger one went": ([[0, 1, 1], [1, 1, 1]], ALL2, [[1, 1, 1], [0, 1, 1]], ALL2, "order"),
    "more went, out of order": ([[0, 1, 1], [1, 1, 1]], ALL2, [[1, 0, 0], [1, 1, 1]], ALL2, "order"),
    "one went beside a smaller that stayed": ([[1, 1, 1], [0, 1, 1]], ALL2, [[1, 0, 1], [0, 1, 1]], ALL2, "order"),
    "layer against global": ([[0, 0, 1], [1, 1, 1]], ALL2, [[1, 1, 1], [1, 1, 1]], [[0, 0], [0, 1]], "order"),
    "order in one layer, tie in the other": (
        [[0, 1, 1], [1, 1, 1]], [[0, 1], [1, 1]], [[1, 1, 1], [0, 1, 1]], [[1, 1], [0, 1]], "order",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_difference_is_explained(case):
    ours1, ours2, theirs1, theirs2, reason = CASES[case]
    model, module = two_layers(ours1, ours2, theirs=(theirs1, theirs2))
    found = compare_masks(model, module)
    assert found.reason == reason
    assert bool(found) == (reason == "equal")


def test_half_an_entry_is_rounded_to_even_by_pytorch():
    layers = (nn.Linear("a", 5, 1, bias=False),)
    model = nn.Model(layers, (5,), {"a.weight": np.array([[5.0, 4.0, 3.0, 2.0, 1.0]])})
    module = to_torch(model)
    tprune.l1_unstructured(module.a, "weight", amount=0.5)
    found = compare_masks(prune(model, amount=0.5), module)
    assert (found.reason, found.rows[0].ours, found.rows[0].theirs) == ("count", 2, 3)


def test_text_names_the_entries():
    ours1, ours2, theirs1, theirs2, _ = CASES["tie across layers"]
    model, module = two_layers(ours1, ours2, theirs=(theirs1, theirs2))
    assert str(compare_masks(model, module)).splitlines() == [
        "masks: a tie: the entries that differ have the same magnitude",
        "a.weight: of 6 entries l0ref keeps 4, PyTorch 5; 1 differ: only PyTorch keeps (0, 1)",
        "b.weight: of 4 entries l0ref keeps 4, PyTorch 3; 1 differ: only l0ref keeps (0, 0)",
    ]


def test_unpruned_sides_keep_everything():
    model = nn.mlp((4, 3, 2), seed=0)
    module = to_torch(model)
    assert compare_masks(model, module)
    found = compare_masks(prune(model, amount=5), module)
    assert found.reason == "count"
    assert sum(row.differing for row in found.rows) == 5


def test_masks_are_matched_by_position_where_names_differ():
    model = nn.mlp((4, 3, 2), seed=0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    tprune.l1_unstructured(module[0], "weight", amount=2)
    assert [row.theirs for row in compare_masks(model, module).rows] == [10, 6]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("a module", r"^module is a str, expected a torch.nn.Module; pass the network itself$"),
        (
            torch.nn.Linear(2, 3),
            r"^module lacks 'fc1.weight' and its parameters weight \(3, 2\), bias \(3,\) do not mat",
        ),
        (torch.nn.ReLU(), r"^module lacks 'fc1.weight' and its parameters \(none\) do not match"),
    ],
)
def test_bad_module(module, said):
    with pytest.raises(ArgumentError, match=said):
        compare_masks(nn.mlp((4, 3, 2), seed=0), module)


def test_nan_has_no_order():
    model = nn.mlp((4, 3), seed=0)
    module = to_torch(model)
    with torch.no_grad():
        module.fc1.weight[0, 0] = float("nan")
    with pytest.raises(ArgumentError, match=r"^module has NaN in 'fc1.weight', so its entries have no order"):
        compare_masks(model, module)
