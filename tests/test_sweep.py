"""The sweep of dead units: the function stays, the weights go."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from l0ref import nn
from l0ref.pruning import sweep


def masked(model: nn.Model, **masks: np.ndarray) -> nn.Model:
    """The model under masks given by layer name; biases are drawn so that constants are not zero."""
    rng = np.random.default_rng(9)
    params = {k: rng.normal(size=p.shape).astype(p.dtype) if k.endswith("bias") else p for k, p in model.params.items()}
    return model.replace(params=params, masks={f"{k}.weight": m for k, m in masks.items()})


def full(model: nn.Model, name: str) -> np.ndarray:
    return np.ones(model.params[f"{name}.weight"].shape, bool)


def assert_same_function(before: nn.Model, after: nn.Model) -> None:
    x = np.random.default_rng(0).normal(size=(6, *before.input_shape))
    np.testing.assert_allclose(after.logits(x), before.logits(x), rtol=1e-12, atol=1e-12)


def test_unit_without_inputs_is_folded_into_the_next_bias() -> None:
    net = nn.mlp((3, 4, 2), seed=0, dtype=np.float64)
    m = full(net, "fc1")
    m[2] = False
    before = masked(net, fc1=m)
    result = sweep(before)
    assert result.units == {"fc1": 1}
    assert result.weights == 2  # its two outgoing weights
    assert not result.model.masks["fc2.weight"][:, 2].any()
    assert result.model.masks["fc2.weight"][:, [0, 1, 3]].all()
    assert_same_function(before, result.model)
    constant = max(before.params["fc1.bias"][2], 0.0)
    np.testing.assert_allclose(
        result.model.params["fc2.bias"],
        before.params["fc2.bias"] + constant * before.params["fc2.weight"][:, 2],
        rtol=1e-14,
    )


def test_unit_without_outputs_loses_inputs_and_bias() -> None:
    net = nn.mlp((3, 4, 2), seed=0, dtype=np.float64)
    m = full(net, "fc2")
    m[:, 1] = False
    before = masked(net, fc2=m)
    result = sweep(before)
    assert result.units == {"fc1": 1}
    assert result.weights == 3
    assert not result.model.masks["fc1.weight"][1].any()
    assert result.model.params["fc1.bias"][1] == 0
    assert_same_function(before, result.model)


def test_sweep_repeats_until_nothing_changes() -> None:
    net = nn.mlp((3, 2, 2, 2), seed=0, dtype=np.float64)
    last = full(net, "fc3")
    last[:, 0] = False  # fc2 unit 0 is unread, so the only reader of fc1 unit 1 goes, and then its inputs
    middle = full(net, "fc2")
    middle[1, 1] = False
    before = masked(net, fc2=middle, fc3=last)
    result = sweep(before)
    assert result.units == {"fc1": 1, "fc2": 1}
    assert not result.model.masks["fc1.weight"][1].any()
    assert_same_function(before, result.model)


def test_constants_run_forward_through_several_layers() -> None:
    net = nn.mlp((3, 2, 2, 2), seed=0, activation="sigmoid", dtype=np.float64)
    first, middle = np.ones((2, 3), bool), np.ones((2, 2), bool)
    first[1] = False
    middle[0, 0] = False  # unit 0 of fc2 reads the constant unit of fc1 alone
    before = masked(net, fc1=first, fc2=middle)
    result = sweep(before)
    assert result.units == {"fc1": 1, "fc2": 1}
    assert_same_function(before, result.model)


def test_network_without_a_path_is_left_as_it_is() -> None:
    net = nn.mlp((3, 2, 2, 2), seed=0, activation="sigmoid", dtype=np.float64)
    before = masked(net, fc1=np.zeros((2, 3), bool))
    result = sweep(before)
    assert result.units == {}
    assert result.weights == 0
    assert result.model.masks["fc2.weight"].all()
    assert_same_function(before, result.model)


def test_filter_before_pooling_and_flatten() -> None:
    net = nn.digits_cnn(seed=0, dtype=np.float64)
    m = full(net, "conv1")
    m[[3, 7]] = False
    before = masked(net, conv1=m)
    result = sweep(before)
    assert result.units == {"conv1": 2}
    assert result.weights == 2 * 9 * 100  # each filter feeds a 3x3 map into 100 units
    assert_same_function(before, result.model)


def chain(padding: int, *, bias: bool = True, norm: bool = False) -> nn.Model:
    layers: list[nn.Layer] = [nn.Conv2d("c1", 1, 3, 3, padding=1, bias=not norm)]
    layers += [nn.BatchNorm2d("n1", 3)] if norm else []
    layers += [nn.ReLU("r1"), nn.Conv2d("c2", 3, 2, 3, padding=padding, bias=bias), nn.GlobalAvgPool2d("g")]
    return nn.Model.init((*layers, nn.Linear("fc", 2, 2)), input_shape=(1, 6, 5), seed=0, dtype=np.float64)


@pytest.mark.parametrize(("padding", "positive", "swept"), [(0, True, 1), (1, True, 0), (1, False, 1)])
def test_constant_into_a_convolution(padding: int, positive: bool, swept: int) -> None:
    net = chain(padding)
    m = full(net, "c1")
    m[1] = False
    before = masked(net, c1=m)
    bias = np.abs(before.params["c1.bias"]) * (1 if positive else -1)  # negative: ReLU makes the constant 0
    before = before.replace(params={**before.params, "c1.bias": bias})
    result = sweep(before)
    assert sum(result.units.values()) == swept
    assert_same_function(before, result.model)


def test_constant_that_varies_over_the_image_is_not_folded() -> None:
    layers = (
        nn.Conv2d("c1", 1, 3, 3),
        nn.AvgPool2d("p", 3, stride=1, padding=1),  # pads zeros, so that a constant is smaller at the border
        nn.Conv2d("c2", 3, 2, 2),
        nn.Flatten("f"),
        nn.Linear("fc", 2 * 3 * 2, 2),
    )
    net = nn.Model.init(layers, input_shape=(1, 6, 5), seed=0, dtype=np.float64)
    m = full(net, "c1")
    m[1] = False
    before = masked(net, c1=m)
    result = sweep(before)
    assert result.units == {}
    assert_same_function(before, result.model)


def test_shortcuts_are_swept_too() -> None:
    shortcut = (nn.Conv2d("s1", 2, 3, 1), nn.ReLU("sr"), nn.Conv2d("s2", 3, 2, 1))
    layers = (nn.Residual("r", (nn.Conv2d("b", 2, 2, 1),), shortcut), nn.Flatten("f"), nn.Linear("fc", 8, 2))
    net = nn.Model.init(layers, input_shape=(2, 2, 2), seed=0, dtype=np.float64)
    m = full(net, "s1")
    m[0] = False
    before = masked(net, s1=m)
    result = sweep(before)
    assert result.units == {"s1": 1}
    assert_same_function(before, result.model)


@pytest.mark.parametrize("positive", [True, False])
def test_batch_norm_between_and_no_bias_to_fold_into(positive: bool) -> None:
    net = chain(0, bias=False, norm=True)
    m = full(net, "c1")
    m[1] = False
    before = masked(net, c1=m)
    shift = np.abs(before.params["n1.bias"]) * (1 if positive else -1)
    buffers = {
        **before.buffers,
        "n1.running_mean": np.array([0.3, 0.0, -0.2]),
        "n1.running_var": np.array([2.0, 0.5, 1.0]),
    }
    before = before.replace(params={**before.params, "n1.bias": shift}, buffers=buffers)
    result = sweep(before)
    assert sum(result.units.values()) == (0 if positive else 1)
    assert_same_function(before, result.model)


def test_residual_sums_are_left_alone_and_bodies_are_swept() -> None:
    net = nn.resnet_small(seed=0, dtype=np.float64)
    inner, entry = full(net, "block1.1.conv"), full(net, "stem.conv")
    inner[4] = False
    entry[2] = False
    before = masked(net, **{"block1.1.conv": inner, "stem.conv": entry})
    before = before.replace(params={k: -np.abs(p) if "norm.bias" in k else p for k, p in before.params.items()})
    result = sweep(before)
    assert result.units == {"block1.1.conv": 1}
    assert result.model.masks["block1.1.conv.weight"][0].all()
    assert_same_function(before, result.model)


def test_grouped_convolutions_are_left_alone() -> None:
    layers = (nn.Conv2d("c1", 2, 4, 1), nn.Conv2d("c2", 4, 4, 1, groups=2), nn.Flatten("f"), nn.Linear("fc", 16, 2))
    net = nn.Model.init(layers, input_shape=(2, 2, 2), seed=0, dtype=np.float64)
    m = full(net, "c1")
    m[0] = False
    before = masked(net, c1=m)
    result = sweep(before)
    assert result.units == {}
    assert result.weights == 0
    assert_same_function(before, result.model)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("build", [nn.digits_mlp, nn.digits_cnn])
def test_random_masks_keep_the_function_and_leave_no_dead_unit(build: object, seed: int) -> None:
    rng = np.random.default_rng(seed)
    net = build(seed=seed, dtype=np.float64)  # type: ignore[operator]
    density = 10.0 ** -rng.uniform(1.0, 2.5)
    before = masked(net, **{k.removesuffix(".weight"): rng.random(net.params[k].shape) < density for k in net.weights})
    result = sweep(before)
    assert_same_function(before, result.model)
    again = sweep(result.model)
    assert again.weights == 0
    assert again.units == result.units
    kept = sum(int(m.sum()) for m in before.masks.values()) - sum(int(m.sum()) for m in result.model.masks.values())
    assert kept == result.weights


def test_nothing_to_sweep() -> None:
    net = nn.digits_mlp(seed=0)
    result = sweep(net)
    assert result.weights == 0
    assert result.units == {}
    assert set(result.model.masks) == set(net.weights)
    for key, p in net.params.items():
        np.testing.assert_array_equal(result.model.params[key], p)


def test_sweep_does_not_change_its_input() -> None:
    net = nn.mlp((3, 4, 2), seed=0)
    before = masked(net, fc1=np.zeros((4, 3), bool))
    copies = {k: p.copy() for k, p in before.params.items()}
    sweep(before)
    assert dataclasses.is_dataclass(before)
    for key, p in copies.items():
        np.testing.assert_array_equal(before.params[key], p)
