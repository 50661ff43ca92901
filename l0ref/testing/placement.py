"""Patterns of misplaced gradients: the right numbers in the wrong places, or wrong numbers in some places only.

Each yields a description of the fault, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from l0ref.testing.agreement import Rows
from l0ref.testing.evidence import Evidence, fits, wrong


def rearranged(evidence: Evidence, rows: Rows) -> Iterator[str]:
    """The right numbers in the wrong places; only if every entry was compared."""
    shape = evidence.gradient.shape
    if rows.index.size != evidence.gradient.size or evidence.gradient.size < 2:
        return
    true = rows.numeric.reshape(shape)
    if len(shape) >= 2:
        turned = np.swapaxes(true, -1, -2)
        if fits(rows, turned.ravel()) or fits(rows, true.T.ravel()):
            yield "a transposed gradient: the right numbers with two axes exchanged"
        if len(shape) >= 4 and fits(rows, true[..., ::-1, ::-1].ravel()):
            yield "a kernel that is not flipped, or flipped once too often: the last two axes are reversed"
    for axis in range(len(shape)):
        if shape[axis] > 1:
            if fits(rows, np.flip(true, axis).ravel()):
                yield f"axis {axis} reversed"
            for by in (1, -1):
                if fits(rows, np.roll(true, by, axis).ravel()):
                    yield f"off by one along axis {axis}: a stride, padding or index that starts one too early or late"
    if fits(rows, true.ravel()[::-1]):
        yield "all entries in reverse order"
    for axis in range(len(shape)):
        for how, text in ((np.mean, "averaged"), (np.sum, "summed")):
            if shape[axis] > 1 and fits(rows, np.broadcast_to(how(true, axis=axis, keepdims=True), shape).ravel()):
                yield f"the wrong axis: the true gradient {text} along axis {axis}"


def partly_zero(_: Evidence, rows: Rows) -> Iterator[str]:
    """A mask where there should be none, or no mask where there should be one."""
    bad = wrong(rows)
    if bad.sum() > 1 and not rows.analytic[bad].any():
        yield f"it is off by the mask: 0 at {int(bad.sum())} entries where the function moves, right elsewhere"
    if bad.sum() > 1 and (np.abs(rows.numeric[bad]) <= rows.noise[bad]).all():
        yield f"it is off by the mask: not 0 at {int(bad.sum())} entries along which the function does not move"


def by_sign(evidence: Evidence, rows: Rows) -> Iterator[str]:
    """Wrong exactly where x is 0, negative or positive."""
    x, bad = evidence.x.reshape(-1)[rows.index], wrong(rows)
    for where, inside, least in (
        ("0", x == 0, 1),
        ("negative", x < 0, 2),
        ("0 or negative", x <= 0, 2),
        ("positive", x > 0, 2),
    ):
        if np.array_equal(bad, inside) and bad.sum() >= least and (~bad).sum() >= least:
            yield f"a wrong branch: wrong exactly where {evidence.name} is {where}, right elsewhere"


def at_end(evidence: Evidence, rows: Rows) -> Iterator[str]:
    """Wrong only at one end of an axis."""
    shape = evidence.gradient.shape
    if not evidence.whole:
        return
    bad = wrong(rows).reshape(shape)
    for axis, n in enumerate(shape):
        hit = np.unique(np.nonzero(bad)[axis])
        if n > 2 and (len(shape) == 1 or bad.sum() > 1):
            for word, ends in (("last", [n - 1]), ("first", [0]), ("first and last", [0, n - 1])):
                if hit.tolist() == ends and n > len(ends):
                    yield f"a border: wrong only at the {word} index of axis {axis}, right elsewhere"


def of_another(evidence: Evidence, rows: Rows) -> Iterator[str]:
    """The gradient of another input."""
    if evidence.whole:
        for name, other in evidence.others.items():
            if other.shape == evidence.gradient.shape and fits(rows, other.reshape(-1).astype(np.float64)):
                yield f"another input's gradient: it equals that of {name}"


def few(_: Evidence, rows: Rows) -> Iterator[str]:
    """One wrong entry, or at most a tenth of them."""
    n = int(wrong(rows).sum())
    if 0 < n <= max(1, rows.index.size // 10) and rows.index.size > 1:
        yield f"single entries: {n} of {rows.index.size} compared are wrong, the others right"
