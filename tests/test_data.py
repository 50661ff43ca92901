from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l0ref import data
from l0ref.data import Dataset, Splits, Standardization, partition, standardize
from l0ref.errors import ArgumentError, DTypeError, ShapeError

# ---- Dataset and Splits


def vectors(n: int, width: int = 3, *, dtype: Any = np.float32, classes: int = 2) -> Dataset:
    return Dataset(np.arange(n * width, dtype=dtype).reshape(n, width), np.arange(n) % classes, classes, "toy")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_dataset_take_and_flatten(dtype: Any, n: int) -> None:
    x = np.arange(n * 12, dtype=dtype).reshape(n, 1, 3, 4)
    dataset = Dataset(x, np.arange(n), 5, "toy")
    assert (len(dataset), dataset.sample_shape, dataset.y.dtype) == (n, (1, 3, 4), np.intp)
    flat = dataset.flatten()
    assert (flat.x.shape, flat.x.dtype, flat.name) == ((n, 12), dtype, "toy")
    np.testing.assert_array_equal(flat.x.ravel(), x.ravel())
    assert not np.shares_memory(flat.x, x)
    rows = np.arange(n)[::-1]
    taken = dataset.take(rows, name="backwards")
    np.testing.assert_array_equal(taken.x, x[::-1])
    np.testing.assert_array_equal(taken.y, dataset.y[::-1])
    assert (taken.name, dataset.take(rows).name) == ("backwards", "toy")


def test_dataset_owns_what_it_checked() -> None:
    """A label written later used to be read by kernels: outside of the classes, outside of memory."""
    x, y = np.zeros((4, 2)), np.array([0, 1, 2, 0])
    view = x[::-1]
    view.flags.writeable = False  # but x can still be written
    for mine in (x, view, x.T.copy().T):
        dataset = Dataset(mine, y, 3, "toy")
        x[...], y[3] = np.inf, -1_000_000
        assert not dataset.x.any()
        assert dataset.y.tolist() == [0, 1, 2, 0]
        x[...], y[3] = 0.0, 0
        for part in (dataset, dataset.take(np.array([1, 3])), dataset.flatten()):
            for array in (part.x, part.y):
                with pytest.raises(ValueError, match="read-only"):
                    array[...] = 0


def test_dataset_takes_over_what_nobody_can_write() -> None:
    x = np.zeros((4, 2))
    x.flags.writeable = False
    dataset = Dataset(x, np.zeros(4, int), 3, "toy")
    assert dataset.x is x
    assert np.shares_memory(dataset.flatten().x, x)
    assert np.shares_memory(dataset.take(slice(1, 3)).x, x)  # type: ignore[arg-type]
    assert len(Dataset(x[:0], [], 3, "none")) == 0  # type: ignore[arg-type]


def test_dataset_is_frozen_and_short_to_print() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign"):
        vectors(3).classes = 3  # type: ignore[misc]
    assert repr(vectors(3)) == "Dataset('toy', 3 x (3,), float32, 2 classes)"


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"x": np.zeros((4, 2), dtype=np.uint8)}, DTypeError, r"^x has dtype uint8, expected float32 or float64"),
        ({"x": [[1.0], [1.0, 2.0]]}, ShapeError, r"^x is a ragged list"),
        ({"x": np.zeros(4)}, ShapeError, r"^x has shape \(4,\), expected images \(N, C, H, W\) or vectors"),
        ({"x": np.zeros((4, 28, 28))}, ShapeError, r"^x has shape \(4, 28, 28\), expected images"),
        ({"x": np.full((4, 2), np.nan)}, ArgumentError, r"^x of 'toy' holds NaN or infinite entries"),
        ({"x": np.array([[0.0, 0.0]] * 3 + [[0.0, np.nan]])}, ArgumentError, r"^x of 'toy' holds NaN"),
        ({"x": np.array([[0.0, 0.0]] * 3 + [[np.inf, 0.0]])}, ArgumentError, r"^x of 'toy' holds NaN"),
        ({"x": np.array([[0.0, 0.0]] * 3 + [[-np.inf, 0.0]])}, ArgumentError, r"^x of 'toy' holds NaN"),
        ({"y": np.zeros(3, dtype=int)}, ShapeError, r"^y has shape \(3,\), expected \(4,\)"),
        ({"y": np.zeros(4)}, DTypeError, r"^y has dtype float64, expected whole numbers"),
        ({"y": np.array([0, 1, 2, 3])}, ArgumentError, r"^y holds the class index 3, outside \[0, 3\)"),
        ({"y": np.array([0, 1, -1, 0])}, ArgumentError, r"^y holds the class index -1"),
        ({"classes": 0}, ArgumentError, r"^classes=0 must be at least 1"),
    ],
)
def test_dataset_refuses(change: dict[str, Any], error: type[Exception], said: str) -> None:
    good = {"x": np.zeros((4, 2)), "y": np.zeros(4, dtype=int), "classes": 3, "name": "toy"}
    assert len(Dataset(**good)) == 4  # type: ignore[arg-type]
    with pytest.raises(error, match=said):
        Dataset(**{**good, **change})


def test_splits_must_fit_each_other() -> None:
    a = vectors(4)
    with pytest.raises(DTypeError, match=r"^mixed dtypes: train\.x float32, validation\.x float64, test\.x float32"):
        Splits(a, vectors(4, dtype=np.float64), a, "toy", "")
    with pytest.raises(
        ShapeError, match=r"^sample_shape differs between the splits of 'toy': train \(3,\), .*test \(2,\)"
    ):
        Splits(a, a, vectors(4, width=2), "toy", "")
    with pytest.raises(
        ShapeError, match=r"^classes differs between the splits of 'toy': train 2, validation 3, test 2"
    ):
        Splits(a, vectors(4, classes=3), a, "toy", "")


# ---- partition


@given(data=st.data(), n=st.integers(0, 60), seed=st.integers(0, 2**32 - 1))
def test_partition_is_disjoint_and_covers(data: st.DataObject, n: int, seed: int) -> None:
    first = data.draw(st.integers(0, n))
    second = data.draw(st.integers(0, n - first))
    parts = partition(n, held_out=(first, second), seed=seed)
    assert [len(part) for part in parts] == [n - first - second, first, second]
    assert sorted(int(i) for part in parts for i in part) == list(range(n))
    assert {part.dtype for part in parts} == {np.dtype(np.intp)}
    again = partition(n, held_out=(first, second), seed=seed)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))
    *_, last = partition(n, held_out=(0, second), seed=seed)
    np.testing.assert_array_equal(last, parts[-1])


def test_partition_cuts_the_documented_permutation() -> None:
    order = np.random.default_rng(np.random.SeedSequence([5, 4, 0])).permutation(20)
    rest, validation, test = partition(20, held_out=(3, 4), seed=5)
    np.testing.assert_array_equal(np.concatenate([rest, validation, test]), order)
    assert partition(20, held_out=(), seed=5)[0].tolist() == order.tolist()
    assert partition(20, held_out=(), seed=6)[0].tolist() != order.tolist()


def test_partition_refuses() -> None:
    with pytest.raises(ArgumentError, match=r"^held_out=\(3, 4\) takes 7 samples of 6; hold out fewer$"):
        partition(6, held_out=(3, 4), seed=0)
    with pytest.raises(ArgumentError, match=r"^held_out\[1\]=-1 must be at least 0"):
        partition(6, held_out=(3, -1), seed=0)
    with pytest.raises(ArgumentError, match=r"^seed=-1 must be at least 0"):
        partition(6, held_out=(3,), seed=-1)


# ---- standardize


def split3(x: np.ndarray[Any, Any], **others: np.ndarray[Any, Any]) -> Splits:
    parts = [Dataset(a, np.zeros(len(a), dtype=int), 1, k) for k, a in {"train": x, **others}.items()]
    return Splits(*parts, name="toy", checksum="c")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2300, 2, 3, 1), (2, 3, 1, 1), (1500, 4)])
def test_standardize_uses_the_training_set_alone(rng: np.random.Generator, dtype: Any, shape: tuple[int, ...]) -> None:
    train, validation, test = (rng.normal(5.0, 2.0, (n, *shape[1:])).astype(dtype) for n in (shape[0], 3, 0))
    if len(shape) == 4:
        train[:, 1] *= 7
    before = train.copy()
    splits, numbers = standardize(split3(train, validation=validation, test=test))
    channels = [train[:, c] for c in range(shape[1])] if len(shape) == 4 else [train]
    for c, channel in enumerate(channels):
        values = [float(v) for v in channel.ravel()]
        mean = math.fsum(values) / len(values)
        std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
        np.testing.assert_allclose([numbers.mean[c], numbers.std[c]], [mean, std], rtol=1e-12)
    mean, std = (v.reshape((1, -1, 1, 1)[: len(shape)]) for v in (numbers.mean, numbers.std))
    for part, raw in ((splits.train, train), (splits.validation, validation)):
        expected = (raw.astype(np.float64) - mean) / std
        bound = 8 * float(np.finfo(dtype).eps) * float(np.abs(raw / std).max())  # rounding of x, not of x - mean
        np.testing.assert_allclose(part.x, expected, rtol=0, atol=bound)
    assert (splits.test.x.shape, splits.train.x.dtype, splits.test.x.dtype) == (test.shape, dtype, dtype)
    assert (splits.name, splits.checksum, splits.validation.name) == ("toy", "c", "validation")
    np.testing.assert_array_equal(train, before)


def test_standardize_refuses_what_has_no_scale() -> None:
    flat = np.ones((4, 2, 3, 3))
    flat[:, 0] = np.arange(9.0).reshape(3, 3)
    with pytest.raises(ArgumentError, match=r"^train\.x is constant in channel 1: no scale gives it variance 1"):
        standardize(split3(flat, validation=flat, test=flat))
    empty = np.zeros((0, 2))
    with pytest.raises(ArgumentError, match=r"^train\.x has shape \(0, 2\): no entry to take a mean of"):
        standardize(split3(empty, validation=empty, test=empty))


def test_standardization_applies_to_new_data() -> None:
    numbers = Standardization(np.array([1.0]), np.array([2.0]))
    np.testing.assert_array_equal(numbers.apply(vectors(1)).x, np.array([[-0.5, 0.0, 0.5]], dtype=np.float32))


def test_public_names_are_importable() -> None:
    assert sorted(data.__all__) == data.__all__ == [name for name in data.__all__ if hasattr(data, name)]
