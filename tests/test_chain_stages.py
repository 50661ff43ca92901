"""Stages of a chain one by one: bits of the operations at their kinks, and what a chain refuses or never does."""

from __future__ import annotations

import re
from math import prod
from typing import Any

import numpy as np
import pytest

from l0ref import nn, optim
from l0ref.autodiff.op import backend
from l0ref.autodiff.tensor import Tensor, grad
from l0ref.distillation import Feed
from l0ref.errors import DTypeError
from l0ref.fast.chain import moments, pooling
from l0ref.fast.chain.build import LAYERS as STAGES
from l0ref.fast.chain.functions import FUNCTIONS, FunctionStage
from l0ref.fast.chain.places import Activation
from l0ref.nn import compiled
from l0ref.nn.compiled import chain_is_faster
from l0ref.nn.layer import LAYERS as KINDS
from l0ref.nn.sequence import shapes
from l0ref.ops import sum as total
from l0ref.ops.windows import Windows
from l0ref.penalty import Penalty
from l0ref.sparse import Pattern
from l0ref.training import TrainingState, steps
from l0ref.validate import Array
from tests.house_files import ROOT
from tests.kept_memory import new_memory
from tests.test_chain_layers import INTERPRETED, block, conv, fc, flat, norm, relu
from tests.test_chain_training import data_for

pytestmark = pytest.mark.kernels
# Numba compiles every kernel once more for float64, which takes most of the time of these tests.
each_dtype = pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])

# --- kinks ------------------------------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("least", [0.0, -np.inf])
def test_a_normalised_number_at_its_kink_is_shut(least: float, dtype: Any) -> None:
    """(z - 1) 0.5 4 - 2, whole numbers: exactly 0 at z = 2; behind NaN a ReLU is shut, too."""
    z = np.array([0.0, 1.0, 2.0, 3.0, np.nan, np.inf, -np.inf], dtype)
    bar = np.arange(1, 8).astype(dtype)
    mean, scale, weight, bias, floor = np.array([1.0, 0.5, 4.0, -2.0, least], dtype)
    moments.gated(z, bar, mean, scale, weight, bias, floor)
    is_open = [False, False, False, True, False, True, False] if least == 0 else [True] * 4 + [False, True, False]
    np.testing.assert_array_equal(bar, np.where(is_open, np.arange(1, 8), 0))


SPECIAL = [-np.inf, -30.0, -1.5, -0.5, -0.0, 0.0, 1e-30, 0.5, 0.75, 1.5, 19.75, 20.0, 20.25, 90.0, np.inf, np.nan]
LAYERS = {
    "ReLU": nn.ReLU("f"), "LeakyReLU": nn.LeakyReLU("f", 0.25), "no leak": nn.LeakyReLU("f", 0.0),
    "Sigmoid": nn.Sigmoid("f"), "Tanh": nn.Tanh("f"), "Softplus": nn.Softplus("f"),
    "Clip": nn.Clip("f", -0.5, 0.75), "Clip above": nn.Clip("f", None, 1.5), "Clip below": nn.Clip("f", -1.5),
}  # fmt: skip


def test_every_function_has_a_row() -> None:
    assert {type(layer).__name__ for layer in LAYERS.values()} == set(FUNCTIONS)
    assert set(FUNCTIONS) == {kind.__name__ for kind in nn.activations.ELEMENTWISE}


@each_dtype
@pytest.mark.parametrize("frame", [(0, 0), (1, 2)])
@pytest.mark.parametrize("name", LAYERS)
def test_a_function_has_the_bits_of_its_operation(name: str, frame: tuple[int, int], dtype: Any) -> None:
    """At kinks and infinities, too, for two blocks of three; what a frame or a later block holds stays as it was."""
    layer, numbers = LAYERS[name], np.array(SPECIAL, dtype)
    x = Activation((2, 3, 1), blocks=3, dtype=dtype, frame=frame)
    stage, count = FunctionStage(x, layer), 2 * x.lanes
    order = np.random.default_rng(3).integers(len(numbers), size=x.inside(2).shape)
    x.inside(2)[...], bars = numbers[order], np.random.default_rng(4).normal(size=order.shape).astype(dtype)
    stage.y.inside(3, bar=True)[...], before = 9, x.value.copy()
    stage.y.inside(2, bar=True)[...] = bars
    with backend("numpy"), np.errstate(invalid="ignore"):
        given = Tensor(x.inside(2).copy())
        y = layer.forward(given, {}, {})[0]
        (want,) = grad(total(y * bars), [given])
        stage.forward(count=count)
        stage.backward(count=count)
    np.testing.assert_array_equal(stage.y.inside(2), y.data)
    np.testing.assert_array_equal(x.inside(2, bar=True), want)
    real = ~np.isnan(y.data)  # signs of zeros
    np.testing.assert_array_equal(np.signbit(stage.y.inside(2))[real], np.signbit(y.data)[real])
    np.testing.assert_array_equal(x.value, before)
    assert not stage.y.inside(3)[4:].any()
    x.inside(2, bar=True)[...] = 0
    assert not x.bar.any()


# --- pooling ----------------------------------------------------------------------------------------------------------

POOLS: dict[str, tuple[tuple[int, int], nn.Layer]] = {
    "of 2 x 2": ((4, 6), nn.MaxPool2d("p", 2)),
    "by halves": ((4, 6), nn.MaxPool2d("p", 2)),
    "with a row left over": ((5, 3), nn.MaxPool2d("p", 2)),
    "that meet": ((5, 4), nn.MaxPool2d("p", 3, stride=(1, 2), padding=1)),
    "with gaps": ((7, 6), nn.MaxPool2d("p", (2, 3), stride=(2, 1), dilation=(3, 2), padding=(1, 2))),
    "one window more": ((6, 5), nn.MaxPool2d("p", (3, 2), stride=2, ceil_mode=True, padding=((0, 1), (1, 0)))),
    "of one pixel": ((1, 1), nn.MaxPool2d("p", 3, padding=1)),
    "mean": ((5, 4), nn.AvgPool2d("p", (3, 2), stride=(1, 2))),
    "mean, padded": ((5, 4), nn.AvgPool2d("p", 3, stride=2, padding=1)),
    "mean of the image": ((5, 4), nn.AvgPool2d("p", (2, 3), padding=(1, 0), count_include_pad=False)),
    "mean, one window more": ((6, 5), nn.AvgPool2d("p", (3, 2), stride=2, ceil_mode=True, padding=((0, 1), (1, 0)))),
}


@each_dtype
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("frames", [((0, 0), (0, 0)), ((1, 2), (2, 1))])
@pytest.mark.parametrize("name", POOLS)
def test_pooling_is_that_of_its_operation(
    name: str, frames: Any, threads: int, dtype: Any, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """Whole numbers with many ties, the largest and its cotangent exactly; two blocks of three; frames hold NaN."""
    (image, layer), (outer, inner) = POOLS[name], frames
    monkeypatch.setattr(pooling, "threads_for", lambda _: threads)
    x = Activation((3, *image), blocks=3, dtype=dtype, frame=outer)
    share = pooling.shares(layer, x.shape) if isinstance(layer, nn.AvgPool2d) else None
    stage: Any = pooling.PoolStage(x, layer.windows(x.shape), share)
    if name == "by halves" and outer == (0, 0):
        stage, inner = pooling.HalvingStage(x), outer
    y, count = stage.y, 2 * x.lanes
    y.frame = inner
    numbers = rng.integers(-2, 3, size=(count, 3, *image)).astype(dtype)
    bars = rng.integers(1, 9, size=(count, *y.shape)).astype(dtype)
    x.value[:] = y.value[:] = y.bar[:] = x.bar[:] = np.nan
    x.inside(2)[...], y.inside(2, bar=True)[...] = in_blocks(numbers, x.lanes), in_blocks(bars, x.lanes)
    with backend("numpy"):
        given = Tensor(numbers)
        want = layer.forward(given, {}, {})[0]
        (slope,) = grad(total(want * bars), [given])
    stage.forward(count=count)
    stage.backward(count=count)
    rtol = 0 if isinstance(layer, nn.MaxPool2d) else 8 * np.finfo(dtype).eps
    np.testing.assert_allclose(y.inside(2), in_blocks(want.data, x.lanes), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(x.inside(2, bar=True), in_blocks(slope, x.lanes), rtol=rtol, atol=rtol)
    assert np.isnan(y.value).sum() == y.value.size - y.inside(2).size
    assert np.isnan(x.bar[2 * x.step :]).all()


@pytest.mark.parametrize("place", range(9))
def test_nan_wins_its_window(place: int) -> None:
    x = Activation((1, 3, 3), blocks=1, dtype=np.float32)
    stage = pooling.PoolStage(x, Windows((3, 3), (1, 1), (0, 0)))
    x.value[:] = np.inf
    x.value[place * x.lanes], x.value[1 :: x.lanes] = np.nan, -np.inf
    stage.y.bar[:] = 2
    stage.forward(count=2)
    stage.backward(count=2)
    assert np.isnan(stage.y.value[0])
    assert stage.y.value[1] == -np.inf
    assert [x.bar[lane :: x.lanes].tolist().index(2) for lane in (0, 1, 2)] == [place, 0, 0]
    assert x.bar.sum() == 2 * x.lanes


def in_blocks(images: Array, lanes: int) -> Array:
    """(N, C, H, W) as `Activation.inside` has them: (blocks C, H, W lanes)."""
    n, c, h, w = images.shape
    every: Array = images.reshape(n // lanes, lanes, c, h, w).transpose(0, 2, 3, 4, 1).reshape(-1, h, w * lanes)
    return every


# --- what a chain refuses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["none", "type", "gaps", "no sample", "few", "a negative variance"])
def test_samples_that_a_chain_may_take(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One reason after another that it may not; all others hold."""
    layers = (fc("a", 20, 100), nn.BatchNorm1d("n", 100), fc("b", 100, 101))
    model = nn.Model.init(layers, input_shape=(20,), seed=0, dtype=np.float64)
    x, rows = np.random.default_rng(0).normal(size=(12, 20)), 7 if change == "few" else 8
    x = {"type": x.astype(np.float32), "gaps": np.asfortranarray(x), "no sample": x[:0]}.get(change, x)
    if change == "a negative variance":
        var = model.buffers["n.running_var"].copy()
        var[5] = -1e-3
        model = model.replace(buffers={**model.buffers, "n.running_var": var})
    assert chain_is_faster(model, x, rows=rows) is (change == "none")
    if change in ("type", "gaps"):
        with monkeypatch.context() as patch, backend("numba"):
            patch.setattr(compiled, "chain_of", None)  # would be called
            if change == "type":
                with pytest.raises(DTypeError, match="mixed dtypes float32, float64"):
                    model.logits(x)
            else:
                np.testing.assert_allclose(model.logits(x)[:7], model.logits(x.copy("C")[:7]), rtol=1e-12)


def test_the_page_lists_what_runs_where() -> None:
    """Each layer of the package in one row, and every class that `build` knows."""
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    rows = page.split("## What runs on the compiled chain")[1].split('"Runs on the tape')[0].splitlines()
    listed = [name for row in rows if row.startswith("| `") for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(listed) == sorted({*STAGES, *FUNCTIONS})
    assert set(listed) == {k for k, kind in KINDS.items() if kind.__module__.startswith("l0ref.nn") and k[0] != "_"}


# --- memory -----------------------------------------------------------------------------------------------------------


SPARSE = Pattern.from_mask(np.arange(30 * 40).reshape(30, 40) % 3 == 0)
images = (conv("c", 2, 5, 3, padding=1), norm("n", 5), relu)
MEMORY: dict[str, tuple[tuple[int, ...], tuple[nn.Layer, ...]]] = {
    "batch norm": ((40,), (fc("a", 40, 60), nn.BatchNorm1d("n", 60), relu, fc("b", 60, 45))),
    "batch norm of images, and pooling": ((2, 6, 6), (*images, nn.MaxPool2d("p", 2), flat)),
    "residual": ((2, 6, 6), (block("r", 2, 2, 1), block("s", 2, 17, 2), nn.GlobalAvgPool2d("g"))),
    "a convolution, scattered": ((2, 6, 6), (*images, conv("d", 5, 6, 3, stride=2, padding=1), flat)),
    "average pooling": ((2, 6, 6), (*images, nn.AvgPool2d("p", 3, stride=1), conv("d", 5, 6, 3, padding=1), flat)),
    "dropout": ((40,), (fc("a", 40, 60), relu, nn.Dropout("d", 0.5), fc("b", 60, 45), nn.Dropout("e", 0.2))),
    "dropout of images": ((2, 6, 6), (*images, nn.Dropout("d", 0.5), conv("e", 5, 3, 3), flat)),
    "sparse": ((40,), (nn.SparseLinear("s", 40, 30, SPARSE), relu)),
    **{f"{name}, {LAYERS[name]}": ((40,), (fc("a", 40, 60), LAYERS[name])) for name in FUNCTIONS},
}  # fmt: skip


@pytest.mark.skipif(INTERPRETED, reason="interpreted kernels make numbers one by one")
@pytest.mark.parametrize("name", MEMORY)
def test_steps_ask_for_no_memory(name: str) -> None:
    """After the first, a step never holds as much new memory as an eighth of one batch of inputs takes.

    What flows between the layers is larger than the inputs: not even a byte for each of its numbers.
    """
    shape, body = MEMORY[name]
    layers = (*body, fc("out", prod(shapes(body, shape)[-1]), 3))
    model, batch = nn.Model.init(layers, input_shape=shape, seed=0, dtype=np.float64), 512
    data = data_for(model, count=batch + 5)
    pull = Penalty(alpha=1e-3, l2=1e-3).pull(dict.fromkeys(model.weights, 1.0))
    task = steps.Task(model, data, optim.Adam(), 0.1, 0, Feed(data, 0))
    with backend("numba"):
        runner = steps.steps_for(task, batch_size=batch)
        assert isinstance(runner, steps.ChainSteps)
        runner.begin(TrainingState(model.params, {}, model.buffers, optim.Adam().init(model.params), 0, 9, 1))
        orders = np.arange(batch), np.arange(5), np.arange(batch)[::-1].copy()
        most = new_memory(lambda order: runner.take(order, lr=0.01, pull=pull), orders)
    assert most < data.x[:batch].nbytes // 8
