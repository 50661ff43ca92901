"""The evidence for a diagnosis, and the criterion by which a pattern fits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from l0ref.testing.agreement import Rows
from l0ref.testing.problem import Hints
from l0ref.validate import Array

CLOSE = 1e-4  # a pattern fits if it explains every entry to this share of the largest,
BETTER = 0.02  # and to this share of the largest error
RIGHT = 1e-8  # relative error of an entry that counts as right


@dataclass(frozen=True, eq=False)
class Evidence:
    """The gradient of one parameter, differences along some of its entries, and hints.

    x         the parameter
    unmasked  True if the gradient is not exactly 0 somewhere under its mask
    others    {name: gradient under test} of the other parameters
    suspects  {mistake: the gradient that it would give}, flat
    y_bar     the cotangent, in the shape of the value; None if it is just 1
    unmoved   True if the gradient is the same at inputs nearby, where the slopes of the value differ
    """

    name: str
    x: Array
    gradient: Array
    rows: Rows | None
    hints: Hints
    unmasked: bool = False
    others: Mapping[str, Array] = field(default_factory=dict)
    suspects: Mapping[str, Array] = field(default_factory=dict)
    y_bar: Array | None = None
    unmoved: bool = False

    @property
    def whole(self) -> bool:
        """Whether every entry was compared, and none is at a kink."""
        return self.rows is not None and self.rows.index.size == self.gradient.size and not self.rows.kink.any()


def fits(rows: Rows, pattern: Array) -> bool:
    """Whether the gradient follows the pattern at every compared entry, kinks aside."""
    use = ~rows.kink
    a, p = rows.analytic[use], pattern[use]
    scale, error = float(np.abs(p).max(initial=0.0)), float(np.abs(a - rows.numeric[use]).max(initial=0.0))
    near = np.abs(a - p) <= min(CLOSE * scale, BETTER * error) + rows.noise[use]
    return bool(use.any() and scale > 0 and near.all())


def ratio(rows: Rows) -> float | None:
    """The constant ratio analytic / numeric; None if it is not constant, or if any entry with a slope is right."""
    use = ~rows.kink
    a, n = rows.analytic[use], rows.numeric[use]
    square, moving = float(n @ n), np.abs(n) > rows.noise[use]
    if square == 0 or not wrong(rows)[use][moving].all():
        return None
    c = float(a @ n) / square
    return c if c != 0 and fits(rows, c * rows.numeric) else None


def near(a: float, c: float) -> bool:
    """Whether a measured factor is the factor c."""
    return abs(a - c) <= 2e-4 * abs(c)


def wrong(rows: Rows) -> Array:
    """Which compared entries are wrong, kinks aside."""
    size = np.maximum(np.abs(rows.analytic), np.abs(rows.numeric))
    close = np.abs(rows.analytic - rows.numeric) <= RIGHT * size + rows.noise
    return np.asarray(~(close & np.isfinite(rows.analytic)) & ~rows.kink)
