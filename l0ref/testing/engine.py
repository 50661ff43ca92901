"""The check itself: call twice, compare with differences, try a second point, and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from l0ref.errors import DTypeError, GradientError, ShapeError
from l0ref.testing.agreement import Rows, is_flat, judge, unmasked
from l0ref.testing.behaviour import Behaviour, apart
from l0ref.testing.diagnosis import diagnose
from l0ref.testing.directions import STRICT, directions, locate
from l0ref.testing.evidence import Evidence
from l0ref.testing.findings import WEAK, Finding, ParameterReport, badness
from l0ref.testing.measure import Measure
from l0ref.testing.nearby import RIGHT, WRONG, Nearby, about_open, stale
from l0ref.testing.problem import Calls, Problem
from l0ref.testing.settings import Settings
from l0ref.testing.suspects import suspects, unmoved
from l0ref.testing.ties import coupled
from l0ref.testing.verdict import GradcheckReport, failure
from l0ref.validate import Array


def check(problem: Problem, settings: Settings) -> GradcheckReport:
    """Check a problem and return the report, or raise GradcheckFailure if it did not pass."""
    report = Checker(problem, settings).run()
    if settings.raise_exception and not report:
        raise failure(report)
    return report


class Checker:
    """One check of one problem."""

    def __init__(self, problem: Problem, settings: Settings) -> None:
        self.problem, self.settings = problem, settings
        self.calls = Calls(problem)
        self.rules = settings.rules(problem.dtype)
        self.rng = np.random.default_rng(settings.seed)
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.rows: dict[int, Rows] = {}
        self.mode = "fast" if settings.fast_mode else "full"

    def run(self) -> GradcheckReport:
        """Run all checks, the cheapest first."""
        point = self.problem.point
        if not sum(x.size for x in point):
            raise GradientError(
                f"{self.problem.names[0]} is empty: a check of nothing proves nothing; pass some entries"
            )
        y0 = self._value_twice()
        self.y_bar = self._cotangent(y0)
        held = self._gradient(point, self.y_bar)
        kept = [g.copy() for g in held]
        if not self.problems:
            self._value_again(y0)
        if self.problems:
            return self._report(())
        self.measure = Measure(self.problem, self.calls, y0, self.y_bar, eps=self.settings.eps, rtol=self.rules.rtol)
        reports = [self._parameter(i, g, kept) for i, g in enumerate(kept)]
        behaviour = Behaviour(self.measure, self._gradient, kept, self.settings.nondet_tol, self.rng)
        self.problems += behaviour.repeatable()
        if any(r.failed for r in reports):
            self.problems += behaviour.proportional()
            return self._report(reports)
        self.problems += coupled(self.measure, self.rules, self.rows)
        reports = self._look_nearby(reports)
        if all(r.passed for r in reports) and not self.problems:
            self.problems += [*behaviour.undisturbed(), *behaviour.proportional(), *behaviour.fresh(held)]
        return self._report(reports)

    def _value_twice(self) -> Array:
        first, second = (self.calls.value(self.problem.point) for _ in range(2))
        if not np.isfinite(first).all():
            raise GradientError(
                f"{self.problem.target}: the value is {first[~np.isfinite(first)][0]} at the given inputs; "
                "choose inputs where it is finite"
            )
        if first.shape != second.shape or (far := apart(first, second)) > self.settings.nondet_tol:
            by = "another shape" if first.shape != second.shape else f"{far:.3g}"
            self.problems.append(
                f"not deterministic: two calls of the value at the same inputs differ by {by}; "
                "fix the seed of whatever it draws, inside the function"
            )
        return first

    def _value_again(self, y0: Array) -> None:
        if (far := apart(y0, self.calls.value(self.problem.point))) > self.settings.nondet_tol:
            self.problems.append(
                "the gradient changes what the value reads: after one call of the gradient the value at the same "
                f"inputs differs by {far:.3g}; work on copies of saved arrays"
            )

    def _cotangent(self, y0: Array) -> Array:
        """Random signs, sizes between 1/2 and 3/2: a cotangent of ones would hide the gradient of a soft-max."""
        if not self.problem.cotangent:
            return np.ones(y0.shape)
        return self.rng.choice([-1.0, 1.0], y0.shape) * self.rng.uniform(0.5, 1.5, y0.shape)

    def _gradient(self, point: Sequence[Array], y_bar: Array) -> list[Array]:
        found = self.calls.gradient(point, y_bar)
        for name, x, g in zip(self.problem.names, self.problem.point, found, strict=True):
            if g.shape != x.shape:
                raise ShapeError(
                    f"the gradient of {name} has shape {g.shape}, expected {x.shape}, that of {name}{_advice(g, x)}"
                )
            if g.dtype.kind == "c":
                raise GradientError(f"the gradient of {name} is complex; return real numbers")
            if g.dtype.kind != "f":
                raise DTypeError(f"the gradient of {name} has dtype {g.dtype}; return float32 or float64 numbers")
        return found

    def _parameter(self, i: int, gradient: Array, others: Sequence[Array]) -> ParameterReport:
        """Compare one input: by directions, by entries, or by both."""
        name, x = self.problem.names[i], self.problem.point[i]
        mask = self.problem.hints.masks.get(name)
        free = np.flatnonzero(mask) if mask is not None else np.arange(x.size)
        most = self.settings.max_entries
        sampled = most is not None and free.size > most and not self.problem.elementwise
        findings: list[Finding] = []
        directed, along = False, None
        if (self.settings.fast_mode or sampled) and free.size and not self.problem.elementwise:
            along = directions(self.measure, self.rules, self.rng, i, gradient, free)
            directed = along is not None and not any(f.failed for f in along)
            if directed and along is not None:
                findings += along
            elif self.settings.fast_mode:
                self.mode = "fast, then full"
        if directed and self.settings.fast_mode:
            return self._summary(i, others, findings, None, free.size, 0)
        chosen = free
        if sampled and most is not None:
            chosen = np.sort(self.rng.choice(free, most, replace=False))
            if not directed:
                wrong = locate(self.measure, self.rules, self.rng, i, gradient, free, most=most)
                chosen = np.union1d(chosen, wrong)
        rows = self.rows[i] = self.measure.entries(i, chosen, gradient)
        findings += judge(rows, self.rules, name=name, shape=x.shape)
        if sampled and not directed and not any(f.failed for f in findings):
            findings += [f for f in along or () if f.excess > 1 / STRICT]
        compared = free.size if directed else chosen.size
        at_kinks = int(rows.kink.sum()) if self.rules.kinks == "skip" else 0
        return self._summary(i, others, findings, rows, compared - at_kinks, free.size - compared + at_kinks)

    def _summary(
        self, i: int, found: Sequence[Array], findings: list[Finding], rows: Rows | None, checked: int, skipped: int
    ) -> ParameterReport:
        name, x, gradient = self.problem.names[i], self.problem.point[i], found[i]
        mask = self.problem.hints.masks.get(name)
        loose = unmasked(name, gradient, mask)
        findings = sorted([*findings, *loose], key=badness)
        compared = [f for f in findings if f.index is not None]
        some = rows is not None and rows.index.size > 0
        return ParameterReport(
            name=name,
            shape=x.shape,
            dtype=str(gradient.dtype),
            findings=tuple(findings),
            checked=checked,
            skipped=skipped,
            masked=int(x.size - np.count_nonzero(mask)) if mask is not None else 0,
            diagnosis=self._diagnosis(i, found, rows, bool(loose)) if any(f.failed for f in findings) else "",
            flat=some and rows is not None and is_flat(rows) and len(compared) == len(findings),
            rough=2 * sum(f.status == WEAK for f in compared) > len(compared),
            only_kinks=some and rows is not None and bool(rows.kink.all()),
        )

    def _diagnosis(self, i: int, found: Sequence[Array], rows: Rows | None, loose: bool) -> str:
        names = self.problem.names
        others = {name: g for j, (name, g) in enumerate(zip(names, found, strict=True)) if j != i}
        asked = suspects(self.measure, self._gradient, i, rows) if rows is not None else {}
        y_bar = self.measure.y_bar.reshape(self.calls.shape) if self.problem.cotangent else None
        still = unmoved(self.measure, self._gradient, i, found[i], self.rng)
        point, hints = self.problem.point[i], self.problem.hints
        return diagnose(Evidence(names[i], point, found[i], rows, hints, loose, others, asked, y_bar, still))

    def _look_nearby(self, reports: list[ParameterReport]) -> list[ParameterReport]:
        """Decide at a second point what the first leaves open, and find values kept from an earlier call."""
        open_ = [i for i, r in enumerate(reports) if r.undecided]
        if self.problems or any(r.rough and not r.undecided for r in reports):
            return reports
        sight = Nearby(self.measure, self.rules, self._gradient, self.rng).look(open_)
        blamed = [self.problem.names[i] for i, v in sight.each.items() if v == WRONG]
        flat = [reports[i].name for i in open_ if reports[i].flat]
        moving = len(flat) < sum(r.shape.count(0) == 0 for r in reports)
        if sight.verdict == WRONG or blamed:
            self.problems.append(stale(blamed or self.problem.names, sight.off, [reports[i].name for i in open_]))
        elif not moving and not any(sight.each[i] == RIGHT or reports[i].rough for i in open_):
            raise GradientError(
                f"{flat[0]}: vacuous check, the value does not move along any of its entries, nor at inputs nearby, so "
                "a gradient of zero proves nothing (the sum of a soft-max is always 1, say); choose other inputs or "
                "another output"
            )
        for i in open_:
            note, problem = about_open(reports[i], sight.each[i], accepted=self.rules.kinks == "accept")
            self.notes += note
            self.problems += problem
        return [replace(r, rough=r.rough and sight.each.get(i) != RIGHT) for i, r in enumerate(reports)]

    def _report(self, reports: Sequence[ParameterReport]) -> GradcheckReport:
        self.problems = [*self.calls.written.values(), *self.problems]
        for r in reports:
            if r.rough:
                self.problems.append(self._too_rough(r))
        s = self.rules
        return GradcheckReport(
            self.problem.target, self.mode, self.settings.seed, s.rtol, s.atol, s.kinks, tuple(reports),
            tuple(self.problems), (*self.notes, *self.calls.notes()),
        )  # fmt: skip

    def _too_rough(self, r: ParameterReport) -> str:
        error = max(f.error_estimate for f in r.findings)
        if self.settings.eps is not None:
            advice = (
                f"eps={self.settings.eps:g} does not suit the value: too small, and rounding drowns the differences"
            )
        else:
            advice = "the value seems to be rounded to fewer digits inside, or to jump about: compute it in float64"
        return f"{r.name}: the differences are too rough to confirm anything (error estimate {error:.1e}); {advice}"


def _advice(g: Array, x: Array) -> str:
    """Advice on a gradient of the wrong shape."""
    if g.T.shape == x.shape:
        return "; it looks transposed"
    try:
        stretched = np.broadcast_shapes(g.shape, x.shape) == g.shape
    except ValueError:
        stretched = False
    if stretched:
        return "; it looks like a missing broadcast sum: add up the copies that broadcasting made"
    return "; return one number for each entry"
