"""Surgery: a masked network and its smaller twin are one function; a network in another order, too."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l0ref import checkpoint, compact, metrics, nn, ops
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.data import Dataset
from l0ref.errors import ArgumentError, ConfigError, LayerCollapse, ShapeError
from l0ref.nn import Model
from l0ref.nn.layer import Layer
from l0ref.optim import SGD, Adam
from l0ref.pruning.axes import coupled_axes
from l0ref.pruning.shrink import dead_units, mask_units, permute, shrink, surgery
from l0ref.pruning.sweep import sweep
from l0ref.training import fit


def some_images(model: Model, *, seed: int = 0, n: int = 5) -> Any:
    return np.random.default_rng(seed).standard_normal((n, *model.input_shape)).astype(model.dtype)


def with_statistics(model: Model, seed: int) -> Model:
    """The model with biases, scales and running statistics that are not 0 and 1."""
    rng = np.random.default_rng(seed)
    params = {k: p if k in model.weights else rng.uniform(0.5, 1.5, p.shape) for k, p in model.params.items()}
    buffers = {k: rng.uniform(0.5, 1.5, b.shape) for k, b in model.buffers.items()}
    as_type = {k: v.astype(model.dtype) for k, v in params.items()}
    return model.replace(params=as_type, buffers={k: v.astype(model.dtype) for k, v in buffers.items()})


KINDS = ("conv", "grouped", "depthwise", "norm", "relu", "max", "mean", "identity", "projection")


@st.composite
def networks(draw: Any, dtype: Any = np.float64, kinds: Sequence[str] = ()) -> Model:
    """MLPs and CNNs with groups, depthwise convolutions, batch norm, residual blocks and both kinds of pooling.

    kinds  of blocks that it has for certain, before and behind others
    """
    channels, side = draw(st.sampled_from([1, 2, 4])), 6
    layers: list[Layer] = []
    shape: tuple[int, ...] = (channels, side, side)
    others = st.lists(st.sampled_from(KINDS), max_size=2 if kinds else 3)
    for i, kind in enumerate(draw(st.permutations([*kinds, *draw(others)]))):
        c, name = shape[0], f"l{i}"
        block: Sequence[Layer]
        if kind == "conv":
            block = [nn.Conv2d(name, c, draw(st.integers(2, 5)), 3, padding=1, stride=draw(st.sampled_from([1, 2])))]
        elif kind == "grouped":
            f = draw(st.sampled_from([4, 8]))
            block = [nn.Conv2d(f"{name}a", c, f, 1), nn.Conv2d(name, f, f, 3, padding=1, groups=2)]
        elif kind == "depthwise":
            block = [nn.Conv2d(f"{name}a", c, 4, 1), nn.Conv2d(name, 4, 4, 3, padding=1, groups=4)]
        elif kind == "norm":
            block = [nn.Conv2d(f"{name}a", c, 3, 3, padding=1, bias=False), nn.BatchNorm2d(name, 3)]
        elif kind == "relu":
            block = [nn.Conv2d(f"{name}a", c, 3, 1), nn.ReLU(name), nn.Dropout(f"{name}.drop", 0.5)]
        elif kind in ("max", "mean"):
            pool = nn.MaxPool2d if kind == "max" else nn.AvgPool2d
            block = [nn.Conv2d(f"{name}a", c, 3, 1), pool(name, 2)] if shape[1] >= 2 else []
        elif kind == "identity":
            block = [nn.Residual(name, (nn.Conv2d(f"{name}.a", c, 3, 3, padding=1), nn.ReLU(f"{name}.r"),
                                        nn.Conv2d(f"{name}.b", 3, c, 3, padding=1)))]  # fmt: skip
        else:
            body = (nn.Conv2d(f"{name}.a", c, 4, 3, padding=1), nn.BatchNorm2d(f"{name}.n", 4))
            block = [nn.Residual(name, body, (nn.Conv2d(f"{name}.s", c, 4, 1),))]
        for layer in block:
            shape = layer.output_shape(shape)
            layers.append(layer)
    width = shape[0] * shape[1] * shape[2]
    flat = [nn.Flatten("flat"), *([nn.BatchNorm1d("flat.norm", width)] if draw(st.booleans()) else [])]
    end = [nn.GlobalAvgPool2d("mean")] if draw(st.booleans()) else flat
    for last in end:
        shape = last.output_shape(shape)
        layers.append(last)
    if draw(st.booleans()):
        layers += [nn.Linear("fc1", shape[0], 4), nn.BatchNorm1d("fc1.norm", 4), nn.Tanh("fc1.act")]
        shape = (4,)
    layers.append(nn.Linear("out", shape[0], 3))
    model = Model.init(layers, input_shape=(channels, side, side), seed=draw(st.integers(0, 9)), dtype=dtype)
    return with_statistics(model, draw(st.integers(0, 9)))


def groups_of(model: Model, axis: str) -> int:
    """How many equal parts an axis must keep, since a convolution in groups reads or writes it."""
    axes = coupled_axes(model)
    through = [use.layer for use in axes.uses if axis in (use.reads, use.writes) and isinstance(use.layer, nn.Conv2d)]
    return max([conv.groups for conv in through if not conv.groups == conv.in_channels == conv.out_channels], default=1)


@st.composite
def networks_with_units(
    draw: Any, dtype: Any = np.float64, kinds: Sequence[str] = ()
) -> tuple[Model, dict[str, list[int]]]:
    model = draw(networks(dtype, kinds))
    axes = coupled_axes(model)
    units = {}
    for axis, size in axes.sizes.items():
        if axis in axes.fixed or size < 2:
            continue
        parts = groups_of(model, axis)
        each = size // parts
        least = min(each - 1, draw(st.sampled_from([1, 1, 0])))
        gone = draw(st.lists(st.integers(0, each - 1), min_size=least, max_size=each - 1, unique=True))
        units[draw(st.sampled_from(axes.writers(axis)))] = [i + part * each for part in range(parts) for i in gone]
    return model, units


@pytest.mark.parametrize("kind", ["none", *KINDS])
@settings(max_examples=7, deadline=None)
@given(data=st.data())
def test_masked_and_shrunk_are_one_function(kind: str, data: st.DataObject) -> None:
    model, units = data.draw(networks_with_units(kinds=() if kind == "none" else (kind,)))
    masked, small, x = mask_units(model, units), shrink(model, units), some_images(model)
    scale = max(1, abs(masked.logits(x)).max())
    np.testing.assert_allclose(small.logits(x), masked.logits(x), rtol=0, atol=1e-12 * scale)
    kept = sum(int(masked.mask(k).sum()) for k in masked.weights)
    assert small.size == kept
    assert metrics.of(small)["flops"] == metrics.of(masked)["flops_nz"]
    others = sum(p.size for key, p in small.params.items() if key not in small.weights)
    assert metrics.of(small)["bytes_dense"] == 8 * (kept + others)
    rows = {use.layer.name: use.writes for use in coupled_axes(model).uses}
    gone = {coupled_axes(model).of(name): len(set(ids)) for name, ids in units.items()}
    for key, p in small.params.items():
        if key not in small.weights and not key.startswith("flat.norm"):  # that one has an entry a feature
            assert len(p) == len(model.params[key]) - gone.get(rows[key.rpartition(".")[0]], 0)


@settings(max_examples=25, deadline=None)
@given(networks_with_units(np.float32))
def test_in_float32(case: tuple[Model, dict[str, list[int]]]) -> None:
    model, units = case
    masked, small, x = mask_units(model, units), shrink(model, units), some_images(model)
    scale = max(1.0, float(abs(masked.logits(x)).max()))
    np.testing.assert_allclose(small.logits(x), masked.logits(x), rtol=0, atol=1e-6 * scale)
    assert small.dtype == np.float32


@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(0, 99))
def test_another_order_is_the_same_function(model: Model, seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes = coupled_axes(model)
    perms = {
        axes.writers(axis)[0]: rng.permutation(size)
        for axis, size in axes.sizes.items()
        if axis not in axes.fixed and groups_of(model, axis) == 1
    }
    moved, x = permute(model, perms), some_images(model)
    scale = max(1, abs(model.logits(x)).max())
    np.testing.assert_allclose(moved.logits(x), model.logits(x), rtol=0, atol=1e-12 * scale)
    back = permute(moved, {name: np.argsort(perm) for name, perm in perms.items()})
    assert all(np.array_equal(back.params[k], p) for k, p in model.params.items())


def test_a_removed_unit_puts_out_zero() -> None:
    """Against a network run layer by layer, in which the units are set to 0 by hand where they are read."""
    model = with_statistics(nn.lenet_5(seed=0, dtype=np.float64), 1)
    units = {"conv1": [0, 7], "conv2": [3, 49], "fc1": [1, 499]}
    x, gone = some_images(model), None
    y = Tensor(x)
    tensors = {k: Tensor(p) for k, p in model.params.items()}
    for layer in model.architecture:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            if gone is not None:
                part = y.data.reshape(len(x), gone[1], -1).copy()
                part[:, gone[0]] = 0
                y = Tensor(part.reshape(y.shape))
            gone = (units.get(layer.name, []), layer.output_shape(y.shape[1:])[0])
        y, _ = layer.forward(y, tensors, {}, training=False, rng=None)
    np.testing.assert_allclose(shrink(model, units).logits(x), y.data, rtol=1e-12, atol=1e-12)


@pytest.mark.crosscheck
@pytest.mark.parametrize("name", ["vgg_small", "resnet_small"])
def test_torch_pruning_keeps_the_same_function(name: str) -> None:
    torch, theirs = pytest.importorskip("torch"), pytest.importorskip("torch_pruning")
    from l0ref.interop.torch import to_torch

    model = with_statistics(nn.MODELS[name](seed=0, dtype=np.float64), 2)
    named = {"vgg_small": ("block1.1.conv", "block3.2.conv"), "resnet_small": ("stem.conv", "block3.1.conv")}
    x, units = some_images(model, n=2), {layer: [0, 3, 4] for layer in named[name]}
    module = to_torch(model).eval()
    graph = theirs.DependencyGraph().build_dependency(module, example_inputs=torch.as_tensor(x))
    modules = {key.replace("_", "."): part for key, part in module.named_modules()} | dict(module.named_modules())
    for layer, ids in units.items():
        graph.get_pruning_group(modules[layer], theirs.prune_conv_out_channels, idxs=ids).prune()
    small = shrink(model, units)
    np.testing.assert_allclose(small.logits(x), module(torch.as_tensor(x)).detach().numpy(), rtol=1e-10, atol=1e-12)
    assert small.n_parameters == sum(p.numel() for p in module.parameters())


def test_counts_are_those_by_hand() -> None:
    small = shrink(nn.lenet_5(seed=0), {"conv1": range(10), "conv2": range(25), "fc1": range(100)})
    found = metrics.of(small)
    assert found["size"] == 10 * 25 + 25 * 10 * 25 + 400 * (25 * 16) + 10 * 400
    assert found["flops"] == 24 * 24 * 10 * 25 + 8 * 8 * 25 * 10 * 25 + 400 * (25 * 16) + 10 * 400
    assert found["bytes_dense"] == 4 * (found["size"] + 10 + 25 + 400 + 10)


def test_it_trains_on_to_the_same_numbers() -> None:
    rng = np.random.default_rng(0)
    layers = (nn.Conv2d("a", 1, 6, 3), nn.BatchNorm2d("n", 6), nn.ReLU("r"), nn.MaxPool2d("p", 2), nn.Flatten("f"),
              nn.Linear("fc1", 54, 8), nn.ReLU("r1"), nn.Linear("fc2", 8, 3))  # fmt: skip
    model = Model.init(layers, input_shape=(1, 8, 8), seed=0, dtype=np.float64)
    data = Dataset(rng.standard_normal((60, 1, 8, 8)), rng.integers(0, 3, 60), 3, "noise")
    units = {"a": [1, 4], "fc1": [0, 2, 5]}
    how = {"epochs": 2, "seed": 0, "optimizer": SGD(lr=0.1, momentum=0.9), "progress": "none"}
    runs = [fit(m, data, **how)[0] for m in (mask_units(model, units), shrink(model, units))]
    again = surgery(runs[0], units).model
    for key, p in runs[1].params.items():
        np.testing.assert_allclose(again.params[key], p, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", [SGD(lr=0.1, momentum=0.9), Adam(lr=0.01)])
def test_the_memory_of_the_optimizer_shrinks_with_it(optimizer: Any) -> None:
    model = mask_units(nn.mlp((5, 6, 3), seed=0, dtype=np.float64), {"fc1": [0, 4]})
    x, y = np.random.default_rng(0).standard_normal((9, 5)), np.arange(9) % 3

    def steps(m: Model, state: Any, n: int) -> tuple[Model, Any]:
        for _ in range(n):
            tensors = {k: Tensor(p) for k, p in m.params.items()}
            loss = ops.cross_entropy(m.forward(x, params=tensors)[0], y)
            grads = dict(zip(tensors, grad(loss, list(tensors.values())), strict=True))
            params, state = optimizer.step(m.params, grads, state, masks=m.masks)
            m = m.replace(params=params)
        return m, state

    halfway, state = steps(model, optimizer.init(model.params), 3)
    cut = surgery(halfway, {"fc1": [0, 4]})
    slots = {name: cut.arrays(arrays) for name, arrays in state.slots.items()}
    small, _ = steps(cut.model, type(state)(state.step, slots), 3)
    whole, _ = steps(halfway, state, 3)
    for key, p in cut.arrays(whole.params).items():
        np.testing.assert_allclose(small.params[key], p, rtol=1e-12, atol=1e-15)


def test_it_compacts_saves_and_loads(tmp_path: Path) -> None:
    model = nn.resnet_small(seed=0, dtype=np.float64)
    small = shrink(model, {"stem.conv": range(4), "block2.1.conv": range(9)})
    checkpoint.save(tmp_path / "small.npz", small)
    x = some_images(model)
    np.testing.assert_array_equal(checkpoint.load(tmp_path / "small.npz").logits(x), small.logits(x))
    np.testing.assert_allclose(compact(small).model.logits(x), small.logits(x), rtol=1e-12)


@settings(max_examples=8, deadline=None)
@given(case=networks_with_units())
def test_any_small_network_compacts_saves_and_loads(case: tuple[Model, dict[str, list[int]]]) -> None:
    small = shrink(*case)
    x = some_images(small)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.npz"
        checkpoint.save(path, small)
        np.testing.assert_array_equal(checkpoint.load(path).logits(x), small.logits(x))
    np.testing.assert_allclose(compact(small).model.logits(x), small.logits(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sizes", [(6, 0, 4, 3), (6, 4, 0, 3), (6, 0, 3), (0, 4, 3), (6, 1, 3)])
def test_layers_without_units_or_with_one_stay(sizes: tuple[int, ...]) -> None:
    model, x = nn.mlp(sizes, seed=0, dtype=np.float64), np.ones((2, sizes[0]))
    name = next(f"fc{i}" for i in (1, 2) if sizes[i] in (1, 4) or i == 2)
    for small in (shrink(model), sweep(model).model, permute(model, {}), mask_units(model, {})):
        np.testing.assert_array_equal(small.logits(x), model.logits(x))
    if 4 in sizes:
        assert shrink(model, {name: [0]}).size < model.size or 0 in sizes[:2]


def test_dead_units_go_without_a_trace() -> None:
    model = with_statistics(nn.mlp((6, 5, 4, 3), seed=0, dtype=np.float64), 0)
    masks = {k: np.ones(model.params[k].shape, bool) for k in model.weights}
    masks["fc1.weight"][2] = False  # puts out a constant, relu(bias)
    masks["fc2.weight"][:, 4] = False  # nobody reads it
    pruned, x = model.replace(masks=masks), some_images(model)
    small = shrink(pruned)
    assert small.params["fc1.weight"].shape == (3, 6)
    np.testing.assert_allclose(small.logits(x), pruned.logits(x), rtol=1e-12)
    assert dead_units(sweep(pruned).model) == {"fc1": [2, 4]}
    assert dead_units(model) == {}


def test_a_constant_unit_by_name_is_folded() -> None:
    model = with_statistics(nn.mlp((6, 5, 3), seed=0, dtype=np.float64), 0)
    masks = {"fc1.weight": np.ones((5, 6), bool)}
    masks["fc1.weight"][2] = False
    pruned, x = model.replace(masks=masks), some_images(model)
    for twin in (shrink(pruned, {"fc1": [2]}), mask_units(pruned, {"fc1": [2]})):
        np.testing.assert_allclose(twin.logits(x), pruned.logits(x), rtol=1e-12)
    both = shrink(pruned, {"fc1": [1, 2]})
    np.testing.assert_allclose(both.logits(x), mask_units(pruned, {"fc1": [1, 2]}).logits(x), rtol=1e-12)


def test_nothing_named_changes_nothing_and_inputs_stay() -> None:
    model = nn.digits_cnn(seed=0)
    before = {k: p.copy() for k, p in model.params.items()}
    assert all(np.array_equal(p, shrink(model, {}).params[k]) for k, p in before.items())
    shrink(model, {"conv1": [0]})
    assert all(np.array_equal(p, model.params[k]) for k, p in before.items())


def test_a_masked_twin_has_no_bias_where_it_has_no_unit() -> None:
    masked = mask_units(with_statistics(nn.mlp((6, 5, 3), seed=0), 0), {"fc1": [2]})
    assert [i for i, b in enumerate(masked.params["fc1.bias"]) if b == 0] == [2]


def test_a_sum_of_channels_and_features_cannot_be_cut() -> None:
    body = (nn.Conv2d("a", 1, 2, 1), nn.Flatten("f1"))
    block = nn.Residual("block", body, (nn.Flatten("f2"), nn.Linear("b", 4, 8)))
    model = Model.init((block, nn.Linear("out", 8, 2)), input_shape=(1, 2, 2), seed=0)
    with pytest.raises(ArgumentError, match="units has 'a', whose units cannot change: added in block to units of"):
        shrink(model, {"a": [0]})


def test_the_axes_print_themselves() -> None:
    text = str(coupled_axes(nn.resnet_small(seed=0)))
    assert "stem.conv, block1.2.conv " in text
    assert text.splitlines()[0].split() == ["axis", "units", "written", "by", "read", "by"]
    assert text.splitlines()[-1].endswith("output of the network")


GROUPED = (nn.Conv2d("a", 2, 4, 1), nn.Conv2d("g", 4, 4, 1, groups=2), nn.Flatten("f"), nn.Linear("out", 16, 2))
WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "no layer": ({"fc9": [0]}, ArgumentError, r"units has 'fc9', which is not a layer with units; choose from stem"),
    "no unit": (
        {"stem.conv": [16]},
        ArgumentError,
        r"units\['stem.conv'\] has 16, which is not a unit: there are 0 to 15",
    ),
    "below 0": ({"stem.conv": [-1]}, ArgumentError, r"units\['stem.conv'\] has -1, which is not a unit"),
    "all": ({"stem.conv": range(16)}, LayerCollapse, r"has all 16 units of the layer; leave at least one"),
    "output": ({"fc": [0]}, ArgumentError, r"'fc', whose units cannot change: output of the network"),
    "unequal": ({"stem.conv": [0], "block1.2.conv": [1]}, ArgumentError, r"differ, but their outputs are added"),
    "not indices": ({"stem.conv": [0.5]}, ArgumentError, r"must be indices of units in a row, as in \[0, 3\]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_refusals(name: str) -> None:
    units, error, said = WRONG[name]
    with pytest.raises(error, match=said):
        shrink(nn.resnet_small(seed=0), units)


def test_groups_that_do_not_divide_are_refused() -> None:
    model = Model.init(GROUPED, input_shape=(2, 2, 2), seed=0)
    whole = {"a": [0, 1], "g": [0, 1]}
    assert shrink(model, whole).params["g.weight"].shape == (2, 2, 1, 1)
    x = some_images(model)
    np.testing.assert_allclose(shrink(model, whole).logits(x), mask_units(model, whole).logits(x), rtol=1e-5, atol=1e-6)
    for units in ({"a": [0]}, {"a": [0, 2], "g": [0]}, {"g": [0, 1]}):
        with pytest.raises(ShapeError, match="groups of convolution 'g' would have different"):
            shrink(model, units)


def test_orders_that_are_none_and_compact_networks_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"perms\['fc1'\] has 2 entries, expected each of 0 to 2 once"):
        permute(nn.mlp((2, 3, 2), seed=0), {"fc1": [0, 0]})
    small = compact(nn.mlp((50, 30, 2), seed=0).replace(masks={"fc1.weight": np.eye(30, 50, dtype=bool)})).model
    with pytest.raises(ConfigError, match="shrink or permute before making it compact"):
        shrink(small, {"fc1": [0]})
