"""Measured speed-ups: networks timed alternately, and a ratio counts as a gain only if its whole range is above 1.

    measured_speedup        seconds of the reference / seconds of this network, the median over the rounds
    measured_speedup_low    10th percentile of the same ratios
    measured_speedup_high   90th percentile

In each round every network makes one forward pass, so that a machine that slows down slows all of them; the ratio is
taken within a round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RANGE = (0.1, 0.5, 0.9)  # quantiles of the ratios by round


def speedup(reference: Sequence[float], own: Sequence[float]) -> dict[str, float]:
    """Return the three numbers above; `reference` and `own` hold the seconds of the same rounds.

    >>> speedup([2.0, 4.0, 3.0], [1.0, 2.0, 1.5])
    {'measured_speedup': 2.0, 'measured_speedup_low': 2.0, 'measured_speedup_high': 2.0}
    """
    low, middle, high = np.quantile(np.divide(reference, own), RANGE)
    return {
        "measured_speedup": float(middle),
        "measured_speedup_low": float(low),
        "measured_speedup_high": float(high),
    }


def verdict(row: Mapping[str, Any]) -> str:
    """Return "faster" or "slower" if the whole range lies on one side of 1, "no gain" if it contains 1.

    "-" without a range, and for the reference itself, whose range is 1 to 1.

    >>> verdict({"measured_speedup_low": 1.1, "measured_speedup_high": 1.3})
    'faster'
    >>> verdict({"measured_speedup_low": 0.9, "measured_speedup_high": 1.3})
    'no gain'
    """
    low, high = row.get("measured_speedup_low"), row.get("measured_speedup_high")
    if low is None or high is None or low == high == 1:
        return "-"
    return "faster" if low > 1 else "slower" if high < 1 else "no gain"


def measured(row: Mapping[str, Any]) -> list[str]:
    """Return three cells: the ratio, its range, and the verdict."""
    value, low, high = (row.get(f"measured_speedup{end}") for end in ("", "_low", "_high"))
    between = "-" if low is None or high is None or low == high == 1 else f"{low:.2f} .. {high:.2f}"
    return ["-" if value is None else f"{value:.2f}x", between, verdict(row)]
