"""Layers, the Model value and the zoo."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from l0ref import nn, ops
from l0ref.autodiff.tensor import Tensor
from l0ref.errors import ArgumentError, ConfigError, DTypeError, ShapeError
from l0ref.methods.hard_concrete import Gated
from l0ref.methods.learned_threshold import Thresholded
from l0ref.nn.layer import from_json, to_json
from l0ref.nn.sequence import leaves, shapes
from l0ref.sparse import Pattern

SMALL = {"digits_mlp", "digits_cnn", "lenet_300_100", "lenet_5", "vgg_small", "resnet_small"}

CONV = nn.Conv2d("a", 2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
BLOCK = nn.Residual("a", (nn.Conv2d("a.1", 2, 3, 3, padding=1, stride=2),), (nn.Conv2d("a.s", 2, 3, 1, stride=2),))
# One instance of every layer, an input shape (without batch) and the shape it must give.
LAYER_CASES: dict[str, tuple[nn.Layer, tuple[int, ...], tuple[int, ...]]] = {
    "Linear": (nn.Linear("a", 6, 4), (6,), (4,)),
    "Conv2d": (CONV, (2, 7, 6), (4, 4, 4)),
    "MaxPool2d": (nn.MaxPool2d("a", 2), (3, 5, 4), (3, 2, 2)),
    "AvgPool2d": (nn.AvgPool2d("a", (2, 3), stride=1, padding=(1, 0)), (3, 5, 4), (3, 6, 2)),
    "GlobalAvgPool2d": (nn.GlobalAvgPool2d("a"), (3, 5, 4), (3,)),
    "Flatten": (nn.Flatten("a"), (3, 5, 4), (60,)),
    "Dropout": (nn.Dropout("a", 0.25), (5,), (5,)),
    "BatchNorm1d": (nn.BatchNorm1d("a", 5), (5,), (5,)),
    "BatchNorm2d": (nn.BatchNorm2d("a", 3), (3, 5, 4), (3, 5, 4)),
    "ReLU": (nn.ReLU("a"), (3, 5, 4), (3, 5, 4)),
    "LeakyReLU": (nn.LeakyReLU("a", 0.2), (5,), (5,)),
    "Sigmoid": (nn.Sigmoid("a"), (5,), (5,)),
    "Tanh": (nn.Tanh("a"), (5,), (5,)),
    "Softplus": (nn.Softplus("a"), (5,), (5,)),
    "Clip": (nn.Clip("a", -0.5, 0.5), (5,), (5,)),
    "Residual": (BLOCK, (2, 6, 5), (3, 3, 3)),
    "SparseLinear": (nn.SparseLinear("a", 6, 4, Pattern.from_mask(np.eye(4, 6) > 0)), (6,), (4,)),
    "SparseConv2d": (nn.SparseConv2d("a", 2, 4, (2, 3), Pattern.from_mask(np.eye(4, 12) > 0)), (2, 5, 6), (4, 4, 4)),
    "Thresholded": (Thresholded("a", nn.Linear("a", 6, 4), first=0.1), (6,), (4,)),
    "Gated": (Gated("a", CONV, by_unit=True), (2, 7, 6), (4, 4, 4)),
}  # fmt: skip
ABSTRACT = {"Reparameterised"}


def test_every_layer_has_a_case() -> None:
    known = {
        name for name, layer in nn.LAYERS.items() if layer.__module__.startswith("l0ref.") and not name.startswith("_")
    }
    assert set(LAYER_CASES) == known - ABSTRACT


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(LAYER_CASES))
def test_layer_gives_the_shape_and_dtype_it_promises(name: str, dtype: type) -> None:
    layer, shape, expected = LAYER_CASES[name]
    model = nn.Model.init((layer,), input_shape=shape, seed=0, dtype=dtype)
    x = np.random.default_rng(1).normal(size=(2, *shape)).astype(dtype)
    y, buffers = model.forward(x, training=True, rng=np.random.default_rng(0))
    assert layer.output_shape(shape) == expected
    assert y.shape == (2, *expected)
    assert y.dtype == dtype
    assert set(buffers) == set(model.buffers)
    assert all(b.dtype == dtype for b in buffers.values())


@pytest.mark.parametrize("name", sorted(LAYER_CASES))
def test_layer_reads_back_from_json(name: str) -> None:
    layer = LAYER_CASES[name][0]
    patterns = {"a.weight": layer.pattern} if isinstance(layer, nn.SparseLinear | nn.SparseConv2d) else {}
    assert from_json(json.loads(json.dumps(to_json(layer))), patterns=patterns) == layer


def test_a_sparse_layer_needs_its_pattern() -> None:
    description = to_json(LAYER_CASES["SparseLinear"][0])
    with pytest.raises(ConfigError, match=r"^patterns lacks 'a\.weight', which SparseLinear 'a' needs; pass it along"):
        from_json(description)


@pytest.mark.parametrize(
    "name",
    sorted(set(LAYER_CASES) - {"Flatten", "Dropout", "ReLU", "LeakyReLU", "Sigmoid", "Tanh", "Softplus", "Clip"}),
)
def test_layer_names_itself_when_the_input_does_not_fit(name: str) -> None:
    layer, shape, _ = LAYER_CASES[name]
    wrong = (7, 9) if len(shape) == 3 else (11,)
    if name == "Residual":
        with pytest.raises(
            ShapeError, match=r"^layer 'a\.1' \(Conv2d\) got an input of shape \(7, 9\), expected \(2, height"
        ):
            layer.output_shape(wrong)
        return
    with pytest.raises(ShapeError, match=rf"^layer 'a' \({name.removeprefix('Sparse')}\) got an input of shape"):
        layer.output_shape(wrong)


def test_parameter_counts_of_the_literature() -> None:
    counts = {
        name: (m.size, m.n_parameters)
        for name, m in ((n, nn.MODELS[n](seed=0)) for n in ("lenet_300_100", "lenet_5", "digits_mlp", "digits_cnn"))
    }
    assert counts["lenet_300_100"] == (266_200, 266_610)
    assert counts["lenet_5"] == (430_500, 431_080)
    assert counts["digits_mlp"] == (50_200, 50_610)
    assert counts["digits_cnn"] == (15_544, 15_670)
    assert nn.lenet_5(seed=0, variant="tanh").n_parameters == 61_706


def test_multiply_adds_of_lenets_by_hand() -> None:
    lenet = nn.lenet_5(seed=0)
    flops = {k: lenet.params[k].size * n for k, n in lenet.positions.items()}
    # conv1: 20 filters of 25 on a 24 x 24 grid; conv2: 50 of 20 x 25 on 8 x 8
    assert flops == {"conv1.weight": 500 * 576, "conv2.weight": 25_000 * 64, "fc1.weight": 400_000, "fc2.weight": 5_000}
    assert lenet.kinds == {
        "conv1.weight": "conv",
        "conv2.weight": "conv",
        "fc1.weight": "linear",
        "fc2.weight": "linear",
    }


@pytest.mark.parametrize("name", sorted(SMALL))
def test_zoo_runs_forward_and_has_ten_outputs(name: str) -> None:
    model = nn.MODELS[name](seed=3)
    x = np.random.default_rng(0).random((3, *model.input_shape), dtype=np.float32)
    assert model.logits(x).shape == (3, 10)
    assert model.classes == 10
    assert model.weights == tuple(k for k in model.params if k in model.kinds)
    assert all(k.endswith(".weight") for k in model.weights)


def test_zoo_is_complete() -> None:
    assert set(nn.MODELS) == SMALL


@pytest.mark.parametrize("name", ["vgg_small", "resnet_small"])
def test_zoo_takes_colour_images_of_32_pixels(name: str) -> None:
    model = nn.MODELS[name](seed=0, input_shape=(3, 32, 32), classes=7)
    assert model.logits(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 7)


def test_resnet_has_projection_shortcuts_where_shapes_change() -> None:
    blocks = [layer for layer in nn.resnet_small(seed=0).architecture if isinstance(layer, nn.Residual)]
    assert [bool(block.shortcut) for block in blocks] == [False, True, True]


def test_residual_adds_body_and_shortcut() -> None:
    block = nn.Residual("r", (nn.Linear("r.fc", 3, 3),))
    model = nn.Model.init((block,), input_shape=(3,), seed=0, dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(4, 3))
    np.testing.assert_allclose(model.logits(x), x + x @ model.params["r.fc.weight"].T, rtol=1e-14)


def test_same_seed_same_bits_and_one_draw_for_both_dtypes() -> None:
    a, b, other = nn.digits_mlp(seed=5), nn.digits_mlp(seed=5), nn.digits_mlp(seed=6)
    double = nn.digits_mlp(seed=5, dtype=np.float64)
    for key in a.params:
        np.testing.assert_array_equal(a.params[key], b.params[key])
        np.testing.assert_array_equal(a.params[key], double.params[key].astype(np.float32))
    assert (a.params["fc1.weight"] != other.params["fc1.weight"]).any()


@pytest.mark.parametrize(
    ("name", "variance"),
    [("he_normal", 2 / 50), ("he_uniform", 2 / 50), ("glorot_normal", 2 / 250), ("glorot_uniform", 2 / 250)],
)
def test_initialiser_variance(name: str, variance: float) -> None:
    w = nn.INITIALIZERS[name]((400, 500), fan_in=50, fan_out=200, rng=np.random.default_rng(0))
    np.testing.assert_allclose(w.var(), variance, rtol=0.02)  # 200,000 draws: 6 standard errors or more
    assert abs(w.mean()) < 5 * np.sqrt(variance / w.size)
    if name.endswith("uniform"):
        assert abs(w).max() <= np.sqrt(3 * variance)


def test_convolution_is_initialised_by_its_fan_in() -> None:
    layer = nn.Conv2d("c", 64, 128, 3, groups=2)
    w = layer.parameters(rng=np.random.default_rng(0), dtype=np.float64)["c.weight"]
    assert w.shape == (128, 32, 3, 3)
    np.testing.assert_allclose(w.var(), 2 / (32 * 9), rtol=0.03)
    glorot = nn.Conv2d("c", 64, 128, 3, groups=2, init="glorot_normal")
    w = glorot.parameters(rng=np.random.default_rng(0), dtype=np.float64)["c.weight"]
    np.testing.assert_allclose(w.var(), 2 / ((32 + 64) * 9), rtol=0.03)  # a channel feeds the 64 filters of its group
    w = nn.Linear("fc", 100, 900).parameters(rng=np.random.default_rng(0), dtype=np.float64)["fc.weight"]
    np.testing.assert_allclose(w.var(), 2 / 100, rtol=0.03)


# A layer whose options are none of the defaults, and what it must compute from x (2, 3, 5, 4) in evaluation mode.
OPTION_CASES: dict[str, tuple[nn.Layer, Callable[[np.ndarray], np.ndarray]]] = {
    "MaxPool2d": (nn.MaxPool2d("a", 3, stride=2, padding=1), lambda x: ops.max_pool2d(x, 3, stride=2, padding=1).data),
    "AvgPool2d": (nn.AvgPool2d("a", 3, stride=2, padding=1), lambda x: ops.avg_pool2d(x, 3, stride=2, padding=1).data),
    "LeakyReLU": (nn.LeakyReLU("a", 0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    "Sigmoid": (nn.Sigmoid("a"), lambda x: 1 / (1 + np.exp(-x))),
    "Softplus": (nn.Softplus("a"), lambda x: np.log1p(np.exp(x))),
    "Tanh": (nn.Tanh("a"), np.tanh),
    "Clip": (nn.Clip("a", max=0.5), lambda x: np.minimum(x, 0.5)),
    "BatchNorm2d": (nn.BatchNorm2d("a", 3, eps=0.5), lambda x: x / np.sqrt(1.5)),
}


@pytest.mark.parametrize("name", sorted(OPTION_CASES))
def test_layer_computes_what_its_options_say(name: str) -> None:
    layer, expected = OPTION_CASES[name]
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4))
    model = nn.Model.init((layer,), input_shape=(3, 5, 4), seed=0, dtype=np.float64)
    np.testing.assert_allclose(model.logits(x), expected(x), rtol=1e-12)


def test_options_of_training_reach_the_operations() -> None:
    dropped, _ = nn.Dropout("a", 0.2).forward(Tensor(np.ones(1000)), training=True, rng=np.random.default_rng(0))
    assert set(dropped.data) == {0.0, 1 / 0.8}
    norm = nn.Model.init((nn.BatchNorm1d("n", 1, momentum=0.3),), input_shape=(1,), seed=0, dtype=np.float64)
    _, buffers = norm.forward(np.array([[1.0], [3.0]]), training=True)
    np.testing.assert_allclose(buffers["n.running_mean"], [0.3 * 2.0], rtol=1e-14)


def test_residual_trains_the_batch_norms_of_body_and_shortcut() -> None:
    body = (nn.BatchNorm1d("r.1", 2), nn.ReLU("r.a"), nn.BatchNorm1d("r.2", 2))
    block = nn.Residual("r", body, (nn.BatchNorm1d("r.s", 2),))
    model = nn.Model.init((block,), input_shape=(2,), seed=0, dtype=np.float64)
    x = np.array([[1.0, 4.0], [3.0, 8.0]])
    y, buffers = model.forward(x, training=True)
    for name in ("r.1", "r.2", "r.s"):
        assert (buffers[f"{name}.running_mean"] != model.buffers[f"{name}.running_mean"]).all()
    z = np.array([[-1.0], [1.0]])  # every batch norm sees two values, and makes of them -1 and 1
    np.testing.assert_allclose(y.data, np.broadcast_to(2 * z, (2, 2)), rtol=1e-4)


def test_astype_converts_everything() -> None:
    double = nn.resnet_small(seed=0).astype(np.float64)
    assert {a.dtype for a in (*double.params.values(), *double.buffers.values())} == {np.dtype(np.float64)}
    with pytest.raises(DTypeError, match=r"^params and buffers have arrays of float32, float64"):
        dataclasses.replace(nn.resnet_small(seed=0), buffers=double.buffers)


def layer_kinds(model: nn.Model) -> list[str]:
    return [type(layer).__name__ for layer in model.architecture]


def test_lenets_are_in_the_order_of_the_literature() -> None:
    caffe = ["Conv2d", "ReLU", "MaxPool2d"] * 2 + ["Flatten", "Linear", "ReLU", "Linear"]
    tanh = ["Conv2d", "Tanh", "AvgPool2d"] * 2 + ["Flatten", "Linear", "Tanh", "Linear", "Tanh", "Linear"]
    assert layer_kinds(nn.lenet_5(seed=0)) == caffe
    assert layer_kinds(nn.lenet_5(seed=0, variant="tanh")) == tanh
    assert layer_kinds(nn.lenet_300_100(seed=0)) == ["Flatten", "Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert layer_kinds(nn.resnet_small(seed=0))[2:] == ["ReLU", *["Residual", "ReLU"] * 3, "GlobalAvgPool2d", "Linear"]


def test_mlp_options_reach_its_layers() -> None:
    net = nn.mlp((3, 5, 4, 2), seed=0, activation="tanh", dropout=0.3)
    assert {layer.init for layer in net.architecture if isinstance(layer, nn.Linear)} == {"glorot_uniform"}
    assert [layer.p for layer in net.architecture if isinstance(layer, nn.Dropout)] == [0.3, 0.3]
    assert layer_kinds(net) == ["Linear", "Tanh", "Dropout"] * 2 + ["Linear"]


def test_model_is_a_value() -> None:
    model = nn.digits_cnn(seed=0)
    twin = copy.deepcopy(model)
    assert twin.params is not model.params
    x = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)
    np.testing.assert_array_equal(twin.logits(x), model.logits(x))
    with pytest.raises(dataclasses.FrozenInstanceError, match="params"):
        model.params = {}  # type: ignore[misc]
    architecture, shape = nn.architecture_from_json(json.loads(json.dumps(model.architecture_json())))
    assert architecture == model.architecture
    assert shape == model.input_shape


def test_replace_sets_masked_weights_to_zero_and_leaves_the_old_model_alone() -> None:
    model = nn.digits_cnn(seed=0)
    mask = np.ones(model.params["fc2.weight"].shape, bool)
    mask[0] = False
    pruned = model.replace(masks={"fc2.weight": mask})
    assert not pruned.params["fc2.weight"][0].any()
    assert model.params["fc2.weight"][0].all()
    assert pruned.mask("fc1.weight").all()
    np.testing.assert_array_equal(pruned.mask("fc2.weight"), mask)


@pytest.mark.kernels
@pytest.mark.parametrize("name", ["fc1.weight", "fc1.bias"])
@pytest.mark.parametrize("warm", [False, True])
def test_a_parameter_swapped_for_one_that_does_not_fit_is_refused(name: str, warm: bool) -> None:
    model = nn.mlp((20, 16, 10), seed=0)
    x = np.ones((40, 20), np.float32)
    if warm:  # a compiled chain is kept
        model.logits(x)
    model.params[name] = model.params[name][:1]  # type: ignore[index]
    with pytest.raises(ShapeError, match=rf"^params\['{name}'\] has shape \(1,"):
        model.logits(x)


@pytest.mark.kernels
def test_parameters_swapped_for_another_dtype_are_used() -> None:
    model = nn.mlp((20, 16, 10), seed=0)
    x = np.random.default_rng(0).standard_normal((40, 20))
    want = model.astype(np.float64).logits(x)
    model.logits(x.astype(np.float32))
    model.params.update({k: v.astype(np.float64) for k, v in model.params.items()})  # type: ignore[attr-defined]
    np.testing.assert_array_equal(model.logits(x), want)
    model.params["fc1.bias"] = np.zeros(16, np.float32)  # type: ignore[index]
    with pytest.raises(DTypeError, match=r"^params have arrays of float32, float64; use one type"):
        model.logits(x)


def test_shapes_are_found_once_for_an_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    parameters = nn.Linear.parameters

    def counted(self: nn.Linear, **options: Any) -> Any:
        drawn.append(self.name)
        return parameters(self, **options)

    net = nn.mlp((5, 4, 3), seed=0)
    monkeypatch.setattr(nn.Linear, "parameters", counted)
    for _ in range(3):
        net = net.replace(params=dict(net.params))
    assert drawn == []
    with pytest.raises(ShapeError, match=r"params\['fc1.weight'\] has shape \(4, 6\), expected \(4, 5\)"):
        net.replace(params={**net.params, "fc1.weight": np.zeros((4, 6), np.float32)})


def test_a_layer_that_cannot_be_hashed_is_a_layer() -> None:
    class Unhashed(nn.Linear):
        __hash__ = None  # type: ignore[assignment]

    net = nn.Model.init((Unhashed("a", 3, 2),), input_shape=(3,), seed=0)
    again = net.replace(params={k: w + 1 for k, w in net.params.items()})
    assert again.logits(np.zeros((1, 3), np.float32)).shape == (1, 2)


def test_logits_do_not_depend_on_the_batch_size_beyond_rounding() -> None:
    model = nn.digits_cnn(seed=0, dtype=np.float64)
    x = np.random.default_rng(0).random((7, 1, 8, 8))
    np.testing.assert_allclose(model.logits(x, batch_size=3), model.logits(x), rtol=1e-12)
    assert model.logits(x[:0]).shape == (0, 10)
    np.testing.assert_array_equal(model.predict(x), model.logits(x).argmax(1))


def test_batch_norm_layer_uses_running_statistics_in_evaluation_only() -> None:
    model = nn.Model.init((nn.BatchNorm1d("bn", 2),), input_shape=(2,), seed=0, dtype=np.float64)
    x = np.array([[1.0, 4.0], [3.0, 8.0]])
    trained, buffers = model.forward(x, training=True)
    np.testing.assert_allclose(trained.data.mean(0), 0.0, atol=1e-12)
    np.testing.assert_allclose(buffers["bn.running_mean"], 0.1 * x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(buffers["bn.running_var"], 0.9 + 0.1 * x.var(0, ddof=1), rtol=1e-14)
    np.testing.assert_allclose(model.logits(x), x / np.sqrt(1 + 1e-5), rtol=1e-14)
    after, kept = model.forward(x)
    assert kept["bn.running_mean"] is model.buffers["bn.running_mean"]
    np.testing.assert_allclose(after.data, model.logits(x), rtol=1e-15)


def test_dropout_layer_needs_a_generator_only_while_training() -> None:
    model = nn.mlp((4, 8, 2), seed=0, dropout=0.5)
    x = np.ones((3, 4), np.float32)
    a, _ = model.forward(x, training=True, rng=np.random.default_rng(0))
    b, _ = model.forward(x, training=True, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(a.data, b.data)
    assert (a.data != model.logits(x)).any()
    with pytest.raises(ArgumentError, match=r"^rng"):
        model.forward(x, training=True)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_mlp_activation(activation: str) -> None:
    model = nn.mlp((3, 5, 2), seed=0, activation=activation, dtype=np.float64)
    x = np.random.default_rng(0).normal(size=(4, 3))
    f = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh, "sigmoid": lambda z: 1 / (1 + np.exp(-z))}[activation]
    p = model.params
    np.testing.assert_allclose(model.logits(x), f(x @ p["fc1.weight"].T) @ p["fc2.weight"].T, rtol=1e-12)


def _broken(**changes: object) -> nn.Model:
    model = nn.mlp((3, 2), seed=0)
    return dataclasses.replace(model, **changes)  # type: ignore[arg-type]


W, B = np.ones((2, 3), np.float32), np.zeros(2, np.float32)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"params": {"fc1.weight": W}}, ArgumentError, r"^params lacks 'fc1\.bias'"),
        (
            {"params": {"fc1.weight": W, "fc1.bias": B, "fc9.bias": B}},
            ArgumentError,
            r"^params has 'fc9\.bias', which no layer",
        ),
        (
            {"params": {"fc1.weight": W.T, "fc1.bias": B}},
            ShapeError,
            r"^params\['fc1\.weight'\] has shape \(3, 2\), expected \(2, 3\)",
        ),
        (
            {"params": {"fc1.weight": W, "fc1.bias": B.astype(float)}},
            DTypeError,
            r"^params and buffers have arrays of float32, float64; use one type",
        ),
        (
            {"params": {"fc1.weight": W.astype(int), "fc1.bias": B.astype(int)}},
            DTypeError,
            r"^params and buffers have arrays of int64",
        ),
        (
            {"masks": {"fc1.bias": B.astype(bool)}},
            ArgumentError,
            r"^masks has 'fc1\.bias', which is not a weight array",
        ),
        (
            {"masks": {"fc1.weight": W}},
            ShapeError,
            r"^masks\['fc1\.weight'\] is float32 \(2, 3\), expected bool \(2, 3\)",
        ),
        (
            {"masks": {"fc1.weight": np.zeros((2, 3), bool)}},
            ArgumentError,
            r"^params\['fc1\.weight'\] is not 0 everywhere",
        ),
        ({"buffers": {"bn.mean": B}}, ArgumentError, r"^buffers has 'bn\.mean'"),
        ({"input_shape": (4,)}, ShapeError, r"^layer 'fc1' \(Linear\) got an input of shape \(4,\)"),
    ],
)
def test_model_refuses_what_does_not_fit(changes: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        _broken(**changes)


@pytest.mark.parametrize("bias", ["x", 1, None])
def test_bias_is_true_or_false(bias: Any) -> None:
    said = rf"^bias={bias!r} must be True or False$"
    with pytest.raises(ArgumentError, match=said):
        nn.Linear("fc", 3, 4, bias=bias)
    with pytest.raises(ArgumentError, match=said):
        nn.Conv2d("conv", 3, 4, 3, bias=bias)


@pytest.mark.parametrize(
    ("x", "error", "said"),
    [
        (None, DTypeError, r"^x has dtype object, which is not numeric"),
        ("abc", DTypeError, r"^x has dtype <U3, which is not numeric"),
        (np.float32(1), ShapeError, r"^x has shape \(\), expected \(N, 3\)"),
        (np.ones((2, 3), int), DTypeError, r"^x has dtype int64, expected float32 or float64"),
    ],
    ids=["nothing", "text", "a number", "whole numbers"],
)
def test_logits_of_what_is_no_batch(x: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        nn.mlp((3, 2), seed=0).logits(x)


def test_messages_of_the_builders() -> None:
    with pytest.raises(ShapeError, match=r"^x has shape \(2, 5\), expected \(N, 3\) with N samples"):
        nn.mlp((3, 2), seed=0).logits(np.ones((2, 5), np.float32))
    with pytest.raises(
        ShapeError, match=r"^x has shape \(2, 784\), .* with N samples; use \.reshape\(-1, 1, 28, 28\)$"
    ):
        nn.lenet_300_100(seed=0).logits(np.ones((2, 784), np.float32))
    with pytest.raises(ArgumentError, match=r"^sizes=\(3,\) must name inputs and outputs"):
        nn.mlp((3,), seed=0)
    with pytest.raises(ArgumentError, match=r"^activation='gelu' is not one of 'relu', 'tanh', 'sigmoid'"):
        nn.mlp((3, 2), seed=0, activation="gelu")
    with pytest.raises(ArgumentError, match=r"^variant='cafe' is not one of 'caffe', 'tanh'; did you mean 'caffe'\?"):
        nn.lenet_5(seed=0, variant="cafe")
    with pytest.raises(ArgumentError, match=r"^architecture has two layers named 'a'"):
        nn.Model.init((nn.ReLU("a"), nn.Tanh("a")), input_shape=(3,), seed=0)
    with pytest.raises(ArgumentError, match=r"^architecture has a layer named '\.\./x'; use letters"):
        nn.Model.init((nn.ReLU("../x"),), input_shape=(3,), seed=0)
    with pytest.raises(DTypeError, match=r"^dtype=float16 is not float32 or float64"):
        nn.Model.init((nn.ReLU("a"),), input_shape=(3,), seed=0, dtype=np.float16)
    with pytest.raises(ConfigError, match=r"^residual block 'r' has an empty body"):
        nn.Residual("r", ())
    with pytest.raises(ArgumentError, match=r"^init='orthogonal' is not one of"):
        nn.Linear("a", 2, 2, init="orthogonal")
    with pytest.raises(
        ShapeError, match=r"^layer 'r' \(Residual\) got .* equal shapes from body and shortcut, not \(4,\) and \(3,\)"
    ):
        nn.Model.init((nn.Residual("r", (nn.Linear("f", 3, 4),)),), input_shape=(3,), seed=0)
    with pytest.raises(TypeError, match="layer 'Linear' is already registered"):
        type("Linear", (nn.Layer,), {})
    for one in ((3, 4, 4), (5,)):  # a sample without the batch axis
        net = nn.Model.init((nn.ReLU("r"),), input_shape=one, seed=0)
        with pytest.raises(ShapeError, match=r"^x has shape .* with N samples; give one sample as x\[None\]$"):
            net.logits(np.zeros(one, np.float32))


@pytest.mark.parametrize(
    ("description", "said"),
    [
        (
            {"kind": "Lineer", "name": "a"},
            r"^kind='Lineer' is not a layer; known are AvgPool2d,[A-Za-z\d, ]+d$",
        ),
        (
            {"kind": "Linear", "name": "a", "in_features": 2, "out_features": 3, "units": 4},
            r"^Linear has no field 'units'",
        ),
        ({"kind": "Linear", "name": "a"}, r"^Linear 'a' is incomplete: .*in_features"),
    ],
)
def test_json_of_unknown_layers_is_refused(description: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_json(description)


def test_json_of_something_else_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^architecture is not the description of a model"):
        nn.architecture_from_json({"layers": 3, "input_shape": [1]})


def test_leaves_and_shapes_walk_into_residual_blocks() -> None:
    model = nn.resnet_small(seed=0)
    names = [layer.name for layer in leaves(model.architecture)]
    assert "block2.shortcut.conv" in names
    assert "block2" not in names
    assert shapes(model.architecture, (1, 28, 28))[-1] == (10,)
    # block2 halves 28 x 28: its two 3x3 convolutions and the 1x1 shortcut run on a 14 x 14 grid
    assert model.positions["block2.1.conv.weight"] == model.positions["block2.shortcut.conv.weight"] == 14 * 14
    assert model.positions["block1.2.conv.weight"] == 28 * 28
