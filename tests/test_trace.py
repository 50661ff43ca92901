"""What goes through the layers of a network, on calibration data."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from l0ref import Tensor, nn, ops
from l0ref.errors import ArgumentError
from l0ref.layerwise.operator import Operator, answers, layer_of, patches
from l0ref.nn import Conv2d, Model
from l0ref.pruning.trace import signals, trace

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@each_dtype
def test_signals_are_those_of_the_forward_pass(dtype, rng):
    net = nn.mlp((6, 5, 4, 3), seed=1, activation="tanh", dropout=0.5, dtype=dtype)
    x = rng.standard_normal((7, 6)).astype(dtype)
    chunks = list(trace(net, x, chunk=3))
    assert [len(c.entering["fc1"].data) for c in chunks] == [3, 3, 1]
    a = x
    for i in (1, 2, 3):
        key = f"fc{i}.weight"
        found = [
            np.concatenate([getattr(c, s)[f"fc{i}"].data for c in chunks]) for s in ("entering", "leaving", "behind")
        ]
        z = a @ net.params[key].T + net.params[f"fc{i}.bias"]
        after = np.tanh(z) if i < 3 else z
        for got, want in zip(found, (a, z, after), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
            assert got.dtype == dtype
        a = after


def test_gradients_are_those_of_the_loss_by_differences(rng):
    net = nn.mlp((4, 5, 3), seed=1, dtype=np.float64)
    x, y = rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    found = signals(net, x)
    z, gradients = found.leaving["fc1"].data, found.gradients(y)
    assert list(gradients) == ["fc1", "fc2"]

    def loss(z):
        out = np.maximum(z, 0) @ net.params["fc2.weight"].T + net.params["fc2.bias"]
        return float(ops.cross_entropy(Tensor(out), y))

    step = rng.standard_normal(z.shape)
    slope = (loss(z + 1e-6 * step) - loss(z - 1e-6 * step)) / 2e-6
    assert (gradients["fc1"] * step).sum() == pytest.approx(slope, rel=1e-6)


def test_layers_of_a_residual_network_add_up(rng):
    net = nn.resnet_small(seed=0, input_shape=(1, 8, 8), dtype=np.float64)
    x = rng.standard_normal((2, 1, 8, 8))
    (found,) = trace(net, x)
    assert {f"{name}.weight" for name in found.leaving} == set(net.weights)
    np.testing.assert_allclose(found.behind["fc"].data, net.logits(x), rtol=1e-9)


CONVOLUTIONS = [
    {"kernel_size": 3},
    {"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 2), "dilation": (2, 1)},
    {"kernel_size": 3, "groups": 2, "padding": 1, "bias": False},
]


@pytest.mark.parametrize("options", CONVOLUTIONS)
@each_dtype
def test_convolution_as_patches_and_as_an_operator(options, dtype, rng):
    layer = Conv2d("conv", 4, 6, **options)
    net = Model.init((layer,), input_shape=(4, 7, 8), seed=0, dtype=dtype)
    x, w = rng.standard_normal((3, 4, 7, 8)).astype(dtype), net.params["conv.weight"]
    z = signals(net, x).leaving["conv"].data
    size = 6 // layer.groups
    for g in range(layer.groups):
        rows = patches(layer, x, group=g) @ w[g * size : (g + 1) * size].reshape(size, -1).T
        np.testing.assert_allclose(rows, answers(layer, z, group=g), rtol=1e-4, atol=1e-5)
    A, u = Operator(layer, x), w.reshape(6, -1).T
    rows = np.moveaxis(z - net.params["conv.bias"][:, None, None] if layer.bias else z, 1, -1).reshape(-1, 6)
    np.testing.assert_allclose(A(u), rows, rtol=1e-4, atol=1e-5)
    z_bar = rng.standard_normal(rows.shape).astype(dtype)
    assert A.adjoint(z_bar).dtype == dtype
    assert np.vdot(A(u), z_bar) == pytest.approx(
        np.vdot(u, A.adjoint(z_bar)), rel=1e-4 if dtype == np.float32 else 1e-10
    )


def test_memory_does_not_grow_with_the_samples():
    net = nn.mlp((50, 400, 10), seed=0)
    x = np.zeros((6_000, 50), np.float32)

    def peak(n):
        tracemalloc.start()
        for found in trace(net, x[:n], chunk=100):
            assert len(found.leaving) == 2
            del found
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(200)
    assert peak(6_000) < 1.5 * peak(300)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"x": np.zeros((0, 4))}, r"^x has 0 samples; pass at least one to trace$"),
        ({"x": np.full((2, 4), np.nan)}, r"^x has 8 of 8 values NaN or infinite; drop those samples$"),
        ({"chunk": 0}, r"^chunk=0 must be at least 1$"),
    ],
)
def test_refused_before_anything_runs(options, said):
    net = nn.mlp((4, 3, 2), seed=0, dtype=np.float64)
    with pytest.raises(ArgumentError, match=said):
        trace(net, **({"x": np.zeros((2, 4))} | options))


def test_layer_of_no_weight():
    with pytest.raises(
        ArgumentError, match=r"^key='fc9' is not the weight of a Linear or Conv2d layer; choose from fc1"
    ):
        layer_of(nn.mlp((4, 3), seed=0), "fc9")
