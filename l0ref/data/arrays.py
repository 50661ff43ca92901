"""`from_arrays` and `split`: your own arrays as training, validation and test set."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from l0ref.data.dataset import Dataset, Splits
from l0ref.data.preparation import (
    LAYOUTS,
    Preparation,
    classes_of,
    label_texts,
    samples_of,
    scaled,
)
from l0ref.data.standardize import Standardization, moments
from l0ref.errors import ArgumentError, ShapeError
from l0ref.streams import stream
from l0ref.validate import between, choose, flag, listed, portion, raw_array

PARTS = ("train", "validation", "test")
TASKS = ("classes", "values")
Pair = tuple[Any, Any]


def from_arrays(
    x: Any,
    y: Any,
    *,
    validation: Pair | None = None,
    test: Pair | None = None,
    split: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    task: str = "classes",
    layout: str = "nchw",
    normalise: bool = True,
    name: str = "arrays",
    dtype: DTypeLike = np.float32,
) -> Splits:
    """Return arrays as `Splits`, whose `preparation` records how they were converted.

    x                 numbers: vectors (N, D), images (N, H, W) or (N, C, H, W), or (N, H, W, C) with layout="nhwc"
    y                 labels: any whole numbers, strings, or one-hot rows; with task="values" numbers, (N,) or
                      (N, K), for a regression
    validation, test  (x, y) of parts that were held out already; a missing one is split off, seeded and stratified
    split             shares of training, validation and test; if a part is given, the others are rescaled to sum 1
    normalise         (x - mean) / std with the statistics of the training set, one pair for each channel of images and
                      each column of vectors; a constant one is only shifted

    >>> x, y = np.arange(40.0).reshape(20, 2), np.array(["cat", "dog"] * 10)
    >>> splits = from_arrays(x, y, seed=0)
    >>> [len(part) for part in (splits.train, splits.validation, splits.test)], splits.preparation.classes
    ([16, 2, 2], ('cat', 'dog'))
    """
    choose("task", task, TASKS)
    shares = check_shares(split)
    raw = _parts({"train": (x, y), "validation": validation, "test": test}, task, shares, seed, name)
    classes = classes_of(label_texts(raw["train"][1], name=f"{name}/train")) if task == "classes" else ()
    if len(classes) == 1:
        raise ArgumentError(f"y of {name!r} has the one class {classes[0]!r}; give labels of two classes at least")
    how = Preparation(classes, choose("layout", layout, LAYOUTS))
    if flag("normalise", normalise):
        train = samples_of(raw["train"][0], layout=layout, name=f"{name}/train", dtype=dtype)
        mean, std = moments(train if train.ndim == 4 else train[:, :, None, None])
        how = scaled(how, Standardization(mean, np.where(std > 0, std, 1.0)))
    ready = {part: how.apply(*raw[part], name=f"{name}/{part}", dtype=dtype) for part in PARTS}
    return Splits(**ready, name=name, checksum=_checksum(x, y, *(validation or ()), *(test or ())), preparation=how)


def split(dataset: Dataset, shares: Sequence[float] = (0.8, 0.1, 0.1), *, seed: int) -> tuple[Dataset, ...]:
    """Cut a data set into disjoint parts that hold these shares of every class; seeded; every sample is in one part.

    Of a class of n samples every part except the first gets floor(share n + 1/2); the first gets the rest.
    """
    parts = _stratified(dataset.y if dataset.classes else np.zeros(len(dataset)), check_shares(shares), seed)
    return tuple(dataset.take(rows) for rows in parts)


def check_shares(shares: Sequence[float]) -> tuple[float, ...]:
    """Refuse shares that are not positive numbers with the sum 1."""
    found = tuple(between("split", share, 0.0, 1.0) for share in listed("split", shares))
    if len(found) != len(PARTS) or abs(sum(found) - 1) > 1e-9 or not all(found):
        raise ArgumentError(f"split={tuple(shares)} must be three shares above 0 with the sum 1, as in 0.8,0.1,0.1")
    return found


def _stratified(strata: NDArray[Any], shares: Sequence[float], seed: int) -> list[NDArray[np.intp]]:
    order = stream(seed, "split").permutation(len(strata)).astype(np.intp, copy=False)
    whole = sum(shares)
    found: list[list[NDArray[np.intp]]] = [[] for _ in shares]
    for each in np.unique(strata):
        members = order[strata[order] == each]
        counts = [portion(share / whole, len(members)) for share in shares[1:]]
        cuts = np.cumsum([max(len(members) - sum(counts), 0), *counts])[:-1]
        for part, rows in zip(found, np.split(members, cuts), strict=True):
            part.append(rows)
    rank = np.argsort(order)  # so that the classes of a part are mixed, not one after the other
    whole_parts = [np.concatenate([order[:0], *parts]) for parts in found]
    return [part[np.argsort(rank[part])] for part in whole_parts]


def _parts(
    given: Mapping[str, Pair | None], task: str, shares: Sequence[float], seed: int, name: str
) -> dict[str, Pair]:
    """The raw arrays of all three parts; those that are not given are split off the training set."""
    raw: dict[str, Pair] = {}
    for part, pair in given.items():
        if pair is None:
            continue
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ArgumentError(f"{part}={type(pair).__name__} must be a pair (x, y), or None to split it off")
        x, y = (raw_array(f"{what} of '{name}/{part}'", value) for what, value in zip("xy", pair, strict=True))
        raw[part] = x, y
        if not x.ndim or not y.ndim or len(x) != len(y):
            raise ShapeError(f"x of '{name}/{part}' has shape {x.shape}, y {y.shape}; give one label for each sample")
    if missing := [part for part in PARTS if part not in raw]:
        x, y = raw["train"]
        strata = label_texts(y, name=name) if task == "classes" else np.zeros(len(y))
        held = ("train", *missing)
        cut = _stratified(strata, [shares[PARTS.index(part)] for part in held], seed)
        raw |= {part: (x[rows], y[rows]) for part, rows in zip(held, cut, strict=True)}
    for part in PARTS:
        if not len(raw[part][0]):
            raise ArgumentError(
                f"split={tuple(shares)} leaves no sample for {part} of {name!r}; give a larger share or more data"
            )
    return {part: (raw[part][0], raw[part][1]) for part in PARTS}


def _checksum(*arrays: Any) -> str:
    """SHA-256 over dtype, shape and bytes of the raw arrays, one after the other."""
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        plain = array.astype(str) if array.dtype.kind == "O" else array
        digest.update(f"{plain.dtype.str}{plain.shape}".encode())
        digest.update(np.ascontiguousarray(plain).reshape(-1).view(np.uint8).data if plain.size else b"")
    return digest.hexdigest()
