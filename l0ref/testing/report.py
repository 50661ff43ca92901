"""What a gradient check found: one Finding per entry, grouped by parameter, and the verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from l0ref.errors import L0RefError
from l0ref.testing.render import number, text_of

OK, WRONG, KINK, BAD_KINK, WEAK = "ok", "wrong", "kink", "wrong at kink", "unresolved"
FAULTS = (WRONG, BAD_KINK)


@dataclass(frozen=True)
class Finding:
    """One comparison: an entry of a parameter, or a random direction through all of it.

    parameter       its name; `index` is the multi-index of the entry, None for a direction
    analytic        what the gradient under test says
    numeric         what differences of the value say; at a kink the mean of the one-sided slopes
    left, right     one-sided slopes; equal to `numeric` where there is no kink, infinite where vertical
    relative_error  |analytic - numeric| / the larger of the two; for a direction, / the size of its terms
    error_estimate  how far `numeric` itself may be off
    step            h of the differences, in units of the entry; for a direction, of the entries' scales
    method          "differences" or "complex step"
    status          "ok", "wrong", "kink" (value accepted), "wrong at kink", "unresolved" (agrees, but the
                    differences are too rough to say much)
    excess          |analytic - numeric| / what is allowed: above 1 is wrong
    """

    parameter: str
    index: tuple[int, ...] | None
    analytic: float
    numeric: float
    left: float
    right: float
    relative_error: float
    error_estimate: float
    step: float
    method: str
    status: str
    excess: float

    @property
    def failed(self) -> bool:
        """Whether the gradient is wrong here."""
        return self.status in FAULTS

    @property
    def where(self) -> str:
        """The parameter and the entry, as one would write it: fc1.weight[3, 17]."""
        if self.index is None:
            return f"{self.parameter} along a random direction"
        return f"{self.parameter}[{', '.join(map(str, self.index))}]" if self.index else self.parameter

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-able values; an infinite number as "inf", "-inf" or "nan"."""
        numbers = ("analytic", "numeric", "left", "right", "relative_error", "error_estimate", "step")
        return {
            "index": None if self.index is None else list(self.index),
            **{name: number(getattr(self, name)) for name in numbers},
            "method": self.method,
            "status": self.status,
        }


@dataclass(frozen=True)
class ParameterReport:
    """What was found in one parameter.

    name, shape, dtype  of the parameter; dtype is that of the gradient under test
    findings            compared entries and directions, worst first
    checked             entries covered: compared one by one, or all of them if directions went through
    skipped             entries that were not compared: beyond `max_entries`, or kinks under kinks="skip"
    masked              entries under a mask, whose gradient must be exactly 0
    diagnosis           what kind of fault it looks like; "" if there is none
    flat                True if the value does not move along any entry, and the gradient says so too
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    findings: tuple[Finding, ...]
    checked: int
    skipped: int
    masked: int = 0
    diagnosis: str = ""
    flat: bool = False
    rough: bool = False

    @property
    def at_kinks(self) -> int:
        """Number of entries that sit on a kink."""
        return sum(f.status in (KINK, BAD_KINK) for f in self.findings)

    @property
    def failed(self) -> int:
        """Number of findings that are wrong."""
        return sum(f.failed for f in self.findings)

    @property
    def unresolved(self) -> int:
        """Number of findings that agree, but only because the differences are too rough."""
        return sum(f.status == WEAK for f in self.findings)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong here, and enough could be decided."""
        return self.failed == 0 and not self.rough

    def to_json(self) -> dict[str, Any]:
        """Return names, counts, diagnosis and all findings as JSON-able values."""
        counts = ("checked", "skipped", "masked", "at_kinks", "unresolved", "failed")
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "passed": self.passed,
            **{name: getattr(self, name) for name in counts},
            "flat": self.flat,
            "diagnosis": self.diagnosis,
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True)
class GradcheckReport:
    """The result of a gradient check; true if it passed.

    target      what was checked
    mode        "full": entry by entry; "fast": random directions; "fast, then full": directions failed
    parameters  one ParameterReport per input, in their order
    problems    sentences about what is wrong beside single entries: two backward passes that differ, an
                input that was written, memory that is handed out twice; any of them fails the check
    notes       sentences that decide nothing: what the callable printed, which parameters are flat
    kinks       "report", "skip" or "fail"
    """

    target: str
    mode: str
    seed: int
    rtol: float
    atol: float
    kinks: str
    parameters: tuple[ParameterReport, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)

    def __bool__(self) -> bool:
        return self.passed

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems and all(p.passed for p in self.parameters)

    @property
    def checked(self) -> int:
        """Entries covered, over all parameters."""
        return sum(p.checked for p in self.parameters)

    @property
    def skipped(self) -> int:
        """Entries not compared, over all parameters."""
        return sum(p.skipped for p in self.parameters)

    @property
    def at_kinks(self) -> int:
        """Entries at kinks, over all parameters."""
        return sum(p.at_kinks for p in self.parameters)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, worst first."""
        return tuple(sorted((f for p in self.parameters for f in p.findings), key=badness))

    def text(self, *, most: int = 8) -> str:
        """Return the report as lines for people: verdict, problems, a row per parameter, the `most` worst entries."""
        return text_of(self, most=most)

    def to_json(self) -> dict[str, Any]:
        """Return the whole report as JSON-able values, findings worst first within each parameter."""
        plain = ("target", "mode", "seed", "rtol", "atol", "kinks", "passed", "checked", "skipped", "at_kinks")
        return {
            "schema_version": 1,
            **{name: getattr(self, name) for name in plain},
            "problems": list(self.problems),
            "notes": list(self.notes),
            "parameters": [p.to_json() for p in self.parameters],
        }

    def __str__(self) -> str:
        return self.text()


class GradcheckFailure(L0RefError, AssertionError):
    """A gradient is wrong; the message is the report's text, and `report` holds the report."""

    report: Any = None


def failure(report: Any) -> GradcheckFailure:
    """Return the exception for a report that did not pass."""
    error = GradcheckFailure(report.text())
    error.report = report
    return error


def badness(finding: Finding) -> tuple[int, float]:
    """Sort key: what failed first, then by how far beyond the allowance."""
    rank = (BAD_KINK, WRONG, WEAK, KINK, OK).index(finding.status)
    excess = finding.excess if not math.isnan(finding.excess) else math.inf
    return (min(rank, 1), -excess) if rank <= 1 else (rank, -excess)
