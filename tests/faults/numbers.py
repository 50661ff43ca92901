"""A wrong number in the right place: signs, factors, single entries, rounding."""

from __future__ import annotations

import numpy as np

from l0ref.validate import Array
from tests.faults.plant import Spot, of_pair, of_result
from tests.faults.points import Pair

SMALL = 1e-7  # scale of the values in `sign_of_small`


@of_result("the sign is wrong")
def sign(g: Array, _: Spot) -> Array:
    return -g


@of_result("the sign is lost: |g| instead of g")
def unsigned(g: Array, _: Spot) -> Array:
    return np.abs(g)


@of_result("twice the gradient")
def twice(g: Array, _: Spot) -> Array:
    return 2 * g


@of_result("half the gradient")
def half(g: Array, _: Spot) -> Array:
    return g / 2


@of_result("zero: the input is cut from the tape")
def zero(g: Array, _: Spot) -> Array:
    return 0 * g


@of_result("off by 1e-4 of itself")
def off_by_1e_4(g: Array, _: Spot) -> Array:
    return g * (1 + 1e-4)


@of_result("off by 1e-6 of itself")
def off_by_1e_6(g: Array, _: Spot) -> Array:
    return g * (1 + 1e-6)


@of_result("one entry is off by a tenth of itself")
def one_entry(g: Array, s: Spot) -> Array:
    g[s.largest] *= 1.1
    return g


@of_result("one entry is NaN")
def nan_entry(g: Array, s: Spot) -> Array:
    g[s.largest] = np.nan
    return g


@of_result("one entry is infinite")
def infinite_entry(g: Array, s: Spot) -> Array:
    g[s.largest] = np.inf
    return g


@of_result("rounded to float32 on the way")
def float32(g: Array, s: Spot) -> Array | None:
    rounded = np.count_nonzero(s.g.astype(np.float32) != s.g)
    return g.astype(np.float32).astype(np.float64) if rounded >= 6 else None  # of few, all may lie close by chance


@of_result("clipped at half its largest entry: gradient clipping left inside")
def clipped(g: Array, s: Spot) -> Array:
    most = np.abs(s.g).max() / 2
    return np.clip(g, -most, most)


@of_result("a weight decay of 0.01 x added that belongs elsewhere")
def weight_decay(g: Array, s: Spot) -> Array:
    return g + 0.01 * s.x


@of_result("the mean of the gradient subtracted")
def centred(g: Array, _: Spot) -> Array | None:
    return g - g.mean() if g.size > 1 else None


@of_result("scaled by a parameter: beta, a slope, the first parameter of a surrogate")
def scaled_by_parameter(g: Array, s: Spot) -> Array | None:
    names = ("beta", "negative_slope") if s.is_op else tuple(s.target.options)[:1]
    found = [float(v) for k, v in s.target.options.items() if k in names]
    return found[0] * g if found else None


@of_pair(f"the sign is wrong in a function with values of about {SMALL:g}")
def sign_of_small(s: Spot) -> Pair | None:
    if not s.g.any():
        return None
    true = s.target.true

    def forward(*xs: Array) -> tuple[Array, object]:
        y, saved = true.forward(*xs)
        return SMALL * y, saved

    def vjp(saved: object, y_bar: Array) -> list[Array]:
        return [-g if i == s.which else g for i, g in enumerate(true.vjp(saved, SMALL * y_bar))]

    return Pair(forward, vjp)
