"""Compiled chains with sparse layers: the same numbers as on the tape, and as of the masked network they come from."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import pytest

from l0ref import nn, optim
from l0ref.autodiff.op import backend
from l0ref.deploy.compact import sparse_twin
from l0ref.distillation import Feed
from l0ref.fast.chain import Chain, SparseConvolutionStage, SparseLinearStage, chain, images, linear
from l0ref.fast.chain import sparse_convolution as stages
from l0ref.fast.chain import sparse_linear as sparse_stages
from l0ref.fast.chain.places import Activation
from l0ref.fast.machine.target import lanes
from l0ref.fast.products import launch as products
from l0ref.nn import compiled
from l0ref.nn.compiled import chain_of, kept_chain
from l0ref.penalty import Penalty
from l0ref.sparse import BlockPattern, Pattern
from l0ref.training import TrainingState, fit, steps
from l0ref.validate import Array
from tests.kept_memory import new_memory
from tests.test_chain import (
    CAPACITY,
    NETWORKS,
    RTOL,
    assert_gone_with_its_chain,
    chained,
    network,
    on_chain,
    on_tape,
    samples,
)
from tests.test_chain_training import OPTIMIZERS, data_for
from tests.test_ops import assert_close

pytestmark = pytest.mark.kernels
INTERPRETED = bool(numba.config.DISABLE_JIT)  # then every number is a turn of a loop in Python
# Numba compiles every kernel once more for float64, which takes most of the time of these tests.
each_dtype = pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
conv, relu, pool, flat = nn.Conv2d, nn.ReLU("relu"), nn.MaxPool2d("pool", 2), nn.Flatten("flatten")

# What only sparse layers allow
MORE: dict[str, tuple[tuple[int, ...], tuple[nn.Layer, ...]]] = {
    "one input": ((1,), (nn.Linear("a", 1, 5), relu, nn.Linear("b", 5, 3))),
    "one unit": ((3,), (nn.Linear("a", 3, 1), nn.Linear("b", 1, 2))),
    "one output": ((20,), (nn.Linear("a", 20, 6), relu, nn.Linear("b", 6, 1))),
    "one pixel": ((1, 1, 1), (conv("c", 1, 2, 1), relu, flat, nn.Linear("a", 2, 3))),
    "groups": ((4, 5, 6), (conv("c", 4, 6, 2, groups=2), relu, pool, conv("d", 6, 9, 2, groups=3), flat)),
    "strides past the window": (
        (1, 9, 8), (conv("c", 1, 4, 2), relu, conv("d", 4, 6, (1, 2), stride=(4, 3)), flat, nn.Linear("a", 24, 3)),
    ),
    "pixels in no window": (
        (1, 9, 10), (conv("c", 1, 4, 2), relu, conv("d", 4, 3, (3, 2), stride=(3, 4)), flat, nn.Linear("a", 12, 3)),
    ),
    "more padding than window": (
        (1, 4, 5), (conv("c", 1, 3, 2), relu, conv("d", 3, 4, 2, stride=2, padding=3), relu, pool, flat,
                    nn.Linear("a", 16, 3)),
    ),
    "strided, padded and dilated": (
        (2, 6, 7),
        (conv("c", 2, 3, 2), relu, conv("d", 3, 4, (2, 3), stride=(2, 3), padding=(2, 1), dilation=(3, 2)), pool, flat,
         nn.Linear("a", 4, 3)),
    ),
    "wide": ((20,), (nn.Linear("a", 20, 100), relu, nn.Linear("b", 100, 101))),
    "seventeen windows in a row, pooled": (
        (1, 4, 19), (conv("c", 1, 3, 2), relu, conv("d", 3, 2, 2), relu, pool, flat, nn.Linear("a", 16, 3)),
    ),
    "seventeen windows in a row": (
        (1, 3, 18), (conv("c", 1, 3, 2), relu, conv("d", 3, 2, 2), flat, nn.Linear("a", 32, 3)),
    ),
}  # fmt: skip
ALL = [*NETWORKS, *MORE]


def dense_network(name: str, dtype: Any) -> nn.Model:
    """A network of either table; biases are not zero."""
    if name in NETWORKS:
        return network(name, dtype)
    shape, layers = MORE[name]
    named = [dataclasses.replace(layer, name=f"{i}.{layer.name}") for i, layer in enumerate(layers)]
    model = nn.Model.init(named, input_shape=shape, seed=0, dtype=dtype)
    rng = np.random.default_rng(0)
    return model.replace(params={k: w + 0.1 * rng.normal(size=w.shape).astype(dtype) for k, w in model.params.items()})


def half(w: Array, rng: np.random.Generator) -> Array:
    keep = rng.random(w.shape) < 0.5
    keep.reshape(-1)[rng.integers(w.size)] = True
    return keep


def without_some_rows(w: Array, rng: np.random.Generator) -> Array:
    keep = half(w, rng)
    keep[::2] = False
    keep[-1].reshape(-1)[-1] = True
    return keep


def one(w: Array, _: np.random.Generator) -> Array:
    return np.arange(w.size).reshape(w.shape) == w.size // 2


KEPT: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "half": half,
    "without some rows": without_some_rows,
    "one weight": one,
    "nothing": lambda w, _: np.zeros(w.shape, bool),
    "everything": lambda w, _: np.ones(w.shape, bool),
}


def pruned(name: str, dtype: Any, rng: np.random.Generator, *, kept: str = "half", only: slice = slice(None)) -> Any:
    """A masked network, and the same with sparse layers for the weights that `only` takes."""
    model = dense_network(name, dtype)
    masked = model.replace(masks={k: KEPT[kept](model.params[k], rng) for k in model.weights[only]})
    return masked, sparse_twin(masked, only=model.weights[only])


def assert_same_gradients(
    found: Chain, model: nn.Model, data: Any, order: Array, smoothing: float, *, times: float = 1
) -> None:
    loss, grads = on_chain(found, model, data, order, smoothing)
    want, slopes, _ = on_tape(model, data[0][order], data[1][order], smoothing)
    rtol = times * RTOL[model.dtype.type]
    np.testing.assert_allclose(loss, want, rtol=rtol, atol=0 if model.classes > 1 else rtol)
    for key, slope in slopes.items():
        assert grads[key].dtype == model.dtype
        if slope.any():
            assert_close(grads[key], slope, rtol, f"{key}, {len(order)} samples")
        else:
            np.testing.assert_array_equal(grads[key], 0 * slope)


# --- gradients and outputs --------------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("name", ALL)
def test_gradient_is_that_of_the_tape(name: str, dtype: Any, rng: np.random.Generator) -> None:
    """Full batches and others, one after another in the same memory; every layer is sparse."""
    _, model = pruned(name, dtype, rng)
    found, data, n = chained(model), samples(model, rng), lanes(dtype)
    assert {type(link.stage) for link in found.links} <= {SparseConvolutionStage, SparseLinearStage}
    counts = [CAPACITY, 1, n - 1, n, n + 1, 33]
    for i, count in enumerate(counts[:2] if INTERPRETED else counts):
        assert_same_gradients(found, model, data, rng.permutation(40)[:count], (0.0, 0.3, 0.1)[i % 3])


@each_dtype
@pytest.mark.parametrize("name", ALL)
def test_outputs_are_those_of_the_tape_and_of_the_masked_network(
    name: str, dtype: Any, rng: np.random.Generator
) -> None:
    masked, model = pruned(name, dtype, rng)
    found, (x, y) = chained(model), samples(model, rng)
    for count in (CAPACITY, 1, lanes(dtype) + 1):
        order = rng.permutation(40)[:count]
        scores = found.logits(model.params, x, order)
        assert scores.dtype == dtype
        for same in (model, masked):
            assert_close(scores, on_tape(same, x[order], y[order], 0.0)[2], RTOL[dtype], f"{count} samples")
    with backend("numba"):
        scores = model.logits(x, batch_size=CAPACITY)
    np.testing.assert_array_equal(scores[:CAPACITY], found.logits(model.params, x, np.arange(CAPACITY)))


@each_dtype
@pytest.mark.parametrize("only", [slice(0, None, 2), slice(1, None, 2)], ids=["first, third", "second, fourth"])
@pytest.mark.parametrize("name", ["three linear layers", "two convolutions, padded and pooled", "three convolutions"])
def test_dense_and_sparse_layers_side_by_side(name: str, only: slice, dtype: Any, rng: np.random.Generator) -> None:
    _, model = pruned(name, dtype, rng, only=only)
    found, data = chained(model), samples(model, rng)
    kinds = {type(link.stage).__name__.removeprefix("Sparse") for link in found.links}
    assert len({type(link.stage) for link in found.links}) > len(kinds) or len(found.links) < 4
    for count in (CAPACITY, 7):
        assert_same_gradients(found, model, data, rng.permutation(40)[:count], 0.1)


@each_dtype
@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("name", ["three linear layers", "in the manner of LeNet-5", "three convolutions"])
def test_whatever_is_kept(name: str, kept: str, dtype: Any, rng: np.random.Generator) -> None:
    for only in (slice(None),) if INTERPRETED else (slice(None), slice(1, 2)):
        _, model = pruned(name, dtype, rng, kept=kept, only=only)
        for count in (CAPACITY, 1):
            data, order = samples(model, rng), rng.permutation(40)[:count]
            assert_same_gradients(chained(model), model, data, order, 0.0, times=10)  # sums that nearly cancel


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("blocksize", [(1, 1), (4, 4), (3, 5), (16, 1), (40, 2)])
def test_tiles(blocksize: tuple[int, int], dtype: Any, rng: np.random.Generator) -> None:
    """Layers with a BlockPattern; what is beyond the matrix stays 0."""
    model = dense_network("three linear layers", dtype)
    layers, params = list(model.architecture), dict(model.params)
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.Linear):
            key = f"{layer.name}.weight"
            pattern = BlockPattern.from_mask(rng.random(params[key].shape) < 0.2, blocksize=blocksize)
            params[key] = pattern.gather(params[key])
            layers[i] = nn.SparseLinear(layer.name, layer.in_features, layer.out_features, pattern)
    model = nn.Model(tuple(layers), model.input_shape, params)
    found, data = chained(model), samples(model, rng)
    for count in (CAPACITY, 1, 16):
        assert_same_gradients(found, model, data, rng.permutation(40)[:count], 0.0)
    _, grads = on_chain(found, model, data, np.arange(9), 0.0)
    for key, pattern in model.patterns.items():
        assert isinstance(pattern, BlockPattern)
        np.testing.assert_array_equal(grads[key][pattern.padding()], 0)


# --- memory, threads, NaN ---------------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("name", ["three linear layers", "two convolutions, padded and pooled", "three convolutions"])
def test_nothing_is_left_over_from_a_larger_batch(name: str, dtype: Any, rng: np.random.Generator) -> None:
    """The same bits as in fresh memory, whatever the memory was used for before."""
    _, model = pruned(name, dtype, rng)
    x, y = samples(model, rng)
    used = chained(model)
    for count in (17,) if INTERPRETED else (1, 7, 17):
        on_chain(used, model, (1e6 * x, y), np.arange(CAPACITY), 0.0)
        order = np.arange(7, 7 + count)
        loss, grads = on_chain(used, model, (x, y), order, 0.0)
        fresh_loss, fresh = on_chain(chained(model), model, (x, y), order, 0.0)
        assert loss == fresh_loss
        for key, g in grads.items():
            np.testing.assert_array_equal(g, fresh[key])


def memory_of(found: Chain) -> Iterator[Array]:
    """Everything that is as long as there are blocks."""
    for i, link in enumerate(found.links):
        stage: Any = link.stage
        yield from (stage.x.value, stage.y.value, stage.y.bar)
        if i:
            yield stage.x.bar
        if isinstance(stage, SparseConvolutionStage):
            yield from (stage.framed.value, stage.z.value, stage.slopes(i > 0)[0].bar)


@each_dtype
@pytest.mark.parametrize("name", ["three linear layers", "two convolutions, padded and pooled", "pooled last"])
def test_nothing_else_is_computed(name: str, dtype: Any, rng: np.random.Generator) -> None:
    """No block without samples, and no cotangent of the data."""
    _, model = pruned(name, dtype, rng)
    found, data = chained(model, capacity=3 * lanes(dtype)), samples(model, rng)
    for mark in (np.nan, 7.25):  # one is seen where it is read, the other where it is written over
        for memory in memory_of(found):
            memory[memory.size // 3 :] = mark
        loss, grads = on_chain(found, model, data, np.arange(lanes(dtype)), 0.0)
        assert np.isfinite([loss, *(g.sum() for g in grads.values())]).all()
        for memory in memory_of(found):
            np.testing.assert_array_equal(memory[memory.size // 3 :], mark)
    first: Any = found.links[0].stage
    assert "bar" not in vars(found.x)
    assert not {"transposed", "_phases"} & set(vars(first))
    assert "rows" not in {k for link in found.links[1:] for k in vars(link.stage.x)}


@pytest.mark.slow  # kernels for several threads are compiled for this
@each_dtype
@pytest.mark.parametrize("name", ["three linear layers", "padded", "in the manner of LeNet-5", "three convolutions"])
def test_threads_change_no_bit(
    name: str, dtype: Any, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    _, model = pruned(name, dtype, rng)
    results, data, order = [], samples(model, rng), rng.permutation(40)[:CAPACITY]
    for threads in (1, 2, 4, 7):
        for module in (chain, images, linear, products, stages, sparse_stages):
            monkeypatch.setattr(module, "threads_for", lambda _, threads=threads: threads)
        loss, grads = on_chain(chained(model), model, data, order, 0.1)
        results.append((loss, {k: g.tobytes() for k, g in grads.items()}))
    assert results[1:] == results[:1] * 3


@pytest.mark.parametrize("name", ["three linear layers", "in the manner of LeNet-5"])
def test_stages_are_gone_with_their_chain(name: str, rng: np.random.Generator) -> None:
    assert_gone_with_its_chain(pruned(name, np.float32, rng)[1], rng)


def test_activations_begin_with_a_line_of_the_cache() -> None:
    for dtype in (np.float32, np.float64):
        a = Activation((3, 1, 1), blocks=5, dtype=dtype)
        for memory in (a.value, a.bar, a.rows):
            assert memory.__array_interface__["data"][0] % 64 == 0
            assert memory.shape == (5 * 3 * lanes(dtype),)
            assert memory.dtype == dtype
            assert not memory.any()


def test_inputs_are_not_written(rng: np.random.Generator) -> None:
    _, model = pruned("in the manner of LeNet-5", np.float64, rng)
    x, y = samples(model, rng)
    order = rng.permutation(40)[:CAPACITY]
    arrays = [x, y, order, *model.params.values()]
    before = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    on_chain(chained(model), model, (x, y), order, 0.0)
    for now, then in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_nan_is_not_lost(rng: np.random.Generator) -> None:
    """A NaN in one sample, or in one stored weight or bias."""
    _, model = pruned("in the manner of LeNet-5", np.float64, rng, kept="everything")
    x, y = samples(model, rng)
    x[4, 0, 3, 3] = np.nan
    found = chained(model)
    with np.errstate(invalid="ignore"):
        assert np.isnan(on_chain(found, model, (x, y), np.arange(9), 0.0)[0])
        assert np.isfinite(on_chain(found, model, (x, y), np.arange(5, 9), 0.0)[0])
        for key, w in model.params.items():
            bad = w.copy()
            bad[-1] = np.nan
            poisoned = model.replace(params={**model.params, key: bad})
            assert np.isnan(on_chain(found, poisoned, (x, y), np.arange(5, 9), 0.0)[0]), key


def test_the_truth_has_no_chain() -> None:
    """Sparse layers with and without a bias; the truth has no chain."""
    linear_pattern, kernel = Pattern.from_mask(np.ones((3, 32), bool)), Pattern.from_mask(np.ones((2, 8), bool))
    for bias in (True, False):
        fc = nn.SparseLinear("fc", 32, 3, linear_pattern, bias)
        images_first = (nn.SparseConv2d("c", 2, 2, 2, kernel, bias=bias), relu, flat, nn.Linear("fc", 32, 3))
        for layers, shape in (((fc,), (32,)), (images_first, (2, 5, 5))):
            with backend("numba"):
                assert chain_of(layers, shape, capacity=8, dtype=float) is not None
            with backend("numpy"):
                assert chain_of(layers, shape, capacity=8, dtype=float) is None


# --- the chain a model keeps ------------------------------------------------------------------------------------------


def test_a_model_runs_its_outputs_on_one_chain(monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Made for the most rows so far, and again for more; a copy of the model has its own."""
    _, model = pruned("three linear layers", np.float64, rng)
    x, made = rng.normal(size=(70, 17)), []
    monkeypatch.setattr(compiled, "chain_of", lambda *a, **k: (made.append(k["capacity"]), chain_of(*a, **k))[1])
    with backend("numpy"):
        want = model.logits(x)  # asks, and there is none
    made.clear()
    with backend("numba"):
        for batch_size in (9, 40, 40, 7, 33):
            assert_close(model.logits(x, batch_size=batch_size), want, 1e-13, f"{batch_size} at a time")
        assert made == [9, 40]
        copied = pickle.loads(pickle.dumps(model)), copy.deepcopy(model), model.replace(params=dict(model.params))
        for other in copied:
            assert_close(other.logits(x, batch_size=9), want, 1e-13, "a copy")
        assert made == [9, 40, 9, 9, 9]
        with backend("numpy"):
            np.testing.assert_array_equal(model.logits(x), want)


def test_a_chain_is_lent_to_one_at_a_time(rng: np.random.Generator) -> None:
    _, model = pruned("one linear layer", np.float64, rng)
    with backend("numba"):
        with (
            kept_chain(model, capacity=9) as first,
            kept_chain(model, capacity=9) as second,
        ):
            assert first is not second
        with kept_chain(model, capacity=9) as again:
            assert again is second
        with backend("numpy"), kept_chain(model, capacity=9) as none:
            assert none is None
        with kept_chain(model, capacity=9) as again:
            assert again is second


def test_only_the_networks_used_last_keep_a_chain() -> None:
    """And none that is gone."""
    models = [network("one linear layer", np.float64) for _ in range(compiled.SPARES + 1)]

    def used(model: nn.Model) -> Any:
        with kept_chain(model, capacity=9) as found:
            return weakref.ref(found)

    with backend("numba"):
        chains = [used(model) for model in models[:-1]]
        assert used(models[0])() is chains[0]() is not None  # now the last one
        used(models[-1])
        assert chains[1]() is None
        assert used(models[0])() is chains[0]()
        assert chains[2]() is not None
        del models[2]
        assert chains[2]() is None


@pytest.mark.parametrize(
    ("name", "only", "counts"),
    [("three linear layers", slice(None), [1, 1, 1]), ("wide", slice(None), [1, 1, 1]), ("wide", slice(1), [0, 1, 1])],
)
def test_few_samples_run_on_a_chain_where_dense_layers_are_small(
    name: str, only: slice, counts: list[int], monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    _, model = pruned(name, np.float64, rng, only=only)
    x, made = rng.normal(size=(9, *model.input_shape)), []
    monkeypatch.setattr(compiled, "chain_of", lambda *a, **k: (made.append(k["capacity"]), chain_of(*a, **k))[1])
    for count, number in zip((7, 8, 9), counts, strict=True):
        made.clear()
        fresh = dataclasses.replace(model)
        with backend("numba"):
            assert_close(fresh.logits(x[:count]), on_tape(model, x[:count], np.zeros(count, int), 0.0)[2], 1e-13, name)
        assert len(made) == number


# --- training ---------------------------------------------------------------------------------------------------------


@contextmanager
def on(what: str) -> Iterator[None]:
    """Steps are taken on the chain, or on the tape, alone."""
    counts: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch, backend("numba"):
        for kind in (steps.ChainSteps, steps.TapeSteps):
            take = kind.take

            def counted(self: Any, *args: Any, take: Any = take, **options: Any) -> float:
                counts[type(self).__name__] += 1
                return float(take(self, *args, **options))

            patch.setattr(kind, "take", counted)
        if what == "tape":
            patch.setattr(steps, "chain_or_reason", lambda *_, **__: "a test says so")
        yield
    assert set(counts) == {"ChainSteps" if what == "chain" else "TapeSteps"}


def assert_same_params(got: Any, want: Any, patterns: Any, rtol: float) -> None:
    """What is stored, against the same entries of dense arrays or of stored ones."""
    for key, w in want.items():
        if key in patterns and w.shape != got[key].shape:
            w = patterns[key].gather(w.reshape(patterns[key].shape))
        np.testing.assert_allclose(got[key], w, rtol=0, atol=rtol * np.abs(w).max(), err_msg=key)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("name", ["three linear layers", "two convolutions, padded and pooled"])
def test_training_is_that_of_the_tape_and_of_the_masked_network(
    name: str, optimizer: optim.Optimizer, rng: np.random.Generator
) -> None:
    masked, model = pruned(name, np.float64, rng)
    data, options = data_for(masked), {"optimizer": optimizer, "penalty": Penalty(alpha=1e-3, l2=1e-3), "seed": 0}
    options |= {"epochs": 1 if INTERPRETED else 3, "batch_size": 8 if INTERPRETED else 17}
    with on("chain"):
        fast, history = fit(model, data, **options)
    for other, where in ((model, "tape"), (masked, "chain")):
        with on(where):
            trained, rows = fit(other, data, **options)
        assert_same_params(fast.params, trained.params, model.patterns, 1e-9)
        np.testing.assert_allclose([row["loss"] for row in history.rows], [row["loss"] for row in rows.rows], rtol=1e-9)
    assert fast.patterns == model.patterns
    assert all((fast.params[key] != w).any() for key, w in model.params.items())


def test_training_of_dense_and_sparse_layers_in_float32(rng: np.random.Generator) -> None:
    masked, model = pruned("two convolutions, padded and pooled", np.float32, rng, only=slice(1, None))
    options: dict[str, Any] = {"epochs": 2, "batch_size": 17, "seed": 0, "optimizer": optim.SGD(lr=0.01, momentum=0.5)}
    with on("chain"):
        fast, slow = (fit(m, data_for(masked), **options)[0] for m in (model, masked))
    assert_same_params(fast.params, slow.params, model.patterns, 1e-4)


def test_stored_weights_may_be_masked(rng: np.random.Generator) -> None:
    """A compact model that is pruned further keeps its pattern, and its zeros."""
    _, model = pruned("three linear layers", np.float64, rng)
    key = model.weights[0]
    model = model.replace(masks={key: rng.random(model.params[key].shape) < 0.5})
    trained = []
    for where in ("chain", "tape"):
        with on(where):
            trained.append(fit(model, data_for(model), epochs=1, seed=0, penalty=Penalty(alpha=1e-3))[0])
    assert_same_params(trained[0].params, trained[1].params, {}, 1e-9)
    assert not trained[0].params[key][~model.masks[key]].any()


@pytest.mark.parametrize("name", ["linear", "convolutions"])
def test_steps_ask_for_no_memory_and_slots_are_as_many_as_stored_weights(name: str) -> None:
    """After the first, a step never holds as much new memory as one batch of inputs takes."""
    layers: tuple[nn.Layer, ...] = (nn.Linear("a", 40, 60), relu, nn.Linear("b", 60, 45), nn.Linear("c", 45, 3))
    shape: tuple[int, ...] = (40,)
    if name == "convolutions":
        convolutions = conv("c1", 1, 4, 3, padding=1), conv("c2", 4, 5, 2, padding=1)
        layers, shape = (*convolutions, pool, flat, nn.Linear("fc", 45, 3)), (1, 6, 6)
    model, batch = nn.Model.init(layers, input_shape=shape, seed=0, dtype=np.float64), 64 if INTERPRETED else 256
    rng = np.random.default_rng(0)
    model = sparse_twin(model.replace(masks={k: rng.random(model.params[k].shape) < 0.3 for k in model.weights}))
    data, pull = data_for(model, count=batch + 5), Penalty(alpha=1e-3).pull(dict.fromkeys(model.weights, 1.0))
    with backend("numba"):
        runner = steps.steps_for(steps.Task(model, data, optim.Adam(), 0.1, 0, Feed(data, 0)), batch_size=batch)
        assert isinstance(runner, steps.ChainSteps)
        runner.begin(TrainingState(model.params, {}, {}, optim.Adam().init(model.params), 0, 9, 1))
        orders = np.arange(batch), np.arange(5), np.arange(batch)[::-1].copy()
        most = new_memory(lambda order: runner.take(order, lr=0.01, pull=pull), orders)
        slots = runner.state().slots.slots
        assert {k: a.shape for k, a in slots["m"].items()} == {k: w.shape for k, w in model.params.items()}
        assert sum(slots["v"][k].size for k in model.weights) == sum(p.nnz for p in model.patterns.values())
    assert most < data.x[:batch].nbytes
