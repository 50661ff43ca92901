"""Activations in blocks, `l0ref.fast.products.layout`: copies, which must be exact, against loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from l0ref.fast.chain.places import Activation
from l0ref.fast.machine.lanes import lanes
from l0ref.fast.machine.policy import flat
from l0ref.fast.products import layout as blocks
from l0ref.validate import Array

pytestmark = pytest.mark.kernels
DTYPES = [np.float32, np.float64]
THREADS = (1, 2, 3, 5)
SIZES = ["1", "2", "n - 1", "n", "n + 1", "2 n", "2 n + 3"]  # numbers of features or samples; n is that of lanes
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_size = pytest.mark.parametrize("size", SIZES)


def number(words: str, dtype: Any) -> int:
    factor, _, rest = words.replace(" ", "").partition("n")
    return int(words) if "n" not in words else int(factor or 1) * lanes(dtype) + int(rest or 0)


def in_blocks(rows: Array) -> Array:
    """Entry [b, d, l] is feature d of sample b lanes + l; lanes beyond the last sample are zero."""
    n = lanes(rows.dtype)
    out = np.zeros((math.ceil(len(rows) / n), rows.shape[1], n), rows.dtype)
    for sample, feature in np.ndindex(*rows.shape):
        out[sample // n, feature, sample % n] = rows[sample, feature]
    return out


def steps_of(size: int, dtype: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Offsets of the samples of a block in rows, and of as many features in blocks."""
    n = lanes(dtype)
    return tuple(range(0, n * size, size)), tuple(range(0, n * n, n))


def test_sizes_are_read_as_written() -> None:
    n = lanes(np.float32)
    assert [number(size, np.float32) for size in SIZES] == [1, 2, n - 1, n, n + 1, 2 * n, 2 * n + 3]


@each_dtype
@each_size
@pytest.mark.parametrize("count", SIZES)
def test_gather_and_back(count: str, size: str, dtype: Any, rng: np.random.Generator) -> None:
    features, samples, n = number(size, dtype), number(count, dtype), lanes(dtype)
    data = rng.normal(size=(samples + 2, features)).astype(dtype)
    order = rng.integers(len(data), size=samples)  # some twice
    want = in_blocks(data[order])
    used, room = want.size, want.size + 7
    for threads in THREADS:
        rows, value = np.full((2, room), np.nan, dtype)
        blocks.gather(flat(data), flat(order), rows, value, features, *steps_of(features, dtype), threads)
        np.testing.assert_array_equal(value[:used].reshape(want.shape), want)
        padded = np.zeros((len(want) * n, features), dtype)
        padded[:samples] = data[order]
        np.testing.assert_array_equal(rows[:used].reshape(padded.shape), padded)
        back = np.full(room, np.nan, dtype)
        blocks.to_rows(value, back, features, len(want), *steps_of(features, dtype), threads)
        np.testing.assert_array_equal(back[:used], rows[:used])
        for a in (rows, value, back):
            assert np.isnan(a[used:]).all()


@each_dtype
def test_blocks_hold_whatever_is_given(dtype: Any) -> None:
    """NaN, infinities and the sign of zero pass through."""
    n = lanes(dtype)
    data = np.tile(np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324, 1.0], dtype), n * n).reshape(n, -1)
    rows, value, back = np.zeros((3, data.size), dtype)
    steps = steps_of(data.shape[1], dtype)
    blocks.gather(flat(data), flat(np.arange(n)), rows, value, data.shape[1], *steps, 1)
    blocks.to_rows(value, back, data.shape[1], 1, *steps, 1)
    assert rows.tobytes() == back.tobytes() == data.tobytes()
    assert value.tobytes() == np.ascontiguousarray(data.T).tobytes()


@each_dtype
def test_no_samples_make_no_blocks(dtype: Any) -> None:
    rows, value = np.full((2, 40), np.nan, dtype)
    blocks.gather(flat(np.ones(6, dtype)), flat(np.zeros(0, np.intp)), rows, value, 2, *steps_of(2, dtype), 2)
    blocks.to_rows(value, rows, 2, 0, *steps_of(2, dtype), 2)
    assert np.isnan([rows, value]).all()


@each_dtype
def test_an_activation_knows_its_places(dtype: Any) -> None:
    n = lanes(dtype)
    a = Activation((3, 2, 5), blocks=4, dtype=dtype)
    assert (a.lanes, a.entries, a.step) == (n, 30, 30 * n)
    assert (a.row_steps, a.lane_steps) == steps_of(30, dtype)
    for memory in (a.value, a.bar, a.rows):
        assert (memory.shape, memory.dtype) == ((4 * 30 * n,), dtype)
        assert not memory.any()
    assert a.bar is a.bar
    assert a.rows is a.rows
    a.value[:] = np.arange(a.value.size)
    a.bar[:] = -a.value
    value, bar = a.planes(2), a.planes(2, bar=True)
    assert value.shape == (2 * 3, 2, 5 * n)
    assert (
        value[4, 1, 2 * n + 3] == ((1 * 3 + 1) * 2 + 1) * 5 * n + 2 * n + 3
    )  # block 1, channel 1, pixel (1, 2), lane 3
    np.testing.assert_array_equal(bar, -value)
    assert np.shares_memory(value, a.value)
    assert np.shares_memory(bar, a.bar)
