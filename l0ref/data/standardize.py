"""Standardisation with the statistics of the training set alone, returned as a value."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from l0ref.data.dataset import Dataset, Splits
from l0ref.errors import ArgumentError
from l0ref.validate import Array, sealed

ROWS = 1000  # samples per step of the sums: float64 copies of a part, never of a whole data set


@dataclass(frozen=True, eq=False)
class Standardization:
    """x -> (x - mean) / std, one mean and one std for each channel; for vectors (N, D) one of each, or D."""

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    def apply(self, dataset: Dataset) -> Dataset:
        """The data set standardised with these statistics, in its own dtype."""
        mean, std = (_beside(part, dataset.x) for part in (self.mean, self.std))
        return replace(dataset, x=sealed((dataset.x - mean) / std))


def standardize(splits: Splits) -> tuple[Splits, Standardization]:
    """Give each channel of the training set mean 0 and (population) variance 1; transform the other sets alike.

        mean = sum x / n        std = sqrt(sum (x - mean)^2 / n)        over `splits.train` only

    Both sums run in float64. Validation and test samples never enter the statistics.
    """
    mean, std = moments(splits.train.x)
    if not (std > 0).all():
        channel = int(np.argmin(std > 0))
        raise ArgumentError(f"train.x is constant in channel {channel}: no scale gives it variance 1; leave it out")
    numbers = Standardization(mean, std)
    train, validation, test = (numbers.apply(part) for part in (splits.train, splits.validation, splits.test))
    return replace(splits, train=train, validation=validation, test=test), numbers


def moments(x: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and population standard deviation of each channel of images, or of all entries of vectors.

    Of a channel whose entries are all equal they are that entry and exactly 0.
    """
    channels = x.reshape(len(x), x.shape[1] if x.ndim == 4 else 1, -1) if x.size else x
    if not x.size:
        raise ArgumentError(f"train.x has shape {x.shape}: no entry to take a mean of; load a training set first")
    n = len(x) * channels.shape[2]
    parts = [channels[i : i + ROWS] for i in range(0, len(x), ROWS)]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        mean = sum((part.sum(axis=(0, 2), dtype=np.float64) for part in parts), np.zeros(channels.shape[1])) / n
        squares = np.zeros_like(mean)
        for part in parts:
            squares += np.square(part - mean[:, None]).sum(axis=(0, 2))
    first = channels[0, :, 0]
    constant = np.all([(part == first[:, None]).all(axis=(0, 2)) for part in parts], axis=0)
    mean, std = np.where(constant, first, mean), np.where(constant, 0.0, np.sqrt(squares / n))
    for channel in np.flatnonzero(~constant & ~((std > 0) & np.isfinite(std))):
        if not np.isfinite(channels[:, channel]).all():
            raise ArgumentError(
                f"train.x has NaN or infinite entries in {x.dtype}, in channel {channel}; drop or rescale those samples"
            )
        size = "small" if std[channel] == 0 else "large"
        raise ArgumentError(f"train.x has entries in channel {channel} that are too {size} to square; rescale them")
    return mean, std


def _beside(value: NDArray[np.float64], x: Array) -> Array:
    """One number per channel, shaped to broadcast against `x` and in its dtype."""
    return value.astype(x.dtype).reshape((1, -1, 1, 1) if x.ndim == 4 else (1, -1))
