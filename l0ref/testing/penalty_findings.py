"""Mistakes in a user's l0 penalty, diagnosed from its value and gradient.

First the function: the phi that explains the whole gradient (`penalty_forms`). Then the coefficient (price) of each
array, compared with the schemes of layer weights; then the l2 term; then whether the value matches the gradient. Every
sentence names a mistake and its correction; several mistakes may be named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from l0ref.penalty import Penalty
from l0ref.surrogates import Laplace
from l0ref.testing.penalty_forms import FITS, Evidence, Fit, fit, forms
from l0ref.testing.price_patterns import best, l0_patterns, l2_patterns, named
from l0ref.validate import Array


def findings(penalty: Penalty, here: Evidence, moved: Evidence) -> list[str]:
    """Return the mistakes, one sentence each; in `moved` only pruned entries are 0, in `here` any may be."""
    odd = [key for key, g in here.gradients.items() if g is not None and not np.isfinite(g).all()]
    if odd:
        zero = all((here.ours[key][~np.isfinite(here.gradient(key))] == 0).all() for key in odd)
        where = "where w is exactly 0" if zero else "at some weights"
        return [f"the gradient of {_listed(odd)} is NaN or infinite {where}; use |w|, whose slope there is 0"]
    seen = moved
    if not all(np.isfinite(seen.gradient(key)).all() for key in seen.ours) or not math.isfinite(seen.value):
        return ["the penalty is NaN or infinite at ordinary weights; look for a division, a root or a logarithm"]
    if not any(seen.gradient(key).any() for key in seen.ours):
        return [_no_gradient(seen)]
    gradients = {key: seen.kept(key, seen.gradient(key)) for key in seen.ours}
    arrays = {key: seen.kept(key, w) for key, w in seen.ours.items()}
    fits = (fit(form, arrays, gradients) for form in forms(penalty.surrogate))
    found = next((f for f in fits if f is not None), None)
    if found is None:
        return ["no known mistake explains the difference; compare the slope of a single weight with the surrogate's"]
    said = _all_findings(penalty, seen, found)
    if not said and (same := [key for key in seen.ours if key not in found.l0]):
        where = _listed(same)
        return [f"the l0 and the l2 term are alike in {where}, so their prices cannot be separated; see the rows"]
    return said or ["all terms are right up to rounding: a constant is float32, as torch.tensor(0.5) is; use numbers"]


def _no_gradient(seen: Evidence) -> str:
    return (
        f"the penalty is {seen.value:.6g} and has no gradient with respect to the module it is given; avoid "
        ".data, .detach(), .item() and torch.no_grad(), and read the weights of the module passed in"
    )


def _all_findings(penalty: Penalty, seen: Evidence, found: Fit) -> list[str]:
    said = [found.form.text] if found.form.text else []
    pruned = [k for k, keep in seen.keep.items() if keep is not None and seen.gradient(k)[~keep].any()]
    if pruned:
        said.append(
            f"pruned entries of {_listed(pruned)} are penalised: parameters() gives `weight_orig`; "
            "use the layer's `weight`"
        )
    said += _not_weights(seen, found)
    price = penalty.alpha * seen.strength
    l2_said, norm = _l2(penalty, seen, found)
    without_one = _without_one(seen, found, norm)
    l0 = {key: found.l0[key] for key in seen.factors if key in found.l0}
    if without_one and all(a <= 0 for a in l0.values()):
        said.append(
            "the term has the sign of exp(-beta |w|), which pushes weights away from 0; penalise 1 - exp(-beta |w|)"
            if isinstance(penalty.surrogate, Laplace)
            else "the term falls with |w|, which pushes weights away from 0; penalise 1 minus it"
        )
        l0 = {key: -a for key, a in l0.items()}
    elif without_one:
        said.append(
            "the value lacks the 1 of 1 - exp(...) for every weight; its gradient does not, so only the loss is off"
        )
    said += named("l0", l0, price, l0_patterns(penalty, seen, price), extra=_extra_factors(penalty, seen))
    said += l2_said
    if not without_one and not _value_fits(seen, found, norm):
        said.append(_value(penalty, seen, found, norm))
    return said


def _not_weights(seen: Evidence, found: Fit) -> list[str]:
    """Report arrays that must not be penalised: biases and batch normalisation."""
    which = {
        term: [key for key, price in prices.items() if price and key not in seen.factors]
        for term, prices in (("l0", found.l0), ("l2", found.l2))
    }
    keys = list(dict.fromkeys([*which["l0"], *which["l2"]]))
    if not keys:
        return []
    terms = " and ".join(f"{term} term" for term, some in which.items() if some)
    biases = all(key.endswith(".bias") for key in keys)
    what = "biases are" if biases else "biases or batch normalisation are"
    return [f"{what} penalised as well, by the {terms}: {_listed(keys)}; sum over weights of Linear and Conv2d only"]


def _extra_factors(penalty: Penalty, seen: Evidence) -> list[tuple[str, float]]:
    """Factors of the l0 term that have a known cause."""
    total = sum(seen.ours[key].size for key in seen.factors)
    beta = getattr(penalty.surrogate, "beta", 0.0)
    found = [
        ("is divided by the batch size; it is added once to a mean loss", 1 / seen.batch),
        ("is divided by the number of layers; sum over layers", 1 / max(len(seen.factors), 1)),
        ("is divided by the number of all weights; it is a sum, not a mean", 1 / max(total, 1)),
    ]
    if seen.strength not in (0.0, 1.0):
        found.append(("lacks the warm-up; multiply it by strength", 1 / seen.strength))
    if beta:
        found += [("is multiplied by beta; leave that out", beta), ("is divided by beta; leave that out", 1 / beta)]
    return found


def _l2(penalty: Penalty, seen: Evidence, found: Fit) -> tuple[list[str], bool]:
    """Findings on the l2 term, and whether it is a norm instead of a square."""
    prices = {key: found.l2[key] for key in seen.factors if key in found.l2}
    patterns = l2_patterns(penalty, seen)
    pattern, _ = best({key: b for key, b in prices.items() if b}, patterns)
    half = ("carries a factor 0.5: its gradient is l2 w, expected 2 l2 w; leave the 0.5 out or double l2", 0.5)
    return named("l2", prices, penalty.l2, patterns, extra=[half]), pattern is not None and pattern.norm


def _without_one(seen: Evidence, found: Fit, norm: bool) -> bool:
    """Whether the value is too small by the price of every entry: phi(w) - 1 instead of phi(w)."""
    missing = sum(a * seen.kept(key, seen.ours[key]).size for key, a in found.l0.items())
    return bool(missing) and _close(seen.value, _predicted(seen, found, norm) - missing)


def _predicted(seen: Evidence, found: Fit, norm: bool) -> float:
    """Value that follows from the prices; the root of a sum of squares is twice as large as its gradient suggests."""
    l0 = sum(a * found.form.value(_penalised(seen, key)).sum() for key, a in found.l0.items())
    l2 = sum(b * (_penalised(seen, key) ** 2).sum() for key, b in found.l2.items())
    return float(l0 + l2 * (2 if norm else 1))


def _penalised(seen: Evidence, key: str) -> Array:
    """The penalised entries: all of them, if pruned ones are penalised as well."""
    keep = seen.keep[key]
    return seen.whole[key] if keep is not None and seen.gradient(key)[~keep].any() else seen.ours[key]


def _value_fits(seen: Evidence, found: Fit, norm: bool) -> bool:
    undetermined = len(found.l0) < len(seen.ours)
    return undetermined or _close(seen.value, _predicted(seen, found, norm))


def _value(penalty: Penalty, seen: Evidence, found: Fit, norm: bool) -> str:
    """Explain why the value does not match the gradient."""
    if isinstance(penalty.surrogate, Laplace):
        beta = penalty.surrogate.beta
        arrays = {key: np.abs(_penalised(seen, key)) for key in found.l0}
        change = sum(
            a * (beta * np.exp(-beta * arrays[key]) * arrays[key] + np.expm1(-beta * arrays[key])).sum()
            for key, a in found.l0.items()
        )
        if _close(seen.value, _predicted(seen, found, norm) + float(change)):
            return (
                "it is the linearised form, beta exp(-beta |w|) |w| with the exponential detached: the gradient is "
                "that of 1 - exp(-beta |w|), the value is not; do not report it as the loss"
            )
    off = seen.value - _predicted(seen, found, norm)
    return (
        f"the value contains {off:.6g} without a gradient: a constant, or a part under .data, .detach() or no_grad(); "
        "remove it or let it be differentiated"
    )


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= FITS * max(abs(a), abs(b))


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
