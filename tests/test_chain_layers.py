"""Chains of networks with batch norm, shortcuts, pooling, dropout, tanh and sigmoid, against the tape in NumPy."""

from __future__ import annotations

import dataclasses
from math import prod
from typing import Any

import numba
import numpy as np
import pytest

from l0ref import nn, optim
from l0ref.autodiff.op import backend
from l0ref.errors import ArgumentError
from l0ref.fast.chain import Chain, branches, chain, images, linear, normalization, pooling
from l0ref.fast.dense import winograd
from l0ref.fast.products import launch
from l0ref.nn.compiled import chain_of
from l0ref.nn.loss import loss_and_gradient
from l0ref.nn.sequence import shapes
from l0ref.penalty import Penalty
from l0ref.sparse import Pattern
from l0ref.training import fit, resume, steps
from l0ref.validate import Array
from tests.test_chain import own
from tests.test_chain_training import assert_close as arrays_close
from tests.test_chain_training import assert_same_training, data_for
from tests.test_ops import assert_close

pytestmark = pytest.mark.kernels
INTERPRETED = bool(numba.config.DISABLE_JIT)
CAPACITY = 33
RTOL = {np.float32: 2e-4, np.float64: 1e-11}  # of a ReLU's input near 0 rounding may decide the sign
conv, norm, relu, flat, fc = nn.Conv2d, nn.BatchNorm2d, nn.ReLU("relu"), nn.Flatten("flat"), nn.Linear
SPARSE = Pattern.from_mask(np.arange(4 * 27).reshape(4, 27) % 3 == 0)


def block(name: str, channels: int, filters: int, stride: int) -> nn.Residual:
    body = (
        conv(f"{name}.c", channels, filters, 3, stride=stride, padding=1, bias=False), norm(f"{name}.n", filters),
        nn.ReLU(f"{name}.r"), conv(f"{name}.d", filters, filters, 3, padding=1), norm(f"{name}.m", filters),
    )  # fmt: skip
    side = (conv(f"{name}.s", channels, filters, 1, stride=stride, bias=False), norm(f"{name}.k", filters))
    return nn.Residual(name, body, () if channels == filters and stride == 1 else side)


# shape of a sample, and layers, behind which come a Flatten, if it is needed, and a linear layer
Row = tuple[tuple[int, ...], tuple[nn.Layer, ...]]
first = conv("c", 2, 3, 2)  # behind it images have a row and a column less
NETWORKS: dict[str, Row] = {
    "no biases": ((2, 5, 5), (conv("c", 2, 3, 2, bias=False), relu, flat, fc("f", 48, 17, bias=False))),
    "tanh": ((20,), (fc("a", 20, 17), nn.Tanh("t"))),
    "leaky ReLU": ((2, 5, 5), (conv("c", 2, 3, 2, padding=1), nn.LeakyReLU("l", 0.3), conv("d", 3, 2, 3, padding=1))),
    "softplus, limits": ((20,), (fc("a", 20, 17), nn.Softplus("s"), fc("b", 17, 17), nn.Clip("l", -0.5, 0.7))),
    "sigmoid": ((2, 5, 5), (conv("c", 2, 3, 2, padding=1), nn.Sigmoid("s"), conv("d", 3, 2, 3, padding=1))),
    "a ReLU first, and twice": ((20,), (nn.ReLU("q"), fc("a", 20, 17), relu, nn.ReLU("p"))),
    "average pooling": ((2, 7, 6), (first, nn.AvgPool2d("p", 2))),
    "average pooling, windows that meet": (
        (2, 6, 7), (first, relu, nn.AvgPool2d("p", 3, stride=(2, 1)), conv("d", 3, 4, 3, padding=1)),
    ),
    "average pooling of padded images": (
        (2, 6, 6),
        (conv("c", 2, 3, 3, padding=1), nn.Residual("r", (conv("d", 3, 3, 3, padding=1),)), nn.AvgPool2d("p", 2)),
    ),
    "average pooling beside a convolution": (
        (2, 6, 6),
        (first, relu, nn.Residual("r", (nn.AvgPool2d("p", 3, stride=1),), (conv("d", 3, 3, 5, padding=1),))),
    ),
    "average pooling, padded": ((2, 6, 7), (first, nn.AvgPool2d("p", 3, stride=(2, 1), padding=1))),
    "average pooling, padding not counted": (
        (2, 6, 7), (first, nn.AvgPool2d("p", (3, 2), padding=(1, 1), ceil_mode=True, count_include_pad=False), relu),
    ),
    "average pooling, four edges and one window more": (
        (2, 6, 8),
        (
            first, relu, nn.AvgPool2d("p", 3, stride=2, padding=((1, 0), (0, 1)), ceil_mode=True),
            conv("d", 3, 4, 3, padding=1),
        ),
    ),
    "max-pooling of 3 x 3, padded, that meets": (
        (2, 7, 6), (first, relu, nn.MaxPool2d("p", 3, stride=2, padding=1), conv("d", 3, 4, 3, padding=1)),
    ),
    "max-pooling with gaps": ((2, 8, 9), (first, nn.MaxPool2d("p", (2, 3), stride=1, dilation=(3, 2), padding=(1, 2)))),
    "max-pooling, one window more": ((2, 8, 8), (first, relu, nn.MaxPool2d("p", 2, ceil_mode=True))),
    "max-pooling, four edges": ((2, 6, 6), (nn.MaxPool2d("p", (3, 2), stride=2, padding=((1, 0), (0, 1))), relu)),
    "max-pooling beside a convolution": (
        (2, 6, 6),
        (first, relu, nn.Residual("r", (nn.MaxPool2d("p", 3, stride=1, padding=1),), (conv("d", 3, 3, 3, padding=1),))),
    ),
    "pooling of the whole image": ((2, 5, 4), (conv("c", 2, 17, 2), nn.GlobalAvgPool2d("p"))),
    "max-pooling first, then ReLU": ((2, 8, 8), (nn.MaxPool2d("p", 2), relu)),
    "strides past the window": ((2, 9, 9), (first, nn.AvgPool2d("p", 2, stride=3))),
    "dropout": ((2, 4, 5), (nn.Dropout("d", 0.3), flat, fc("a", 40, 17), relu, nn.Dropout("e", 0.5))),
    "dropout of images": ((2, 5, 5), (first, nn.Dropout("d", 0.4), conv("e", 3, 2, 3, padding=1))),
    "normalised features": ((20,), (fc("a", 20, 18), nn.BatchNorm1d("n", 18, momentum=0.3, eps=0.05), relu)),
    "normalised data": ((2, 4, 4), (norm("n", 2, momentum=0.02, eps=0.2), flat, nn.BatchNorm1d("m", 32))),
    "normalised images": (
        (2, 5, 4), (conv("c", 2, 3, 3, padding=1), norm("n", 3), relu, nn.MaxPool2d("p", 2), conv("d", 3, 9, 1)),
    ),
    "normalised, flattened, normalised": (
        (2, 4, 4), (conv("c", 2, 3, 3, padding=1), flat, nn.BatchNorm1d("n", 48), nn.Tanh("t")),
    ),
    "normalised before the convolution": (
        (2, 5, 4), (first, norm("n", 3), relu, conv("d", 3, 4, 3, padding=(2, 1)), nn.ReLU("q"), norm("m", 4)),
    ),
    "a sparse convolution, normalised": (
        (3, 6, 6),
        (nn.SparseConv2d("c", 3, 4, 3, SPARSE, padding=1), norm("n", 4), relu, conv("d", 4, 3, 3, padding=1)),
    ),
    "a shortcut": ((20,), (fc("a", 20, 16), nn.Residual("r", (fc("b", 16, 16), nn.Tanh("t"))), relu)),
    "a shortcut around the data": ((20,), (nn.Residual("r", (fc("b", 20, 17),), (fc("s", 20, 17),)),)),
    "shortcuts": (
        (3, 8, 8),
        (conv("c", 3, 4, 3, padding=1), block("r", 4, 4, 1), relu, block("s", 4, 17, 2), nn.GlobalAvgPool2d("p")),
    ),
    "a shortcut beside a sparse convolution": (
        (3, 6, 6),
        (
            conv("b", 3, 3, 3, padding=1), relu,
            nn.Residual("r", (conv("d", 3, 4, 3, padding=1),), (nn.SparseConv2d("c", 3, 4, 3, SPARSE, padding=1),)),
        ),
    ),
    "dropout in both branches": (
        (20,), (fc("a", 20, 17), nn.Residual("r", (fc("b", 17, 17), nn.Dropout("d")), (nn.Dropout("e"),))),
    ),
    "groups": (
        (4, 7, 6),
        (
            conv("c", 4, 6, 3, groups=2, padding=1), relu, nn.MaxPool2d("p", 2), conv("d", 6, 9, 2, groups=3),
            nn.ReLU("q"), conv("e", 9, 3, 2, groups=3, stride=(2, 1), padding=1, bias=False), norm("n", 3),
        ),
    ),
    "a filter for each channel": (
        (3, 7, 7), (conv("c", 3, 6, 3, groups=3), norm("n", 6), relu, conv("d", 6, 6, 3, groups=6, padding=(1, 2))),
    ),
    "many channels": (
        (32, 6, 6),
        (
            conv("c", 32, 33, 3, padding=1), norm("n", 33), conv("d", 33, 32, 3, padding=1), relu,
            conv("e", 32, 32, 3, padding=1), nn.ReLU("q"), nn.MaxPool2d("p", 2),
        ),
    ),
}  # fmt: skip
each_network = pytest.mark.parametrize("name", NETWORKS)
# Numba compiles every kernel once more for float64, which takes most of the time of these tests.
each_dtype = pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])


def network(name: str, dtype: Any) -> nn.Model:
    """A network of the table; neither biases nor running statistics are those it begins with."""
    shape, body = NETWORKS[name]
    out = shapes(body, shape)[-1]
    layers = (*body, *((nn.Flatten("last"),) if len(out) > 1 else ()), fc("out", prod(out), 3))
    model, rng = nn.Model.init(layers, input_shape=shape, seed=0, dtype=dtype), np.random.default_rng(0)
    params = {k: (w + 0.1 * rng.normal(size=w.shape)).astype(dtype) for k, w in model.params.items()}
    buffers = {k: (v + rng.uniform(0.1, 0.5, v.shape)).astype(dtype) for k, v in model.buffers.items()}
    return model.replace(params=params, buffers=buffers)


def chained(model: nn.Model, *, training: bool = True) -> Chain:
    with backend("numba"):
        found = chain_of(model.architecture, model.input_shape, capacity=CAPACITY, dtype=model.dtype, training=training)
    assert isinstance(found, Chain)
    return found


def on_chain(found: Chain, model: nn.Model, x: Array, y: Array, order: Array) -> tuple[float, dict[str, Array]]:
    grads = {k: np.full(w.shape, np.nan, w.dtype) for k, w in model.params.items()}
    found.draw_from(np.random.default_rng(7))
    return found.gradient(model.params, grads, x, order, y[order], label_smoothing=0.1), grads


def samples(model: nn.Model, rng: np.random.Generator) -> tuple[Array, Array]:
    return rng.normal(size=(40, *model.input_shape)).astype(model.dtype), rng.integers(model.classes, size=40)


@each_dtype
@each_network
def test_gradient_and_statistics_are_those_of_the_tape(name: str, dtype: Any, rng: np.random.Generator) -> None:
    """Full batches and others, one after another in the same memory."""
    model = network(name, dtype)
    found, (x, y) = chained(model), samples(model, rng)
    wide = model.astype(np.float64)
    for count in (CAPACITY, 17) if INTERPRETED else (CAPACITY, 2, 17, 16, CAPACITY):
        order = rng.permutation(40)[:count]
        loss, grads = on_chain(found, model, x, y, order)
        with backend("numpy"):
            want = loss_and_gradient(
                wide.architecture, wide.params, wide.buffers, x[order].astype(np.float64), y[order],
                label_smoothing=0.1, rng=np.random.default_rng(7),
            )  # fmt: skip
        np.testing.assert_allclose(loss, float(want.loss), rtol=RTOL[dtype])
        if count > 2 or dtype is np.float64:  # of two samples the spread is all rounding
            largest = max(np.abs(g).max() for g in want.grads.values())
            for key, slope in want.grads.items():  # before a normalisation biases have the slope 0
                far = np.abs(grads[key] - slope).max()
                assert far <= RTOL[dtype] * max(np.abs(slope).max(), 1e-2 * largest), (key, count)
        arrays_close(found.moved(model.buffers), {k: v.astype(dtype) for k, v in want.buffers.items()}, RTOL[dtype])


@each_dtype
@each_network
def test_outputs_are_those_of_the_tape(name: str, dtype: Any, rng: np.random.Generator) -> None:
    """By the running statistics, and without dropout; more samples than the chain has room for, too."""
    model = network(name, dtype)
    found, (x, _) = chained(model, training=False), samples(model, rng)
    with backend("numpy"):
        want = model.astype(np.float64).logits(x.astype(np.float64))
    arrays = {**model.params, **model.buffers}
    for count in (17, 40):
        assert_close(
            found.logits(arrays, x, np.arange(count)), want[:count], 1e-5 if dtype is np.float32 else 1e-12, name
        )
    with backend("numba"):
        assert_close(model.logits(x), want, 1e-5 if dtype is np.float32 else 1e-12, name)


@pytest.mark.slow  # kernels for several threads are compiled for this
@pytest.mark.parametrize("name", ["shortcuts", "normalised images", "many channels", "dropout of images", "groups"])
def test_threads_change_no_bit_and_nothing_is_left_over(
    name: str, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """From a larger batch of larger numbers, in lanes beyond the last sample, too."""
    model, results = network(name, np.float32), []
    (x, y), order = samples(model, rng), np.arange(7, 26)
    for threads in (1, 2, 5):
        for module in (chain, images, linear, launch, branches, normalization, pooling, winograd):
            monkeypatch.setattr(module, "threads_for", lambda _, threads=threads: threads)
        used = chained(model)
        if threads > 1:
            on_chain(used, model, x * np.float32(1e6), y, np.arange(CAPACITY))
        loss, grads = on_chain(used, model, x, y, order)
        moved = used.moved(model.buffers)
        results.append((loss, {k: g.tobytes() for k, g in (grads | moved).items()}))
    assert results[1:] == results[:1] * 2


def test_a_negative_variance_is_refused_as_by_the_tape() -> None:
    model = network("normalised images", np.float64)
    model = model.replace(buffers={**model.buffers, "n.running_var": -model.buffers["n.running_var"]})
    with backend("numba"), pytest.raises(ArgumentError, match="which no variance can be; start from ones"):
        model.logits(np.zeros((20, 2, 5, 4)))


def test_infinities_are_dropped() -> None:
    """What dropout drops is 0, whatever it was."""
    model = nn.Model.init((nn.Dropout("d", 1.0), fc("b", 20, 3)), input_shape=(20,), seed=0, dtype=np.float64)
    loss, grads = on_chain(chained(model), model, np.full((40, 20), np.inf), np.zeros(40, int), np.arange(9))
    assert np.isfinite(loss)
    assert not grads["b.weight"].any()


# --- training ---------------------------------------------------------------------------------------------------------


def noted(take: Any, seen: list[str]) -> Any:
    def wrapper(self: steps.Steps, *args: Any, **options: Any) -> Any:
        seen.append(self.runs)
        return take(self, *args, **options)

    return wrapper


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What every step ran on."""
    seen: list[str] = []
    for kind in (steps.ChainSteps, steps.TapeSteps):
        take = kind.take
        monkeypatch.setattr(
            kind, "take", lambda self, *a, take=take, **k: (seen.append(self.runs), take(self, *a, **k))[1]
        )
    return seen


@pytest.mark.parametrize("name", ["shortcuts", "dropout", "dropout in both branches", "many channels", "tanh"])
def test_training_is_that_of_the_tape(name: str, ran: list[str], rng: np.random.Generator) -> None:
    """Under masks and a penalty, with the running statistics and the last batch."""
    model = network(name, np.float64)
    model = model.replace(masks={k: rng.random(model.params[k].shape) < 0.6 for k in model.weights[1:]})
    options: dict[str, Any] = {
        "epochs": 2, "seed": 3, "batch_size": 8 if INTERPRETED else 17, "optimizer": optim.SGD(lr=0.05, momentum=0.9),
        "penalty": Penalty(alpha=1e-3, l2=1e-3), "validation": data_for(model, count=9, seed=4),
    }  # fmt: skip
    with backend("numba"):
        fast = fit(model, data_for(model), **options)
        assert set(ran) == {"runs on the compiled chain"}
        assert fast[1].runs == "runs on the compiled chain"
    with backend("numpy"):
        plain = fit(model, data_for(model), **options)
    assert plain[1].runs == "runs on the tape because the backend is 'numpy'"
    assert_same_training(fast, plain, rtol=1e-8)
    arrays_close(fast[0].buffers, plain[0].buffers, 1e-8)
    assert all((fast[0].buffers[k] != v).any() for k, v in model.buffers.items())


def test_an_interrupted_training_goes_on_with_its_bits(tmp_path: Any, ran: list[str]) -> None:
    """Within an epoch: running statistics, and what dropout draws next."""
    layers = (fc("a", 20, 18), nn.BatchNorm1d("n", 18), relu, nn.Dropout("d", 0.5), fc("b", 18, 3))
    model = nn.Model.init(layers, input_shape=(20,), seed=0)
    data, options = data_for(model, count=40), {"epochs": 2, "seed": 0, "batch_size": 8}

    def stop(state: Any) -> None:
        if state.step == 7:
            raise KeyboardInterrupt

    with backend("numba"):
        whole, _ = fit(model, data, after_step=lambda _: None, **options)
        with pytest.raises(KeyboardInterrupt):
            fit(model, data, after_step=stop, checkpoint=tmp_path / "kept", checkpoint_every=0.0, **options)
        again, _ = resume(tmp_path / "kept", data, after_step=lambda _: None)
    assert set(ran) == {"runs on the compiled chain"}
    for key, w in {**whole.params, **whole.buffers}.items():
        np.testing.assert_array_equal({**again.params, **again.buffers}[key], w)


@pytest.mark.parametrize("seed", [0])
def test_the_networks_of_the_zoo_are_covered(seed: int) -> None:
    made = [make(seed=seed) for make in nn.zoo.MODELS.values()] + [nn.lenet_5(seed=seed, variant="tanh")]
    made += [nn.mlp((20, 17, 3), seed=seed, activation=a, dropout=0.2) for a in nn.zoo.ACTIVATIONS]
    for model in made:
        assert chained(model)
        assert chained(model, training=False)


def test_what_runs_on_the_tape_says_why(ran: list[str]) -> None:
    layers = (fc("a", 20, 18), own, fc("b", 18, 3))
    model = nn.Model.init(layers, input_shape=(20,), seed=0, dtype=np.float64)
    data = data_for(model, count=9)
    covered = dataclasses.replace(model, architecture=(layers[0], relu, layers[2]))
    with backend("numba"):
        for net, optimizer, why in (
            (model, optim.Adam(), "layer 'own' is a Own, which chains do not know"),
            (covered, optim.SGD(), "optimizer SGD has no step in place"),
        ):
            _, history = fit(net, data, epochs=1, seed=0, optimizer=optimizer)
            assert history.runs == f"runs on the tape because {why}"
    assert len(set(ran)) == 2
