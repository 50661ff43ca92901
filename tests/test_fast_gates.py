"""ReLU, pooling and loss on blocks, `l0ref.fast.chain.gates`, against loops and at their edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from l0ref.fast.chain import gates
from l0ref.fast.machine import target
from tests.test_fast_kernels import loss_and_slope

pytestmark = pytest.mark.kernels
DTYPES = [np.float32, np.float64]
THREADS = (1, 2, 3, 5)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


# --- gate -------------------------------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("shape", [(0, 2, 3), (1, 1, 1), (3, 2, 5), (2, 5, 17), (4, 3, 0), (2, 0, 4)])
@pytest.mark.parametrize("least", [0.0, -math.inf])
def test_gate(least: float, shape: tuple[int, int, int], dtype: Any, rng: np.random.Generator) -> None:
    """Whole numbers: their sums are exact, and half of y stands at the kink."""
    y, bar = rng.integers(-1, 2, size=shape).astype(dtype), rng.integers(-9, 10, size=shape).astype(dtype)
    slopes, total = np.zeros(shape), np.zeros(shape[1])
    for b, f, i in np.ndindex(*shape):
        slopes[b, f, i] = bar[b, f, i] if y[b, f, i] > least else 0
        total[f] += slopes[b, f, i]
    b_bar, room, before = np.full(shape[1], np.nan, dtype), np.full(shape[2], np.nan, dtype), y.copy()
    gates.gate(y, bar, np.array([least], dtype), b_bar, room)
    np.testing.assert_array_equal(bar, slopes)
    np.testing.assert_array_equal(b_bar, total)
    np.testing.assert_array_equal(y, before)


@each_dtype
def test_gate_is_shut_at_its_kink_and_below(dtype: Any) -> None:
    """And behind NaN; without a floor it is never shut."""
    y = np.array([-math.inf, -1.0, -0.0, 0.0, 1e-30, math.inf, math.nan], dtype).reshape(1, 1, 7)
    for least, want in ((0.0, [0, 0, 0, 0, 2, 2, 0]), (-math.inf, [2] * 7)):
        bar, b_bar = np.full((1, 1, 7), 2, dtype), np.zeros(1, dtype)
        gates.gate(y, bar, np.array([least], dtype), b_bar, np.zeros(7, dtype))
        assert bar.ravel().tolist() == want
        assert b_bar[0] == sum(want)


# --- pool -------------------------------------------------------------------------------------------------------------

# planes, height and width of the images after pooling, rows and columns left over before it
POOLS = [(0, 1, 1, 0, 0), (1, 1, 1, 0, 0), (1, 1, 1, 1, 1), (2, 3, 1, 1, 0), (5, 2, 4, 0, 1), (3, 1, 0, 0, 1)]


@each_dtype
@pytest.mark.parametrize(("planes", "height", "width", "below", "beside"), POOLS)
def test_pool_and_back(
    planes: int, height: int, width: int, below: int, beside: int, dtype: Any, rng: np.random.Generator
) -> None:
    """Few different numbers, so that most windows have ties: the first in scan order wins."""
    lanes = target.lanes(dtype)
    z = rng.integers(0, 3, size=(planes, 2 * height + below, 2 * width + beside, lanes)).astype(dtype)
    bar = rng.integers(1, 9, size=(planes, height, width, lanes)).astype(dtype)
    want, places, z_bar = np.zeros(bar.shape), np.zeros(bar.shape), np.full(z.shape, np.nan)
    for n, p, q, k in np.ndindex(*bar.shape):
        window = z[n, 2 * p : 2 * p + 2, 2 * q : 2 * q + 2, k].ravel()
        want[n, p, q, k], places[n, p, q, k] = window.max(), window.argmax()
        for i in range(4):
            z_bar[n, 2 * p + i // 2, 2 * q + i % 2, k] = bar[n, p, q, k] if i == window.argmax() else 0
    flat = (planes, height, width * lanes)
    images = (planes, 2 * height + below, (2 * width + beside) * lanes)
    for threads in THREADS:
        y, winner, back = np.full(flat, np.nan, dtype), np.full(flat, np.nan, dtype), np.full(images, np.nan, dtype)
        gates.pool(z.reshape(images), y, winner, threads)
        np.testing.assert_array_equal(y, want.reshape(flat))
        np.testing.assert_array_equal(winner, places.reshape(flat))
        gates.unpool(bar.reshape(flat), winner, back, (0, 0), threads)
        np.testing.assert_array_equal(back, z_bar.reshape(images))  # NaN where no window reaches


@each_dtype
@pytest.mark.parametrize("place", range(4))
def test_nan_wins_its_window(place: int, dtype: Any) -> None:
    """Lane 1 has it; in lane 0 minus infinity is as good as any other number."""
    lanes = target.lanes(dtype)
    z = np.full((1, 2, 2, lanes), math.inf, dtype)
    z[..., 0] = -math.inf
    z[0, place // 2, place % 2, 1] = math.nan
    y, winner = np.zeros((1, 1, lanes), dtype), np.full((1, 1, lanes), 9, dtype)
    gates.pool(z.reshape(1, 2, 2 * lanes), y, winner, 1)
    assert y[0, 0, 0] == -math.inf
    assert np.isnan(y[0, 0, 1])
    assert winner.ravel().tolist() == [0, place] + [0] * (lanes - 2)


@each_dtype
def test_a_window_of_nan_has_one_winner(dtype: Any) -> None:
    lanes = target.lanes(dtype)
    y, winner, bar = (
        np.zeros((1, 1, lanes), dtype),
        np.full((1, 1, lanes), 9, dtype),
        np.zeros((1, 2, 2 * lanes), dtype),
    )
    gates.pool(np.full((1, 2, 2 * lanes), np.nan, dtype), y, winner, 1)
    gates.unpool(np.full((1, 1, lanes), 3, dtype), winner, bar, (0, 0), 1)
    assert np.isnan(y).all()
    assert sorted(bar.ravel().tolist()) == [0] * 3 * lanes + [3] * lanes


# --- score ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("classes", [1, 2, 10, 17])
@pytest.mark.parametrize("scale", [1.0, 30.0, 3000.0])
def test_score(scale: float, classes: int, smoothing: float, rng: np.random.Generator) -> None:
    """Of 3 blocks of 4 lanes, 6 samples: a whole block, half a block, and one that is not looked at as a whole."""
    count, lanes = 6, 4
    rows, target = rng.normal(size=(3 * lanes, classes)) * scale, rng.integers(classes, size=count)
    for dtype, rtol in ((np.float64, 4e-16), (np.float32, 2e-7)):
        scores = np.ascontiguousarray(rows.reshape(3, lanes, classes).swapaxes(1, 2)).astype(dtype)
        before, slopes, losses = scores.copy(), np.full(scores.shape, np.nan, dtype), np.full(3 * lanes, np.nan)
        gates.cross_entropy_blocks(scores, target, smoothing, slopes, losses)
        np.testing.assert_array_equal(scores, before)
        for n in range(count):
            row = scores[n // lanes, :, n % lanes]
            want, slope = loss_and_slope(row.astype(float).tolist(), int(target[n]), smoothing)
            assert abs(losses[n] - want) <= 4 * rtol * max(1.0, float(np.ptp(row)))  # rounded: a difference of scores
            got = slopes[n // lanes, :, n % lanes]
            np.testing.assert_allclose(got, np.array(slope) / count, rtol=0, atol=4 * rtol / count)
        assert np.isnan(losses[count:]).all()
        for n in range(count, 3 * lanes):
            assert not slopes[n // lanes, :, n % lanes].any()


@each_dtype
def test_score_of_impossible_classes(dtype: Any) -> None:
    x = np.array([0.0, -math.inf, 0.0], dtype).reshape(1, 3, 1)
    slopes, losses = np.zeros(x.shape, dtype), np.zeros(1)
    gates.cross_entropy_blocks(x, np.array([2]), 0.0, slopes, losses)
    np.testing.assert_allclose(losses, math.log(2), rtol=1e-6)
    assert slopes.ravel().tolist() == [0.5, 0, -0.5]


def test_score_of_no_sample_is_no_slope() -> None:
    slopes = np.full((1, 3, 2), np.nan)
    gates.cross_entropy_blocks(np.ones((1, 3, 2)), np.zeros(0, np.intp), 0.1, slopes, np.zeros(2))
    assert not slopes.any()


@each_dtype
def test_squared_error(dtype: Any, rng: np.random.Generator) -> None:
    """Of 2 blocks of 4 lanes, 5 samples of 3 outputs: loss of each, slope of their mean, none in spare lanes."""
    count, outputs, lanes = 5, 3, 4
    rows = rng.normal(size=(2 * lanes, outputs)).astype(dtype)
    target = (10 * rng.normal(size=(count, outputs))).astype(dtype)
    scores = np.ascontiguousarray(rows.reshape(2, lanes, outputs).swapaxes(1, 2))
    slopes, losses = np.full(scores.shape, np.nan, dtype), np.full(2 * lanes, np.nan)
    gates.squared_error_blocks(scores, target, slopes, losses)
    far = rows[:count].astype(float) - target
    rtol = 4 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(losses[:count], [sum(v * v for v in row) / outputs for row in far], rtol=10 * rtol)
    assert np.isnan(losses[count:]).all()
    got = slopes.swapaxes(1, 2).reshape(2 * lanes, outputs)
    np.testing.assert_allclose(got[:count], 2 * far / (count * outputs), rtol=0, atol=rtol * np.abs(far).max())
    assert not got[count:].any()
