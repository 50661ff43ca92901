"""Results as rows for JSON and as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from l0ref.bench.statistics import FEWEST, Times, ratio
from l0ref.bench.work import OURS, Claim, Work
from l0ref.tables import table


def rows_of(suite: str, work: Work, times: Mapping[str, Times]) -> list[dict[str, Any]]:
    """Return one row per contender: suite, work, contender, median_s, iqr_s, rounds.

    Peers have ratio_low and ratio_high, too: quartiles of their time over ours, by rounds.
    """
    return [
        {
            "suite": suite,
            "work": work.name,
            "contender": name,
            "median_s": found.median,
            "iqr_s": found.iqr,
            "rounds": found.rounds,
            **_quartiles(found, times),
        }
        for name, found in times.items()
    ]


def work_text(suite: str, work: Work, times: Mapping[str, Times], worst: Mapping[str, float]) -> str:
    """Return the times of one work as a table.

    IQR            of the times, as a share of their median
    time / l0ref   the contender's median over ours (above 1: l0ref is faster), and the quartiles of the ratios of
                   single rounds; "-" for fewer than 5 rounds
    """
    rounds = next(iter(times.values())).rounds
    rate = [] if work.rate is None else [work.rate[1]]
    ratios = [f"time / {OURS}", "quartiles"] if OURS in times else []
    header = [f"time per {work.per[1] if work.per else work.unit}", "median", "IQR", *rate, *ratios]
    cells = []
    for name, found in times.items():
        speed = [] if work.rate is None else [f"{work.rate[0] / found.median / 1e9:.1f}"]
        cells.append([name, seconds(found.median), f"{found.iqr / found.median:.0%}", *speed, *_ratio(found, times)])
    lines = [f"{suite}: {work.name}, {rounds} round{'s' if rounds > 1 else ''}", table(header, cells)]
    if ratios and rounds < FEWEST:
        lines.append(f"no ratios: they need {FEWEST} rounds or more, these are {rounds}")
    for problem, error in worst.items():
        lines.append(
            f"all agree{f' ({problem})' if problem else ''}: within {error:.1g} of the truth after {work.checked}, "
            f"allowed is {work.tolerance:g}"
        )
    return "\n".join(lines)


def claims_text(claims: Sequence[Claim]) -> str:
    """Return claims as a table: the number, its goal, the verdict."""
    cells = []
    for c in claims:
        unit = f" {c.unit}" if c.unit else ""
        goal = "-" if c.goal is None else f"<= {c.goal:g}{unit}"
        cells.append([c.name, f"{c.value:.3g}{unit}{'' if c.complete else ', not finished'}", goal, c.verdict])
    return table(["claim", "measured", "goal", "verdict"], cells)


def seconds(value: float) -> str:
    """Return a time with three decimals and its unit.

    >>> [seconds(t) for t in (2.5e-9, 4.3e-5, 0.002262, 0.0996, 12.34, 1234.5)]
    ['0.003 us', '43.000 us', '2.262 ms', '99.600 ms', '12.340 s', '1234.500 s']
    """
    factor, unit = (1e6, "us") if value < 1e-3 else (1e3, "ms") if value < 1 else (1, "s")
    return f"{value * factor:.3f} {unit}"


def _quartiles(found: Times, times: Mapping[str, Times]) -> dict[str, float]:
    """The quartiles of the ratios by round, for JSON."""
    r = ratio(found, times[OURS]) if OURS in times and found is not times[OURS] else None
    return {} if r is None else {"ratio_low": r.low, "ratio_high": r.high}


def _ratio(found: Times, times: Mapping[str, Times]) -> list[str]:
    """Return two cells: the ratio of the medians, the quartiles of the ratios by round; none without l0ref."""
    if OURS not in times:
        return []
    if found is times[OURS]:
        return ["", ""]
    r = ratio(found, times[OURS])
    return ["-", "-"] if r is None else [f"{r.value:.2f}", f"{r.low:.2f} .. {r.high:.2f}"]
