"""`l0ref compare`: many methods, from the same trained networks, at the same numbers of weights."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from l0ref import checkpoint
from l0ref.archive import read_json, write_atomic
from l0ref.archive.lock import locked
from l0ref.archive.strict_json import json_bytes
from l0ref.cli.build import build_job, build_model
from l0ref.cli.flags import add_data_flags
from l0ref.cli.settings import OWN_DATA, Settings, resolve, to_json
from l0ref.cli.values import check_once, check_seeds, integer, out_folder, parts
from l0ref.errors import ArgumentError, ConfigError
from l0ref.experiment import Comparison, compare, comparison_text
from l0ref.experiment.comparison import Key, key_of
from l0ref.methods import METHODS
from l0ref.nn import Model
from l0ref.pruning import train_dense

EXAMPLES = """\
examples:
  l0ref compare --methods magnitude,wanda,fpgm --ratios 2,4,8      the built-in digits, one seed
  l0ref compare --methods all --seeds 3 --out runs/all             every method; the same command goes on if interrupted
  l0ref compare --data mnist --data-dir DIR --methods magnitude,net_trim --ratios 8,32
"""
KIND, VERSION = "l0ref comparison", 2
ROWS, LOCK = "compare.json", ".l0ref.lock"


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command; return its parser."""
    p = commands.add_parser(
        "compare",
        help="compare methods at equal weights and multiply-adds",
        description="Train one network a seed, cut it by every method to the same sizes, fine-tune all alike. Methods "
        "that remove units from networks with convolutions are also compared at equal multiply-adds, found by search.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--methods", default="magnitude,random", metavar="NAME,...", help="or all; l0ref methods lists them")
    p.add_argument(
        "--ratios", default="2,4,8,16,32", metavar="RATIO,...", help="compression ratios; default 2,4,8,16,32"
    )
    p.add_argument("--seeds", type=integer, default=1, metavar="N", help="run seeds 0, 1, ..., N - 1; default 1")
    add_data_flags(p)
    p.add_argument("--epochs", type=integer, help="of training before the cut; default that of the model's preset")
    p.add_argument("--finetune-epochs", type=integer, help="budget after the cut, which methods that train share")
    p.add_argument(
        "--out", metavar="DIR", help="default: runs/compare- and the data set; an unfinished comparison is continued"
    )
    p.add_argument("--no-figures", action="store_true", help="write no picture")
    p.add_argument("--quiet", action="store_true", help="no progress and no table")
    p.set_defaults(run=run)
    return [p]


def run(arguments: argparse.Namespace) -> int:
    """Check, compute what is missing, write after every point, draw and print."""
    settings = _settings(arguments)
    methods = tuple(METHODS) if arguments.methods == "all" else _parts("methods", arguments.methods, str)
    check_seeds(arguments.seeds)
    try:
        job = build_job(settings)
        plan = Comparison(
            methods, _parts("ratios", arguments.ratios, float), tuple(range(arguments.seeds)), job.finetune
        )
        keys = list(plan.points(build_model(settings, settings.load(), seed=0)))
    except ArgumentError as error:
        raise ConfigError(str(error)) from None
    default = f"runs/compare-{settings.slug}"
    folder = out_folder("out", default if arguments.out is None else arguments.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={str(folder)!r} cannot be created: {error.strerror}; choose another folder") from None
    with locked(folder / LOCK, name=f"out={str(folder)!r}"):
        rows = _run(plan, keys, settings, folder, quiet=arguments.quiet)
    if not arguments.no_figures:
        from l0ref.report.figures import load_matplotlib

        load_matplotlib()
        from l0ref.report.figures.comparison import comparison_pictures

        for name, picture in comparison_pictures(rows).items():
            write_atomic(folder / name, picture)
    if not arguments.quiet:
        sys.stdout.write(comparison_text(rows) + "\n\n")
    sys.stdout.write(f"results in {folder}\n")
    return 0


def _run(plan: Comparison, keys: list[Key], settings: Settings, folder: Path, *, quiet: bool) -> list[dict[str, Any]]:
    """Compute the points that compare.json does not have, and write it anew after each."""
    config = {k: v for k, v in to_json(settings).items() if k not in ("seed", "method", "method_options", "amount")}
    known, wanted = _read(folder / ROWS, config), set(keys)
    done = [row for row in known if key_of(row) in wanted]
    others = [row for row in known if row not in done]
    job = build_job(settings)

    def dense(seed: int) -> Model:
        path, own = folder / f"dense-{seed}.npz", dataclasses.replace(settings, seed=seed)
        if not path.exists():
            data = own.load()
            trained = train_dense(build_model(own, data, seed=seed), data, job.train, seed=seed, progress="none")
            checkpoint.save(path, trained.stage.model)
        return checkpoint.load(path)

    from tqdm import tqdm

    with tqdm(total=len(keys), initial=len(done), disable=quiet, unit="point", file=sys.stderr) as bar:
        rows = list(done)

        def finished(row: dict[str, Any]) -> None:
            rows.append(row)
            found = {"kind": KIND, "version": VERSION, "config": config, "rows": [*others, *rows]}
            write_atomic(folder / ROWS, json_bytes(found))
            bar.set_postfix_str(f"{row['method']} {row['ratio']:g}x in {row['equal']}, seed {row['seed']}")
            bar.update()

        return compare(
            plan, keys=keys, data=lambda seed: dataclasses.replace(settings, seed=seed).load(), dense=dense, done=done,
            finished=finished,
        )  # fmt: skip


def _read(path: Path, config: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that are there already; refuse those of another configuration, and files of others."""
    if not path.exists():
        return []
    found = read_json(path)
    if not isinstance(found, dict) or (found.get("kind"), found.get("version")) != (KIND, VERSION):
        raise ConfigError(
            f"out={str(path.parent)!r} has a {path.name} that l0ref compare did not write; choose another"
        )
    if differ := sorted(key for key in config if found["config"].get(key) != config[key]):
        raise ConfigError(
            f"out={str(path.parent)!r} holds a comparison with another {differ[0].replace('_', '-')}, "
            f"{found['config'].get(differ[0])!r}; choose another folder"
        )
    return list(found["rows"])


def _settings(arguments: argparse.Namespace) -> Settings:
    names = ("data", "data_dir", *OWN_DATA, "model", "epochs", "finetune_epochs")
    try:
        return resolve({name: getattr(arguments, name) for name in names})
    except ArgumentError as error:
        raise ConfigError(str(error)) from None


def _parts(name: str, text: str, kind: Callable[[str], Any]) -> tuple[Any, ...]:
    try:
        found = tuple(map(kind, parts(text)))
    except ValueError:
        raise ConfigError(f"{name}={text!r} must be numbers with commas between them, as in 2,4,8") from None
    if not found:
        raise ConfigError(f"{name}={text!r} names none; give at least one")
    check_once(name, found)
    return found
