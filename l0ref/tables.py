"""Tables as text, aligned for a terminal or comma-separated, and how shares, ratios and counts are written in them."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SCREEN = 20  # layers shown when a network is printed
LINES = 24  # lines of a terminal


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


def rows_to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of the same columns as comma-separated text with a header line; "" if there are none."""
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out.getvalue()


def percent(value: float | None, *, digits: int = 2) -> str:
    """Return a share as a percentage, "-" if there is none."""
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def times(value: float | None) -> str:
    """Return a ratio as "3.2x", "-" if there is none."""
    return "-" if value is None else f"{value:.1f}x"


def whole(value: float | None) -> str:
    """Return a count with thousands separated, "-" if there is none."""
    return "-" if value is None else f"{value:,.0f}"


def preformatted(value: object) -> str:
    """Return the printed form of a value as HTML for a notebook: the same text, escaped, of fixed width."""
    return f"<pre>{html.escape(repr(value))}</pre>"


def screen(text: str) -> str:
    """Return a text of at most LINES lines; a longer text is cut to its first and last lines.

    >>> screen("short")
    'short'
    """
    lines = text.splitlines()
    left = lines[LINES // 2 : len(lines) - LINES // 2 + 1]
    if len(lines) <= LINES:
        return text
    return "\n".join([*lines[: LINES // 2], f"... {len(left)} more lines", *lines[-LINES // 2 + 1 :]])


def summary(model: Any, shapes: Sequence[Sequence[int]]) -> str:
    """Return a line about a Model and a table of its layers; of more than SCREEN layers the first and the last.

    shapes  of the input and of the output of each layer
    """
    rows, arrays = [], {**model.params, **model.buffers}
    for layer, shape in zip(model.architecture, shapes[1:], strict=True):
        sizes = {key: weight.size for key, weight in layer.weights().items()}
        nbytes = sum(a.nbytes for key, a in arrays.items() if key.startswith(f"{layer.name}."))
        counts = [f"{sum(sizes.values()):,}", f"{_not_zero(model, sizes):,}"] if sizes else ["", ""]
        counts.append(f"{nbytes:,}" if nbytes else "")
        rows.append([layer.name, type(layer).__name__, "x".join(map(str, shape)), *counts])
    if len(rows) > SCREEN:
        rows[SCREEN // 2 : -SCREEN // 2] = [[f"... {len(rows) - SCREEN} more", "", "", "", "", ""]]
    inputs = "x".join(map(str, model.input_shape))
    kept = _not_zero(model, model.weights)
    about = f"Model({model.size:,} weights, {kept:,} of them not 0, {model.dtype}, inputs {inputs})"
    return f"{about}\n{table(['layer', 'kind', 'output', 'weights', 'not 0', 'bytes'], rows, left=2)}"


def _not_zero(model: Any, keys: Any) -> int:
    return sum(int(np.count_nonzero(model.params[key])) for key in keys)
