"""`l0ref sweep`: one job with many settings and seeds, a result of `compress` for each, and the best ones chosen.

    DIR/alpha=1e-05,beta=5/seed-0/    a run, as `l0ref compress --out` writes it
    DIR/sweep.json, sweep.png         the table and the picture; made anew from the folders at every start and end

Nothing else is kept, so whatever was killed, the same command goes on: finished runs are taken as they are, interrupted
ones go on from their states. A run gets a test set without samples: it could not read it if it wanted to. When
all are there, the combinations are chosen by validation data, and the test set is read for the networks of those.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from l0ref import checkpoint, metrics
from l0ref.archive import write_atomic
from l0ref.archive.folder import claim
from l0ref.archive.lock import InUse, locked
from l0ref.archive.strict_json import json_bytes
from l0ref.cli.build import build_job, build_model
from l0ref.cli.compress import finished, run_claimed
from l0ref.cli.flags import add_data_flags
from l0ref.cli.grid import combinations, folder_name, read_grid
from l0ref.cli.resume import Run, every_of, stored_run, sums
from l0ref.cli.settings import OWN_DATA, Settings, read_config, resolve, to_json
from l0ref.cli.values import check_seeds, integer, made_folder
from l0ref.cli.write import DENSE, MODEL, OURS, REPORT, finished_report
from l0ref.data import Splits
from l0ref.deploy.costs import known_costs
from l0ref.errors import ArgumentError, ConfigError, L0RefError
from l0ref.experiment.controlled import check_cuts
from l0ref.experiment.engine import completed
from l0ref.nn import Model
from l0ref.report.sweep import sweep_rows, sweep_text

EXAMPLES = """\
examples:
  l0ref sweep job.toml --grid alpha=1e-5,2e-5 amount=0.9,0.95 --seeds 3 --jobs 2
  l0ref sweep job.toml --grid alpha=1e-6..1e-3:log beta=2..20 --random 40 --jobs 8   drawn from ranges
  l0ref sweep job.toml --grid "curve=2,4;4,8"           values that have commas themselves
  l0ref sweep job.toml --grid alpha=1e-5,2e-5 --scheduler tcp://HOST:PORT   on a Dask cluster, see docs/sweep.md
"""
COMMAND = "sweep"
KIND, VERSION = "l0ref sweep", 1
INDEX, PICTURE, LOCK = "sweep.json", "sweep.png", ".l0ref.lock"
SETS = 4  # data sets that a worker keeps in memory
DATA = ("data", "data_dir", "validation", *OWN_DATA, "dtype")


class Job(NamedTuple):
    """One run, as a worker gets it: plain values."""

    folder: str
    config: dict[str, Any]
    every: float | None
    checksum: str


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command; return its parser."""
    p = commands.add_parser(
        "sweep",
        help="many settings and seeds, on many cores or machines",
        description="Run compress for every combination of settings, choose by validation data, read the test set for "
        "the chosen ones. The same command goes on after an interruption.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("job", metavar="JOB.toml", nargs="?", help="settings of all runs, as compress --config takes them")
    p.add_argument(
        "--grid", metavar="NAME=V,V,...", nargs="+", action="extend", default=[],
        help="values of a setting of compress; or a range, LOW..HIGH, LOW..HIGH:log, of which --random draws",
    )  # fmt: skip
    p.add_argument("--random", type=integer, metavar="N", help="N of the combinations, drawn at random")
    p.add_argument("--seeds", type=integer, default=1, metavar="N", help="runs of each, seeds seed, seed+1, ...")
    add_data_flags(p)
    p.add_argument("--jobs", type=integer, default=1, metavar="N", help="processes of this machine; default 1")
    p.add_argument("--scheduler", metavar="tcp://HOST:PORT", help="a Dask cluster instead, which shares the folder")
    p.add_argument("--out", metavar="DIR", help="default: runs/sweep- and data set and network")
    p.add_argument(
        "--checkpoint-every", type=every_of, default=5.0, metavar="N",
        help="keep the state of training every 10min or 2epochs, or never; default 5min",
    )  # fmt: skip
    p.add_argument("--no-figures", action="store_true", help="write no picture")
    p.add_argument("--quiet", action="store_true", help="no progress and no table")
    p.set_defaults(run=run)
    return [p]


def run(arguments: argparse.Namespace) -> int:
    """Check every combination, run what is missing, choose, test, write, print."""
    check_seeds(arguments.seeds)
    if arguments.jobs < 1:
        raise ConfigError(f"jobs={arguments.jobs} must be at least 1")
    if arguments.scheduler is not None and arguments.jobs > 1:
        raise ConfigError(f"jobs={arguments.jobs} and scheduler={arguments.scheduler!r} exclude each other; give one")
    base, runs = plan(arguments)
    known_costs()  # so that a file of another version is refused before
    out = made_folder("out", f"runs/sweep-{base.slug}" if arguments.out is None else arguments.out)
    with locked(out / LOCK, name=f"out={str(out)!r}"):
        failed = _run(arguments, {out / name: settings for name, settings in runs.items()}, out)
        rows = _index(out, arguments.seeds)
        _read_test(out, rows)
        rows = _index(out, arguments.seeds)
    if rows and not arguments.no_figures:
        from l0ref.report.figures import load_matplotlib

        load_matplotlib()
        from l0ref.report.figures.style import png
        from l0ref.report.figures.sweep import sweep_figure

        write_atomic(out / PICTURE, png(sweep_figure(rows)))
    if rows and not arguments.quiet:
        sys.stdout.write(sweep_text(rows) + "\n\n")
    sys.stdout.write(f"results in {out}\n")
    if failed:
        folder, message = failed[0]
        raise L0RefError(f"{len(failed)} of {len(runs)} runs failed, the first in {folder}: {message}")
    return 0


def plan(arguments: argparse.Namespace) -> tuple[Settings, dict[str, Settings]]:
    """Return the settings without the grid, and those of every run by its folder; refuse any that could not succeed."""
    given = {name: getattr(arguments, name) for name in ("data", "data_dir", *OWN_DATA, "model")}
    named = (str(arguments.data), str(arguments.model))
    file = read_config(arguments.job, named=named) if arguments.job is not None else {}
    grid = read_grid(arguments.grid)
    try:
        base = resolve(file, given)
        runs: dict[str, Settings] = {}
        for chosen in combinations(grid, random=arguments.random, seed=base.seed):
            settings = resolve(file, given, chosen)
            job = build_job(settings)
            for seed in range(settings.seed, settings.seed + arguments.seeds):
                runs[f"{folder_name(chosen)}/seed-{seed}"] = dataclasses.replace(settings, seed=seed)
            for seed in {settings.seed, settings.seed + arguments.seeds - 1}:
                own = dataclasses.replace(data_of(settings), model=settings.model, seed=seed)
                check_cuts(_build(own), job.cut, settings.curve, stages=settings.stages)
    except ArgumentError as error:
        raise ConfigError(str(error)) from None
    return base, runs


def _run(arguments: argparse.Namespace, runs: Mapping[Path, Settings], out: Path) -> list[tuple[Path, str]]:
    """Do the runs that are not finished, wherever they are done; return those that failed, and why."""
    done = finished(runs)
    jobs = []
    for folder, settings in runs.items():
        if folder in done:
            continue
        config, before = to_json(settings), stored_run(folder, COMMAND)
        if before is not None and (other := [k for k, v in before["config"].items() if config.get(k) != v]):
            raise ConfigError(
                f"out={str(out)!r} holds an interrupted run of other settings, {folder.relative_to(out)} with "
                f"{other[0]}={before['config'][other[0]]!r}; choose another folder or remove that one"
            )
        checksum = load_once(data_of(settings)).checksum
        jobs.append(Job(str(folder.absolute()), config, arguments.checkpoint_every, checksum))
    from tqdm import tqdm

    failed = []
    with tqdm(total=len(runs), initial=len(done), disable=arguments.quiet, unit="run", file=sys.stderr) as bar:
        options: dict[str, Any] = {"workers": arguments.jobs, "scheduler": arguments.scheduler, "shared": out}
        for place, message in completed(run_one, jobs, **options):
            if message is not None:
                failed.append((Path(jobs[place].folder), message))
            bar.update()
    return failed


def run_one(job: Job) -> str | None:
    """Do one run in its folder, unless it has been done; return None, or why it failed."""
    logging.getLogger("l0ref").setLevel(logging.ERROR)
    settings = resolve(job.config)
    try:
        data = load_once(data_of(settings))
        if data.checksum != job.checksum:
            raise ConfigError(f"data={settings.data!r} are other samples here than those of the sweep; copy them")
        while True:
            try:
                _run_claimed(settings, job, data)
            except InUse:  # by a worker that has lost its client, and ends soon
                time.sleep(1)
            else:
                return None
    except (L0RefError, OSError) as error:
        return str(error)


def _run_claimed(settings: Settings, job: Job, data: Splits) -> None:
    folder = Path(job.folder)
    with claim(folder, names=OURS, overwrite=True) as place:
        if finished_report(folder) is not None:
            return
        journal = Run(place.folder, job.every)
        found = stored_run(place.folder, COMMAND)
        if found is None or (found["config"], found["data"]) != (job.config, sums(data)):
            journal.forget()
        journal.begin(COMMAND, job.config, data)
        blind = dataclasses.replace(data, test=data.test.take(np.arange(0)))
        silent = argparse.Namespace(quiet=True, no_figures=True, hide_test=False)
        run_claimed(settings, place, silent, known_costs(), journal, blind)
        journal.forget()


def data_of(settings: Settings) -> Settings:
    """Return settings that have in common with these what decides the samples, and nothing else."""
    own = {name: getattr(settings, name) for name in DATA}
    return Settings(**own) if settings.data in ("mnist", "fashion-mnist") else Settings(**own, seed=settings.seed)


@functools.lru_cache(SETS)
def load_once(settings: Settings) -> Splits:
    """Return the data set of `data_of(...)`; a process keeps the last ones."""
    return settings.load()


@functools.lru_cache(SETS)
def _build(settings: Settings) -> Model:
    return build_model(settings, load_once(data_of(settings)), seed=settings.seed)


def _index(out: Path, seeds: int) -> list[dict[str, Any]]:
    """Write sweep.json anew from the reports that stand in the folders; return its rows."""
    groups: dict[str, list[Any]] = {}
    for path in sorted(out.glob(f"*/seed-*/{REPORT}")):
        report = finished_report(path.parent)
        if report is not None:
            groups.setdefault(path.parent.parent.name, []).append(report)
    rows = sweep_rows(groups, seeds=seeds)
    write_atomic(out / INDEX, json_bytes({"kind": KIND, "version": VERSION, "rows": rows}))
    return rows


def _read_test(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Read the test set for the dense and the final network of the chosen runs, and write it into their reports."""
    for folder in (path for row in rows if row["chosen"] for path in sorted((out / row["folder"]).glob("seed-*"))):
        report = finished_report(folder)
        if report is None or report["data"]["test"]:
            continue
        test = load_once(data_of(resolve(report["config"]))).test
        for stage, name in ((report["stages"][0], DENSE), (report["stages"][-1], MODEL)):
            score = metrics.evaluate(checkpoint.load(folder / name), test)
            stage |= {"test_loss": score.loss, "test_acc1": score.acc1 if test.classes else None}
        report["data"] = report["data"] | {"test": len(test)}
        write_atomic(folder / REPORT, json_bytes(report))
