"""Jobs of a command in parallel, in processes on this machine or on a Dask cluster: see `l0ref.experiment.engine`.

A job is sent as plain values, and its worker loads the data, once per process, and compares their checksum with the
client's. Results and states of training are in folders, so a job is safe to repeat.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import logging
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from l0ref.archive.folder import claim
from l0ref.archive.lock import InUse
from l0ref.cli.resume import Run, stored_run, sums
from l0ref.cli.run import run_claimed
from l0ref.cli.settings import OWN_DATA, Settings, resolve
from l0ref.cli.write import OURS, finished_report
from l0ref.data import Splits
from l0ref.deploy.costs import known_costs
from l0ref.errors import ConfigError, L0RefError
from l0ref.experiment.engine import EXTRA, completed
from l0ref.interop.extras import need

SETS = 4  # data sets that a worker keeps in memory
DATA = ("data", "data_dir", "validation", *OWN_DATA, "dtype")
SWEEP = "sweep"
R = TypeVar("R")


class Job(NamedTuple):
    """One run of `compress` in a folder of its own.

    journal  of all seeds of one `compress`, with a part for each; None: the run keeps its own, as those of a sweep do,
             and does not read the test set
    """

    folder: str
    config: dict[str, Any]
    every: float | None
    checksum: str
    journal: Run | None = None
    no_figures: bool = True
    hide_test: bool = False
    overwrite: bool = False


def check_workers(arguments: argparse.Namespace) -> bool:
    """Return whether other processes run the jobs; refuse an invalid number of them, and a missing extra."""
    if arguments.jobs < 1:
        raise ConfigError(f"jobs={arguments.jobs} must be at least 1")
    if arguments.scheduler is not None and arguments.jobs > 1:
        raise ConfigError(f"jobs={arguments.jobs} and scheduler={arguments.scheduler!r} exclude each other; give one")
    if arguments.scheduler is not None and not re.fullmatch(r"\w+://[^/]+", arguments.scheduler):
        raise ConfigError(f"scheduler={arguments.scheduler!r} must look like tcp://HOST:PORT")
    if arguments.scheduler is not None or arguments.jobs > 1:
        need("joblib" if arguments.scheduler is None else "distributed", extra=EXTRA)
        return True
    return False


def run_all(
    arguments: argparse.Namespace,
    jobs: Sequence[Job],
    *,
    shared: Path,
    done: int,
    finished: Callable[[int], None] = lambda _: None,
) -> str | None:
    """Do all jobs, even if some fail, and show progress; return a message about the failures, None without any.

    shared    the folder of all, which every worker sees
    done      number of runs that were finished already
    finished  called with the index in `jobs` of each job that has succeeded
    """
    from tqdm import tqdm

    failed, total = [], done + len(jobs)
    with tqdm(total=total, initial=done, disable=arguments.quiet, unit="run", file=sys.stderr) as bar:
        for place, message in completed(run_one, jobs, **where(arguments, shared)):
            if message is None:
                finished(place)
            else:
                failed.append(f"the first in {jobs[place].folder}: {message}")
            bar.update()
    return f"{len(failed)} of {total} runs failed, {failed[0]}" if failed else None


def where(arguments: argparse.Namespace, shared: Path) -> dict[str, Any]:
    """Return the options of `completed` that the flags set."""
    return {"workers": arguments.jobs, "scheduler": arguments.scheduler, "shared": shared}


def run_one(job: Job) -> str | None:
    """Do one run in its folder, unless it has been done; return None, or why it failed."""
    logging.getLogger("l0ref").setLevel(logging.ERROR)
    settings = resolve(job.config)
    try:
        data = load_same(settings, job.checksum)
        when_free(lambda: _run_claimed(settings, job, data))
    except (L0RefError, OSError) as error:
        return "; ".join([str(error), *getattr(error, "__notes__", ())])
    return None


def _run_claimed(settings: Settings, job: Job, data: Splits) -> None:
    folder = Path(job.folder)
    silent = argparse.Namespace(quiet=True, no_figures=job.no_figures, hide_test=job.hide_test)
    with claim(folder, names=OURS, overwrite=True) as place:
        if not job.overwrite and finished_report(folder) is not None:
            return
        if job.journal is not None:
            run_claimed(settings, place, silent, known_costs(), job.journal, data)
            return
        journal = Run(place.folder, job.every)
        found = stored_run(place.folder, SWEEP)
        if found is None or (found["config"], found["data"]) != (job.config, sums(data)):
            journal.forget()
        journal.begin(SWEEP, job.config, data)
        blind = dataclasses.replace(data, test=data.test.take(np.arange(0)))
        run_claimed(settings, place, silent, known_costs(), journal, blind)
        journal.forget()


def when_free(work: Callable[[], R]) -> R:
    """Return `work()` once no other process holds its folder: a worker that has lost its client ends soon."""
    while True:
        try:
            return work()
        except InUse:
            time.sleep(1)


def data_of(settings: Settings) -> Settings:
    """Return settings with only the fields that determine the samples; the others are defaults."""
    own = {name: getattr(settings, name) for name in DATA}
    return Settings(**own) if settings.data in ("mnist", "fashion-mnist") else Settings(**own, seed=settings.seed)


@functools.lru_cache(SETS)
def load_once(settings: Settings) -> Splits:
    """Return the data set of `data_of(...)`; a process keeps the last ones."""
    return settings.load()


def load_same(settings: Settings, checksum: str) -> Splits:
    """Return the data set of a job; refuse other samples than the client has."""
    data = load_once(data_of(settings))
    if data.checksum != checksum:
        raise ConfigError(f"data={settings.data!r} are other samples here than where the command runs; copy them")
    return data
