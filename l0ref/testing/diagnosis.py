"""The kind of fault that a wrong gradient looks like.

Each pattern is a way in which gradients go wrong in practice, with the value the faulty gradient would have. The
first that explains all compared entries is named; a gradient that none explains gets no name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from l0ref.testing.agreement import Rows
from l0ref.testing.evidence import BETTER, CLOSE, RIGHT, Evidence, fits, near, ratio, wrong
from l0ref.testing.placement import at_end, by_sign, few, of_another, partly_zero, rearranged

SINGLE = 1e-6  # relative errors below this are those of float32
CLEAR = 20.0  # times the noise: how large an error must be before its shape is looked at
SPARE = 2  # entries that a fitted error must explain beyond the numbers fitted


def diagnose(evidence: Evidence) -> str:
    """Return a sentence that begins "looks like", or "" if no known fault explains the numbers."""
    if evidence.unmasked:
        return (
            "looks like it is off by the mask: not exactly 0 where the mask is False; multiply the gradient by the mask"
        )
    rows = evidence.rows
    if rows is None or not rows.index.size:
        return ""
    smooth = bool(wrong(rows).any())
    for pattern in (_not_finite, *(PATTERNS if smooth else (_at_kinks,))):
        for text in pattern(evidence, rows):
            return f"looks like {text}"
    return ""


Pattern = Callable[[Evidence, Rows], Iterator[str]]


def _not_finite(_: Evidence, rows: Rows) -> Iterator[str]:
    bad = ~np.isfinite(rows.analytic)
    if bad.any():
        yield f"a value that overflows or is undefined: {int(bad.sum())} of {bad.size} compared entries are not finite"


def _zero(_: Evidence, rows: Rows) -> Iterator[str]:
    if not rows.analytic.any():
        yield "zero: the gradient vanishes at all compared entries, as if this branch were cut from the tape"


def _sign(_: Evidence, rows: Rows) -> Iterator[str]:
    if fits(rows, -rows.numeric):
        yield "the wrong sign: minus the true gradient"


def _sign_lost(_: Evidence, rows: Rows) -> Iterator[str]:
    if fits(rows, np.abs(rows.numeric)):
        yield "a lost sign: the absolute value of the true gradient"


def _factor(evidence: Evidence, rows: Rows) -> Iterator[str]:
    c = ratio(rows)
    if c is None:
        return
    hints, single = evidence.hints, np.count_nonzero(rows.numeric[~rows.kink]) < 2
    axes = {f"length of axis {k}": n for k, n in enumerate(evidence.gradient.shape) if n > 2}
    for value, text in ((2.0, "a factor 2 too large"), (0.5, "a factor 2 too small")):
        if near(c, value) and not any(size == 2 for size in hints.sizes.values()):
            yield f"{text}: a forgotten or superfluous 1/2, or a part counted twice"
    yield from _counted(c, hints.sizes)
    for name, scale in hints.scales.items():
        for power, text in POWERS.items():
            if scale not in (0, 1) and near(c, scale**power):
                yield f"scaled by {name}: the true gradient {text} {name} = {scale:g}"
    yield from _counted(c, axes)
    if not single:  # one number is always a multiple of another
        yield f"a constant factor: {c:.9g} times the true gradient"


def _counted(c: float, sizes: Mapping[str, int]) -> Iterator[str]:
    """A mean and a sum confused, over one of these numbers of entries."""
    for name, size in sizes.items():
        if size > 1 and near(c, size):
            yield f"a missing mean: {size} times too large, and {size} is the {name}; divide by N"
        if size > 1 and near(c, 1 / size):
            yield f"a mean where a sum belongs: {size} times too small, and {size} is the {name}; do not divide by N"


POWERS = {1: "times", -1: "divided by", 2: "times the square of", -2: "divided by the square of"}


def _term(evidence: Evidence, rows: Rows) -> Iterator[str]:
    for name, parts in evidence.hints.terms.items():
        if evidence.name in parts:
            part = parts[evidence.name].reshape(-1)[rows.index]
            for times, text in (
                (-1, "missing"),
                (1, "counted twice"),
                (-0.5, "half of what it should be"),
                (-2, "subtracted"),
            ):
                if part.any() and fits(rows, rows.numeric + times * part):
                    yield f"a wrong term: the gradient of the {name} is {text}"


def _shaped(evidence: Evidence, rows: Rows) -> Iterator[str]:
    """An error that is a multiple of the true gradient, of one or of x: one number for all, or one per slice."""
    shape, error = evidence.gradient.shape, rows.analytic - rows.numeric
    if not evidence.whole or np.abs(error).max() < CLEAR * rows.noise.max():
        return
    cotangent = []
    if evidence.y_bar is not None and evidence.y_bar.shape == shape:
        cotangent = [(evidence.y_bar.reshape(-1), "a term in the cotangent: the error is proportional to it")]
    floor = RIGHT * np.abs(rows.numeric).max()
    alone = tuple(range(len(shape)))
    for over in (alone, *((axis,) for axis in alone if len(shape) > 1)):
        along = "" if over == alone else f" along axis {over[0]}"
        for basis, text in (
            (rows.numeric, "a missing or superfluous factor: the ratio to the true gradient is constant"),
            (np.ones(error.size), "a missing or superfluous term: the error is constant"),
            (evidence.x.reshape(-1).astype(np.float64), f"a term in {evidence.name}: the error is proportional to it"),
            *cotangent,
        ):
            b, e = basis.reshape(shape), error.reshape(shape)
            square = np.square(b).sum(axis=over, keepdims=True)
            c = np.divide((b * e).sum(axis=over, keepdims=True), square, out=np.zeros(square.shape), where=square > 0)
            near_it = np.abs(e - c * b) <= BETTER * np.abs(c * b) + rows.noise.reshape(shape) + floor
            if np.count_nonzero(b) - np.count_nonzero(square) >= SPARE and near_it.all():
                values = c.ravel() + (basis is rows.numeric)
                yield f"{text}{along} ({', '.join(f'{v:.4g}' for v in values[:3])}{', ...' * (values.size > 3)})"


def _part(_: Evidence, rows: Rows) -> Iterator[str]:
    """A part of the Jacobian."""
    for text, part in rows.parts.items():
        if fits(rows, part):
            yield text


def _suspect(evidence: Evidence, rows: Rows) -> Iterator[str]:
    """Faults that only further calls reveal, see `testing.suspects`."""
    for text, whole in evidence.suspects.items():
        if fits(rows, whole.reshape(-1)[rows.index]):
            yield text


def _precision(_: Evidence, rows: Rows) -> Iterator[str]:
    use = ~rows.kink
    scale = float(np.abs(rows.numeric[use]).max(initial=0.0))
    error = float(np.abs(rows.analytic - rows.numeric)[use].max(initial=0.0))
    if 0 < error <= SINGLE * scale and wrong(rows).any():
        yield f"float32 on the way: right to {error / scale:.0e}, as if it had been rounded to single precision"


def _at_kinks(_: Evidence, rows: Rows) -> Iterator[str]:
    if rows.kink.any():
        yield "another choice at kinks: the documented value is 0 between opposite slopes, else between the slopes"


def _factor_in_places(_: Evidence, rows: Rows) -> Iterator[str]:
    bad = wrong(rows)
    n, moving = int(bad.sum()), bad & (np.abs(rows.numeric) > rows.noise)
    if 1 < n < bad.size and moving.sum() == n:
        ratios = rows.analytic[bad] / rows.numeric[bad]
        if np.ptp(ratios) <= CLOSE * np.abs(ratios).max():
            c = float(ratios.mean())
            yield f"a factor in places: {c:.9g} times the true gradient at {n} of {bad.size} entries, right elsewhere"


def _unmoved(evidence: Evidence, _: Rows) -> Iterator[str]:
    if evidence.unmoved:
        yield "an inner derivative is missing: the gradient stays the same at inputs nearby, where the slopes do not"


PATTERNS: tuple[Pattern, ...] = (
    _zero, _sign, _sign_lost, _term, _factor, rearranged, _precision, _suspect, by_sign, _part, partly_zero,
    of_another, _shaped, at_end, few, _factor_in_places, _unmoved,
)  # fmt: skip
