"""Analytic against numeric gradient, entry by entry: the allowed difference, and the verdict on each entry.

    allowed = atol + rtol max(|analytic|, |numeric|) + noise + 16 eps scale

noise   bound on the error of the differences themselves
scale   largest |numeric| of the parameter; eps is the machine epsilon of the gradient's type

So a gradient of size 1e-7 is checked as strictly as one of size 1. An entry whose noise exceeds ROUGH of the
scale is unresolved: agreement there proves little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from l0ref.testing.findings import BAD_KINK, KINK, OK, WEAK, WRONG, Finding
from l0ref.testing.kinks import as_documented
from l0ref.validate import Array

ROUGH, ROUGH_GIVEN = 1e-5, 0.05  # shares of the scale; the second for a step that the caller chose
FLAT = 1e-8  # the same where the value does not move: share of |y| over the entry's scale
ULPS = 16.0


@dataclass(frozen=True, eq=False)
class Rows:
    """The differences along some entries of one parameter: arrays of shape (n,), one row per entry.

    index      flat index of the entry
    low, high  sums over the components of y of the smaller and of the larger one-sided slope
    size       |y| / scale of the entry: the slope to which rounding is relative
    by_complex True where the complex step gave `numeric`
    parts      {mistake: numeric of a part of the Jacobian}, for the diagnosis
    """

    index: Array
    analytic: Array
    numeric: Array
    noise: Array
    left: Array
    right: Array
    low: Array
    high: Array
    kink: Array
    step: Array
    size: Array
    by_complex: Array
    parts: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """Settings of the comparison; see `l0ref.testing.gradcheck`."""

    rtol: float
    atol: float
    kinks: str
    eps: float | None
    dtype: np.dtype[Any]

    def allowed(self, analytic: Any, numeric: Any, noise: Any, scale: float) -> Array:
        """The allowed difference, entry by entry."""
        size = np.maximum(np.abs(analytic), np.abs(numeric))
        floor = ULPS * float(np.finfo(self.dtype).eps) * scale
        return np.asarray(self.atol + self.rtol * np.where(np.isfinite(size), size, 0.0) + noise + floor)

    @property
    def rough(self) -> float:
        """Share of the scale above which noise makes a comparison worthless."""
        return ROUGH if self.eps is None else ROUGH_GIVEN


def is_flat(rows: Rows) -> bool:
    """Whether the value moves along none of the entries, as far as rounding lets us see."""
    return not rows.kink.any() and bool((np.abs(rows.numeric) <= rows.noise).all())


def judge(rows: Rows, rules: Rules, *, name: str, shape: tuple[int, ...]) -> list[Finding]:
    """Return one finding per row."""
    plain = ~rows.kink
    scale = float(np.abs(rows.numeric[plain]).max(initial=0.0))
    allowed = rules.allowed(rows.analytic, rows.numeric, rows.noise, scale)
    off = np.abs(rows.analytic - rows.numeric)
    still = bool((np.abs(rows.numeric) <= rows.noise)[plain].all())
    limit = FLAT * rows.size if still else np.full(off.shape, rules.rough * scale)
    weak = rows.noise > limit
    slack = np.where(np.isfinite(rows.noise), allowed, 0.0)
    fine = as_documented(rows.analytic, rows.numeric, rows.left, rows.right, rows.low, rows.high, slack)
    status = np.select(
        [rows.kink & fine & (rules.kinks != "fail"), rows.kink, ~(off <= allowed), weak],
        [KINK, BAD_KINK, WRONG, WEAK],
        OK,
    )
    size = np.maximum(np.abs(rows.analytic), np.abs(rows.numeric))
    lost = np.where(off == 0, 0.0, np.inf)  # NaN, or a reference size of 0
    relative = np.divide(off, size, out=lost.copy(), where=(size > 0) & np.isfinite(size))
    excess = np.divide(off, allowed, out=lost, where=(allowed > 0) & np.isfinite(off))
    return [
        Finding(
            parameter=name,
            index=tuple(int(k) for k in np.unravel_index(int(rows.index[i]), shape)),
            analytic=float(rows.analytic[i]),
            numeric=float(rows.numeric[i]),
            left=float(rows.left[i]),
            right=float(rows.right[i]),
            relative_error=float(relative[i]),
            error_estimate=float(rows.noise[i]),
            step=float(rows.step[i]),
            method="complex step" if rows.by_complex[i] else "differences",
            status=str(status[i]),
            excess=float(excess[i]),
        )
        for i in range(rows.index.size)
        if not (rules.kinks == "skip" and rows.kink[i])
    ]


def unmasked(name: str, gradient: Array, mask: Array | None) -> list[Finding]:
    """Return a finding for each entry under a mask whose gradient is not exactly 0."""
    if mask is None:
        return []
    loose = np.flatnonzero(~mask.reshape(-1) & (gradient.reshape(-1) != 0))
    return [
        Finding(
            parameter=name,
            index=tuple(int(k) for k in np.unravel_index(int(i), gradient.shape)),
            analytic=float(gradient.flat[i]),
            numeric=0.0,
            left=0.0,
            right=0.0,
            relative_error=1.0,
            error_estimate=0.0,
            step=0.0,
            method="mask",
            status=WRONG,
            excess=np.inf,
        )
        for i in loose
    ]
