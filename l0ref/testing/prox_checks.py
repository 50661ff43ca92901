"""The result of a prox check: one line per property, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from l0ref.testing.findings import number


@dataclass(frozen=True)
class ProxCheck:
    """One property: whether it holds, and a sentence with the worst case. `held` is None where it does not apply."""

    name: str
    held: bool | None
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON-able values."""
        return {"name": self.name, "held": self.held, "detail": self.detail}


@dataclass(frozen=True)
class ProxReport:
    """The result of `check_prox`; its truth value is `passed`: every property that applies holds.

    dead_zones  {step: largest |z| that the prox sends to 0}, as measured
    convex      whether phi looks convex on the grid
    """

    target: str
    checks: tuple[ProxCheck, ...]
    dead_zones: dict[float, float]
    convex: bool

    def __bool__(self) -> bool:
        return self.passed

    @property
    def passed(self) -> bool:
        """Whether no property is broken."""
        return all(check.held is not False for check in self.checks)

    def text(self) -> str:
        """Return the report as lines for people."""
        words = {True: "holds", False: "BROKEN", None: "does not apply"}
        verdict = "the prox is right" if self.passed else "the prox is WRONG"
        rows = sorted(self.checks, key=lambda c: c.held is not False)
        return "\n".join(
            [f"check_prox of {self.target}: {verdict}", *(f"  {c.name}: {words[c.held]}: {c.detail}" for c in rows)]
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-able values."""
        return {
            "schema_version": 1,
            "target": self.target,
            "passed": self.passed,
            "convex": self.convex,
            "dead_zones": {f"{t:g}": number(d) for t, d in self.dead_zones.items()},
            "checks": [c.to_json() for c in self.checks],
        }

    def __str__(self) -> str:
        return self.text()
