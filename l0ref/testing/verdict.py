"""The verdict of a gradient check: every finding, every other fault, and the exception that carries the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from l0ref.errors import L0RefError
from l0ref.testing.findings import Finding, ParameterReport, badness
from l0ref.testing.render import text_of


@dataclass(frozen=True)
class GradcheckReport:
    """The result of a gradient check; its truth value is `passed`.

    target      name of the checked function
    mode        "full": entry by entry; "fast": random directions; "fast, then full": directions did not suffice
    parameters  one ParameterReport per input, in their order
    problems    sentences about faults other than wrong entries: two backward passes that differ, an
                input that was overwritten, memory that is returned twice; any of them fails the check
    notes       sentences without effect on the verdict: output printed by the callable, flat parameters
    kinks       "report", "accept", "skip" or "fail"
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
        return text_of(self._headline(), self.problems, self.parameters, self.findings, self.notes, most=most)

    def _headline(self) -> str:
        verdict = "the gradient is right" if self.passed else "the gradient is WRONG"
        if not self.passed and not any(p.failed for p in self.parameters):
            verdict = "the check FAILED"
        counts = f"{self.checked} entries checked, {self.skipped} skipped, {self.at_kinks} at kinks"
        return f"gradcheck of {self.target}: {verdict} ({counts}; {self.mode}, rtol {self.rtol:.0e}, seed {self.seed})"

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
