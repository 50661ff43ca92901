"""`l0ref gradcheck`: check the gradients of the library, of a network, or of your own function."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from l0ref.archive import json_bytes, write_atomic
from l0ref.cli.values import check_module, integer
from l0ref.cli.write import check_file
from l0ref.errors import ArgumentError, ConfigError
from l0ref.nn import MODELS
from l0ref.report.figures import load_matplotlib
from l0ref.testing import GradcheckFailure, GradcheckReport, ProxReport, check_gradient, gradcheck
from l0ref.testing.suites import check_named_model, check_ops, check_surrogates

EXAMPLES = """\
examples:
  l0ref gradcheck ops                          every operation, at smooth points and on its kinks
  l0ref gradcheck surrogates                   gradient and prox of every surrogate
  l0ref gradcheck digits_mlp --figure g.png    a network with penalty and masks, and a picture of the result
  l0ref gradcheck mine:case --json g.json      case() in mine.py returns (func, inputs) for a function of l0ref
                                               Tensors, (value, gradient, x) for plain callables, or a report
"""

Report = GradcheckReport | ProxReport


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command and its flags; return its parser."""
    p = commands.add_parser(
        "gradcheck",
        help="compare gradients with finite differences",
        description="Compare gradients with finite differences of the values; exit code 0 if all are right, 1 if not.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("target", metavar="TARGET", help=f"ops, surrogates, {', '.join(MODELS)}, or package.module:callable")
    p.add_argument("--fast", action="store_true", help="random directions instead of single entries")
    p.add_argument("--seed", type=integer, default=0, help="of inputs, cotangents and directions; default 0")
    p.add_argument(
        "--max-entries", type=integer, metavar="N", help="entries compared per array; default: all, 5 in a network"
    )
    p.add_argument("--json", metavar="FILE", help="write the reports as JSON")
    p.add_argument("--figure", metavar="FILE", help="draw the worst report as PNG")
    p.set_defaults(run=run)
    return [p]


def run(arguments: argparse.Namespace) -> int:
    """Check the target, print the findings, and return 0 if everything is right, else 1."""
    check_file("json", arguments.json)
    check_file("figure", arguments.figure)
    try:
        reports = reports_of(arguments.target, _options(arguments))
    except ArgumentError as error:
        raise ConfigError(str(error)) from None
    for report in reports:
        if not report or len(reports) == 1:
            sys.stdout.write(report.text() + "\n")
    passed = sum(map(bool, reports))
    sys.stdout.write(f"{arguments.target}: {passed} of {len(reports)} checks passed\n")
    if arguments.json:
        content = {
            "schema_version": 1,
            "target": arguments.target,
            "passed": passed == len(reports),
            "reports": [report.to_json() for report in reports],
        }
        write_atomic(Path(arguments.json), json_bytes(content))
    if arguments.figure:
        load_matplotlib()
        from l0ref.report.figures.gradcheck import gradcheck_png

        write_atomic(Path(arguments.figure), gradcheck_png(_worst(reports)))
    return 0 if passed == len(reports) else 1


def reports_of(target: str, options: dict[str, Any]) -> list[Report]:
    """Return the reports of a target; `options` are fast_mode, seed and max_entries."""
    if target == "ops":
        return list(check_ops(**options))
    if target == "surrogates":
        return list(check_surrogates(seed=options["seed"], fast_mode=options["fast_mode"]))
    if target in MODELS:
        return [check_named_model(target, **options)]
    check_module("TARGET", target)
    if ":" in target:
        return [_of_callable(target, _load(target), options)]
    known = ", ".join(["ops", "surrogates", *MODELS])
    raise ConfigError(f"TARGET={target!r} is none of {known}, nor of the form package.module:callable")


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.seed < 0:
        raise ConfigError(f"--seed {arguments.seed} must be 0 or greater")
    if arguments.max_entries is not None and arguments.max_entries < 1:
        raise ConfigError(f"--max-entries {arguments.max_entries} must be at least 1")
    return {"fast_mode": arguments.fast, "seed": arguments.seed, "max_entries": arguments.max_entries}


def _load(target: str) -> Callable[[], Any]:
    """The callable a target names; modules in the current folder are found too."""
    module, _, name = target.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"TARGET={target!r}: module {module!r} cannot be imported ({text}); check its name"
        ) from error
    finally:
        sys.path.remove(here)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"TARGET={target!r}: module {module!r} has no {name!r}; check the name after the colon")
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(f"TARGET={target!r} is {type(found).__name__}, expected a callable without arguments")
    return found  # type: ignore[no-any-return]


def _of_callable(target: str, make: Callable[[], Any], options: dict[str, Any]) -> Report:
    """The report of what a user's callable returns: a report, (func, inputs), or (value, gradient, x)."""
    try:
        case = make()
    except GradcheckFailure as failed:
        return failed.report  # type: ignore[no-any-return]
    except ConfigError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise ConfigError(f"TARGET={target!r} raised {text}; it is called without arguments") from error
    if isinstance(case, GradcheckReport | ProxReport):
        return case
    if isinstance(case, tuple) and len(case) == 2 and callable(case[0]):
        return gradcheck(case[0], case[1], raise_exception=False, **options)
    if isinstance(case, tuple) and len(case) == 3 and callable(case[0]) and callable(case[1]):
        return check_gradient(*case, raise_exception=False, **options)
    raise ConfigError(
        f"TARGET={target!r} returned {type(case).__name__}, expected (func, inputs), (value, gradient, x) or a report"
    )


def _worst(reports: list[Report]) -> GradcheckReport:
    """The report to draw: a failed one first, then the one with the largest error."""
    drawable = [r for r in reports if isinstance(r, GradcheckReport)]
    if not drawable:
        raise ConfigError("--figure: there is no gradient check to draw, only of a prox; leave the flag out")
    return max(drawable, key=lambda r: (not r, max((f.excess for f in r.findings), default=0.0)))
