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
from l0ref.cli.build import build_job, build_model, likely_slip
from l0ref.cli.feeding import build_feed, fed, with_checksum
from l0ref.cli.flags import add_flags
from l0ref.cli.networks import no_code
from l0ref.cli.report import without_test
from l0ref.cli.resume import Run, check_data, check_resume, check_same, missing_run, overrides, stored_run
from l0ref.cli.settings import Settings, read_config, resolve, to_json
from l0ref.cli.values import check_seeds, out_folder
from l0ref.cli.write import (
    OURS,
    REPORT,
    Kept,
    finished_report,
    write_compact,
    write_config,
    write_result,
    write_summary,
)
from l0ref.data import Splits
from l0ref.deploy.compact import compact
from l0ref.deploy.costs import Costs, known_costs
from l0ref.errors import ArgumentError, ConfigError
from l0ref.experiment import MAIN, Experiment, run_experiment
from l0ref.experiment.controlled import check_cuts
from l0ref.pruning import shrink
from l0ref.report import aggregate, aggregate_text, draw_all, full_text, summarize

COMMAND = "compress"
FEW_EPOCHS = 50  # up to here a log gets one line an epoch, beyond it about twenty a phase


def add_parser(commands: Any) -> list[argparse.ArgumentParser]:
    """Add the command and its flags, and return its parser."""
    parser = add_flags(commands)
    parser.set_defaults(run=run)
    return [parser]


def run(arguments: argparse.Namespace) -> int:
    """Check everything that can be known, run the job for every seed, write the results and print the tables."""
    found = found_run(arguments)
    if found is None and arguments.resume:
        sys.stdout.write(f"results in {arguments.resume}\n")
        return 0
    settings = settings_of(arguments, found)
    seeds = range(settings.seed, settings.seed + arguments.seeds)
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
    """Return how the run began that goes on, None if it begins here or has been finished; refuse to lose one."""
    check_resume(arguments)
    if arguments.resume is None:
        out = out_folder("out", arguments.out) if arguments.out else None
        found = stored_run(out, COMMAND) if out and not arguments.overwrite else None
        if found is not None and found["config"]["seeds"] == 1:
            raise ConfigError(f"out={str(out)!r} holds an interrupted run; go on with --resume, or pass --overwrite")
        return found
    folder = out_folder("resume", arguments.resume)
    found = stored_run(folder, COMMAND)
    marker = marker_of(folder)
    if found is None and (marker is None or not marker.is_complete):
        raise missing_run(folder)
    return found


def settings_of(arguments: argparse.Namespace, found: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings; refuse before any work what could not succeed: ranges, data, shapes, cuts, seeds.

    found  what `found_run` returned: its settings are the defaults, and others than these must be overridden
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
            check_same(folder, config, before, override)
            check_data(folder, settings.load(), found["data"], override)
        job = build_job(settings)
        for seed in {settings.seed, settings.seed + arguments.seeds - 1}:
            data = dataclasses.replace(settings, seed=seed).load()
            model = build_model(settings, data, seed=seed)
        build_feed(settings, data)
        check_cuts(model, job.cut, settings.curve, stages=settings.stages)
    except ArgumentError as error:
        raise ConfigError(str(error)) from None
    if slip := likely_slip(settings):
        sys.stderr.write(f"l0ref compress: warning: {slip}\n")
    return settings


def run_seeds(
    settings: Settings, seeds: range, place: Claim, arguments: argparse.Namespace, costs: Costs | None, journal: Run
) -> None:
    """Run the seeds that are not finished in a folder of each, and write the summary of all."""
    jobs = {place.folder / f"seed-{seed}": dataclasses.replace(settings, seed=seed) for seed in seeds}
    if link := next(filter(Path.is_symlink, jobs), None):
        raise ConfigError(f"out={str(link)!r} is a link, which is not followed; remove it or choose another folder")
    reports = {} if arguments.overwrite else finished(jobs)
    if len(reports) == len(jobs):
        raise ConfigError(
            f"out={str(place.folder)!r} holds a result already; choose another folder or pass --overwrite"
        )
    for folder, one in jobs.items():
        if folder in reports:
            sys.stderr.write(f"l0ref compress: {folder} is finished already and is kept\n")
            continue
        try:
            with claim(folder, names=OURS, overwrite=True) as own:  # what an interrupted job left is replaced
                reports[folder] = run_claimed(one, own, arguments, costs, journal)
        except (Exception, KeyboardInterrupt) as stop:
            if reports:
                ready = ", ".join(str(report["seed"]) for report in reports.values())
                again = "the same command without --overwrite" if arguments.overwrite else "the same command"
                stop.add_note(f"seeds finished: {ready}; {again} keeps them and goes on with seed {one.seed}")
            raise
    summary = aggregate([reports[folder] for folder in jobs])
    write_summary(place.build, summary)
    place.publish()
    if not arguments.quiet:
        shown = aggregate([without_test(report) for report in reports.values()]) if arguments.hide_test else summary
        sys.stdout.write(aggregate_text(shown) + "\n\n")


def run_claimed(
    settings: Settings,
    place: Claim,
    arguments: argparse.Namespace,
    costs: Costs | None,
    journal: Run,
    data: Splits | None = None,
) -> dict[str, Any]:
    """Run the job once into a claimed folder, publish and print it; return the report. None: load the job's own data.

    Whatever ends the job early, the networks that training reached are kept, and the message says where.
    """
    kept = Kept(place.build)
    try:
        with journal.record(str(settings.seed)):
            experiment, report = run_seed(settings, kept, arguments, costs, settings.load() if data is None else data)
        try:
            if not arguments.no_figures:
                shown = without_test(report) if arguments.hide_test else report
                _draw(settings, experiment, shown, place.build)
        finally:
            place.publish()  # the numbers are there, whatever happens to the pictures
    except BaseException as stop:
        if place.is_published:
            stop.add_note(f"the numbers are in {place.folder}")
        else:
            for note in _keep(kept, place, stop):
                stop.add_note(note)
        raise
    journal.forget(str(settings.seed))
    if not arguments.quiet:
        sys.stdout.write(full_text(without_test(report) if arguments.hide_test else report) + "\n\n")
    return report


def _keep(kept: Kept, place: Claim, stop: BaseException) -> list[str]:
    """Keep what was reached, as far as the disk allows, and return what to say of it."""
    try:
        kept.keep_partial(stop)
        return kept.told(place.leave())
    except OSError as error:
        if isinstance(stop, OSError) and error.errno == stop.errno:  # it has been said
            return kept.told(place.leave())
        return [f"{error.filename} could not be written: {error.strerror}", *kept.told(place.leave())]


def run_seed(
    settings: Settings, kept: Kept, arguments: argparse.Namespace, costs: Costs | None, data: Splits
) -> tuple[Experiment, dict[str, Any]]:
    """Run the job once and write networks and numbers; return the experiment and its report."""
    folder = kept.folder
    kept.preparation = data.preparation
    model = build_model(settings, data, seed=settings.seed)
    job, feed = build_job(settings), build_feed(settings, data)
    config = to_json(settings)
    write_config(folder, config)
    experiment = run_experiment(
        model,
        data,
        train=job.train,
        cut=job.cut,
        finetune=job.finetune,
        gradual=job.gradual,
        stages=job.stages,
        seed=settings.seed,
        rounds=settings.rounds,
        controls=settings.controls,
        control_l1=settings.control_l1,
        control_l2=settings.control_l2,
        curve=settings.curve,
        reached=kept.reached,
        finished=kept.finished,
        progress="none" if arguments.quiet else "auto",
        every=1 if settings.epochs <= FEW_EPOCHS else 0,
        **feed,
    )
    shrunk = shrink(experiment.runs[MAIN].model)
    small = compact(shrunk, costs=costs)
    files = write_compact(folder, small.model, preparation=data.preparation)
    told: dict[str, Any] = {"config": config, "fed": fed(settings, feed, data), "files": files}
    report = summarize(experiment, data, seed=settings.seed, small=small, shrunk=shrunk, **told)
    write_result(folder, experiment, report)
    return experiment, report


def _draw(settings: Settings, experiment: Experiment, report: Mapping[str, Any], folder: Path) -> None:
    draw_all(experiment, report, penalty=build_job(settings).train.penalty, folder=folder)


def finished(jobs: Mapping[Path, Settings]) -> dict[Path, dict[str, Any]]:
    """The reports of the jobs that are finished already; a folder with a result of other settings is refused."""
    found = {}
    for folder, settings in jobs.items():
        report = finished_report(folder)
        if report is None:
            continue
        here, there = to_json(settings), report["config"]
        if other := [name for name in here if name != "data_dir" and here[name] != there.get(name)]:
            raise ConfigError(
                f"out={str(folder)!r} holds a result of other settings: {other[0]}={there.get(other[0])!r}, "
                f"not {here[other[0]]!r}; choose another folder or pass --overwrite"
            )
        found[folder] = report
    return found


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
