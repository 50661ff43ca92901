"""The results of a run of the vectors, as values, as text and as JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from l0ref.tables import table

PASSED, FAILED, ABSENT = "passed", "failed", "not provided"


@dataclass(frozen=True)
class Deviation:
    """The largest error of one case, and its place.

    ulp            error in units of `Expected.unit`; inf where nothing can be compared, or
                   where whole numbers or masks differ
    case, place    id of the case; output and index, such as "gradient['fc1.weight'][3, 1]"
    got, expected  the two numbers; None where the error is not about a number
    reason         of an error that is not numerical: an exception, a wrong shape, a missing output; else ""
    """

    ulp: float
    case: str
    place: str = ""
    got: float | None = None
    expected: float | None = None
    reason: str = ""

    def sentence(self) -> str:
        """Return the deviation as one line."""
        off = f", off by {self.ulp:.3g} ulp" if math.isfinite(self.ulp) else ""
        what = self.reason or f"is {self.got!r}, expected {self.expected!r}{off}"
        return f"case {self.case!r}: {self.place} {what}".replace(":  ", ": ")


@dataclass(frozen=True)
class SetResult:
    """One set: the numbers of cases that passed, failed and were not provided, and the worst case.

    without   outputs that the adapter never returned, and that were not checked
    worst     the case with the largest error, passed or failed; None if none was run
    failures  every case that failed, each with its worst entry
    """

    name: str
    passed: int
    failed: int
    absent: int
    tolerance: float
    without: tuple[str, ...] = ()
    worst: Deviation | None = None
    failures: tuple[Deviation, ...] = ()

    @property
    def status(self) -> str:
        """One of "passed", "failed" and "not provided"."""
        return FAILED if self.failed else PASSED if self.passed else ABSENT

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON-able values; an error without a number is null."""
        return {
            "name": self.name,
            "status": self.status,
            "cases": {"passed": self.passed, "failed": self.failed, "not_provided": self.absent},
            "tolerance_ulp": self.tolerance,
            "outputs_not_provided": list(self.without),
            "worst": _json(self.worst) if self.worst else None,
            "failures": [_json(failure) for failure in self.failures],
        }


@dataclass(frozen=True)
class Report:
    """All sets that were run, and the adapter's functions that have no set."""

    results: tuple[SetResult, ...]
    strangers: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether something passed and nothing failed."""
        return any(r.passed for r in self.results) and not any(r.failed for r in self.results)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-able values."""
        return {
            "format": "l0ref-vectors-report",
            "version": 1,
            "ok": self.ok,
            "sets": [result.to_json() for result in self.results],
            "unknown_functions": list(self.strangers),
        }

    def text(self, *, most: int = 3) -> str:
        """Return the report as a table, then up to `most` failures of each set."""
        header = ("set", "result", "cases", "worst ulp", "allowed", "where")
        lines = [table(header, [_row(result) for result in self.results], left=len(header))]
        for result in self.results:
            lines += [f"{result.name}, {failure.sentence()}" for failure in result.failures[:most]]
            hidden = len(result.failures) - most
            lines += [f"{result.name}: and {hidden} more"] if hidden > 0 else []
            lines += [f"{result.name}: {', '.join(result.without)} not provided"] if result.without else []
        lines += [f"note: no set is called {name!r}, so it was never called" for name in self.strangers]
        counts = [(sum(r.status == status for r in self.results), status) for status in (PASSED, FAILED, ABSENT)]
        return "\n".join([*lines, ", ".join(f"{n} {status}" for n, status in counts)])


def _row(result: SetResult) -> tuple[str, ...]:
    run, worst = result.passed + result.failed, result.worst
    cases = f"{result.passed} of {run}" + (f", {result.absent} not provided" if result.absent and run else "")
    ulp, place = (f"{worst.ulp:.3g}", f"{worst.case}: {worst.place}".rstrip(": ")) if worst else ("", "")
    return result.name, result.status, cases if run else "", ulp, f"{result.tolerance:g}", place


def _json(deviation: Deviation) -> dict[str, Any]:
    numbers = {"ulp": deviation.ulp, "got": deviation.got, "expected": deviation.expected}
    finite = {key: x if x is not None and math.isfinite(x) else None for key, x in numbers.items()}
    return {"case": deviation.case, "place": deviation.place, "reason": deviation.reason, **finite}
