"""`l0ref compress`: the main job, from a data set to a pruned, fine-tuned, reported network."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from l0ref.archive.folder import Claim, adopt, claim, discard, marker_of
from l0ref.cli.build import build_job, build_model, far_targets, likely_slip
from l0ref.cli.config import read_config
from l0ref.cli.feeding import build_feed, with_checksum
from l0ref.cli.flags import add_flags
from l0ref.cli.jobs import Job, check_workers, data_of, load_once, run_all
from l0ref.cli.networks import no_code
from l0ref.cli.report import without_test
from l0ref.cli.resume import Run, check_data, check_resume, check_same, missing_run, overrides, stored_run
from l0ref.cli.run import run_claimed
from l0ref.cli.settings import Settings, resolve, to_json
from l0ref.cli.values import check_seeds, out_folder
from l0ref.cli.write import OURS, REPORT, finished, finished_report, write_summary
from l0ref.deploy.costs import Costs, known_costs
from l0ref.errors import ArgumentError, ConfigError, L0RefError
from l0ref.experiment.controlled import check_cuts
from l0ref.report import aggregate, aggregate_text, full_text

COMMAND = "compress"


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command and its flags, and return its parser."""
    parser = add_flags(commands)
    parser.set_defaults(run=run)
    return [parser]


def run(arguments: argparse.Namespace) -> int:
    """Check all that can be checked beforehand, run the job for every seed, write the results, print the tables."""
    check_workers(arguments)
    found = found_run(arguments)
    if found is None and arguments.resume:
        check_finished(arguments)
        sys.stdout.write(f"results in {arguments.resume}\n")
        return 0
    settings = settings_of(arguments, found)
    seeds = range(settings.seed, settings.seed + arguments.seeds)
    if arguments.scheduler is not None and len(seeds) == 1:
        raise ConfigError(f"scheduler={arguments.scheduler!r} is for several seeds; give --seeds N, or leave it out")
    costs = known_costs()  # so that a file of another version is refused before, too
    is_named = arguments.out is not None
    named = arguments.resume if arguments.resume is not None else arguments.out
    out = out_folder("out", _default_out(settings) if named is None else named)
    single, is_new = len(seeds) == 1, found is None
    if is_new and not arguments.overwrite and single and any(out.glob(f"seed-*/{REPORT}")):
        raise ConfigError(f"out={str(out)!r} holds a result already; choose another folder or pass --overwrite")
    fresh = not is_named and is_new
    with claim(out, names=OURS, overwrite=arguments.overwrite or not is_new, fresh=fresh) as place:
        journal = Run(place.folder, arguments.checkpoint_every, overrides(arguments.override, _known(settings)))
        if is_new:
            journal.forget()
        journal.begin(COMMAND, to_json(settings) | {"seeds": arguments.seeds}, settings.load())
        try:
            if single:
                run_claimed(settings, place, arguments, costs, journal)
            else:
                run_seeds(settings, seeds, place, arguments, costs, journal)
        except BaseException as stop:
            if journal.has_states() and not place.is_published:
                journal.leave(COMMAND, stop)
            else:
                journal.forget()
            raise
        journal.forget()
        if arguments.overwrite:
            _discard_seeds(place.folder, () if single else seeds)
    sys.stdout.write(f"results in {place.folder}\n")
    return 0


def found_run(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Return run.json of the run to resume, None if the run is new or finished; refuse to overwrite one."""
    check_resume(arguments)
    if arguments.resume is None:
        out = out_folder("out", arguments.out) if arguments.out else None
        found = stored_run(out, COMMAND) if out and not arguments.overwrite else None
        if found is not None and found["config"]["seeds"] == 1:
            raise ConfigError(f"out={str(out)!r} holds an interrupted run; continue with --resume, or pass --overwrite")
        return found
    folder = out_folder("resume", arguments.resume)
    found = stored_run(folder, COMMAND)
    marker = marker_of(folder)
    if found is None and (marker is None or not marker.is_complete):
        raise missing_run(folder)
    return found


def check_finished(arguments: argparse.Namespace) -> None:
    """Refuse a setting that differs from those of the finished run in the folder of --resume."""
    folder = Path(arguments.resume)
    own = next(filter(None, map(finished_report, (folder, *sorted(folder.glob("seed-*"))))), None)
    if own is None:
        return
    for name, value in vars(arguments).items():
        value = list(value) if isinstance(value, tuple) else value
        if name in Settings.__dataclass_fields__ and value not in (None, own["config"].get(name)):
            raise ConfigError(
                f"{name}={value!r} differs from {own['config'].get(name)!r} of the finished run in {str(folder)!r}; "
                "leave it out, or begin another run with --out"
            )


def settings_of(arguments: argparse.Namespace, found: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings; refuse, before any work, ranges, data, shapes, cuts and seeds that cannot succeed.

    found  what `found_run` returned: its settings are the defaults, and different ones must be overridden
    """
    given = {k: v for k, v in vars(arguments).items() if k in Settings.__dataclass_fields__}
    before = dict(found["config"]) if found else {}
    if arguments.seeds is None:
        arguments.seeds = before.get("seeds", 1)
    check_seeds(arguments.seeds)
    try:
        named = (str(arguments.data), str(arguments.model))
        file = read_config(arguments.config, named=named) if arguments.config is not None else {}
        if found and arguments.resume is None:  # the same command again
            settings = resolve(file, given)
        else:
            settings = resolve(no_code("resume", {k: v for k, v in before.items() if k != "seeds"}, named), file, given)
        settings = with_checksum(settings)
        if found:
            folder, config = Path(arguments.resume or arguments.out), to_json(settings) | {"seeds": arguments.seeds}
            override = overrides(arguments.override, config)
            check_same(folder, config, before, override, resumed=arguments.resume is not None)
            check_data(folder, settings.load(), found["data"], override)
        job = build_job(settings)
        for seed in {settings.seed, settings.seed + arguments.seeds - 1}:
            data = dataclasses.replace(settings, seed=seed).load()
            model = build_model(settings, data, seed=seed)
        build_feed(settings, data)
        check_cuts(model, job.cut, settings.curve, stages=settings.stages)
    except ArgumentError as error:
        raise ConfigError(str(error)) from None
    for slip in (likely_slip(settings), far_targets(data)):
        if slip is not None:
            sys.stderr.write(f"l0ref compress: warning: {slip}\n")
    return settings


def run_seeds(
    settings: Settings, seeds: range, place: Claim, arguments: argparse.Namespace, costs: Costs | None, journal: Run
) -> None:
    """Run the unfinished seeds, each in its own folder, and write the summary of all."""
    jobs = {place.folder / f"seed-{seed}": dataclasses.replace(settings, seed=seed) for seed in seeds}
    if link := next(filter(Path.is_symlink, jobs), None):
        raise ConfigError(f"out={str(link)!r} is a link, which is not followed; remove it or choose another folder")
    reports = {} if arguments.overwrite else finished(jobs)
    if len(reports) == len(jobs):
        raise ConfigError(
            f"out={str(place.folder)!r} holds a result already; choose another folder or pass --overwrite"
        )
    for folder in reports:
        sys.stderr.write(f"l0ref compress: {folder} is finished already and is kept\n")
    todo = {folder: one for folder, one in jobs.items() if folder not in reports}
    try:
        if arguments.jobs > 1 or arguments.scheduler is not None:
            _run_elsewhere(todo, reports, place.folder, arguments, journal)
        else:
            for folder, one in todo.items():
                with claim(folder, names=OURS, overwrite=True) as own:  # files of an interrupted job are replaced
                    reports[folder] = run_claimed(one, own, arguments, costs, journal)
    except (Exception, KeyboardInterrupt) as stop:
        if reports:
            ready = ", ".join(str(reports[folder]["seed"]) for folder in jobs if folder in reports)
            left = next(one.seed for folder, one in todo.items() if folder not in reports)
            again = "the same command without --overwrite" if arguments.overwrite else "the same command"
            stop.add_note(f"seeds finished: {ready}; {again} keeps them and continues with seed {left}")
        raise
    summary = aggregate([reports[folder] for folder in jobs])
    write_summary(place.build, summary)
    place.publish()
    if not arguments.quiet:
        shown = aggregate([without_test(report) for report in reports.values()]) if arguments.hide_test else summary
        sys.stdout.write(aggregate_text(shown) + "\n\n")


def _run_elsewhere(
    todo: Mapping[Path, Settings],
    reports: dict[Path, dict[str, Any]],
    out: Path,
    arguments: argparse.Namespace,
    journal: Run,
) -> None:
    """Run seeds in other processes, add their reports to `reports`, and print them in the order of the seeds."""
    folders, flags = list(todo), {name: getattr(arguments, name) for name in ("no_figures", "hide_test", "overwrite")}
    whole = dataclasses.replace(journal, folder=journal.folder.absolute())
    jobs = [
        Job(str(f.absolute()), to_json(one), whole.every, load_once(data_of(one)).checksum, whole, **flags)
        for f, one in todo.items()
    ]

    def finished(place: int) -> None:
        reports[folders[place]] = finished_report(folders[place]) or {}

    failure = run_all(arguments, jobs, shared=out, done=len(reports), finished=finished)
    if not arguments.quiet:
        for report in (reports[folder] for folder in folders if folder in reports):
            sys.stdout.write(full_text(without_test(report) if arguments.hide_test else report) + "\n\n")
    if failure is not None:
        raise L0RefError(failure)


def _discard_seeds(out: Path, seeds: Sequence[int]) -> None:
    """Remove the seeds of the result that was replaced."""
    for folder in set(out.glob("seed-*")) - {out / f"seed-{seed}" for seed in seeds}:
        adopt(folder, OURS)
        discard(folder)


def _known(settings: Settings) -> dict[str, Any]:
    """The names that --override takes."""
    return to_json(settings) | {"seeds": 1}


def _default_out(settings: Settings) -> str:
    return f"runs/{settings.slug}-{time.strftime('%Y%m%d-%H%M%S')}"
