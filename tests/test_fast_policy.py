"""When a kernel is taken from the cache, how many threads a job gets, and which of its two kernels then runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from time import perf_counter

import numba
import pytest

import l0ref.fast
from l0ref.fast.machine import policy
from l0ref.fast.machine.policy import (
    AWAKE,
    SERIAL,
    STAMP,
    WAKING,
    OnThreads,
    kernel,
    stamp_of,
    threads_for,
    threads_for_call,
)

pytestmark = pytest.mark.kernels
PACKAGE = Path(l0ref.fast.__file__).parent
ROOMS = {"fast", "machine", "products", "dense", "sparse", "step", "chain", "layerwise"}


def test_a_change_of_any_file_of_the_package_changes_the_stamp(tmp_path: Path) -> None:
    """A kernel may call one of another file, which Numba's cache does not notice."""
    package = shutil.copytree(PACKAGE, tmp_path / "fast", ignore=shutil.ignore_patterns("__pycache__"))
    assert stamp_of(package) == STAMP
    files = [package / path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]
    assert {file.parent.name for file in files} == ROOMS
    stamps = {STAMP}
    for file in files:
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
        stamps.add(stamp_of(package))
    assert len(stamps) == len(files) + 1


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_a_kernel_in_the_cache_has_the_stamp() -> None:
    assert kernel(sleepy)._cache._cache_file._source_stamp == STAMP


@pytest.mark.parametrize(
    ("gaps", "work", "serial"),
    [
        ([2, 2, 2, 2], SERIAL, [True, True, True, True]),
        ([2, 2, 2, 2], SERIAL + 1, [True, True, True, True]),
        ([2, 0.9, 0.9, 0.9], SERIAL + 1, [True, True, False, False]),
        ([2, 0.9, 0.9, 2, 0.9, 0.9], SERIAL + 1, [True, True, False, True, True, False]),
        ([2, 0.9, 0.9, 0.9], WAKING, [True, True, False, False]),
        ([2, 2], WAKING + 1, [False, False]),
    ],
    ids=["small", "apart", "in a row", "in two rows", "larger", "large"],
)
def test_threads_for_calls(gaps: list[float], work: int, serial: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaps between jobs are in units of AWAKE."""
    monkeypatch.setattr(policy, "_last", 1000.0)
    found = []
    for gap in gaps:
        monkeypatch.setattr(policy, "perf_counter", lambda gap=gap: 1000.0 + gap * AWAKE)
        found.append(threads_for_call(work))
        assert threads_for(work) == (1 if work == SERIAL else numba.get_num_threads())
        assert threads_for_call(0) == 1
    assert found == [1 if alone else numba.get_num_threads() for alone in serial]


def sleepy(threads: int) -> float:
    return perf_counter() + 0 * threads


@pytest.mark.parametrize(("work", "threads", "notes"), [(SERIAL, 1, False), (SERIAL + 1, 1, True), (0, 2, True)])
def test_a_job_worth_several_threads_notes_when_it_ended(work: int, threads: int, notes: bool) -> None:
    kernel = OnThreads(sleepy)
    kernel.alone, kernel.together = (lambda n, name=name: (name, sleepy(n)) for name in ("alone", "together"))
    before = policy._last
    threads_for(work)
    ran, within = kernel(threads)
    assert ran == ("alone" if threads == 1 else "together")
    assert (within < policy._last < perf_counter()) if notes else (policy._last == before < within)
