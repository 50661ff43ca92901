"""Faults that no comparison with differences at one point can see. They are counted apart, and shown in the docs."""

from __future__ import annotations

import numpy as np

from l0ref.validate import Array
from tests.faults.plant import Spot, of_pair, of_result, with_result
from tests.faults.points import Pair


@of_result("off by 1e-9 of itself: below the tolerance", seen=False)
def off_by_1e_9(g: Array, s: Spot) -> Array | None:
    return g * (1 + 1e-9) if s.g.any() else None


@of_pair("wrong only where |x| > 100, which is far from the inputs of the check", seen=False)
def wrong_elsewhere(s: Spot) -> Pair | None:
    if not s.g.any():
        return None
    return with_result(s, lambda g, call: g * np.where(np.abs(call[0][0][s.which]) > 100, 2.0, 1.0))
