"""What kind of fault a wrong gradient looks like.

Each pattern is a way in which gradients go wrong in practice, with the value the faulty gradient would have. The
first that explains all compared entries is named; a gradient that none explains gets no name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from l0ref.testing.compare import Rows
from l0ref.testing.problem import Hints
from l0ref.validate import Array

CLOSE = 1e-4  # a pattern fits if it explains every entry to this share of the largest,
BETTER = 0.02  # and to this share of what is wrong
RIGHT = 1e-8  # relative error of an entry that counts as right
SINGLE = 1e-6  # relative errors below this are those of float32


@dataclass(frozen=True, eq=False)
class Evidence:
    """What there is to go by: the gradient of one parameter, differences of some of its entries, and hints.

    unmasked  True if the gradient is not exactly 0 somewhere under its mask
    """

    name: str
    gradient: Array
    rows: Rows | None
    hints: Hints
    unmasked: bool = False


def diagnose(evidence: Evidence) -> str:
    """Return a sentence that begins "looks like", or "" if no known fault explains the numbers."""
    if evidence.unmasked:
        return (
            "looks like it is off by the mask: not exactly 0 where the mask is False; multiply the gradient by the mask"
        )
    if evidence.rows is None or not evidence.rows.index.size:
        return ""
    for pattern in PATTERNS if _wrong(evidence.rows).any() else (_at_kinks,):
        for text in pattern(evidence, evidence.rows):
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
    if _fits(rows, -rows.numeric):
        yield "the wrong sign: minus the true gradient"


def _factor(evidence: Evidence, rows: Rows) -> Iterator[str]:
    ratio = _ratio(rows)
    if ratio is None:
        return
    hints = evidence.hints
    for c, text in ((2.0, "a factor 2 too large"), (0.5, "a factor 2 too small")):
        if _near(ratio, c) and not any(size == 2 for size in hints.sizes.values()):
            yield f"{text}: a forgotten or superfluous 1/2, or a part counted twice"
    for name, size in hints.sizes.items():
        if size > 1 and _near(ratio, size):
            yield f"a missing mean: {size} times too large, and {size} is the {name}; divide by N"
        if size > 1 and _near(ratio, 1 / size):
            yield f"a mean where a sum belongs: {size} times too small, and {size} is the {name}; do not divide by N"
    for name, scale in hints.scales.items():
        for power, text in (
            (1, "times"),
            (-1, "divided by"),
            (2, "times the square of"),
            (-2, "divided by the square of"),
        ):
            if scale not in (0, 1) and _near(ratio, scale**power):
                yield f"scaled by {name}: the true gradient {text} {name} = {scale:g}"
    yield f"a constant factor: {ratio:.9g} times the true gradient"


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
                if part.any() and _fits(rows, rows.numeric + times * part):
                    yield f"a wrong term: the gradient of the {name} is {text}"


def _rearranged(evidence: Evidence, rows: Rows) -> Iterator[str]:
    """The right numbers in the wrong places; needs all entries."""
    shape = evidence.gradient.shape
    if rows.index.size != evidence.gradient.size or evidence.gradient.size < 2:
        return
    true = rows.numeric.reshape(shape)
    if len(shape) >= 2:
        turned = np.swapaxes(true, -1, -2)
        if _fits(rows, turned.ravel()) or _fits(rows, true.T.ravel()):
            yield "a transposed gradient: the right numbers with two axes exchanged"
        if len(shape) >= 4 and _fits(rows, true[..., ::-1, ::-1].ravel()):
            yield "a kernel that is not flipped, or flipped once too often: the last two axes are reversed"
    for axis in range(len(shape)):
        if shape[axis] > 1:
            if _fits(rows, np.flip(true, axis).ravel()):
                yield f"axis {axis} reversed"
            for by in (1, -1):
                if _fits(rows, np.roll(true, by, axis).ravel()):
                    yield f"off by one along axis {axis}: a stride, padding or index that starts one too early or late"
    if _fits(rows, true.ravel()[::-1]):
        yield "all entries in reverse order"
    for axis in range(len(shape)):
        for how, text in ((np.mean, "averaged"), (np.sum, "summed")):
            if shape[axis] > 1 and _fits(rows, np.broadcast_to(how(true, axis=axis, keepdims=True), shape).ravel()):
                yield f"the wrong axis: the true gradient {text} along axis {axis}"


def _partly_zero(_: Evidence, rows: Rows) -> Iterator[str]:
    wrong = _wrong(rows)
    if wrong.sum() > 1 and not rows.analytic[wrong].any():
        yield f"it is off by the mask: 0 at {int(wrong.sum())} entries where the function moves, right elsewhere"
    if wrong.sum() > 1 and (np.abs(rows.numeric[wrong]) <= rows.noise[wrong]).all():
        yield f"it is off by the mask: not 0 at {int(wrong.sum())} entries along which the function does not move"


def _one_sample(_: Evidence, rows: Rows) -> Iterator[str]:
    for text, part in rows.parts.items():
        if _fits(rows, part):
            yield text


def _precision(_: Evidence, rows: Rows) -> Iterator[str]:
    use = ~rows.kink
    scale = float(np.abs(rows.numeric[use]).max(initial=0.0))
    wrong = float(np.abs(rows.analytic - rows.numeric)[use].max(initial=0.0))
    if 0 < wrong <= SINGLE * scale and _wrong(rows).any():
        yield f"float32 on the way: right to {wrong / scale:.0e}, as if it had been rounded to single precision"


def _at_kinks(_: Evidence, rows: Rows) -> Iterator[str]:
    if rows.kink.any():
        yield "another choice at kinks: the documented value is 0 between opposite slopes, else between the slopes"


def _few(_: Evidence, rows: Rows) -> Iterator[str]:
    wrong = int(_wrong(rows).sum())
    if 0 < wrong <= max(1, rows.index.size // 10) and rows.index.size > 1:
        yield f"single entries: {wrong} of {rows.index.size} compared are wrong, the others right"


PATTERNS: tuple[Pattern, ...] = (
    _not_finite, _zero, _sign, _term, _factor, _rearranged, _one_sample, _partly_zero, _precision, _few,
)  # fmt: skip


def _fits(rows: Rows, pattern: Array) -> bool:
    """Whether the gradient follows the pattern at every compared entry, kinks aside."""
    use = ~rows.kink
    a, p = rows.analytic[use], pattern[use]
    scale, wrong = float(np.abs(p).max(initial=0.0)), float(np.abs(a - rows.numeric[use]).max(initial=0.0))
    near = np.abs(a - p) <= min(CLOSE * scale, BETTER * wrong) + rows.noise[use]
    return bool(use.any() and scale > 0 and near.all())


def _ratio(rows: Rows) -> float | None:
    """The one number analytic / numeric, if there is one."""
    use = ~rows.kink
    a, n = rows.analytic[use], rows.numeric[use]
    square = float(n @ n)
    if square == 0:
        return None
    ratio = float(a @ n) / square
    return ratio if ratio != 0 and _fits(rows, ratio * rows.numeric) else None


def _near(ratio: float, c: float) -> bool:
    return abs(ratio - c) <= 1e-3 * abs(c)


def _wrong(rows: Rows) -> Array:
    size = np.maximum(np.abs(rows.analytic), np.abs(rows.numeric))
    near = np.abs(rows.analytic - rows.numeric) <= RIGHT * size + rows.noise
    return np.asarray(~(near & np.isfinite(rows.analytic)) & ~rows.kink)
