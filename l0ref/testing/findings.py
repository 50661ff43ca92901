"""The findings of a gradient check: one per entry, grouped by parameter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

OK, WRONG, KINK, BAD_KINK, WEAK = "ok", "wrong", "kink", "wrong at kink", "unresolved"
FAULTS = (WRONG, BAD_KINK)


@dataclass(frozen=True)
class Finding:
    """One comparison: an entry of a parameter, or a random direction through all of it.

    parameter       its name; `index` is the multi-index of the entry, None for a direction
    analytic        the gradient under test
    numeric         the slope from differences of the value; at a kink the mean of the one-sided slopes
    left, right     one-sided slopes; equal to `numeric` where there is no kink, infinite where vertical
    relative_error  |analytic - numeric| / the larger of the two; for a direction / max(|numeric|, norm of its terms)
    error_estimate  bound on the error of `numeric` itself
    step            h of the differences, in units of the entry; for a direction, of the entries' scales
    method          "differences" or "complex step"
    status          "ok", "wrong", "kink" (value accepted), "wrong at kink", "unresolved" (agrees, but the
                    differences are too rough to say much)
    excess          |analytic - numeric| / the allowed difference: above 1 is wrong, except at a kink
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
        """The parameter and the entry, in the form fc1.weight[3, 17]."""
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
    """The findings in one parameter.

    name, shape, dtype  of the parameter; dtype is that of the gradient under test
    findings            compared entries and directions, worst first
    checked             entries covered: compared one by one, or all of them if directions sufficed
    skipped             entries that were not compared: beyond `max_entries`, or kinks under kinks="skip"
    masked              entries under a mask, whose gradient must be exactly 0
    diagnosis           the kind of fault that it looks like; "" if there is none
    flat                True if the value does not move along any compared entry, up to rounding
    rough               True if the differences are too rough to confirm most of the entries
    only_kinks          True if every compared entry is at a kink
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
    only_kinks: bool = False

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
    def undecided(self) -> bool:
        """Whether the given point cannot tell a right gradient from a wrong one."""
        return self.flat or self.only_kinks

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
            "only_kinks": self.only_kinks,
            "diagnosis": self.diagnosis,
            "findings": [finding.to_json() for finding in self.findings],
        }


def badness(finding: Finding) -> tuple[int, float]:
    """Sort key: failures first, then by the ratio to the allowed difference."""
    rank = (BAD_KINK, WRONG, WEAK, KINK, OK).index(finding.status)
    excess = finding.excess if not math.isnan(finding.excess) else math.inf
    return (min(rank, 1), -excess) if rank <= 1 else (rank, -excess)


def number(value: float) -> float | str:
    """Return a finite number unchanged, others as "inf", "-inf" or "nan", which JSON numbers cannot express."""
    return float(value) if math.isfinite(value) else str(float(value))
