"""Data sets as values: the built-in digits, MNIST and Fashion-MNIST, seeded splits, shuffled batches.

>>> splits = load("digits", seed=0)
>>> len(splits.train), len(splits.validation), len(splits.test)
(1197, 200, 400)
>>> [len(y) for x, y in batches(splits.validation, batch_size=64, seed=0, epoch=0)]
[64, 64, 64, 8]
"""

from __future__ import annotations

from l0ref.data.arrays import from_arrays, split
from l0ref.data.batching import batch_count, batches, orders
from l0ref.data.dataset import Dataset, Splits
from l0ref.data.download import fetch
from l0ref.data.files import open_data
from l0ref.data.folders import data_folder
from l0ref.data.idx import checksum, read_idx
from l0ref.data.loading import DATASETS, load
from l0ref.data.partition import partition
from l0ref.data.preparation import Preparation
from l0ref.data.standardize import Standardization, standardize

__all__ = [
    "DATASETS",
    "Dataset",
    "Preparation",
    "Splits",
    "Standardization",
    "batch_count",
    "batches",
    "checksum",
    "data_folder",
    "fetch",
    "from_arrays",
    "load",
    "open_data",
    "orders",
    "partition",
    "read_idx",
    "split",
    "standardize",
]
