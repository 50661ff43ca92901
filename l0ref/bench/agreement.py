"""A check, before anything is timed, that all contenders compute the same result."""

from __future__ import annotations

import numpy as np

from l0ref.bench.work import Answers, Contender, Work
from l0ref.errors import L0RefError
from l0ref.validate import Array


class Disagreement(L0RefError):
    """A contender does not compute the result of the others, so its time means nothing."""


def agreement(work: Work) -> dict[str, float]:
    """Run every contender once; return the largest difference from the expected answers, by problem.

    The difference of two arrays is ||a - e|| / ||e||, in float64. A contender whose answer is missing, has another
    shape, is not finite or differs by more than `work.tolerance` raises `Disagreement`. So does an expected answer of
    norm 0, against which no relative difference exists. Limits have no answer but are run as well, so that
    first calls, with their compilation and allocation, come before the clock starts.
    """
    asked = dict.fromkeys(c.problem for c in work.contenders if c.answer is not None)
    expected = {problem: work.expected[problem]() for problem in asked}
    worst = dict.fromkeys(expected, 0.0)
    for contender in work.contenders:
        contender.reset()
        done = contender.run(work.check_units)
        if contender.answer is not None:
            found = _compare(contender, contender.answer(done), expected[contender.problem], work)
            worst[contender.problem] = max(worst[contender.problem], found)
    return worst


def _compare(contender: Contender, answers: Answers, expected: Answers, work: Work) -> float:
    who = f"contender={contender.name!r} of {work.name!r}"
    if set(answers) != set(expected):
        odd = min(set(answers) ^ set(expected))
        where = "lacks" if odd in expected else "has an unexpected"
        raise Disagreement(f"{who} {where} {odd!r} among its answers; correct it before timing it")
    worst = 0.0
    for name, right in expected.items():
        error = difference(answers[name], right)
        if error is None:
            raise Disagreement(f"{who}: the expected {name!r} is 0, which proves nothing; choose another problem")
        if not error <= work.tolerance:
            raise Disagreement(
                f"{who} differs from the truth in {name!r} by {error:.2g} of its norm after {work.checked}, more than "
                f"the {work.tolerance:g} allowed; correct it before timing it"
            )
        worst = max(worst, error)
    return worst


def difference(found: Array, right: Array) -> float | None:
    """Return ||found - right|| / ||right||; infinite for another shape or NaN, None if `right` is 0."""
    a, e = (np.asarray(x, np.float64) for x in (found, right))
    size = float(np.linalg.norm(e))
    if size == 0:
        return None
    if a.shape != e.shape or not np.isfinite(a).all():
        return float("inf")
    return float(np.linalg.norm(a - e)) / size
