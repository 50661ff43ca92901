"""Medians, interquartile ranges and ratios of measured times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from l0ref.errors import ArgumentError

FEWEST = 5  # rounds below which no ratio is given


@dataclass(frozen=True)
class Times:
    """Seconds per unit of work of one contender, one entry per round.

    >>> Times((1.0, 9.0, 2.0, 3.0, 4.0)).median
    3.0
    >>> Times((1.0, 9.0, 2.0, 3.0, 4.0)).iqr
    2.0
    """

    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.seconds:
            raise ArgumentError("seconds=() holds no round; measure at least one")

    @property
    def rounds(self) -> int:
        """Number of measurements."""
        return len(self.seconds)

    @property
    def median(self) -> float:
        """The middle value, or the mean of the middle two."""
        return float(np.median(self.seconds))

    @property
    def iqr(self) -> float:
        """Third quartile minus first, interpolated linearly."""
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float(high - low)


class Ratio(NamedTuple):
    """The ratio of two times: the ratio of the medians, and the quartiles of the ratios by round."""

    value: float
    low: float
    high: float


def ratio(theirs: Times, ours: Times) -> Ratio | None:
    """Return their time over ours; None from fewer than 5 rounds, too few to distinguish a ratio from noise."""
    if theirs.rounds != ours.rounds:
        raise ArgumentError(f"theirs has {theirs.rounds} rounds and ours {ours.rounds}; measure both together")
    if ours.rounds < FEWEST:
        return None
    low, high = np.quantile(np.divide(theirs.seconds, ours.seconds), (0.25, 0.75))
    return Ratio(theirs.median / ours.median, float(low), float(high))
