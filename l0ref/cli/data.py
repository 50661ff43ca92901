"""`l0ref data fetch`: download a data set once, checked against published checksums."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from l0ref.data import DATASETS, fetch

FETCHABLE = tuple(name for name in DATASETS if name != "digits")
EXAMPLES = """\
examples:
  l0ref data fetch mnist                          into L0REF_DATA_DIR, or ~/.cache/l0ref
  l0ref data fetch fashion-mnist --data-dir DIR
"""


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command; return the parser of its action."""
    p = commands.add_parser("data", help="fetch data sets", description="Fetch data sets; the digits are built in.")
    actions = p.add_subparsers(dest="action", required=True, metavar="ACTION")
    get = actions.add_parser(
        "fetch",
        help="download one data set",
        description="Download the four IDX files of a data set from the first mirror that has them whole.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    get.add_argument("name", choices=FETCHABLE)
    get.add_argument("--data-dir", metavar="DIR", help="default: L0REF_DATA_DIR, else ~/.cache/l0ref")
    get.add_argument("--quiet", action="store_true", help="no progress")
    get.set_defaults(run=run)
    return [get]


def run(arguments: argparse.Namespace) -> int:
    """Fetch and print where the files are."""
    for path in fetch(arguments.name, data_dir=arguments.data_dir, progress=False if arguments.quiet else None):
        sys.stdout.write(f"{path}\n")
    return 0
