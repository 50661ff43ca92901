"""Gradient check reports as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from l0ref.testing.findings import Finding, ParameterReport


def text_of(
    headline: str,
    problems: Sequence[str],
    parameters: Sequence[ParameterReport],
    findings: Sequence[Finding],
    notes: Sequence[str],
    *,
    most: int,
) -> str:
    """Return a gradient check report as text; `most` bounds the entries shown."""
    lines = [headline, *(f"  {problem}" for problem in problems)]
    lines += [f"  {p.name}: {p.diagnosis}" for p in parameters if p.diagnosis]
    notable = [f for f in findings if f.status != "ok"]
    shown = _chosen(notable, most)
    lines += [_sentence(f) for f in shown]
    hidden = len(notable) - len(shown)
    lines += [f"  ... and {hidden} more"] if hidden > 0 else []
    lines += _table([("parameter", *COLUMNS), *(_row(p) for p in parameters)]) if parameters else []
    lines += [f"  note: {note}" for note in notes]
    return "\n".join(lines)


def _chosen(findings: Sequence[Finding], most: int) -> list[Finding]:
    """The first `most` findings, with the worst of every wrong parameter among them as far as there is room."""
    worst: dict[str, int] = {}
    for i, f in enumerate(findings):
        if f.failed:
            worst.setdefault(f.parameter, i)
    first = list(worst.values())[:most]
    others = [i for i in range(len(findings)) if i not in first]
    return [findings[i] for i in sorted([*first, *others[: most - len(first)]])]


COLUMNS = ("shape", "checked", "skipped", "masked", "at kinks", "unresolved", "wrong", "worst error")


def _sentence(f: Finding) -> str:
    """One finding: "fc1.weight[3, 17]: analytic 0, numeric 0.5, ..."."""
    parts = [f"  {f.where}: analytic {f.analytic:.12g}, numeric {f.numeric:.12g}"]
    if f.status in ("kink", "wrong at kink"):
        parts.append(f"left {f.left:.6g}, right {f.right:.6g}")
    parts.append(f"relative error {f.relative_error:.1e}")
    parts.append(f"error estimate {f.error_estimate:.1e}, step {f.step:.1e}")
    return ", ".join(parts) + ": " + MEANING[f.status]


MEANING = {
    "ok": "they agree",
    "wrong": "wrong",
    "kink": "a kink; the value is an accepted one",
    "wrong at kink": "a kink; the value is neither 0 between opposite slopes nor between the slopes",
    "unresolved": "no contradiction, but the differences are too rough to confirm it",
}


def _row(p: ParameterReport) -> tuple[str, ...]:
    worst = max((f.relative_error for f in p.findings if f.status in ("ok", "wrong")), default=0.0)
    counts = (p.checked, p.skipped, p.masked, p.at_kinks, p.unresolved, p.failed)
    shape = "x".join(map(str, p.shape)) or "number"
    return (p.name, shape, *map(str, counts), f"{worst:.1e}")


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
