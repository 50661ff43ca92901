from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import data
from l0ref.data import Dataset, load, partition
from l0ref.data.digits import read_digits
from l0ref.errors import ArgumentError, DataError, DTypeError

FILES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def idx(array: np.ndarray[Any, Any]) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def small_mnist(rng: np.random.Generator, *, train: int = 30, test: int = 12) -> list[np.ndarray[Any, Any]]:
    """Four arrays like those of MNIST; pixel (0, 0) of an image numbers it (test images from 100 on)."""
    images, test_images = (rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) for n in (train, test))
    images[:, 0, 0], test_images[:, 0, 0] = np.arange(train), 100 + np.arange(test)
    labels, test_labels = (rng.integers(0, 10, n, dtype=np.uint8) for n in (train, test))
    return [images, labels, test_images, test_labels]


def write(folder: Path, arrays: list[np.ndarray[Any, Any]], *, suffix: str = ".gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(FILES, arrays, strict=True):
        content = idx(array)
        (folder / (name + suffix)).write_bytes(gzip.compress(content) if suffix else content)
    return folder


def numbers(dataset: Dataset) -> list[int]:
    return [int(v) for v in np.rint(dataset.x[:, 0, 0, 0] * 255)]


# ---- digits: the numbers below were computed from sklearn.datasets.load_digits of scikit-learn 1.9.1


def test_digits_are_the_ones_of_scikit_learn() -> None:
    images, labels = read_digits()
    assert (images.shape, images.dtype, labels.shape) == ((1797, 8, 8), np.uint8, (1797,))
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert labels[-5:].tolist() == [9, 0, 8, 9, 8]
    assert int(images.sum()) == 561_718
    assert images.sum((0, 2)).tolist() == [65530, 80453, 65129, 72207, 73737, 63065, 71636, 69961]  # rows
    assert images.sum((0, 1)).tolist() == [47, 22060, 111764, 139371, 140798, 111088, 34994, 1596]  # columns
    assert [int(images[labels == k].sum()) for k in range(10)] == [
        56415, 57007, 55566, 56151, 56239, 55915, 56336, 54289, 57408, 56392,
    ]  # fmt: skip
    assert images[0, 1].tolist() == [0, 0, 13, 15, 10, 15, 5, 0]
    assert (images.min((1, 2)) == 0).all()
    values, counts = np.unique(images.max((1, 2)), return_counts=True)
    assert (values.tolist(), counts.tolist()) == ([14, 15, 16], [2, 30, 1765])


def test_digits_checksum_guards_the_packaged_files(tmp_path: Path) -> None:
    images, labels = read_digits()
    changed = images.copy()
    changed[1234, 5, 6] ^= 1
    for name, array in (("images-idx3", changed), ("labels-idx1", labels)):
        (tmp_path / f"digits-{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    with pytest.raises(
        DataError, match=r" holds digits with SHA-256 [0-9a-f]{64}, expected 663fb76c\w+; install l0ref"
    ):
        read_digits(tmp_path)


def test_digits_files_carry_no_time_stamp_and_a_licence() -> None:
    folder = Path(data.__file__).parent
    for name in ("digits-images-idx3-ubyte.gz", "digits-labels-idx1-ubyte.gz"):
        head = (folder / name).read_bytes()[:8]
        assert head == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"  # no file name, modification time 0
    licence = (folder / "DIGITS_LICENSE.md").read_text(encoding="utf-8")
    for word in ("Alpaydin", "Kaynak", "10.24432/C50P49", "CC BY 4.0", "What was changed", load("digits").checksum):
        assert word in licence


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_load_digits(dtype: Any) -> None:
    splits = load("digits", seed=3, dtype=dtype)
    parts = (splits.train, splits.validation, splits.test)
    assert [part.x.shape for part in parts] == [(1197, 1, 8, 8), (200, 1, 8, 8), (400, 1, 8, 8)]
    assert [part.name for part in parts] == ["digits/train", "digits/validation", "digits/test"]
    assert {(part.x.dtype, part.classes) for part in parts} == {(np.dtype(dtype), 10)}
    images, labels = read_digits()
    rows = partition(1797, held_out=(200, 400), seed=3)
    for part, row in zip(parts, rows, strict=True):
        np.testing.assert_array_equal(part.x[:, 0] * 16, images[row])
        np.testing.assert_array_equal(part.y, labels[row])


def test_load_digits_gives_a_new_split_for_each_seed() -> None:
    first, same, other = load("digits", seed=1), load("digits", seed=1), load("digits", seed=2)
    np.testing.assert_array_equal(first.test.x, same.test.x)
    assert not (first.test.x == other.test.x).all()
    np.testing.assert_array_equal(load("digits", seed=1, split_seed=2).test.x, other.test.x)
    wide = load("digits", seed=1, validation=0)
    assert [len(wide.train), len(wide.validation)] == [1397, 0]
    np.testing.assert_array_equal(wide.test.x, first.test.x)  # the test set does not depend on the validation size
    assert first.checksum == other.checksum


def test_load_flattened_digits_are_the_same_pixels() -> None:
    images, flat = load("digits", seed=0), load("digits", seed=0, flatten=True)
    assert flat.train.x.shape == (1197, 64)
    np.testing.assert_array_equal(flat.train.x, images.train.x.reshape(1197, 64))
    np.testing.assert_array_equal(images.train.flatten().x, flat.train.x)


# ---- MNIST and Fashion-MNIST, on small files made here


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("place", [".", "mnist"])
def test_load_mnist(tmp_path: Path, rng: np.random.Generator, suffix: str, place: str) -> None:
    arrays = small_mnist(rng)
    write(tmp_path / place, arrays, suffix=suffix)
    splits = load("mnist", data_dir=str(tmp_path), validation=5)
    assert [part.x.shape for part in (splits.train, splits.validation, splits.test)] == [
        (25, 1, 28, 28), (5, 1, 28, 28), (12, 1, 28, 28),
    ]  # fmt: skip
    order = np.random.default_rng(np.random.SeedSequence([12345, 4, 0])).permutation(30)
    assert numbers(splits.train) == order[:25].tolist()
    assert numbers(splits.validation) == order[25:].tolist()
    assert numbers(splits.test) == list(range(100, 112))  # the official test set, in its order, and nothing else
    for part, x, y in (
        (splits.train, arrays[0][order[:25]], arrays[1][order[:25]]),
        (splits.test, arrays[2], arrays[3]),
    ):
        np.testing.assert_array_equal(part.x[:, 0], x.astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(part.y, y)
        assert (part.x.dtype, part.y.dtype) == (np.float32, np.intp)
    assert splits.checksum == hashlib.sha256(b"".join(idx(array) for array in arrays)).hexdigest()
    assert splits.name == "mnist"


def test_load_mnist_split_does_not_depend_on_seed(tmp_path: Path, rng: np.random.Generator) -> None:
    write(tmp_path, small_mnist(rng))
    one, two = (load("mnist", data_dir=tmp_path, validation=5, seed=seed) for seed in (0, 1))
    assert numbers(one.validation) == numbers(two.validation)
    other = load("mnist", data_dir=tmp_path, validation=5, split_seed=0)
    assert numbers(one.validation) != numbers(other.validation)
    assert numbers(one.test) == numbers(other.test)
    wide = load("fashion-mnist", data_dir=tmp_path, validation=5, dtype=np.float64, flatten=True)
    assert (wide.train.x.dtype, wide.train.x.shape, wide.name) == (np.float64, (25, 784), "fashion-mnist")
    np.testing.assert_allclose(wide.train.x, one.train.x.reshape(25, 784), rtol=1e-7)


def test_load_looks_in_argument_then_environment_then_cache(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"argument": 7, "environment": 8, "home/.cache/l0ref": 9}
    for place, n in sizes.items():
        write(tmp_path / place / "mnist", small_mnist(rng, test=n))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("L0REF_DATA_DIR", str(tmp_path / "environment"))
    assert len(load("mnist", data_dir=tmp_path / "argument", validation=1).test) == 7
    assert len(load("mnist", validation=1).test) == 8
    monkeypatch.setenv("L0REF_DATA_DIR", "")
    assert len(load("mnist", validation=1).test) == 9
    assert len(load("mnist", data_dir="~/.cache/l0ref", validation=1).test) == 9
    monkeypatch.setenv("L0REF_DATA_DIR", "~/.cache/l0ref")
    assert len(load("mnist", validation=1).test) == 9


def test_load_does_not_take_mnist_for_fashion_mnist(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = write(tmp_path / "mnist", small_mnist(rng))
    assert len(load("mnist", data_dir=folder, validation=1).test) == 12
    with pytest.raises(DataError, match=r"^name='fashion-mnist': "):
        load("fashion-mnist", data_dir=folder, validation=1)


def test_load_says_what_is_missing_and_how_to_get_it(tmp_path: Path, rng: np.random.Generator) -> None:
    said = (
        rf"^name='mnist': {tmp_path}/mnist/train-images-idx3-ubyte\.gz is missing "
        rf"\(looked in {tmp_path}/mnist and {tmp_path}\); run `l0ref data fetch mnist` or name the folder"
    )
    with pytest.raises(DataError, match=said):
        load("mnist", data_dir=tmp_path)
    write(tmp_path / "mnist", small_mnist(rng))
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"^name='mnist': \S+/mnist/t10k-labels-idx1-ubyte\.gz is missing"):
        load("mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("which", "array", "said"),
    [
        (0, np.zeros((30, 32, 32)), r"train-images-\S+ has shape \(30, 32, 32\), expected images \(N, 28, 28\)"),
        (0, np.zeros((30, 27, 28)), r"train-images-\S+ has shape \(30, 27, 28\), expected images"),
        (0, np.zeros((30, 784)), r"train-images-\S+ has shape \(30, 784\), expected images"),
        (1, np.zeros(29), r"train-labels-\S+ has shape \(29,\), expected \(30,\): one label for each image$"),
        (1, np.zeros((30, 1)), r"train-labels-\S+ has shape \(30, 1\), expected \(30,\)"),
        (1, np.full(30, 10), r"train-labels-\S+ holds the label 10, expected 0 to 9"),
        (2, np.zeros((12, 28, 27)), r"t10k-images-\S+ has shape \(12, 28, 27\)"),
        (3, np.zeros(13), r"t10k-labels-\S+ has shape \(13,\), expected \(12,\)"),
        (3, np.full(12, 255), r"t10k-labels-\S+ holds the label 255"),
    ],
)
def test_load_refuses_files_that_are_not_what_they_are_called(
    tmp_path: Path, rng: np.random.Generator, which: int, array: np.ndarray[Any, Any], said: str
) -> None:
    arrays = small_mnist(rng)
    arrays[which] = array
    write(tmp_path, arrays)
    with pytest.raises(DataError, match=rf"^{tmp_path}/{said}"):
        load("mnist", data_dir=tmp_path, validation=5)


def test_load_names_a_damaged_file(tmp_path: Path, rng: np.random.Generator) -> None:
    write(tmp_path, small_mnist(rng))
    damaged = tmp_path / "t10k-images-idx3-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:500])
    with pytest.raises(DataError, match=rf"^{damaged} is a damaged gzip file .*; fetch it again$"):
        load("mnist", data_dir=tmp_path, validation=5)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"name": "mnits"}, ArgumentError, r"^name='mnits' is not one of .*did you mean 'mnist'\?$"),
        (
            {"validation": 1397},
            ArgumentError,
            r"^validation=1397 leaves nothing to train on: 'digits' has 1397 images;",
        ),
        ({"validation": -1}, ArgumentError, r"^validation=-1 must be at least 0"),
        ({"validation": 0.1}, ArgumentError, r"^validation=0\.1 must be a whole number"),
        ({"seed": -1}, ArgumentError, r"^seed=-1 must be at least 0"),
        ({"dtype": np.float16}, DTypeError, r"^dtype=float16 is not float32 or float64"),
        ({"dtype": np.int64}, DTypeError, r"^dtype=int64 is not float32 or float64"),
        ({"dtype": "flaot32"}, DTypeError, r"^dtype='flaot32' is not a NumPy type"),
    ],
)
def test_load_refuses(arguments: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        load(**{"name": "digits", **arguments})


def test_load_mnist_needs_something_to_train_on(tmp_path: Path, rng: np.random.Generator) -> None:
    write(tmp_path, small_mnist(rng))
    with pytest.raises(ArgumentError, match=r"^validation=5000 leaves nothing to train on: 'mnist' has 30 images; ch"):
        load("mnist", data_dir=tmp_path)
