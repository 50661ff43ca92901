"""`l0ref sweep`: one job with many settings and seeds, a result of `compress` for each, and the best ones chosen.

    DIR/alpha=1e-05,beta=5/seed-0/    a run, as `l0ref compress --out` writes it
    DIR/sweep.json, sweep.png         the table and the picture; rebuilt from the folders at every start and end

Nothing else is kept, so after any kill the same command resumes: finished runs are kept, interrupted ones continue from
their states. A run gets an empty test set, so it cannot read the real one. When all runs are finished, combinations are
chosen by validation data, and the test set is read for the networks of the chosen ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l0ref import checkpoint, metrics
from l0ref.archive import write_atomic
from l0ref.archive.lock import locked
from l0ref.archive.strict_json import json_bytes
from l0ref.cli.build import build_job, build_model
from l0ref.cli.config import read_config
from l0ref.cli.flags import add_data_flags, add_worker_flags
from l0ref.cli.grid import combinations, folder_name, read_grid
from l0ref.cli.jobs import SETS, SWEEP, Job, check_workers, data_of, load_once, run_all
from l0ref.cli.resume import every_of, stored_run
from l0ref.cli.settings import OWN_DATA, Settings, resolve, to_json
from l0ref.cli.values import check_seeds, integer, made_folder
from l0ref.cli.write import DENSE, MODEL, REPORT, finished, finished_report
from l0ref.deploy.costs import known_costs
from l0ref.errors import ArgumentError, ConfigError, L0RefError
from l0ref.experiment.controlled import check_cuts
from l0ref.nn import Model
from l0ref.report.sweep import sweep_rows, sweep_text

EXAMPLES = """\
examples:
  l0ref sweep job.toml --grid alpha=1e-5,2e-5 amount=0.9,0.95 --seeds 3 --jobs 2
  l0ref sweep job.toml --grid alpha=1e-6..1e-3:log beta=2..20 --random 40 --jobs 8   drawn from ranges
  l0ref sweep job.toml --grid "curve=2,4;4,8"           values that contain commas
  l0ref sweep job.toml --grid alpha=1e-5,2e-5 --scheduler tcp://HOST:PORT   on a Dask cluster, see docs/sweep.md
"""
KIND, VERSION = "l0ref sweep", 1
REMEDY = "choose another folder with --out, or remove that one"
INDEX, PICTURE, LOCK = "sweep.json", "sweep.png", ".l0ref.lock"


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command; return its parser."""
    p = commands.add_parser(
        "sweep",
        help="many settings and seeds, on many cores or machines",
        description="Run compress for every combination of settings, choose by validation data, read the test set for "
        "the chosen ones. The same command resumes after an interruption.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("job", metavar="JOB.toml", nargs="?", help="settings of all runs, as compress --config takes them")
    p.add_argument(
        "--grid", metavar="NAME=V,V,...", nargs="+", action="extend", default=[],
        help="values of a setting of compress; or a range, LOW..HIGH, LOW..HIGH:log, of which --random draws",
    )  # fmt: skip
    p.add_argument("--random", type=integer, metavar="N", help="N of the combinations, drawn at random")
    p.add_argument("--seeds", type=integer, default=1, metavar="N", help="runs of each, with seeds seed, seed+1, ...")
    add_data_flags(p)
    add_worker_flags(p)
    p.add_argument("--out", metavar="DIR", help="default: runs/sweep-DATA-MODEL")
    p.add_argument(
        "--checkpoint-every", type=every_of, default=5.0, metavar="N",
        help="save the state of training every 10min or 2epochs, or never; default 5min",
    )  # fmt: skip
    p.add_argument("--no-figures", action="store_true", help="write no picture")
    p.add_argument("--quiet", action="store_true", help="no progress and no table")
    p.set_defaults(run=run)
    return [p]


def run(arguments: argparse.Namespace) -> int:
    """Check every combination, run the missing ones, choose, test, write, print."""
    check_seeds(arguments.seeds)
    check_workers(arguments)
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
        raise L0RefError(failed)
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


def _run(arguments: argparse.Namespace, runs: Mapping[Path, Settings], out: Path) -> str | None:
    """Do the unfinished runs, here or elsewhere; return a message about the failures, None without any."""
    done = finished(runs, remedy=REMEDY)
    jobs = []
    for folder, settings in runs.items():
        if folder in done:
            continue
        config, before = to_json(settings), stored_run(folder, SWEEP)
        if before is not None and (other := [k for k, v in before["config"].items() if config.get(k) != v]):
            raise ConfigError(
                f"out={str(out)!r} holds an interrupted run of other settings, {folder.relative_to(out)} with "
                f"{other[0]}={before['config'][other[0]]!r}; {REMEDY}"
            )
        checksum = load_once(data_of(settings)).checksum
        jobs.append(Job(str(folder.absolute()), config, arguments.checkpoint_every, checksum))
    return run_all(arguments, jobs, shared=out, done=len(done))


@functools.lru_cache(SETS)
def _build(settings: Settings) -> Model:
    return build_model(settings, load_once(data_of(settings)), seed=settings.seed)


def _index(out: Path, seeds: int) -> list[dict[str, Any]]:
    """Rewrite sweep.json from the reports in the folders; return its rows."""
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
            if not test.classes:
                stage |= {"test_r2": score.r2, "test_rmse": score.rmse}
        report["data"] = report["data"] | {"test": len(test)}
        write_atomic(folder / REPORT, json_bytes(report))
