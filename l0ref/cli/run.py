"""One job of `l0ref compress` in one folder: networks, written when training reaches them, numbers and pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l0ref.archive.folder import Claim
from l0ref.cli.build import build_job, build_model
from l0ref.cli.feeding import build_feed, fed
from l0ref.cli.report import without_test
from l0ref.cli.resume import Run
from l0ref.cli.settings import Settings, to_json
from l0ref.cli.write import Kept, write_compact, write_config, write_result
from l0ref.data import Splits
from l0ref.deploy.compact import compact
from l0ref.deploy.costs import Costs
from l0ref.experiment import MAIN, Experiment, run_experiment
from l0ref.pruning import shrink
from l0ref.report import draw_all, full_text, summarize

FEW_EPOCHS = 50  # up to here a log gets one line per epoch, beyond it about twenty per phase


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
    """Save the networks reached, as far as the disk allows, and return the notes about them."""
    try:
        kept.keep_partial(stop)
        return kept.told(place.leave())
    except OSError as error:
        if isinstance(stop, OSError) and error.errno == stop.errno:  # already reported
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
