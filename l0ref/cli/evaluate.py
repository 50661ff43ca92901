"""`l0ref evaluate`: run the network of a result folder on a data set."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from l0ref import checkpoint, metrics
from l0ref.cli.write import COMPACT, MODEL
from l0ref.data import DATASETS, load
from l0ref.errors import ConfigError
from l0ref.nn import Model
from l0ref.report import percent, table, whole

EXAMPLES = """\
examples:
  l0ref evaluate runs/digits                          the compact network on the test images of its data set
  l0ref evaluate runs/lenet5 --data mnist --data-dir DIR --split validation
  l0ref evaluate runs/digits/model.npz                the masked one
"""
SPLITS = ("train", "validation", "test")


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command; return its parser."""
    p = commands.add_parser(
        "evaluate",
        help="run a compressed network on data",
        description="Print loss, accuracy and seconds of a network that compress wrote.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("result", metavar="RUN", help="a result folder, or a model file")
    p.add_argument("--data", choices=tuple(DATASETS), default="digits", help="default: digits")
    p.add_argument("--data-dir", metavar="DIR", help="folder with the IDX files; default: L0REF_DATA_DIR")
    p.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    p.add_argument("--seed", type=int, default=0, help="of the split, as in compress; default 0")
    p.set_defaults(run=run)
    return [p]


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print."""
    if arguments.seed < 0:
        raise ConfigError(f"--seed={arguments.seed} must be at least 0")
    path = model_file(Path(arguments.result))
    model = checkpoint.load(path)
    splits = load(arguments.data, data_dir=arguments.data_dir, seed=arguments.seed, dtype=str(model.dtype))
    data = getattr(splits, arguments.split)
    if data.x.shape[1:] != model.input_shape:
        raise ConfigError(
            f"data={arguments.data!r} has images of shape {data.x.shape[1:]}, the network of {str(path)!r} takes "
            f"{model.input_shape}; choose the data set it was trained on"
        )
    sys.stdout.write(evaluation_text(model, path, data) + "\n")
    return 0


def model_file(result: Path) -> Path:
    """Return the model file of a result folder, the compact one if it is there; a file stands for itself."""
    if result.is_file():
        return result
    for name in (COMPACT, MODEL):
        if (result / name).is_file():
            return result / name
    raise ConfigError(f"result={str(result)!r} holds neither {COMPACT} nor {MODEL}; pass what compress --out wrote")


def evaluation_text(model: Model, path: Path, data: Any) -> str:
    """Return loss, accuracy, size and seconds as a table."""
    score = metrics.evaluate(model, data)
    (seconds,) = metrics.latencies([model], data.x[:128], rounds=5)
    found = metrics.of(model)
    row = [
        path.name, f"{score.loss:.4f}", percent(score.acc1), whole(score.n), whole(found["size_nz"]),
        whole(metrics.bytes_stored(model)), f"{1e6 * seconds:,.0f}",
    ]  # fmt: skip
    header = ["network", "loss", "accuracy", "images", "weights kept", "bytes", f"us per {min(128, score.n)} images"]
    return table(header, [row])
