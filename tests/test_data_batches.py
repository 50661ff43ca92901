from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l0ref.data import Dataset, batch_count, batches
from l0ref.errors import ArgumentError


def numbered(n: int, dtype: Any = np.float32) -> Dataset:
    """Sample i is filled with i and labelled i modulo 10, so a row torn from its label shows."""
    x = np.broadcast_to(np.arange(n, dtype=dtype)[:, None, None, None], (n, 1, 2, 3)).copy()
    return Dataset(x, np.arange(n) % 10, 10, "numbered")


def order(dataset: Dataset, **options: Any) -> list[int]:
    return [int(v) for x, _ in batches(dataset, **options) for v in x[:, 0, 0, 0]]


@given(n=st.integers(0, 40), batch_size=st.integers(1, 50), shuffle=st.booleans(), drop_last=st.booleans())
def test_batches_cover_every_sample_once(n: int, batch_size: int, shuffle: bool, drop_last: bool) -> None:
    dataset = numbered(n)
    found = list(batches(dataset, batch_size=batch_size, seed=3, epoch=1, shuffle=shuffle, drop_last=drop_last))
    sizes = [len(y) for _, y in found]
    full, rest = divmod(n, batch_size)
    assert sizes == [batch_size] * full + ([rest] if rest and not drop_last else [])
    assert batch_count(n, batch_size=batch_size, drop_last=drop_last) == len(sizes)
    rows = [int(v) for x, _ in found for v in x[:, 0, 1, 2]]
    assert len(set(rows)) == len(rows) == sum(sizes)
    assert set(rows) <= set(range(n))
    assert all((x[:, 0, 0, 0] % 10 == y).all() for x, y in found)


def test_order_is_a_function_of_seed_and_epoch() -> None:
    dataset = numbered(50)
    first = order(dataset, batch_size=8, seed=1, epoch=4)
    assert first == order(dataset, batch_size=8, seed=1, epoch=4)
    assert first == order(dataset, batch_size=7, seed=1, epoch=4)  # cutting does not change the order
    others = [order(dataset, batch_size=8, seed=s, epoch=e) for s, e in ((1, 5), (2, 4), (4, 1), (0, 0))]
    assert len({tuple(o) for o in [first, *others, list(range(50))]}) == 6


def test_order_is_the_documented_stream() -> None:
    expected = np.random.default_rng(np.random.SeedSequence([1, 1, 4])).permutation(50)
    assert order(numbered(50), batch_size=8, seed=1, epoch=4) == expected.tolist()


def test_order_without_shuffle_is_that_of_the_data() -> None:
    assert order(numbered(11), batch_size=4, seed=9, epoch=9, shuffle=False) == list(range(11))


def test_interleaved_iterators_do_not_disturb_each_other() -> None:
    dataset = numbered(20)
    pairs = zip(
        batches(dataset, batch_size=4, seed=0, epoch=0), batches(dataset, batch_size=4, seed=0, epoch=0), strict=True
    )
    assert all((a[0] == b[0]).all() for a, b in pairs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_fresh_arrays_of_the_same_types(dtype: Any, shuffle: bool) -> None:
    dataset = numbered(10, dtype)
    for x, y in batches(dataset, batch_size=4, seed=0, epoch=0, shuffle=shuffle):
        assert (x.dtype, y.dtype, x.flags.c_contiguous) == (dtype, np.intp, True)
        x[...], y[...] = -1, -1
    np.testing.assert_array_equal(dataset.x[:, 0, 0, 0], np.arange(10))
    np.testing.assert_array_equal(dataset.y, np.arange(10))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, r"^batch_size=0 must be at least 1"),
        ({"batch_size": 2.5}, r"^batch_size=2\.5 must be a whole number"),
        ({"seed": -1}, r"^seed=-1 must be at least 0"),
        ({"epoch": -2}, r"^epoch=-2 must be at least 0"),
    ],
)
def test_batches_refuse_at_the_call_not_at_the_first_batch(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        batches(numbered(3), **{"batch_size": 2, "seed": 0, "epoch": 0, **options})
