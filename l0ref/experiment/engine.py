"""Independent jobs on the cores of this machine or on a Dask cluster; results are yielded as they are finished.

    workers=1              in this process, one after another
    workers=N              processes of this machine, by joblib (loky); killed processes are replaced
    scheduler=tcp://H:P    processes of a Dask cluster; the job of a lost process is given to another

Every worker does one job at a time, with one thread in BLAS and kernels unless OPENBLAS_NUM_THREADS or a similar
variable, set where the worker was started, says otherwise. A job is sent by pickle, as joblib and Dask do; so a cluster
is as trusted as this process. A job must save its own results and be safe to repeat.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from l0ref.errors import ConfigError, L0RefError
from l0ref.interop.extras import need
from l0ref.version import __version__

EXTRA = "sweep"
KILLS = 3  # times in a row that workers die, without a finished job between, which end all jobs
SECONDS = 10  # timeout for the answer of a scheduler, and for its first worker


def completed(
    work: Callable[[Any], Any],
    jobs: Sequence[Any],
    *,
    workers: int = 1,
    scheduler: str | None = None,
    shared: Path | None = None,
) -> Iterator[tuple[int, Any]]:
    """Yield (index in `jobs`, work(job)) for every job, in the order in which they finish.

    work    a function of a module that the workers import
    shared  a folder that every worker of a cluster must see
    An error of `work` ends all jobs and is raised here.
    """
    if scheduler is not None:
        return _on_cluster(work, jobs, scheduler, shared)
    if workers == 1 or len(jobs) < 2:
        return ((place, work(job)) for place, job in enumerate(jobs))
    return _on_processes(work, jobs, min(workers, len(jobs)))


def _on_processes(work: Callable[[Any], Any], jobs: Sequence[Any], workers: int) -> Iterator[tuple[int, Any]]:
    joblib = need("joblib", extra=EXTRA)
    died = need("joblib.externals.loky.process_executor", extra=EXTRA).TerminatedWorkerError
    left, kills = dict(enumerate(jobs)), 0
    while left:
        try:
            with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
                parallel = joblib.Parallel(n_jobs=workers, batch_size=1, return_as="generator_unordered")
            for place, result in parallel([joblib.delayed(_one)(work, os.getpid(), *item) for item in left.items()]):
                del left[place]
                kills = 0
                yield place, result
        except died:
            kills += 1
            if kills == KILLS:
                raise L0RefError(
                    f"jobs={workers}: workers were killed {KILLS} times in a row, perhaps for lack of memory; "
                    "give fewer jobs and run the same command again: it continues where it stopped"
                ) from None


def _one(work: Callable[[Any], Any], client: int, place: int, job: Any) -> tuple[int, Any]:
    _end_with(client)
    _silence()
    return place, work(job)


def _silence() -> None:
    """Suppress the notice about compiling kernels, which every worker would repeat."""
    logging.getLogger("l0ref").setLevel(logging.ERROR)


@cache
def _end_with(client: int) -> None:
    """End this process when the client is gone; it would otherwise run all jobs that it was sent."""

    def watch() -> None:
        while os.getppid() == client:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _on_cluster(
    work: Callable[[Any], Any], jobs: Sequence[Any], scheduler: str, shared: Path | None
) -> Iterator[tuple[int, Any]]:
    distributed = need("distributed", extra=EXTRA)
    told = f"scheduler={scheduler!r}"
    try:
        client = distributed.Client(scheduler, timeout=SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{told} does not answer: {error}; start one with dask scheduler") from None
    with client:
        _check_workers(client, told, shared)
        futures = {client.submit(_alone, work, job, pure=False): place for place, job in enumerate(jobs)}
        try:
            for future in distributed.as_completed(futures, loop=client.loop):
                yield futures[future], future.result()
        except (distributed.CancelledError, distributed.client.FutureCancelledError, distributed.comm.CommClosedError):
            raise L0RefError(
                f"{told} was lost; start it and run the same command again: it continues where it stopped"
            ) from None
        except distributed.KilledWorker as error:
            raise L0RefError(f"{told}: {error}; run the same command again: it continues where it stopped") from None


def _alone(work: Callable[[Any], Any], job: Any) -> Any:
    import numba

    numba.set_num_threads(1)  # for this thread; Dask limits the threads of BLAS when it starts the process
    _silence()
    return work(job)


def _check_workers(client: Any, told: str, shared: Path | None) -> None:
    """Refuse a cluster without workers, and workers with several threads, another release, or without the folder."""
    try:
        client.wait_for_workers(1, timeout=SECONDS)
    except TimeoutError:
        raise ConfigError(f"{told} has no workers; start some with dask worker --nthreads 1") from None
    found = client.run(_about, os.fspath(shared.absolute()) if shared is not None else None)
    threads = client.nthreads()
    for name, (version, sees) in found.items():
        if threads.get(name, 1) != 1:
            raise ConfigError(f"{told}: {name} has {threads[name]} threads; start it with --nthreads 1")
        if version != __version__:
            raise ConfigError(f"{told}: {name} has l0ref {version}, not {__version__}; install the same release")
        if not sees:
            raise ConfigError(f"{told}: {name} does not see {shared}; give a folder that all machines share")


def _about(shared: str | None) -> tuple[str, bool]:
    return __version__, shared is None or os.path.isdir(shared)
