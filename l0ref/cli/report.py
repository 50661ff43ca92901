"""`l0ref report`: print results again, and the mean over seeds of one configuration."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from l0ref.archive import write_atomic
from l0ref.cli.again import command_of
from l0ref.cli.write import check_file
from l0ref.errors import DataError
from l0ref.report import aggregate, aggregate_text, find_runs, full_text
from l0ref.report.figures import load_matplotlib
from l0ref.report.schema import Row

EXAMPLES = """\
examples:
  l0ref report runs/digits            the tables of one result
  l0ref report runs/lenet5            a folder of seed-0, seed-1, ...: mean and sample standard deviation
  l0ref report runs/a runs/b          the same over results of one configuration in several folders
  l0ref report runs/* --html page.html     the same side by side, one row per configuration, as one web page
"""


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command; return its parser."""
    p = commands.add_parser(
        "report",
        help="print results, aggregate seeds",
        description="Print results again; of several seeds, mean, sample standard deviation and n.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("folders", nargs="+", metavar="DIR", help="what compress --out wrote")
    p.add_argument("--hide-test", action="store_true", help="no results on the test set, while still choosing")
    p.add_argument("--html", metavar="FILE", help="write one self-contained page instead (extra web)")
    p.set_defaults(run=run)
    return [p]


def run(arguments: argparse.Namespace) -> int:
    """Print one report, or the aggregate of several; or write the page of all."""
    check_file("html", arguments.html)
    found = finished_runs(arguments.folders)
    reports = [report for _, report in found]
    if arguments.hide_test:
        reports = [without_test(report) for report in reports]
    if arguments.html is not None:
        load_matplotlib()
        from l0ref.report.html import page_html
        from l0ref.report.page import run_page

        pages = [
            run_page(folder, shown, command=command_of(report.get("config") or {}))
            for (folder, report), shown in zip(found, reports, strict=True)
        ]
        write_atomic(arguments.html, page_html(pages).encode("utf-8"))
        sys.stdout.write(f"page in {arguments.html}\n")
        return 0
    text = full_text(reports[0]) if len(reports) == 1 else aggregate_text(aggregate(reports))
    sys.stdout.write(text + "\n")
    return 0


def finished_runs(folders: Sequence[str]) -> list[tuple[Path, Row]]:
    """Return each finished run with its report; tell of each folder without one, and refuse if there is no other."""
    found, skipped = [], []
    for folder in folders:
        try:
            found += find_runs([folder])
        except DataError as error:
            skipped.append(error)
    if not found:
        raise skipped[0]
    for each in skipped:
        sys.stderr.write(f"l0ref report: skipped: {each}\n")
    return found


def without_test(found: Any) -> Any:
    """Return a report whose results on the test set are None, which tables show as "-" and figures leave out."""
    if isinstance(found, list):
        return [without_test(item) for item in found]
    if isinstance(found, dict):
        return {k: None if k.startswith("test_") else without_test(v) for k, v in found.items()}
    return found
