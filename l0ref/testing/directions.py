"""Random directions through all entries of an input: a cheap check, and a search for the entries that are wrong."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from l0ref.testing.agreement import Rules
from l0ref.testing.differences import OutOfDomain
from l0ref.testing.findings import OK, WRONG, Finding
from l0ref.testing.measure import Measure
from l0ref.testing.scale import random_moves
from l0ref.validate import Array

STRICT = 0.1  # share of rtol allowed along a direction, where errors of many entries may cancel
DIRECTIONS = 4  # zero-mean, so that no error can hide behind a direction of one sign


def directions(
    measure: Measure, rules: Rules, rng: np.random.Generator, which: int, gradient: Array, free: Array
) -> list[Finding] | None:
    """One finding for each of several directions, or None if kinks, noise or a constant value leave it undecided.

    which  number of the input; free  flat indices of its entries that may move
    """
    findings = []
    y_bar = measure.y_bar
    for k in range(DIRECTIONS):
        if k and measure.problem.cotangent:  # a cotangent of its own for every direction
            new = rng.choice([-1.0, 1.0], y_bar.shape) * rng.uniform(0.5, 1.5, y_bar.shape)
            measure.y_bar = new
            gradient = measure.calls.gradient(measure.problem.point, new)[which]
        finding = _one(measure, rules, rng, which, gradient, free)
        measure.y_bar = y_bar
        if finding is None:
            return None
        findings.append(finding)
    return findings


def locate(
    measure: Measure, rules: Rules, rng: np.random.Generator, which: int, gradient: Array, free: Array, *, most: int
) -> Array:
    """Flat indices of up to `most` wrong entries, found by bisection with random directions."""
    found: list[int] = []
    parts = [free]
    while parts and len(found) < most:
        part = parts.pop()
        finding = _one(measure, rules, rng, which, gradient, part)
        if finding is not None and finding.status == OK:
            continue
        if part.size == 1:
            found.append(int(part[0]))
        else:
            middle = part.size // 2
            parts += [part[middle:], part[:middle]]
    return np.array(found, dtype=np.intp)


def _one(
    measure: Measure, rules: Rules, rng: np.random.Generator, which: int, gradient: Array, part: Array
) -> Finding | None:
    """Compare along a random direction through some entries; None if kinks, noise or infinities leave it open."""
    x, some = measure.problem.point[which], gradient.reshape(-1)[part].astype(np.float64)
    if not np.isfinite(some).all():
        return None
    move = np.zeros(x.shape)
    move.flat[part] = random_moves(part.size, rng) * measure.lengths[which].flat[part]
    try:
        along = measure.direction([move if j == which else None for j in range(len(measure.problem.point))])
    except OutOfDomain:
        return None
    terms = some * move.flat[part]
    size = float(np.linalg.norm(terms))
    analytic, numeric, noise = float(terms.sum()), along.numeric, along.noise
    if along.gap > rules.rtol * size + noise or not (size == 0 or noise <= rules.rough * max(size, abs(numeric))):
        return None
    if size == 0 and abs(numeric) <= noise:
        return None  # nothing moves along the direction: the entries have to confirm it
    strict = dataclasses.replace(rules, rtol=STRICT * rules.rtol)
    allowed = float(strict.allowed(size, numeric, noise, size))
    off = abs(analytic - numeric)
    return Finding(
        parameter=measure.problem.names[which],
        index=None,
        analytic=analytic,
        numeric=numeric,
        left=numeric,
        right=numeric,
        relative_error=off / max(size, abs(numeric)),
        error_estimate=noise,
        step=float(along.slopes.step.min(initial=math.inf)),
        method="differences",
        status=OK if off <= allowed else WRONG,
        excess=off / allowed,
    )
