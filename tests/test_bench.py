"""How `l0ref bench` measures: turns on a made-up clock, statistics by hand, cheating contenders, threads, tables."""

from __future__ import annotations

import gc
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from l0ref.bench import threads as thread_places
from l0ref.bench import worker
from l0ref.bench.agreement import Disagreement, agreement, difference
from l0ref.bench.environment import blas
from l0ref.bench.harness import WARM_UP, measure
from l0ref.bench.statistics import FEWEST, Ratio, Times, ratio
from l0ref.bench.table import rows_of, seconds, work_text
from l0ref.bench.threads import pinned, places, processors, variables
from l0ref.bench.traffic import moments, read, triad
from l0ref.bench.work import Contender, Plan, Work
from l0ref.errors import ArgumentError


@pytest.fixture(autouse=True)
def few_old_objects() -> Iterator[None]:
    """Keep the garbage collector, which `measure` calls, from looking through the objects of the whole suite."""
    gc.freeze()
    yield
    gc.unfreeze()


# --- statistics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "median", "iqr"),
    [
        ((7.0,), 7.0, 0.0),
        ((1.0, 2.0), 1.5, 0.5),
        ((5.0, 1.0, 3.0), 3.0, 2.0),
        ((4.0, 1.0, 2.0, 3.0), 2.5, 1.5),
        ((9.0, 1.0, 2.0, 3.0, 4.0), 3.0, 2.0),
    ],
)
def test_median_and_quartiles_by_hand(values: tuple[float, ...], median: float, iqr: float) -> None:
    times = Times(values)
    assert (times.median, times.iqr, times.rounds) == (median, iqr, len(values))


def test_ratio_by_hand() -> None:
    ours = Times((1.0, 1.0, 2.0, 4.0, 1.0))
    theirs = Times((2.0, 4.0, 6.0, 4.0, 8.0))  # round by round 2, 4, 3, 1, 8
    assert ratio(theirs, ours) == Ratio(4.0, 2.0, 4.0)
    assert ratio(ours, ours) == Ratio(1.0, 1.0, 1.0)


def test_no_ratio_from_too_few_rounds() -> None:
    assert FEWEST == 5
    for n in range(1, 8):
        found = ratio(Times((2.0,) * n), Times((1.0,) * n))
        assert found == (Ratio(2.0, 2.0, 2.0) if n >= 5 else None)


def test_wrong_statistics_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"^seconds=\(\) holds no round; measure at least one$"):
        Times(())
    with pytest.raises(ArgumentError, match=r"^theirs has 1 rounds and ours 2; measure both together$"):
        ratio(Times((1.0,)), Times((1.0, 1.0)))


# --- turns ------------------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes only when a contender says so, and a record of what happened when."""

    def __init__(self) -> None:
        self.now = 100.0
        self.events: list[tuple[str, str, int]] = []

    def __call__(self) -> float:
        return self.now

    def contender(self, name: str, *, per_unit: float | Callable[[int], float], reset: float = 0.0) -> Contender:
        """One whose unit takes `per_unit` seconds, or as many as it says for its k-th run."""
        runs = [0]

        def do_reset() -> None:
            self.now += reset
            self.events.append(("reset", name, 0))

        def run(n: int) -> None:
            took = per_unit(runs[0]) if callable(per_unit) else per_unit
            runs[0] += 1
            self.now += n * took
            self.events.append(("run", name, n))

        return Contender(name, run, reset=do_reset)

    def settle(self) -> None:
        self.events.append(("settle", "", 0))

    def turns(self) -> list[list[tuple[str, str, int]]]:
        """The events cut into turns: a turn begins with the reset and the run before each `settle`."""
        starts = [i - 2 for i, event in enumerate(self.events) if event[0] == "settle"]
        return [self.events[a:b] for a, b in zip(starts, [*starts[1:], len(self.events)], strict=True)]


def names_of(turns: Sequence[Sequence[tuple[str, str, int]]]) -> list[str]:
    return [turn[-1][1] for turn in turns]


def test_contenders_take_turns_and_every_other_round_goes_backwards() -> None:
    clock = Clock()
    work = Work("w", [clock.contender(name, per_unit=0.01) for name in "abc"], turn=0.02)
    found = measure(work, rounds=3, clock=clock, settle=clock.settle)
    turns = clock.turns()
    assert names_of(turns) == ["a", "b", "c", "c", "b", "a", "a", "b", "c"]
    for turn in turns:
        assert len({name for kind, name, _ in turn if kind != "settle"}) == 1
    assert list(found) == ["a", "b", "c"]
    assert {times.rounds for times in found.values()} == {3}


def test_a_turn_is_warm_up_then_one_timed_run() -> None:
    clock = Clock()
    work = Work("w", [clock.contender("a", per_unit=0.01)], check_units=2, turn=0.049)
    measure(work, rounds=1, clock=clock, settle=clock.settle)
    # runs of 2 units, 0.02 s each, until 0.045 s are over; then 0.049 s of 0.01 s each, rounded up
    one = [("reset", "a", 0), ("run", "a", 2)]
    assert clock.events == [*one, ("settle", "", 0), *one, *one, ("reset", "a", 0), ("run", "a", 5)]
    assert WARM_UP == 0.045


def test_a_slow_contender_still_warms_up_once_and_runs_once() -> None:
    clock = Clock()
    found = measure(Work("w", [clock.contender("a", per_unit=3.0)], turn=0.05), rounds=2, clock=clock)
    assert [event for event in clock.events if event[0] == "run"] == [("run", "a", 1)] * 4
    assert found["a"].seconds == pytest.approx((3.0, 3.0), rel=1e-12)


@pytest.mark.parametrize(
    ("turn", "units", "expected"),
    [(0.05, None, 5), (0.051, None, 6), (0.05, 3, 3), (0.05, 100, 5), (math.inf, 7, 7), (math.inf, None, 1)],
)
def test_units_of_a_timed_run(turn: float, units: int | None, expected: int) -> None:
    clock = Clock()
    clock.now = 0.0
    work = Work("w", [clock.contender("a", per_unit=2.0**-7)], turn=turn * 2.0**-7 / 0.01, units=units)
    found = measure(work, rounds=1, clock=clock)
    assert clock.events[-1] == ("run", "a", expected)
    assert found["a"].seconds == (2.0**-7,)


def test_units_are_settled_in_the_first_turn_and_kept() -> None:
    clock = Clock()
    slower = clock.contender("a", per_unit=lambda k: 0.01 if k < 6 else 0.02)
    found = measure(Work("w", [slower], turn=0.04), rounds=2, clock=clock, settle=clock.settle)
    assert [turn[-1][2] for turn in clock.turns()] == [4, 4]
    assert found["a"].seconds == pytest.approx((0.01, 0.02), rel=1e-12)


def test_reset_is_not_timed_and_a_unit_may_be_reported_in_bulk() -> None:
    clock = Clock()
    work = Work("w", [clock.contender("a", per_unit=0.01, reset=5.0)], units=4, turn=math.inf, per=(469, "epoch"))
    found = measure(work, rounds=1, clock=clock)
    assert found["a"].seconds == pytest.approx((4.69,), rel=1e-12)


def test_garbage_is_collected_before_each_turn_and_old_objects_are_left_alone() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self

    made: list[weakref.ref[Cycle]] = []
    alive, frozen = [], []

    def run(_: int) -> None:
        alive.append(sum(ref() is not None for ref in made))
        frozen.append(gc.get_freeze_count())
        made.append(weakref.ref(Cycle()))

    gc.disable()  # so that nothing but the harness collects
    try:
        measure(Work("w", [Contender("a", run)], units=1), rounds=3, warm_up=0.0)
    finally:
        gc.enable()
    assert alive == [0, 1, 0, 1, 0, 1]  # the timed run finds what the warm-up left
    assert min(frozen) > 1000
    assert gc.get_freeze_count() == 0


def test_objects_are_looked_through_again_after_an_error() -> None:
    def fail(_: int) -> None:
        raise RuntimeError("as planned")

    with pytest.raises(RuntimeError, match=r"^as planned$"):
        measure(Work("w", [Contender("a", fail)]), rounds=1)
    assert gc.get_freeze_count() == 0


def test_rounds_are_whole_and_at_least_one() -> None:
    with pytest.raises(ArgumentError, match=r"^rounds=0 must be at least 1$"):
        measure(Work("w", []), rounds=0)
    assert measure(Work("w", []), rounds=1) == {}


# --- do they compute the same? ----------------------------------------------------------------------------------------

RIGHT = {"w": np.array([3.0, 4.0]), "loss": np.asarray(2.0)}


def honest(name: str = "a", **changes: Any) -> Contender:
    return Contender(name, lambda n: n, answer=lambda _: {**RIGHT, **changes})


def work_of(*contenders: Contender, tolerance: float = 1e-3) -> Work:
    return Work("w", contenders, {"": lambda: RIGHT}, tolerance=tolerance, unit="step", check_units=8)


def test_agreement_gives_the_largest_difference() -> None:
    work = work_of(honest(), honest(w=np.array([3.0, 4.0 + 1e-3]), loss=np.asarray(2.0 - 2e-4)))
    assert agreement(work)[""] == pytest.approx(2e-4, rel=1e-6)  # 1e-3 of 5, and 2e-4 of 2


@pytest.mark.parametrize(
    ("cheat", "said"),
    [
        ({"w": np.array([3.0, 4.1])}, "differs from the truth in 'w' by 0.02 of its norm after 8 steps, more than"),
        ({"w": np.zeros(2)}, "differs from the truth in 'w' by 1 of its norm"),
        ({"w": np.array([4.0, 3.0])}, "differs from the truth in 'w' by 0.28 of its norm"),
        ({"w": np.array([[3.0, 4.0]])}, "differs from the truth in 'w' by inf of its norm"),
        ({"w": np.array([3.0, np.nan])}, "differs from the truth in 'w' by inf of its norm"),
        ({"w": np.array([3.0])}, "differs from the truth in 'w' by inf of its norm"),
        ({"loss": np.asarray(2.01)}, "differs from the truth in 'loss' by 0.005 of its norm"),
        ({"extra": np.ones(1)}, "has an unexpected 'extra' among its answers; correct it"),
    ],
)
def test_a_contender_that_computes_something_else_is_rejected(cheat: dict[str, Any], said: str) -> None:
    with pytest.raises(Disagreement, match=r"^contender='b' of 'w'") as caught:
        agreement(work_of(honest(), honest("b", **cheat)))
    assert said in str(caught.value)


def test_a_missing_answer_and_a_vacuous_expectation_are_rejected() -> None:
    silent = Contender("b", lambda n: n, answer=lambda _: {"w": RIGHT["w"]})
    with pytest.raises(Disagreement, match=r"^contender='b' of 'w' lacks 'loss' among its answers; correct it"):
        agreement(work_of(silent))
    zero = Work(
        "w", [Contender("a", lambda n: n, answer=lambda _: {"w": np.zeros(2)})], {"": lambda: {"w": np.zeros(2)}}
    )
    with pytest.raises(Disagreement, match=r"^contender='a' of 'w': the expected 'w' is 0, which proves nothing"):
        agreement(zero)


def test_the_very_run_that_is_timed_is_compared() -> None:
    seen: list[Any] = []

    def run(n: int) -> int:
        seen.append(n)
        return 10 * n

    def answer(done: Any) -> dict[str, Any]:
        seen.append(done)
        return RIGHT

    limit = Contender("limit", lambda n: seen.append(("limit", n)))
    agreement(work_of(Contender("a", run, reset=lambda: seen.append("reset"), answer=answer), limit))
    assert seen == ["reset", 8, 80, ("limit", 8)]


def test_each_problem_has_its_own_answer() -> None:
    doubled = {key: 2 * a for key, a in RIGHT.items()}
    other = Contender("b", lambda n: n, answer=lambda _: doubled, problem="two")
    expected = {"": lambda: RIGHT, "two": lambda: doubled, "nobody's": lambda: pytest.fail("nobody asked")}
    assert agreement(Work("w", [honest(), other], expected)) == {"": 0.0, "two": 0.0}
    swapped = Contender("b", lambda n: n, answer=lambda _: RIGHT, problem="two")
    with pytest.raises(Disagreement, match=r"differs from the truth in .* by 0\.5 of its norm"):
        agreement(Work("w", [swapped], expected))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 5])
def test_difference_is_relative(dtype: type, size: int) -> None:
    a = np.arange(1, size + 1, dtype=dtype)
    for scale in (dtype(1e-12), dtype(1e12)):
        assert difference(scale * a * dtype(1.5), scale * a) == pytest.approx(0.5, rel=1e-6)
    assert difference(np.empty(0), np.empty(0)) is None
    assert difference(a, np.zeros_like(a)) is None


# --- tables -----------------------------------------------------------------------------------------------------------


def times(**medians: float) -> dict[str, Times]:
    return {name: Times((m,) * 5) for name, m in medians.items()}


def test_rows_have_the_published_columns() -> None:
    work = Work("w", [honest("l0ref"), honest("b")])
    rows = rows_of("s", work, {"l0ref": Times((1.0, 2.0, 3.0)), "b": Times((5.0, 5.0, 5.0))})
    assert rows == [
        {"suite": "s", "work": "w", "contender": "l0ref", "median_s": 2.0, "iqr_s": 1.0, "rounds": 3},
        {"suite": "s", "work": "w", "contender": "b", "median_s": 5.0, "iqr_s": 0.0, "rounds": 3},
    ]


def test_table_has_ratios_from_five_rounds_on() -> None:
    work = Work("w", [], unit="step", tolerance=1e-3, check_units=8)
    text = work_text("s", work, times(l0ref=0.002, b=0.007), {"with penalty": 3e-6})
    assert text.splitlines() == [
        "s: w, 5 rounds",
        "time per step    median  IQR  time / l0ref     quartiles",
        "l0ref          2.000 ms   0%",
        "b              7.000 ms   0%          3.50  3.50 .. 3.50",
        "all agree (with penalty): within 3e-06 of the truth after 8 steps, allowed is 0.001",
    ]


def test_table_refuses_ratios_of_few_rounds_and_says_so() -> None:
    few = {"l0ref": Times((0.002,) * 4), "b": Times((0.007,) * 4)}
    assert work_text("s", Work("w", []), few, {}).splitlines() == [
        "s: w, 4 rounds",
        "time per call    median  IQR  time / l0ref  quartiles",
        "l0ref          2.000 ms   0%",
        "b              7.000 ms   0%             -          -",
        "no ratios: they need 5 rounds or more, these are 4",
    ]
    one = work_text("s", Work("w", []), {"l0ref": Times((0.002,))}, {})
    assert one.startswith("s: w, 1 round\n")


def test_table_without_us_has_no_ratios_and_a_rate_where_asked() -> None:
    text = work_text("s", Work("w", [], rate=(4e9, "GF/s"), per=(3, "epoch")), times(a=0.5, b=2.0), {})
    assert text.splitlines() == [
        "s: w, 5 rounds",
        "time per epoch      median  IQR  GF/s",
        "a               500.000 ms   0%   8.0",
        "b                  2.000 s   0%   2.0",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(9.999e-4, "999.900 us"), (1e-3, "1.000 ms"), (0.9994, "999.400 ms"), (1.0, "1.000 s")]
)
def test_units_of_time(value: float, text: str) -> None:
    assert seconds(value) == text


# --- threads and BLAS -------------------------------------------------------------------------------------------------


def test_variables_name_every_library() -> None:
    found = variables(3)
    counts = {k: v for k, v in found.items() if k.endswith("_THREADS")}
    assert set(counts) >= {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"}
    assert set(counts.values()) == {"3"}
    assert found["OPENBLAS_THREAD_TIMEOUT"] == "18"


@pytest.mark.parametrize(
    ("cpus", "threads", "expected"),
    [
        ([0, 1], 2, (0, [1])),
        ([0, 1], 1, (0, [1])),
        ([2, 5, 7, 9], 3, (2, [5, 7])),
        ([2, 5, 7, 9], 1, (2, [5])),
        ([4], 1, None),
    ],
)
def test_places_of_threads(cpus: list[int], threads: int, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_places, "processors", lambda: cpus)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    monkeypatch.setattr(os.path, "isdir", lambda _: True)
    assert places(threads) == expected
    monkeypatch.delattr(os, "sched_setaffinity")
    assert places(threads) is None


def test_threads_are_pinned_and_freed_again() -> None:
    place = places(2)
    ready, stop, numbers = threading.Event(), threading.Event(), []

    def wait() -> None:
        numbers.append(threading.get_native_id())
        ready.set()
        stop.wait(60)

    before = processors()
    thread = threading.Thread(target=wait)
    with pinned(2) as pin:
        thread.start()
        ready.wait(60)
        pin()
        if place is not None:
            assert os.sched_getaffinity(os.getpid()) == {place[0]}
            assert os.sched_getaffinity(numbers[0]) == set(place[1])
    if place is not None:
        assert os.sched_getaffinity(numbers[0]) == set(before)
    stop.set()
    thread.join()
    assert processors() == before


def test_nothing_is_pinned_where_that_is_impossible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_places, "places", lambda _: None)
    before = processors()
    with pinned(2) as pin:
        pin()
        assert processors() == before


def test_blas_tells_core_and_threads() -> None:
    found = blas()
    assert list(found) == ["name", "version", "core", "threads"]
    assert found["name"]
    if "scipy-openblas" in found["name"]:  # a wheel, which brings its own OpenBLAS
        assert isinstance(found["core"], str)
        assert 1 <= found["threads"] <= (os.cpu_count() or 1)


@pytest.mark.kernels
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 2, 3, 1000])
def test_traffic_reads_and_writes_everything(size: int, dtype: type, rng: np.random.Generator) -> None:
    w, g, m, v = (rng.standard_normal(size).astype(dtype) for _ in range(4))
    out = np.full(size, np.nan, dtype)
    triad(w, g, out)
    np.testing.assert_array_equal(out, w + dtype(3) * g)
    outs = [np.full(size, np.nan, dtype) for _ in range(3)]
    words = rng.integers(-9, 9, size=size)
    assert read(words) == words.sum()
    moments(w, g, m, v, *outs)
    for found, right in zip(outs, (w + g, m + g, v + g), strict=True):
        np.testing.assert_array_equal(found, right)


def test_peers_are_imported_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are installed, whatever is missing."""
    imported = []

    def load(name: str) -> None:
        imported.append(name)
        if name == "autograd":
            raise ImportError

    monkeypatch.setattr(worker.importlib, "import_module", load)
    monkeypatch.setattr(worker, "environment", lambda _: {"order": list(imported)})
    monkeypatch.setattr(worker, "environment_text", lambda _: "")
    found = worker.run_plan(Plan((), 5, 1, ("torch", "autograd", "limits")))
    assert found["environment"] == {"order": ["torch", "autograd", "numpy"]}
