"""`l0ref methods`: every published method, and how the text of `--method-options` is read."""

from __future__ import annotations

import argparse
import inspect
import sys
from typing import Any

from l0ref.cli.values import options
from l0ref.errors import ConfigError
from l0ref.methods import METHODS, Method
from l0ref.methods.rehearsal import rehearse
from l0ref.validate import choose

EXAMPLES = """\
examples:
  l0ref methods                      the table
  l0ref methods lottery              one method: equations, options, departures from the paper
  l0ref compress --method lottery    run it
"""
LEGEND = """\
reads: w weights, a activations, g gradients, t trains
cuts: w single weights, u whole units or tiles
[I] partly inferred, [U] partly unknown: l0ref methods NAME says what
"""


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command; return its parser."""
    p = commands.add_parser(
        "methods",
        help="list the pruning methods",
        description="Print every method: its paper, what it reads, what it removes, what is inferred or unknown.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("name", nargs="?", choices=list(METHODS), metavar="NAME", help="print one method in full")
    p.set_defaults(run=run)
    return [p]


def run(arguments: argparse.Namespace) -> int:
    """Print the table, or one method."""
    sys.stdout.write(methods_text() if arguments.name is None else method_text(METHODS[arguments.name]))
    return 0


def methods_text() -> str:
    """Return the table of all methods, 80 columns wide."""
    rows = [("method", "kind", "reads", "cuts", "", "paper")]
    for each in sorted(METHODS.values(), key=lambda m: (m.kind, m.name)):
        reads = " ".join(what[0] for what in each.reads)
        rows.append((each.name, each.kind, reads, each.grain[0], each.marks, each.paper))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [" ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[5]]) for row in rows]
    return "\n".join(lines) + "\n\n" + LEGEND


def method_text(method: Method) -> str:
    """Return one method in full."""
    options = ", ".join(f"{k}={v}" for k, v in method.options.items())
    head = f"{method.name}: {method.paper} ({method.kind}) {method.marks}".rstrip()
    parts = (head, inspect.getdoc(inspect.getmodule(method.function)), inspect.getdoc(method.function))
    end = f"options: {options}\nrecord: {', '.join(method.records)}"
    return "\n\n".join(str(part) for part in (*parts, end)) + "\n"


def method_options(name: str, text: str) -> dict[str, Any]:
    """Return the options in a text such as "samples=500,average=inside", each read as its default's type.

    `scope` and `min_keep` are settings of their own, not options here.
    """
    defaults = METHODS[choose("method", name, METHODS)].options
    found: dict[str, Any] = {}
    for key, value in options("method_options", text, example="samples=500,scheme=cascade").items():
        if key in ("scope", "min_keep"):
            raise ConfigError(f"method_options={text!r} sets {key}; give it as --{key.replace('_', '-')} {value}")
        found[key] = _read(key, value, defaults.get(key))
    METHODS[name].check_options(found)
    if found:
        rehearse(METHODS[name], found)
    return found


def _read(key: str, value: str, default: Any) -> Any:
    if isinstance(default, str):
        return value
    if isinstance(default, bool):
        if value not in ("true", "false"):
            raise ConfigError(f"{key}={value!r} must be true or false")
        return value == "true"
    for kind in (int,) if isinstance(default, int) else (int, float):
        try:
            return float(value) if isinstance(default, float) else kind(value)
        except ValueError:
            continue
    if default is None:
        return value
    raise ConfigError(f"{key}={value!r} must be {'a whole number' if isinstance(default, int) else 'a number'}")
