"""`l0ref calibrate`: measure the kernels of products, and the time of dense and sparse layers, on this machine."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from l0ref.cli.values import integer
from l0ref.cli.write import check_file
from l0ref.deploy.costs import KINDS, Costs, costs_file
from l0ref.errors import ConfigError
from l0ref.tables import table

COLUMNS = 4  # vectors of a tile in `l0ref.fast.products`

EXAMPLES = """\
examples:
  l0ref calibrate                     measure, and keep the result where compress looks for it
  l0ref calibrate --show              the kernels that this machine uses, without measuring layers
  l0ref calibrate --out costs.json    keep it elsewhere; L0REF_COSTS=costs.json makes compress read it
"""


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command; return its parser."""
    p = commands.add_parser(
        "calibrate",
        help="measure products, and dense and sparse layers, on this machine",
        description="Choose the kernels of products, and fit the cost model by which a pruned layer becomes sparse or "
        "stays dense. Needs an idle machine.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--out", metavar="FILE", help="default: L0REF_COSTS, else l0ref/costs.json in the user's cache")
    p.add_argument("--rounds", type=integer, default=9, help="timed passes of each layer; default 9")
    p.add_argument("--show", action="store_true", help="print the kernels in use, and measure no layers")
    p.set_defaults(run=run)
    return [p]


def run(arguments: argparse.Namespace) -> int:
    """Measure, write, and print the kernels in use and the coefficients."""
    if arguments.show:
        from l0ref.fast.products import heights  # Numba is loaded with it

        sys.stdout.write(tiles_text(heights.chosen()) + "\n")
        return 0
    out = Path(arguments.out) if arguments.out else costs_file()
    if arguments.rounds < 1:
        raise ConfigError(f"--rounds={arguments.rounds} must be at least 1")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written: {error.strerror}; choose another") from None
    check_file("out", out)
    from l0ref.deploy.calibration import calibrate  # Numba is loaded with it
    from l0ref.fast.products import heights

    sys.stdout.write(tiles_text(heights.calibrated()) + "\n\n")
    costs = calibrate(rounds=arguments.rounds)
    costs.save(out)
    sys.stdout.write(costs_text(costs) + f"\n\nwritten to {out}\n")
    return 0


def tiles_text(choice: Any) -> str:
    """Return the speed of tiles of sums by height, in multiply-adds of vectors per nanosecond."""
    rows = [[str(h), f"{1e-9 * COLUMNS * h / one:.3g}"] for h, one in choice.seconds.items()]
    if choice.by in ("default", "L0REF_TILE_ROWS"):
        rows = [[h, "-"] for h, _ in rows]
    return f"{table(['rows of a tile', 'multiply-adds a ns'], rows)}\nchosen by {choice.by}"


def costs_text(costs: Costs) -> str:
    """Return the coefficients as a table, in nanoseconds."""
    rows = [
        [kind, *(f"{1e9 * c:.4g}" for c in (*costs.lines[kind].dense, *costs.lines[kind].sparse))] for kind in KINDS
    ]
    header = ["ns", "dense: call", "per weight", "sparse: call", "per row", "per stored weight"]
    told = f"per use of {costs.lanes} samples; predictions were off by {costs.error:.0%} in the median"
    return f"{table(header, rows)}\n{told}"
