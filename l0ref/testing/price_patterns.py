"""Prices of layers (coefficients of their terms) under common schemes, and a description of the scheme that fits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from l0ref.penalty import GROUPS, LAYER_WEIGHTS, Penalty, layer_factors
from l0ref.testing.penalty_forms import Evidence

SAME = 1e-6  # relative difference of two equal prices

Prices = Mapping[str, float]


@dataclass(frozen=True)
class Pattern:
    """Prices by weight array, and the mistake that leads to them ("" if there is none)."""

    text: str
    prices: Prices
    norm: bool = False


def l0_patterns(penalty: Penalty, seen: Evidence, price: float) -> list[Pattern]:
    """Prices of the l0 term: C_l alpha first, then other layer weights."""
    sizes = {key: seen.ours[key].size for key in seen.factors}
    base = price or 1.0
    right = {key: base * c for key, c in seen.factors.items()}
    found = [
        Pattern("", right),
        Pattern("lacks the layer weights; multiply each layer's sum by C_l", _all(base, sizes)),
    ]
    for scheme in LAYER_WEIGHTS:
        for groups in GROUPS:
            other = layer_factors(sizes, seen.kinds, layer_weights=scheme, groups=groups)
            text = f"has the layer weights {scheme!r}, groups {groups!r}, not {penalty.layer_weights!r}, "
            found.append(Pattern(f"{text}{penalty.groups!r}; use the same", {k: base * c for k, c in other.items()}))
    largest = max(sizes.values(), default=1)
    counted = {
        key: n + seen.ours.get(key.removesuffix("weight") + "bias", np.empty(0)).size for key, n in sizes.items()
    }
    most = max(counted.values(), default=1)
    found += [
        Pattern(
            "has layer weights n / n_max without the square root", {k: base * n / largest for k, n in sizes.items()}
        ),
        Pattern(
            "counts biases in n_l of the layer weights; count weights only",
            {k: base * math.sqrt(n / most) for k, n in counted.items()},
        ),
        Pattern(
            "is divided by the layer weights; multiply by C_l", {k: base / (p / base) for k, p in right.items() if p}
        ),
        Pattern("is a mean over each layer; sum it", {k: p / max(sizes[k], 1) for k, p in right.items()}),
        Pattern(
            "is a mean over each layer, without layer weights; sum it and multiply by C_l",
            {k: base / max(n, 1) for k, n in sizes.items()},
        ),
    ]
    return found


def l2_patterns(penalty: Penalty, seen: Evidence) -> list[Pattern]:
    """Prices of the l2 term: l2 for every layer first."""
    base = penalty.l2 or 1.0
    squares = {key: float((seen.ours[key] ** 2).sum()) for key in seen.factors}
    whole = math.sqrt(sum(squares.values())) or 1.0
    return [
        Pattern("", _all(base, squares)),
        Pattern("is scaled by the layer weights; l2 is the same in every layer", _scaled(base, seen.factors)),
        Pattern(
            "is the norm of each layer, not its square; leave the root out",
            {k: base / (2 * math.sqrt(s)) for k, s in squares.items() if s},
            norm=True,
        ),
        Pattern(
            "is the norm of all weights, not its square; leave the root out", _all(base / (2 * whole), squares), True
        ),
        Pattern("is a mean over each layer; sum it", {k: base / max(seen.ours[k].size, 1) for k in squares}),
    ]


def named(
    term: str, prices: Prices, expected: float, patterns: Sequence[Pattern], *, extra: Sequence[tuple[str, float]]
) -> list[str]:
    """Return the mistakes in the prices of one term; none if they are right.

    expected  alpha times strength, or l2; 0 if there should be no such term
    extra     descriptions of known factors, with the factors
    """
    there = {key: p for key, p in prices.items() if p}
    if not expected:
        return [f"there is an {term} term, but the penalty has none; remove it"] if there else []
    if not there:
        return [f"the {term} term is missing, or has no gradient; add it"] if prices else []
    said = []
    if lost := [key for key in prices if key not in there]:
        said.append(f"the {term} term leaves out {', '.join(lost)}; penalise the weights of every layer")
    pattern, factor = best(there, patterns)
    if pattern is not None:
        wrong = [pattern.text] * bool(pattern.text) + ([] if factor == 1.0 else [_factor(factor, extra)])
        return [*said, f"the {term} term {', and '.join(wrong)}"] if wrong else said
    right = patterns[0].prices
    shares = ", ".join(f"{key} {p / right[key]:.4g}" for key, p in list(there.items())[:4] if right.get(key))
    return [
        *said,
        f"the {term} term has other layer weights than the penalty: relative to those, {shares}; see `Penalty.factors`",
    ]


def best(prices: Prices, patterns: Sequence[Pattern]) -> tuple[Pattern | None, float]:
    """Return the first pattern that equals the prices, else the first they are a multiple of, and the factor."""
    factors = [multiple(prices, pattern.prices) for pattern in patterns]
    for good in (lambda f: f == 1.0, lambda f: f is not None):
        for pattern, factor in zip(patterns, factors, strict=True):
            if factor is not None and good(factor):
                return pattern, factor
    return None, 1.0


def multiple(prices: Prices, pattern: Prices) -> float | None:
    """Return the common factor between two sets of prices, exactly 1.0 if they are equal; None if there is none."""
    if not prices or any(not pattern.get(key) for key in prices):
        return None
    ratios = [p / pattern[key] for key, p in prices.items()]
    middle = ratios[0]
    if any(abs(r - middle) > SAME * abs(middle) for r in ratios):
        return None
    return 1.0 if abs(middle - 1) <= SAME else middle


def _factor(factor: float, extra: Sequence[tuple[str, float]]) -> str:
    if abs(factor + 1) <= SAME:
        return "has the wrong sign: it pushes weights away from 0; add it to the loss"
    sign = "has the wrong sign and " if factor < 0 else ""
    for text, value in extra:
        if abs(abs(factor) - value) <= SAME * value:
            return sign + text
    return f"{sign}is {abs(factor):.6g} times the expected one; look for an extra or a missing factor"


def _all(price: float, keys: Mapping[str, object]) -> dict[str, float]:
    return dict.fromkeys(keys, price)


def _scaled(price: float, factors: Prices) -> dict[str, float]:
    return {key: price * c for key, c in factors.items()}
