"""`l0ref evaluate`: run the network of a result folder on the data it was trained for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from l0ref import checkpoint, metrics
from l0ref.archive import read_json
from l0ref.cli.config import read_config
from l0ref.cli.networks import check_npz
from l0ref.cli.settings import Settings, resolve
from l0ref.cli.values import integer
from l0ref.cli.write import COMPACT, CONFIG, DENSE, MODEL, PARTIAL, REPORT
from l0ref.data import Splits
from l0ref.data.files import raw_parts
from l0ref.errors import ConfigError, L0RefError
from l0ref.nn import Model
from l0ref.tables import percent, table, whole

EXAMPLES = """\
examples:
  l0ref evaluate runs/digits                          the compact network on the test images of its data set
  l0ref evaluate runs/lenet5/seed-1 --split validation
  l0ref evaluate runs/digits/model.npz                the masked one
  l0ref evaluate runs/own --on new.npz                other raw data, labelled and scaled as those of training
  l0ref evaluate model.npz --data mnist --data-dir DIR   a network without the configuration of its run
"""
SPLITS = ("train", "validation", "test")


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command; return its parser."""
    p = commands.add_parser(
        "evaluate",
        help="run a compressed network on data",
        description="Print loss, accuracy and seconds of a network that compress wrote, on the data of its run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("result", metavar="RUN", help="a result folder, or a model file")
    p.add_argument("--data", metavar="DATA", help="default: that of the run")
    p.add_argument(
        "--on", metavar="FILE", help="raw data instead, FILE.npz, FILE.csv or a folder, prepared as the run's own were"
    )
    p.add_argument("--label", metavar="COLUMN", help="the column of labels of --on FILE.csv; default: that of the run")
    p.add_argument("--data-dir", metavar="DIR", help="folder with the IDX files; default: that of the run")
    p.add_argument("--split", choices=SPLITS, default="test", help="default: test")
    p.add_argument("--seed", type=integer, help="by which the digits were split; default: that of the run")
    p.set_defaults(run=run)
    return [p]


def run(arguments: argparse.Namespace) -> int:
    """Evaluate and print."""
    if arguments.seed is not None and arguments.seed < 0:
        raise ConfigError(f"--seed={arguments.seed} must be at least 0")
    if arguments.label is not None and arguments.on is None:
        raise ConfigError(f"--label {arguments.label} is a column of --on FILE.csv; give --on, or leave it out")
    path = model_file(Path(arguments.result))
    check_npz("result", path)
    if arguments.on is not None:
        sys.stdout.write(on_text(arguments, path) + "\n")
        return 0
    settings = settings_of(arguments, path)
    model = checkpoint.load(path)
    data = getattr(load_data(settings, model, path), arguments.split)
    if data.x.shape[1:] != model.input_shape:
        raise ConfigError(
            f"data={settings.data!r} has images of shape {data.x.shape[1:]}, the network of {str(path)!r} takes "
            f"{model.input_shape}; choose the data set it was trained on"
        )
    sys.stdout.write(evaluation_text(model, path, data) + "\n")
    return 0


def on_text(arguments: argparse.Namespace, path: Path) -> str:
    """Evaluate raw data, prepared as the model file says."""
    if arguments.data is not None:
        raise ConfigError(f"--on {arguments.on} and --data {arguments.data} exclude each other; give one")
    how = checkpoint.preparation_of(path)
    if how is None:
        raise ConfigError(f"{str(path)!r} does not say how raw data are prepared; give --data instead of --on")
    config, label = path.parent / CONFIG, arguments.label
    if label is None and arguments.on.endswith(".csv") and config.is_file():
        label = read_json(config).get("label")
    model = checkpoint.load(path)
    try:
        parts = raw_parts(Path(arguments.on).expanduser(), label=label)
        data = how.apply(*parts.get(arguments.split, parts["train"]), name=arguments.on, dtype=model.dtype)
    except L0RefError as error:
        raise ConfigError(f"--on: {error}") from None
    if data.sample_shape != model.input_shape:
        raise ConfigError(
            f"--on {arguments.on} has samples of shape {data.sample_shape}, the network of {str(path)!r} takes "
            f"{model.input_shape}; give data of the same kind"
        )
    return evaluation_text(model, path, data)


def model_file(result: Path) -> Path:
    """Return the model file of a result folder, the compact one if it is there; a file is returned as it is."""
    if result.is_file():
        return result
    for name in (COMPACT, MODEL):
        if (result / name).is_file():
            return result / name
    if result.suffix and not result.exists():
        raise ConfigError(f"result={str(result)!r} is not there; pass a model file, or what compress --out wrote")
    told = f"result={str(result)!r} holds neither {COMPACT} nor {MODEL}"
    for what, pattern in (("several seeds", "seed-*"), ("an unfinished job", PARTIAL), ("an unfinished job", DENSE)):
        if found := sorted(result.glob(pattern)):
            raise ConfigError(f"{told}, but {what}; name one network, as in {found[0]}")
    raise ConfigError(f"{told}; pass what compress --out wrote")


def settings_of(arguments: argparse.Namespace, path: Path) -> Settings:
    """Return the settings of the run that made a model; refuse flags that contradict them.

    Which images were held out depends on them: with another seed, images that were trained on would be tested.
    """
    given = {name: getattr(arguments, name) for name in ("data", "data_dir", "seed")}
    file = path.parent / CONFIG
    if not file.is_file():
        if given["data"] is None or (given["data"] == "digits" and given["seed"] is None):
            what = "--data" if given["data"] is None else "--seed, by which the digits were split"
            raise ConfigError(f"{str(path)!r} has no {CONFIG} beside it that describes its training; give {what}")
        return resolve(given)
    told = read_config(str(file), named=(str(given["data"]),), unread=("model",))
    own = resolve(told)
    for name in ("data", "seed"):
        if given[name] not in (None, getattr(own, name)):
            raise ConfigError(
                f"--{name} {given[name]} contradicts {str(file)!r}, which says {getattr(own, name)}; leave the flag out"
            )
    return resolve(told, {"data_dir": given["data_dir"]})


def load_data(settings: Settings, model: Model, path: Path) -> Splits:
    """Return the data of the run, split as it was; refuse data with another checksum than its report has."""
    splits = settings.load(dtype=str(model.dtype))
    report = path.parent / REPORT
    trained_on = read_json(report)["data"]["checksum"] if report.is_file() else splits.checksum
    if splits.checksum != trained_on:
        raise ConfigError(
            f"data={settings.data!r} has another checksum than the data of {str(report)!r}; "
            "name the folder of its files with --data-dir"
        )
    return splits


def evaluation_text(model: Model, path: Path, data: Any) -> str:
    """Return loss, accuracy, size and seconds as a table."""
    score = metrics.evaluate(model, data)
    (seconds,) = metrics.latencies([model], data.x[:128], rounds=5)
    found = metrics.of(model)
    kind = "accuracy" if data.classes else "R²"
    row = [
        path.name, f"{score.loss:.4f}", percent(score.quality), whole(score.n), whole(found["size_nz"]),
        whole(metrics.bytes_stored(model)), f"{1e6 * seconds:,.0f}",
    ]  # fmt: skip
    header = ["network", "loss", kind, "samples", "weights kept", "bytes", f"us per {min(128, score.n)} samples"]
    return table(header, [row])
