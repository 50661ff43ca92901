"""`l0ref compare`: many methods, from the same trained networks, at the same numbers of weights."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from l0ref.archive import read_json, write_atomic
from l0ref.archive.lock import locked
from l0ref.archive.strict_json import json_bytes
from l0ref.cli.build import build_job, build_model
from l0ref.cli.flags import add_data_flags, add_worker_flags
from l0ref.cli.jobs import check_workers, where
from l0ref.cli.networks import no_code
from l0ref.cli.points import Work, compute, name_of
from l0ref.cli.resume import Run, add_resume_flags, check_data, check_resume, check_same, missing_run, overrides, sums
from l0ref.cli.settings import OWN_DATA, Settings, resolve, to_json
from l0ref.cli.values import check_once, check_seeds, integer, made_folder, numbers, out_folder, parts
from l0ref.data import Splits
from l0ref.errors import ArgumentError, ConfigError
from l0ref.experiment import Comparison
from l0ref.experiment.comparison import Key, key_of
from l0ref.methods import METHODS
from l0ref.report.comparison import comparison_text

EXAMPLES = """\
examples:
  l0ref compare --methods magnitude,wanda,fpgm --ratios 2,4,8      the built-in digits, one seed
  l0ref compare --methods all --seeds 3 --out runs/all             every method
  l0ref compare --methods all --jobs 2                             points in parallel, in processes of one thread each
  l0ref compare --resume runs/all                                  resume after an interruption, in any process
  l0ref compare --data mnist --data-dir DIR --methods magnitude,net_trim --ratios 8,32
"""
COMMAND = "compare"
KIND, VERSION = "l0ref comparison", 3
ROWS, LOCK, LITTER = "compare.json", ".l0ref.lock", (".compare*.tmp", ".dense-*.tmp", ".*-*.lock")
POINTS: dict[str, Any] = {"methods": ["magnitude", "random"], "ratios": [2.0, 4.0, 8.0, 16.0, 32.0], "seeds": 1}
NO_PART = ("seed", "method", "method_options", "amount")  # settings that a comparison does not use


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command; return its parser."""
    p = commands.add_parser(
        "compare",
        help="compare methods at equal weights and multiply-adds",
        description="Train one network per seed, cut it by every method to the same sizes, fine-tune all alike. Methods"
        " that remove units from networks with convolutions are also compared at equal multiply-adds, found by search: "
        "at most ten cuts per point, four if a cut trains.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--methods",
        type=lambda text: tuple(parts(text)),
        metavar="NAME,...",
        help="or all, see l0ref methods; default magnitude,random",
    )
    p.add_argument("--ratios", type=numbers, metavar="RATIO,...", help="compression ratios; default 2,4,8,16,32")
    p.add_argument("--seeds", type=integer, metavar="N", help="run seeds 0, 1, ..., N - 1; default 1")
    add_worker_flags(p)
    add_data_flags(p)
    p.add_argument("--epochs", type=integer, help="of training before the cut; default that of the model's preset")
    p.add_argument("--finetune-epochs", type=integer, help="budget after the cut, which methods that train share")
    p.add_argument(
        "--out", metavar="DIR", help="default: runs/compare-DATA-MODEL; an unfinished comparison there is continued"
    )
    add_resume_flags(p)
    p.add_argument("--no-figures", action="store_true", help="write no picture")
    p.add_argument("--quiet", action="store_true", help="no progress and no table")
    p.set_defaults(run=run)
    return [p]


def run(arguments: argparse.Namespace) -> int:
    """Check, compute the missing points, write after each, draw and print."""
    check_resume(arguments)
    check_workers(arguments)
    try:
        settings, points = _settings(arguments)
        data, job, seeds = settings.load(), build_job(settings), tuple(range(points["seeds"]))
        plan = Comparison(tuple(points["methods"]), tuple(points["ratios"]), seeds, job.finetune)
        keys = list(plan.points(build_model(settings, data, seed=0)))
    except ArgumentError as error:
        raise ConfigError(str(error)) from None
    out = f"runs/compare-{settings.slug}" if arguments.out is None else arguments.out
    folder = made_folder("out", out) if arguments.resume is None else Path(arguments.resume)
    config = {k: v for k, v in to_json(settings).items() if k not in NO_PART} | points
    override = overrides(arguments.override, config)
    with locked(folder / LOCK, name=f"out={str(folder)!r}"):
        begun: dict[str, Any] = {"config": config, "data": sums(data)}
        begun["rows"] = _kept(folder, begun, data, None if arguments.resume is None else override)
        journal = Run(folder, arguments.checkpoint_every, override)
        try:
            rows = _run(plan, keys, settings, begun, journal, arguments)
        except BaseException as stop:
            journal.leave(COMMAND, stop)
            raise
        journal.forget()
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


def _run(
    plan: Comparison, keys: list[Key], settings: Settings, begun: dict[str, Any], journal: Run,
    arguments: argparse.Namespace,
) -> list[dict[str, Any]]:  # fmt: skip
    """Compute the points that `begun` lacks, rewrite compare.json after each, and return all rows of it."""
    place, folder = {key: n for n, key in enumerate(keys)}, journal.folder
    rows, ready = list(begun["rows"]), place.keys() & set(map(key_of, begun["rows"]))
    work = Work(to_json(settings), dataclasses.replace(journal, folder=folder.absolute()), plan)

    def write() -> None:
        rows.sort(key=lambda row: place.get(key_of(row), len(place)))
        found = {"kind": KIND, "version": VERSION, **begun, "rows": rows}
        write_atomic(folder / ROWS, json_bytes(found))

    from tqdm import tqdm

    write()
    with tqdm(total=len(keys), initial=len(ready), disable=arguments.quiet, unit="point", file=sys.stderr) as bar:

        def finished(row: dict[str, Any]) -> None:
            rows.append(row)
            write()
            journal.forget(name_of(key_of(row)))
            bar.set_postfix_str(f"{row['method']} {row['ratio']:g}x in {row['equal']}, seed {row['seed']}")
            bar.update()

        compute(work, [key for key in keys if key not in ready], finished, where(arguments, folder))
    return rows


def _stored(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the contents of compare.json in a folder, None if there is none; refuse a file of another kind."""
    if not (folder / ROWS).exists():
        return None
    found = read_json(folder / ROWS)
    try:
        config = found["config"]
        is_ours = (found["kind"], found["version"], type(found["data"])) == (KIND, VERSION, dict)
        is_ours &= all(type(config[name]) is type(default) for name, default in POINTS.items())
        is_ours &= all(isinstance(name, str) for name in config["methods"])
        set(map(key_of, found["rows"]))
    except (LookupError, TypeError):
        is_ours = False
    if not is_ours:
        raise ConfigError(f"{name}={str(folder)!r} has a {ROWS} that l0ref compare did not write; choose another")
    return dict(found)


def _kept(folder: Path, begun: dict[str, Any], data: Splits, override: tuple[str, ...] | None) -> list[dict[str, Any]]:
    """Return the rows that stay, and add their points to the configuration; remove stale files.

    override  names of settings that may differ, None if the comparison is not resumed: methods, ratios and seeds may
              then. Points stay where those three differ, networks where fine-tuning does
    """
    for litter in (path for pattern in LITTER for path in folder.glob(pattern)):  # of a process that was killed
        litter.unlink()
    before = _stored(folder, "out")
    if before is None:
        return []
    may_differ = tuple(POINTS) if override is None else override
    check_same(folder, begun["config"], before["config"], may_differ, resumed=override is not None)
    check_data(folder, data, before["data"], may_differ)
    changed = {name for name, value in begun["config"].items() if before["config"].get(name) != value} - set(POINTS)
    if changed - {"data_dir", "finetune_epochs"} or before["data"] != begun["data"]:
        for stale in folder.glob("dense-*.npz"):
            stale.unlink()
    elif not changed - {"data_dir"}:
        rows, config = list(before["rows"]), begun["config"]
        for name, key in (("methods", "method"), ("ratios", "ratio")):
            config[name] = list(dict.fromkeys([*config[name], *(row[key] for row in rows)]))
        config["seeds"] = max([config["seeds"], *(row["seed"] + 1 for row in rows)])
        return rows
    return []


def _settings(arguments: argparse.Namespace) -> tuple[Settings, dict[str, Any]]:
    """Return settings, and methods, ratios and seeds: from flags, the resumed run, and defaults, in this order."""
    before: dict[str, Any] = {}
    if arguments.resume is not None:
        folder = out_folder("resume", arguments.resume)
        found = _stored(folder, "resume")
        if found is None:
            raise missing_run(folder)
        before = found["config"]
    names = ("data", "data_dir", *OWN_DATA, "model", "epochs", "finetune_epochs")
    old, named = {k: v for k, v in before.items() if k not in POINTS}, (str(arguments.data), str(arguments.model))
    settings = resolve(no_code("resume", old, named), {name: getattr(arguments, name) for name in names})
    given = {name: getattr(arguments, name) for name in POINTS}
    if given["methods"] == ("all",):
        given["methods"] = METHODS
    points = {k: before.get(k, v) if given[k] is None else given[k] for k, v in POINTS.items()}
    for name in ("methods", "ratios"):
        points[name] = list(points[name])
        check_once(name, points[name])
        if not points[name]:
            raise ConfigError(f"{name} names none; give at least one")
    check_seeds(points["seeds"])
    return settings, points
