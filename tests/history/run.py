"""Every checker on a case. Each returns whether it accepts, and what it says."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from l0ref.errors import L0RefError
from l0ref.testing import check_gradient, check_model, gradcheck
from tests.faults.others import OTHERS
from tests.faults.points import Target
from tests.history import (
    branches,
    factors,
    formulas,
    indices,
    memory,
    paths,
    precision,
    shapes,
    terms,
    ties,
    upstream,
    zeros,
)
from tests.history.case import CASES, Case, as_pair, function, gradient_of, objective_of, plain

KINDS = (ties, zeros, branches, indices, shapes, upstream, factors, formulas, terms, paths, memory, precision)
Verdict = tuple[bool, str]


def cases(kind: str | None = None) -> list[Case]:
    """All cases, or those of one kind, in the order of the modules."""
    order = {module.__name__.rsplit(".", 1)[-1]: k for k, module in enumerate(KINDS)}
    return sorted((c for c in CASES if kind in (None, c.kind)), key=lambda c: order[c.kind])


def own(case: Case, *, wrong: bool, **options: Any) -> Verdict:
    """l0ref's checker for the form the case has."""
    if case.form == "operation":
        return _asked(lambda: as_operation(case, wrong=wrong, **options))
    if case.form == "network":
        model, x, y, penalty, spoil = case.make()
        gradient = gradient_of(objective_of(model, x, y, penalty), spoil if wrong else None)
        check = lambda: check_model(
            model, x, y, penalty=penalty, gradient=gradient, raise_exception=False, **options
        )  # fmt: skip
        return _asked(check)
    return _asked(lambda: _as_pair(case, wrong=wrong, **options))


def other_form(case: Case, *, wrong: bool, **options: Any) -> Verdict:
    """A pair as an operation; an operation or a network as a pair."""
    check = as_operation if case.form == "pair" else _as_pair
    return _asked(lambda: check(case, wrong=wrong, **options))


def as_operation(case: Case, *, wrong: bool, **options: Any) -> Any:
    """The report of `gradcheck`."""
    found, xs = as_pair(case, wrong=wrong)
    return gradcheck(function(found, case.name), xs, raise_exception=False, **options)


def _as_pair(case: Case, *, wrong: bool, **options: Any) -> Any:
    value, gradient, x = plain(case, wrong=wrong)
    return check_gradient(value, gradient, x, raise_exception=False, **options)


def _asked(check: Callable[[], Any]) -> Verdict:
    """Run a check; an error that refuses the gradient counts as found, and its message as what it says."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            report = check()
        except L0RefError as error:
            return False, str(error)
    return bool(report), report.text()


def others(case: Case, checker: str, *, wrong: bool) -> bool:
    """Whether PyTorch's or autograd's checker accepts."""
    found, xs = as_pair(case, wrong=wrong)
    target = Target(case.name, "op", found, tuple(xs))
    with np.errstate(all="ignore"):
        try:
            return OTHERS[checker](found, target)
        except Exception:  # a gradient of the wrong shape breaks autograd's own checker
            return False
