"""`load`: from a name to training, validation and test set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from l0ref.data.dataset import Dataset, Splits
from l0ref.data.digits import read_digits
from l0ref.data.folders import data_folder, find_files
from l0ref.data.idx import checksum, read_idx
from l0ref.data.partition import partition
from l0ref.errors import ArgumentError, DataError
from l0ref.validate import Array, choose, count, flag, float_type, sealed

DATASETS = ("digits", "mnist", "fashion-mnist")
CLASSES = 10  # all three have ten
SPLIT_SEED = 12345  # one validation set of MNIST for all runs, so that their results can be compared
DIGITS_TEST = 400
VALIDATION = {"digits": 200, "mnist": 5000, "fashion-mnist": 5000}

Bytes = NDArray[np.uint8]


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    split_seed: int | None = None,
    validation: int | None = None,
    dtype: DTypeLike = np.float32,
    flatten: bool = False,
) -> Splits:
    """Load "digits" (built in), "mnist" or "fashion-mnist" (from files) as training, validation and test set.

    digits         1,197 / 200 / 400 images (N, 1, 8, 8), x = pixel / 16; a new split for every `seed`
    mnist          55,000 / 5,000 / 10,000 images (N, 1, 28, 28), x = pixel / 255; the test set is the official
    fashion-mnist  one; validation = the last 5,000 of the 60,000 after a permutation seeded by 12345, whatever `seed`

    x lies in [0, 1] and is not centred (`standardize` does that). `validation` sets another validation size,
    `split_seed` another split; `flatten=True` gives vectors (N, 64) or (N, 784).
    `data_dir`, else L0REF_DATA_DIR, else ~/.cache/l0ref, holds the four IDX files, with or without `.gz`, in
    itself or in a folder called `name`; any correct IDX file is taken, and `Splits.checksum` tells which it was.
    """
    choose("name", name, DATASETS)
    kind = float_type(dtype)
    flag("flatten", flatten)
    held = count("validation", VALIDATION[name] if validation is None else validation)
    if name == "digits" and data_dir is not None:
        raise ArgumentError(f"data_dir={os.fspath(data_dir)!r} is of no use to name='digits', which are built in")
    if name == "digits":
        return _load_digits(held, seed if split_seed is None else split_seed, kind, flatten)
    files = find_files(name, data_folder(data_dir))
    return _load_mnist(name, files, held, SPLIT_SEED if split_seed is None else split_seed, kind, flatten)


def _load_digits(validation: int, seed: int, dtype: np.dtype[Any], flatten: bool) -> Splits:
    images, labels = read_digits()
    _check_validation(validation, len(images) - DIGITS_TEST, "digits")
    parts = partition(len(images), held_out=(validation, DIGITS_TEST), seed=seed)
    train, held, test = (
        _dataset(f"digits/{part}", images[rows], labels[rows], scale=16, dtype=dtype, flatten=flatten)
        for part, rows in zip(("train", "validation", "test"), parts, strict=True)
    )
    return Splits(train, held, test, "digits", checksum(images, labels))


def _load_mnist(
    name: str, files: list[Path], validation: int, seed: int, dtype: np.dtype[Any], flatten: bool
) -> Splits:
    images, labels, test_images, test_labels = arrays = [read_idx(path) for path in files]
    _check_pair(images, labels, files[:2])
    _check_pair(test_images, test_labels, files[2:])
    _check_validation(validation, len(images), name)
    rest, held = partition(len(images), held_out=(validation,), seed=seed)
    train, held_out, test = (
        _dataset(f"{name}/{part}", x, y, scale=255, dtype=dtype, flatten=flatten)
        for part, x, y in (
            ("train", images[rest], labels[rest]),
            ("validation", images[held], labels[held]),
            ("test", test_images, test_labels),
        )
    )
    return Splits(train, held_out, test, name, checksum(*arrays))


def _dataset(name: str, images: Bytes, labels: Bytes, *, scale: int, dtype: np.dtype[Any], flatten: bool) -> Dataset:
    """Bytes (N, H, W) -> pixel / scale as (N, 1, H, W), or (N, H * W): one division, straight into the float array."""
    n, height, width = images.shape
    pixels = images.reshape((n, height * width) if flatten else (n, 1, height, width))
    x: Array = np.divide(pixels, dtype.type(scale), dtype=dtype)
    return Dataset(sealed(x), sealed(labels.astype(np.intp)), CLASSES, name)


def _check_pair(images: Bytes, labels: Bytes, files: list[Path]) -> None:
    """Refuse files that are not what their names say: 28 x 28 images, and one label in 0..9 for each."""
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise DataError(f"{files[0]} has shape {images.shape}, expected images (N, 28, 28); fetch it again")
    if labels.shape != images.shape[:1]:
        raise DataError(f"{files[1]} has shape {labels.shape}, expected ({len(images)},): one label for each image")
    if labels.size and labels.max() >= CLASSES:
        raise DataError(f"{files[1]} holds the label {labels.max()}, expected 0 to {CLASSES - 1}; fetch it again")


def _check_validation(validation: int, available: int, name: str) -> None:
    if validation >= available:
        raise ArgumentError(
            f"validation={validation} leaves nothing to train on: {name!r} has {available} images; choose a smaller one"
        )
