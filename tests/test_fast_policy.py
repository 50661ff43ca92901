"""How many threads a job gets, and which of its two kernels then runs."""

from __future__ import annotations

from time import perf_counter

import numba
import pytest

from l0ref.fast import policy
from l0ref.fast.policy import AWAKE, SERIAL, WAKING, OnThreads, threads_for

pytestmark = pytest.mark.kernels


@pytest.mark.parametrize(("since", "most"), [(0.9 * AWAKE, SERIAL), (1.1 * AWAKE, WAKING)], ids=["awake", "asleep"])
def test_threads_for_a_job(since: float, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "_last", 1000.0)
    monkeypatch.setattr(policy, "perf_counter", lambda: 1000.0 + since)
    assert threads_for(0) == threads_for(most) == 1
    assert threads_for(most + 1) == numba.get_num_threads()


def sleepy(threads: int) -> float:
    return perf_counter() + 0 * threads


def test_a_parallel_kernel_notes_when_it_ended() -> None:
    kernel = OnThreads(sleepy)
    kernel.alone, kernel.together = (lambda n, name=name: (name, sleepy(n)) for name in ("alone", "together"))
    for threads, name in ((1, "alone"), (2, "together"), (5, "together")):
        ran, within = kernel(threads)
        assert ran == name
        assert within < policy._last < perf_counter()
