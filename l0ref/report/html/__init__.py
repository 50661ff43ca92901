"""The page of `l0ref report --html`: one file, with its pictures, style and script inside, that loads nothing.

Jinja2 (extra `web`) fills `page.html`; every text is escaped, and a policy in the page itself forbids all requests and
all scripts except `page.js`, so a name from a file or from the command line is never executed.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from l0ref.errors import ConfigError
from l0ref.interop.extras import need
from l0ref.report.figures import load_matplotlib
from l0ref.report.page import Mask, RunPage, Side, compared, sides
from l0ref.report.schema import main_name, shown_names
from l0ref.report.tables import LAYERS

HERE = Path(__file__).parent
PALETTE = bytes.fromhex("ffffff0072b2d55e00")  # zero, positive, negative: as in masks.png
PER_BYTE = 4  # pixels of two bits


def page_html(runs: Sequence[RunPage]) -> str:
    """Return the page of one or several runs."""
    if not runs:
        raise ConfigError("runs is empty: nothing can be shown; give at least one run")
    jinja2 = need("jinja2", extra="web")
    loader = jinja2.FileSystemLoader(HERE)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page: str = environment.get_template("page.html").render(
        runs=runs, style=style, script_hash=digest, script=script,
        tasks=[_task(quality, found) for quality, found in sides(runs).items()] if len(runs) > 1 else [],
        figures=[_figures(run) for run in runs], image=mask_image,
        layer_names=[header for header, *_ in LAYERS],
    )  # fmt: skip
    return page


def _figures(run: RunPage) -> dict[str, str]:
    """The pictures of one run as <svg> elements, by their titles."""
    load_matplotlib()
    from l0ref.report.figures.compression import compression_figure
    from l0ref.report.figures.style import svg
    from l0ref.report.figures.training import training_figure
    from l0ref.report.figures.weights import sizes_figure

    main = main_name(run.report)
    found = {"Training": training_figure(run.report)}
    if run.sizes is not None:
        found["Sizes of the weights, before and after"] = sizes_figure(
            {main: run.sizes}, {main: run.largest}, names=shown_names(run.report)
        )
    found["Accuracy against compression"] = compression_figure(run.report)
    return {title: svg(figure, title) for title, figure in found.items()}


def _task(quality: str, found: Sequence[Side]) -> dict[str, Any]:
    """The comparison of the configurations of one task: title, table, figure, and whether numbers are means."""
    load_matplotlib()
    from l0ref.report.figures.pareto import pareto_figure
    from l0ref.report.figures.style import TOLD, svg

    keys = ("compression_ratio", f"val_{quality}")
    known = {side.label: [side.final[key] for key in keys] for side in found if set(keys) <= set(side.final)}
    points, spread = (
        {name: (x[part] or 0.0, y[part] or 0.0) for name, (x, y) in known.items()} for part in ("mean", "sd")
    )
    told = f"Validation {TOLD[quality]} against compression of all runs"
    return {
        "title": {"acc1": "Classification", "r2": "Regression"}[quality],
        "table": compared(found),
        "has_means": any(len(side.runs) > 1 for side in found),
        "figure": svg(pareto_figure(points, spread=spread, quality=quality), told),
    }


def mask_image(mask: Mask) -> str:
    """Return the signs of a weight array as a PNG of two bits a pixel, in a data URI.

    >>> mask_image(Mask("w", (1, 2), 1, np.array([[0, 1]], np.uint8)))[:22]
    'data:image/png;base64,'
    """
    rows, columns = mask.signs.shape
    padded = np.zeros((rows, -(-columns // PER_BYTE) * PER_BYTE), np.uint8)
    padded[:, :columns] = mask.signs
    packed = padded.reshape(rows, -1, PER_BYTE) @ np.array([64, 16, 4, 1], np.uint8)
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), packed], axis=1)  # every line begins with its filter: none
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", columns, rows, 2, 3, 0, 0, 0),
        b"PLTE": PALETTE,
        b"IDAT": zlib.compress(lines.tobytes(), 9),
        b"IEND": b"",
    }
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts.items()
    )
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)).decode()
