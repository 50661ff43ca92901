"""`l0ref bench`: speed on this machine, beside other libraries and the limits of the machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from time import monotonic
from typing import Any

from l0ref.archive import json_bytes, write_atomic
from l0ref.cli.values import integer
from l0ref.cli.write import check_file
from l0ref.errors import ArgumentError, ConfigError
from l0ref.report.figures import load_matplotlib

EXAMPLES = """\
examples:
  l0ref bench --list                                    the suites, and the peers that are installed
  l0ref bench train-mlp                                 a training step beside every peer that is installed
  l0ref bench train-mlp train-cnn --json b.json         two suites, and their results as JSON
  l0ref bench scaling --peers torch --figure s.png      cost against size, with the fitted exponents
  l0ref bench sparse --figure d.png                     time against density: where zeros pay, and where not
  l0ref bench conv --threads 1 --rounds 15 --peers none our own times only
  l0ref bench --summary FILE                            every speed goal on this machine, in about five minutes
  OPENBLAS_CORETYPE=Haswell l0ref bench train-mlp       NumPy's products without AVX-512

A fresh process measures, with --threads threads in every library alike, pinned to processors where the system
allows it. Contenders alternate in every round, each after a warm-up, and are first checked to compute the same
result. Compare ratios within one run only: the speed of a shared machine drifts. Treat 15 % as a tie.
"""


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command and its flags; return its parser."""
    p = commands.add_parser(
        "bench",
        help="measure speed beside other libraries",
        description="Measure speed beside other libraries; exit code 1 if a contender computes a different result.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("suites", nargs="*", metavar="SUITE", help="what to measure; see --list")
    p.add_argument("--list", action="store_true", help="name the suites and the peers")
    p.add_argument("--rounds", type=integer, metavar="N", help="turns of each contender; default 9, ratios need 5")
    p.add_argument(
        "--threads",
        type=integer,
        metavar="N",
        help="of BLAS, Numba and every peer; default: all processors, at most 2",
    )
    p.add_argument(
        "--peers", metavar="P,P", help="the other libraries, or none; default: all that are installed except compile"
    )
    p.add_argument("--quick", action="store_true", help="small sizes and short turns, to see that everything runs")
    p.add_argument("--seed", type=integer, default=0, metavar="N", help="of weights, images and labels; default 0")
    p.add_argument("--json", metavar="FILE", help="write environment and rows as JSON")
    p.add_argument("--figure", metavar="FILE", help="draw the times as PNG")
    p.add_argument(
        "--summary", metavar="FILE", help="write each speed goal beside its measurement in this run, with a verdict"
    )
    p.set_defaults(run=run)
    return [p]


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the tables, write the files; return 0."""
    from l0ref.bench import summary
    from l0ref.bench.environment import environment_text, load_average
    from l0ref.bench.plan import make_plan
    from l0ref.bench.worker import run_in_worker

    if arguments.list:
        sys.stdout.write(listing() + "\n")
        return 0
    rounds = arguments.rounds
    if arguments.summary and not arguments.suites:
        rounds = summary.ROUNDS if rounds is None else rounds
    try:
        plan = make_plan(
            arguments.suites or (summary.SUITES if arguments.summary else ()),
            rounds=rounds,
            threads=arguments.threads,
            peers=summary.PEERS if arguments.summary and arguments.peers is None else arguments.peers,
            quick=arguments.quick,
            seed=arguments.seed,
            goals=bool(arguments.summary and not arguments.suites),
        )
    except ArgumentError as error:
        raise ConfigError(str(error)) from None
    for flag in ("json", "figure", "summary"):
        check_file(flag, getattr(arguments, flag))
    began = monotonic()
    found = run_in_worker(plan)
    if arguments.json:
        write_atomic(Path(arguments.json), json_bytes(found))
    if arguments.summary:
        took = f"took       {(monotonic() - began) / 60:.0f} minutes; load {load_average()} at the end"
        text = f"{environment_text(found['environment'])}\n{took}\n\n{summary.summary_text(found['rows'])}\n"
        sys.stdout.write(f"\n{text}")
        write_atomic(Path(arguments.summary), text.encode())
    if arguments.figure:
        load_matplotlib()
        from l0ref.report.figures.bench import bench_png

        write_atomic(Path(arguments.figure), bench_png(found["rows"]))
    return 0


def listing() -> str:
    """Return the names of suites and peers, a line each."""
    from l0ref.bench.peers import PEERS, installed
    from l0ref.bench.suites import suites

    width = max(map(len, suites()))
    lines = ["suites:", *(f"  {suite.name:<{width}} {suite.about}" for suite in suites().values()), "peers:"]
    for name, peer in PEERS.items():
        note = "" if installed(name) else " [not installed: pip install 'l0ref[bench]']"
        lines.append(f"  {name:<10} {peer.about}{note}")
    return "\n".join(lines)
