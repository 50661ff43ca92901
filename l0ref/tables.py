"""Text for a terminal: aligned tables, and how shares, ratios and counts are written in them."""

from __future__ import annotations

import html
from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return rows of cells as aligned text under a header; the first `left` columns are flush left.

    >>> print(table(["stage", "kept"], [["dense", "50,200"], ["pruned", "2,510"]]))
    stage     kept
    dense   50,200
    pruned   2,510
    """
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    cells = (
        [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    )
    return "\n".join("  ".join(line).rstrip() for line in cells)


def percent(value: float | None, *, digits: int = 2) -> str:
    """Return a share as a percentage, "-" if there is none."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def times(value: float | None) -> str:
    """Return a ratio as "3.2x", "-" if it is not finite."""
    return "-" if value is None else f"{value:.1f}x"


def whole(value: float | None) -> str:
    """Return a count with thousands separated."""
    return "-" if value is None else f"{value:,.0f}"


def preformatted(value: object) -> str:
    """Return what a value prints as, for a notebook: the same text, of fixed width, escaped."""
    return f"<pre>{html.escape(repr(value))}</pre>"
