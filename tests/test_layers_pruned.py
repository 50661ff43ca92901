"""Layer by layer, on trained or on pruned inputs."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from l0ref import nn
from l0ref.data import Dataset, Splits
from l0ref.errors import ArgumentError
from l0ref.layerwise.repair import REPAIRS
from l0ref.methods import METHODS
from l0ref.methods.layer_by_layer import (
    activation_behind,
    inputs_and_answers,
    layer_quadratic,
    prune_layers,
    repaired,
)
from l0ref.pruning import prune
from l0ref.pruning.trace import signals
from tests.method_contract import networks, same_bits


def test_parallel_and_cascade_differ_only_behind_the_first_layer(rng):
    net = nn.mlp((8, 12, 6, 3), seed=0, dtype=np.float64)
    x = rng.standard_normal((200, 8))
    keep = {"fc1.weight": 30, "fc2.weight": 25}
    parallel, cascade = (prune_layers(net, x, keep, driver=d) for d in ("parallel", "cascade"))
    for key, k in keep.items():
        assert parallel.masks[key].sum() == cascade.masks[key].sum() == k
    np.testing.assert_array_equal(parallel.params["fc1.weight"], cascade.params["fc1.weight"])
    assert not np.array_equal(parallel.params["fc2.weight"], cascade.params["fc2.weight"])
    np.testing.assert_array_equal(parallel.params["fc3.weight"], net.params["fc3.weight"])
    right = net.logits(x)
    error = [np.linalg.norm(m.logits(x) - right) for m in (cascade, parallel)]
    assert error[0] < error[1]


def test_all_weights_kept_change_nothing(rng):
    net = nn.digits_cnn(seed=0, dtype=np.float64)
    x = rng.standard_normal((60, 1, 8, 8))
    same = prune_layers(net, x, {k: net.sizes[k] for k in ("conv1.weight", "fc2.weight")})
    np.testing.assert_allclose(same.logits(x), net.logits(x), rtol=1e-6, atol=1e-8)


def test_each_group_keeps_what_magnitude_leaves_it(rng):
    layers = (nn.Conv2d("conv", 4, 6, 3, groups=2), nn.ReLU("relu"), nn.Flatten("flat"), nn.Linear("fc", 96, 3))
    net = nn.Model.init(layers, input_shape=(4, 6, 6), seed=0, dtype=np.float64)
    w = net.params["conv.weight"] * np.where(np.arange(6) < 3, 1.0, 0.5)[:, None, None, None]
    net = net.replace(params={**net.params, "conv.weight": w})
    x = rng.standard_normal((40, 4, 6, 6))
    found, plain = prune_layers(net, x, {"conv.weight": 40}), prune(net, amount=68, scope="layer")
    halves = [[int(m.mask("conv.weight")[rows].sum()) for rows in (slice(3), slice(3, 6))] for m in (found, plain)]
    assert halves[0] == halves[1] != [20, 20]
    off = [
        np.linalg.norm(signals(m, x).leaving["conv"].data - signals(net, x).leaving["conv"].data)
        for m in (found, plain)
    ]
    assert off[0] < off[1]


def test_quadratic_of_a_convolution_is_that_of_its_outputs(rng):
    net = nn.digits_cnn(seed=0, dtype=np.float64)
    x = rng.standard_normal((10, 1, 8, 8))
    layer = layer_quadratic(net, "conv1.weight", x, chunk=3)
    places = np.stack([x[:, 0, i : i + 6, j : j + 6].ravel() for i in range(3) for j in range(3)], axis=1)
    assert places.shape == (10 * 36, 9)  # the inputs of every place
    centred = places - places.mean(axis=0)
    np.testing.assert_allclose(layer.gram, centred.T @ centred + layer.lam * np.eye(9), rtol=1e-9, atol=1e-9)
    w = net.params["conv1.weight"].reshape(16, 9)
    assert layer.relative_error(w) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("network", ["mlp", "cnn"])
def test_repairs_rank_by_the_outputs_of_a_layer_and_keep_its_mask(network):
    model, splits = networks()[network]
    x, wanted = splits.train.x, signals(model, splits.train.x).leaving
    cut = prune(model, amount=0.5)
    off = {}
    for how in REPAIRS:
        found = repaired(cut, model, x, how=how, driver="parallel")
        assert all(np.array_equal(found.mask(key), cut.mask(key)) for key in model.weights)
        assert not any(found.params[key][~cut.mask(key)].any() for key in model.weights)
        first = model.weights[0].removesuffix(".weight")  # its inputs are the same in both networks
        off[how] = float(np.linalg.norm(signals(found, x).leaving[first].data - wanted[first].data))
    assert off["least_squares"] <= off["reweighting"] * (1 + 1e-9)  # equal where no sign changes
    assert off["reweighting"] < off["bias_and_scale"] < off["none"]
    assert off["obs"] == pytest.approx(off["least_squares"], rel=1e-9)
    assert same_bits(repaired(cut, model, x, how="none"), cut)
    cascade, parallel = (repaired(cut, model, x, driver=d).logits(x) for d in ("cascade", "parallel"))
    right = model.logits(x)
    assert np.linalg.norm(cascade - right) < np.linalg.norm(parallel - right) < np.linalg.norm(cut.logits(x) - right)


def test_wanda_repairs_what_stays():
    model, splits = networks()["cnn"]
    plain, fitted = (METHODS["wanda"].run(model, splits, amount=0.5, seed=0, repair=r).model for r in ("none", "obs"))
    assert all(np.array_equal(plain.mask(key), fitted.mask(key)) for key in model.weights)
    assert same_bits(fitted, repaired(plain, model, splits.train.x, how="obs"))
    with pytest.raises(ArgumentError, match=r"^repair='lsq' is not one of 'none', 'least_squares', 'obs'"):
        METHODS["wanda"].run(model, splits, amount=0.5, seed=0, repair="lsq")


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("wanda", {"repair": "least_squares"}),
        ("wanda", {"repair": "obs"}),
        ("l0_constrained", {"newton": 0}),
        ("net_trim", {"refit": True}),
    ],
)
@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_a_layer_without_a_bias_is_fitted_without_one(kind, method, options, rng):
    """Beside least squares through the origin on the same support; inputs are far from 0."""
    if kind == "conv":
        layers = [nn.Conv2d("one", 2, 4, 3, bias=False), nn.BatchNorm2d("norm", 4), nn.ReLU("r"), nn.Flatten("flat")]
        net = nn.Model.init([*layers, nn.Linear("fc", 36, 3)], input_shape=(2, 5, 5), seed=0, dtype=np.float64)
    else:
        layers = [nn.Linear("one", 12, 8, bias=False), nn.ReLU("r"), nn.Linear("fc", 8, 3, bias=False)]
        net = nn.Model.init(layers, input_shape=(12,), seed=0, dtype=np.float64)
    data = Dataset(rng.standard_normal((120, *net.input_shape)) + 2.0, np.arange(120) % 3, 3, "few")
    splits = Splits(data, data, data, "few", "")
    found = METHODS[method].run(net, splits, amount=0.6, scope="layer", seed=0, **options).model
    x, z = inputs_and_answers(net, net, "one.weight", data.x)
    w, mask = (a.reshape(z.shape[1], -1) for a in (found.params["one.weight"], found.mask("one.weight")))
    for i, s in enumerate(mask):
        least = np.linalg.norm(x[:, s] @ np.linalg.lstsq(x[:, s], z[:, i], rcond=None)[0] - z[:, i])
        assert np.linalg.norm(x @ w[i] - z[:, i]) <= 1.001 * least + 1e-6 * np.linalg.norm(z[:, i])


def test_memory_of_a_quadratic_does_not_grow_with_the_samples():
    net = nn.digits_cnn(seed=0)
    x = np.random.default_rng(0).standard_normal((1_200, 1, 8, 8)).astype(np.float32)

    def peak(n):
        tracemalloc.start()
        layer_quadratic(net, "conv1.weight", x[:n], chunk=30)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(60)
    assert peak(1_200) < 1.2 * peak(60)


def test_refused():
    net = nn.mlp((4, 3), seed=0, dtype=np.float64)
    with pytest.raises(ArgumentError, match=r"^driver='serial' is not one of 'parallel', 'cascade'"):
        prune_layers(net, np.zeros((2, 4)), {}, driver="serial")
    with pytest.raises(ArgumentError, match=r"^driver='serial' is not one of 'parallel', 'cascade'"):
        repaired(net, net, np.zeros((2, 4)), driver="serial")
    with pytest.raises(ArgumentError, match=r"^keep\['fc1.weight'\]=-1 must be at least 0$"):
        prune_layers(net, np.zeros((2, 4)), {"fc1.weight": -1})


def test_the_activation_behind_a_layer_is_that_of_its_own_row():
    body = (nn.Conv2d("a", 3, 3, 3, padding=1), nn.ReLU("inner"), nn.Conv2d("b", 3, 3, 3, padding=1))
    layers = (nn.Conv2d("stem", 1, 3, 3), nn.ReLU("first"), nn.Residual("sum", body), nn.ReLU("outer"), nn.Flatten("f"))
    found = {key: activation_behind(layers, f"{key}.weight") for key in ("stem", "a", "b", "none")}
    assert found == {"stem": layers[1], "a": body[1], "b": None, "none": None}  # the sum lies between b and outer
