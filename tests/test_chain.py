"""Compiled chains against the tape: the same gradients of the same networks, and nothing left over in their memory."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from math import prod
from typing import Any

import numba
import numpy as np
import pytest

from l0ref import nn, ops
from l0ref.autodiff.op import backend
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.fast.chain import Activation, Chain, chain, images, linear
from l0ref.fast.machine.target import lanes
from l0ref.fast.products import launch as products
from l0ref.nn.compiled import chain_of, chain_or_reason
from l0ref.nn.layer import LAYERS
from l0ref.nn.sequence import shapes
from l0ref.sparse import Pattern
from l0ref.validate import Array
from tests.test_fast import compiled_twice
from tests.test_ops import assert_close

pytestmark = pytest.mark.kernels
INTERPRETED = bool(numba.config.DISABLE_JIT)  # then every number is a turn of a loop in Python
DTYPES = [np.float32, np.float64]
RTOL = {np.float32: 1e-5, np.float64: 1e-13}
CAPACITY = 33
conv, relu, pool, flat = nn.Conv2d, nn.ReLU("relu"), nn.MaxPool2d("pool", 2), nn.Flatten("flatten")

# What a chain covers: shape of a sample, layers up to the first linear one, sizes of these, with ReLU between them
Row = tuple[tuple[int, ...], tuple[nn.Layer, ...], tuple[int, ...]]
NETWORKS: dict[str, Row] = {
    "one linear layer": ((20,), (), (3,)),
    "three linear layers": ((17,), (), (33, 16, 4)),
    "images, flattened": ((2, 3, 4), (flat,), (19, 2)),
    "rows, flattened": ((4, 5), (flat,), (3,)),
    "one convolution": ((1, 3, 4), (conv("c", 1, 2, (2, 3)), flat), ()),
    "a convolution with a ReLU": ((2, 5, 4), (conv("c", 2, 3, (3, 2)), relu, flat), (4,)),
    "places 1 x 1": ((3, 2, 3), (conv("c", 3, 5, 1), relu, flat), (3,)),
    "a window as large as the image": ((2, 3, 4), (conv("c", 2, 17, (3, 4)), relu, flat), (3,)),
    "padded": ((2, 4, 3), (conv("c", 2, 3, 3, padding=(1, 2)), relu, flat), (3,)),
    "strided": ((2, 6, 7), (conv("c", 2, 5, (2, 3), stride=(3, 2)), flat), (3,)),
    "strides past the window": ((1, 9, 8), (conv("c", 1, 6, (1, 2), stride=(4, 3)), flat), (3,)),
    "dilated": ((2, 7, 6), (conv("c", 2, 3, (3, 2), dilation=(2, 3)), relu, flat), (3,)),
    "strided, padded and dilated": (
        (2, 5, 6), (conv("c", 2, 3, (2, 3), stride=(2, 1), padding=(2, 1), dilation=(3, 2)), relu, flat), (3,),
    ),
    "pooled": ((2, 5, 8), (conv("c", 2, 3, (2, 3)), relu, pool, flat), (3,)),
    "pooled without ReLU": ((1, 6, 6), (conv("c", 1, 5, 3), pool, flat), (3,)),
    "a row and a column left over": ((2, 6, 8), (conv("c", 2, 3, 2), relu, pool, flat), (3,)),
    "pooled last": ((1, 5, 5), (conv("c", 1, 3, 2), relu, pool, flat), ()),
    "two convolutions": ((1, 6, 5), (conv("c", 1, 3, (2, 3)), relu, conv("d", 3, 4, 2), flat), (3,)),
    "two convolutions, padded and pooled": (
        (2, 6, 7), (conv("c", 2, 3, 3, padding=1), relu, pool, conv("d", 3, 17, (2, 3), padding=1), pool, flat), (3,),
    ),
    "three convolutions": (
        (1, 7, 7),
        (
            conv("c", 1, 4, 3, stride=2, padding=1), relu, conv("d", 4, 2, 3, stride=(1, 3), padding=(2, 1)),
            conv("e", 2, 5, (3, 1), dilation=(2, 1)), relu, flat,
        ),
        (17, 3),
    ),
    "in the manner of LeNet-5": (
        (1, 12, 12), (conv("c", 1, 3, 3), relu, pool, conv("d", 3, 5, 2), relu, pool, flat), (18, 4),
    ),
}  # fmt: skip
each_network = pytest.mark.parametrize("name", NETWORKS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def network(name: str, dtype: Any, *, seed: int = 0) -> nn.Model:
    """A network of the table; biases are not zero."""
    shape, body, sizes = NETWORKS[name]
    layers, width = list(body), prod(shapes(body, shape)[-1])
    for i, size in enumerate(sizes):
        layers += [nn.Linear(f"fc{i}", width, size), relu] if i < len(sizes) - 1 else [nn.Linear(f"fc{i}", width, size)]
        width = size
    named = [dataclasses.replace(layer, name=f"{i}.{layer.name}") for i, layer in enumerate(layers)]
    model = nn.Model.init(named, input_shape=shape, seed=seed, dtype=dtype)
    rng = np.random.default_rng(seed)
    return model.replace(params={k: w + 0.1 * rng.normal(size=w.shape).astype(dtype) for k, w in model.params.items()})


def chained(model: nn.Model, *, capacity: int = CAPACITY) -> Chain:
    with backend("numba"):
        found = chain_of(model.architecture, model.input_shape, capacity=capacity, dtype=model.dtype)
    assert isinstance(found, Chain)
    return found


def samples(model: nn.Model, rng: np.random.Generator, *, count: int = 40) -> tuple[Array, Array]:
    x = rng.normal(size=(count, *model.input_shape)).astype(model.dtype)
    return x, rng.integers(model.classes, size=count)


def on_tape(model: nn.Model, x: Array, y: Array, smoothing: float) -> tuple[float, dict[str, Array], Array]:
    """Loss, gradients and outputs by the definitions, in float64."""
    with backend("numpy"):
        params = {k: Tensor(w.astype(float)) for k, w in model.params.items()}
        scores, _ = model.forward(x.astype(float), params=params)
        loss = ops.cross_entropy(scores, y, label_smoothing=smoothing)
        return float(loss), dict(zip(params, grad(loss, list(params.values())), strict=True)), scores.data


def on_chain(
    found: Chain, model: nn.Model, data: tuple[Array, Array], order: Array, smoothing: float
) -> tuple[float, dict[str, Array]]:
    x, y = data
    grads = {k: np.full(w.shape, np.nan, w.dtype) for k, w in model.params.items()}
    return found.gradient(model.params, grads, x, order, y[order], label_smoothing=smoothing), grads


@each_dtype
@each_network
def test_gradient_is_that_of_the_tape(name: str, dtype: Any, rng: np.random.Generator) -> None:
    """Full batches and others, one after another in the same memory."""
    model, counts = network(name, dtype), [CAPACITY, 1, 17, 16, 15, 3, 33]
    found, data = chained(model), samples(model, rng)
    for i, count in enumerate(counts[:2] if INTERPRETED else counts):
        order, smoothing = rng.permutation(40)[:count], (0.0, 0.3, 0.1)[i % 3]
        loss, grads = on_chain(found, model, data, order, smoothing)
        want, slopes, _ = on_tape(model, data[0][order], data[1][order], smoothing)
        np.testing.assert_allclose(loss, want, rtol=RTOL[dtype])
        assert isinstance(loss, float)
        for key, slope in slopes.items():
            assert grads[key].dtype == dtype
            assert np.abs(slope).max() > 0
            assert_close(grads[key], slope, RTOL[dtype], f"{key}, {count} samples")


@each_dtype
@each_network
def test_outputs_are_those_of_the_tape(name: str, dtype: Any, rng: np.random.Generator) -> None:
    model = network(name, dtype)
    found, (x, y) = chained(model), samples(model, rng)
    for count in (CAPACITY, 1, 17):
        order = rng.permutation(40)[:count]
        scores = found.logits(model.params, x, order)
        before = scores.copy()
        found.logits(model.params, x, rng.permutation(40)[:CAPACITY])
        np.testing.assert_array_equal(scores, before)  # fresh: not written by the next call
        assert scores.dtype == dtype
        assert_close(scores, on_tape(model, x[order], y[order], 0.0)[2], RTOL[dtype], f"{count} samples")


def test_outputs_are_fresh_where_there_is_one(rng: np.random.Generator) -> None:
    """Then a block of outputs lies in memory as the scores do."""
    model = nn.mlp((20, 17, 1), seed=0, dtype=np.float64)
    found, (x, _) = chained(model), samples(model, rng)
    scores = found.logits(model.params, x, np.arange(16))
    before = scores.copy()
    found.logits(model.params, x, np.arange(16, 32))
    np.testing.assert_array_equal(scores, before)
    assert_close(before, model.astype(float).forward(x[:16])[0].data, 1e-13, "one output")


@each_dtype
@pytest.mark.parametrize("name", ["three linear layers", "two convolutions, padded and pooled", "three convolutions"])
def test_nothing_is_left_over_from_a_larger_batch(name: str, dtype: Any, rng: np.random.Generator) -> None:
    """The same bits as in fresh memory, whatever the memory was used for before."""
    model, (x, y) = network(name, dtype), samples(network(name, dtype), rng)
    huge = x.copy()
    huge[:7] *= 1e6
    used = chained(model)
    for count in (17,) if INTERPRETED else (1, 7, 17):
        on_chain(used, model, (huge, y), np.arange(CAPACITY), 0.0)
        order = np.arange(7, 7 + count)
        loss, grads = on_chain(used, model, (x, y), order, 0.0)
        fresh_loss, fresh = on_chain(chained(model), model, (x, y), order, 0.0)
        assert loss == fresh_loss
        for key, g in grads.items():
            np.testing.assert_array_equal(g, fresh[key])


@each_dtype
@pytest.mark.parametrize("name", ["three linear layers", "two convolutions, padded and pooled", "pooled last"])
def test_nothing_else_is_computed(
    name: str, dtype: Any, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """No block without samples, no cotangent of the data, no rows that are there already."""
    model, turned = network(name, dtype), []
    run = linear.layout.to_rows
    monkeypatch.setattr(linear.layout, "to_rows", lambda *args: (turned.append(args[1]), run(*args)))
    found = chained(model, capacity=3 * lanes(dtype))
    stages = [link.stage for link in found.links]
    flows = {id(a): a for stage in stages for a in vars(stage).values() if isinstance(a, Activation)}
    used = [a for a in flows.values() if a is not found.x and a is not getattr(stages[0], "framed", None)]
    for memory in [found.x.value, found.x.rows, *(m for a in used for m in (a.value, a.bar))]:
        memory[memory.size // 3 :] = np.nan
    loss, grads = on_chain(found, model, samples(model, rng), np.arange(lanes(dtype)), 0.0)
    assert np.isfinite([loss, *(g.sum() for g in grads.values())]).all()
    for memory in [found.x.value, found.x.rows, *(m for a in used for m in (a.value, a.bar))]:
        assert np.isnan(memory[memory.size // 3 :]).all()
    first = [found.x, getattr(stages[0], "framed", found.x)]
    assert not any("bar" in vars(a) for a in first)
    later = [stage.x for stage in stages[1:] if isinstance(stage, linear.LinearStage)]
    assert {id(rows) for rows in turned} == {id(x.rows) for x in later}


@each_dtype
@pytest.mark.parametrize(
    "name", [pytest.param("three linear layers", marks=pytest.mark.slow), "padded", "in the manner of LeNet-5"]
)
def test_threads_change_no_bit(
    name: str, dtype: Any, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    model, results = network(name, dtype), []
    data, order = samples(model, rng), rng.permutation(40)[:CAPACITY]
    for threads in (1, 2, 5):
        for module in (chain, images, linear, products):
            monkeypatch.setattr(module, "threads_for", lambda _, threads=threads: threads)
        loss, grads = on_chain(chained(model), model, data, order, 0.1)
        results.append((loss, {k: g.tobytes() for k, g in grads.items()}))
    assert results[1:] == results[:1] * 2


def test_parameters_in_any_layout(rng: np.random.Generator) -> None:
    model = network("a convolution with a ReLU", np.float64)
    data, order = samples(model, rng), np.arange(20)
    turned = model.replace(params={k: np.asfortranarray(w[..., ::-1])[..., ::-1] for k, w in model.params.items()})
    assert not any(w.flags.c_contiguous for w in turned.params.values())
    (loss, grads), (same, turned_grads) = (on_chain(chained(model), m, data, order, 0.0) for m in (model, turned))
    assert loss == same
    for key, g in grads.items():
        np.testing.assert_array_equal(turned_grads[key], g)


def test_inputs_are_not_written(rng: np.random.Generator) -> None:
    model = network("in the manner of LeNet-5", np.float64)
    x, y = samples(model, rng)
    order = rng.permutation(40)[:CAPACITY]
    arrays = [x, y, order, *model.params.values()]
    before = [a.copy() for a in arrays]
    for write in (True, False):
        for a in arrays[:3]:
            a.flags.writeable = write
        on_chain(chained(model), model, (x, y), order, 0.0)
        for now, then in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(now, then)
    assert compiled_twice() == []


def test_a_sample_may_come_twice(rng: np.random.Generator) -> None:
    model = network("two convolutions", np.float64)
    (x, y), order = samples(model, rng), np.array([3, 3, 5, 3])
    loss, grads = on_chain(chained(model), model, (x, y), order, 0.0)
    want, slopes, _ = on_tape(model, x[order], y[order], 0.0)
    np.testing.assert_allclose(loss, want, rtol=1e-13)
    for key, slope in slopes.items():
        assert_close(grads[key], slope, 1e-13, key)


def test_nan_is_not_lost(rng: np.random.Generator) -> None:
    """A NaN in one sample, or in one parameter, behind ReLU and pool too."""
    model = network("in the manner of LeNet-5", np.float64)
    x, y = samples(model, rng)
    x[4, 0, 3, 3] = np.nan
    found = chained(model)
    with np.errstate(invalid="ignore"):
        assert np.isnan(on_chain(found, model, (x, y), np.arange(9), 0.0)[0])
        assert np.isfinite(on_chain(found, model, (x, y), np.arange(5, 9), 0.0)[0])
        for key, w in model.params.items():
            bad = w.copy()
            bad.reshape(-1)[-1] = np.nan
            poisoned = model.replace(params={**model.params, key: bad})
            assert np.isnan(on_chain(found, poisoned, (x, y), np.arange(5, 9), 0.0)[0]), key


# --- what a chain does not cover --------------------------------------------------------------------------------------

own = type("Own", (nn.ReLU,), {})("own")
LAYERS.pop("Own")
fc, image = nn.Linear("fc", 32, 3), (2, 5, 5)  # 32 = 2 x 4 x 4: behind a convolution of 2 x 2
NONE = Pattern.from_mask(np.zeros((0, 32), bool))
NOT_COVERED: dict[str, tuple[tuple[int, ...], tuple[nn.Layer, ...], str]] = {
    "no layers": ((20,), (), "no layer of it has weights"),
    "only a Flatten": (image, (flat,), "no layer of it has weights"),
    "only a ReLU": ((20,), (relu,), "no layer of it has weights"),
    "images come out": (image, (conv("c", 2, 2, 2),), "its outputs are images"),
    "a layer of one's own": ((32,), (nn.Linear("a", 32, 32), own, fc), "layer 'own' is a Own"),
    "a residual block of such": ((32,), (nn.Residual("r", (own,)), fc), "layer 'own' is a Own"),
    "too few inputs": ((1,), (nn.Linear("fc", 1, 3),), "layer 'fc' has 1 inputs, fewer than a vector has lanes"),
    "too few inputs inside": (
        (32,), (nn.Linear("a", 32, 1), relu, nn.Linear("fc", 1, 3)), "layer 'fc' has 1 inputs, fewer than a vector",
    ),
}  # fmt: skip


@pytest.mark.parametrize("layer", [nn.Linear("fc", 32, 0), nn.SparseLinear("fc", 32, 0, NONE)], ids=["dense", "sparse"])
def test_a_layer_without_outputs_is_not_covered(layer: nn.Layer) -> None:
    model = nn.Model.init((layer,), input_shape=(32,), seed=0)
    with backend("numba"):
        assert model.logits(np.ones((16, 32), np.float32)).shape == (16, 0)


@pytest.mark.parametrize("name", ["three linear layers", "in the manner of LeNet-5"])
def test_stages_are_gone_with_their_chain(name: str, rng: np.random.Generator) -> None:
    """At once, not when garbage is next collected: they have megabytes."""
    assert_gone_with_its_chain(network(name, np.float32), rng)


def assert_gone_with_its_chain(model: nn.Model, rng: np.random.Generator) -> None:
    found, data = chained(model), samples(model, rng)
    on_chain(found, model, data, np.arange(3), 0.0)
    stages = [weakref.ref(link.stage) for link in found.links]
    gc.disable()
    try:
        del found
        assert [stage() for stage in stages] == [None] * len(stages)
    finally:
        gc.enable()


@each_dtype
@pytest.mark.parametrize("name", NOT_COVERED)
def test_what_a_chain_does_not_cover(name: str, dtype: Any) -> None:
    shape, layers, why = NOT_COVERED[name]
    assert shapes(layers, shape)  # the network is one
    for training in (False, True):
        options: dict[str, Any] = {"capacity": 8, "dtype": dtype, "training": training}
        with backend("numba"):
            assert chain_of(layers, shape, **options) is None
            found = chain_or_reason(layers, shape, **options)
        assert isinstance(found, str)
        assert found.startswith(why)


def test_truth_has_no_chain() -> None:
    model = network("one linear layer", np.float64)
    with backend("numpy"):
        options: dict[str, Any] = {"capacity": 8, "dtype": float}
        assert chain_of(model.architecture, model.input_shape, **options) is None
        found = chain_or_reason(model.architecture, model.input_shape, training=True, **options)
        assert found == "the backend is 'numpy'"
    assert chained(model).capacity >= CAPACITY


@pytest.mark.parametrize("base", [nn.Linear, nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Flatten])
def test_a_layer_of_ones_own_is_not_taken_for_its_base(base: Any) -> None:
    """A subclass may do something else."""
    own = type("Own", (base,), {})
    try:
        layers = [conv("c", 2, 2, 2), relu, pool, flat, nn.Linear("fc", 32, 3)]
        mine = [own(**vars(layer)) if type(layer) is base else layer for layer in layers]
        with backend("numba"):
            assert chain_of(layers, (2, 9, 9), capacity=8, dtype=float) is not None
            assert chain_of(mine, (2, 9, 9), capacity=8, dtype=float) is None
    finally:
        LAYERS.pop("Own")


@each_dtype
def test_as_many_inputs_as_lanes_are_enough(dtype: Any) -> None:
    for inputs, covered in ((lanes(dtype), True), (lanes(dtype) - 1, False)):
        with backend("numba"):
            found = chain_of((nn.Linear("fc", inputs, 3),), (inputs,), capacity=8, dtype=dtype)
        assert (found is not None) is covered


@pytest.mark.parametrize(
    "model", [nn.lenet_300_100(seed=0), nn.lenet_5(seed=0), nn.digits_mlp(seed=0), nn.digits_cnn(seed=0)]
)
def test_the_usual_networks_are_covered(model: nn.Model) -> None:
    assert len(chained(model).links) == len(model.weights)
