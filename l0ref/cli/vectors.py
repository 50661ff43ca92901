"""`l0ref vectors`: the conformance vectors, and a runner that compares any implementation with them."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path
from typing import Any

from l0ref import vectors
from l0ref.archive import json_bytes, write_atomic
from l0ref.cli.values import number
from l0ref.errors import ArgumentError, ConfigError

EXAMPLES = """\
examples:
  l0ref vectors list                                        every function, with its arguments and outputs
  l0ref vectors export vectors                              the JSON files, for use from another language
  l0ref vectors run --adapter mine                          the class Adapter in mine.py, in the current folder
  l0ref vectors run --adapter mine:Fast --set conv2d        another class, one set
  l0ref vectors run --adapter l0ref.vectors.own               l0ref itself
"""


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command and its actions; return their parsers."""
    p = commands.add_parser(
        "vectors",
        help="compare an implementation with exact results",
        description="Inputs with results exact to the last digit, and a runner for any implementation.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = p.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="name the sets", description="Name the sets, arguments and outputs.")
    listing.set_defaults(run=show)
    copy = actions.add_parser("export", help="copy the files", description="Copy the JSON files into a folder.")
    copy.add_argument("folder", metavar="DIR")
    copy.add_argument("--overwrite", action="store_true", help="replace files of the same names")
    copy.set_defaults(run=export)
    test = actions.add_parser(
        "run",
        help="run an adapter",
        description="Run an adapter. Exit code 0: something passed and nothing failed; 1: something failed, or no case "
        "was provided; 2: wrong usage.",
    )
    test.add_argument(
        "--adapter",
        required=True,
        metavar="MODULE",
        help="package.module with a class Adapter, or package.module:Name. The module is imported, so its code runs: "
        "name only modules you trust. The current folder is searched first",
    )
    test.add_argument("--set", action="append", dest="sets", metavar="NAME", help="only this set; may be repeated")
    test.add_argument("--vectors", metavar="DIR", help="files to use instead of those of the package")
    test.add_argument(
        "--slack", type=number, default=1.0, metavar="F", help="factor on the tolerances, such as 1e9 for float32"
    )
    test.add_argument("--json", metavar="FILE", help="write the report as JSON")
    test.set_defaults(run=run)
    return [p, listing, copy, test]


def show(_: argparse.Namespace) -> int:
    """Print every set."""
    for name in vectors.names():
        found = vectors.load(name)
        sys.stdout.write(f"{name}({', '.join(found.arguments)})\n    -> {', '.join(found.outputs)}\n")
        about = f"{found.about} [{len(found.cases)} cases, {found.tolerance:g} ulp]"
        sys.stdout.write(textwrap.fill(about, 100, initial_indent="    ", subsequent_indent="    ") + "\n")
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Copy the files and print where they are."""
    for path in vectors.export(arguments.folder, overwrite=arguments.overwrite):
        sys.stdout.write(f"{path}\n")
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Run an adapter, print the report, and return 0 if it passed, else 1."""
    try:
        adapter = vectors.load_adapter(arguments.adapter)
        report = vectors.run(adapter, sets=arguments.sets, folder=arguments.vectors, slack=arguments.slack)
    except ArgumentError as error:
        raise ConfigError(str(error)) from None
    sys.stdout.write(report.text() + "\n")
    if arguments.json:
        write_atomic(Path(arguments.json), json_bytes({"adapter": arguments.adapter, **report.to_json()}))
    return 0 if report.ok else 1
