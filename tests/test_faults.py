"""l0ref's checker finds every planted fault, names its place, and accepts every true gradient."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest

from l0ref.autodiff.op import OPS
from l0ref.surrogates import SURROGATES
from l0ref.testing.verdict import GradcheckReport
from tests.faults import own, table
from tests.faults.count import read
from tests.faults.kinds import corpus, unseen
from tests.faults.plant import KINDS, Kind, Planted, Spot, behaviour, differs, plant, targets, with_result
from tests.house import registry_gaps

SEED = int(os.environ.get("L0REF_SEED", "0"))  # of the truth; faults are the same in every run
POINTS = ("smooth", "square", "kink")
MODES = pytest.mark.parametrize("fast", [False, True], ids=["full", "fast"])


# --- the corpus covers everything -------------------------------------------------------------------------------------


def registered(registry: dict[str, Any]) -> set[str]:
    return {name for name, entry in registry.items() if entry.__module__.startswith("l0ref.")}


def test_every_operation_and_surrogate_is_crossed_with_many_kinds() -> None:
    kinds: dict[str, dict[str, set[str]]] = {"op": {}, "surrogate": {}}
    for p in corpus():
        kinds[p.target.what].setdefault(p.target.name, set()).add(p.kind.name)
    assert registry_gaps(registered(OPS), kinds["op"]) == []
    assert registry_gaps(registered(SURROGATES), kinds["surrogate"]) == []
    few = {name: len(found) for group in kinds.values() for name, found in group.items() if len(found) < 25}
    assert few == {"L0": 10}  # its gradient is 0 everywhere: a factor or a permutation of it is right


def test_every_kind_is_planted_somewhere() -> None:
    planted = Counter(p.kind.name for p in corpus() + unseen())
    assert set(planted) == set(KINDS)
    assert len({p.kind.name for p in corpus()}) > 60


def test_every_input_has_a_fault() -> None:
    places = {(p.target.what, p.target.name, p.which) for p in corpus()}
    assert places == {(t.what, t.name, i) for t in targets("smooth", 0) for i in range(len(t.xs))}


@pytest.mark.parametrize("at", POINTS)
def test_what_is_planted_differs_from_the_truth_and_the_truth_does_not(at: str) -> None:
    for target in targets(at, 0):
        twice = [behaviour(target.true, target) for _ in range(2)]
        assert [differs(a, b) for a, b in zip(*twice, strict=True)] == [False] * len(twice[0]), target.name
    for p in corpus():
        if p.kind.at == at:
            seen, true = behaviour(p.pair(), p.target), behaviour(p.target.true, p.target)
            assert any(differs(a, b) for a, b in zip(seen, true, strict=True)), p.id


def test_a_fault_that_changes_nothing_is_not_planted() -> None:
    idle = Kind("idle", "", "smooth", None, True, "numbers", lambda s: (with_result(s, lambda g, _: +g), (s.which,)))
    tiny = Kind(
        "tiny", "", "smooth", None, True, "numbers", lambda s: (with_result(s, lambda g, _: g * (1 + 1e-8)), (s.which,))
    )
    assert list(plant(idle, 0)) == list(plant(tiny, 0)) == []
    assert list(plant(KINDS["sign"], 0)) != []


@pytest.mark.parametrize("at", ["smooth", "square"])
def test_inputs_are_off_the_kinks_and_every_one_matters(at: str) -> None:
    for target in targets(at, SEED):
        report = own.run(target.true, target, fast_mode=False)
        assert report.at_kinks == (target.name == "L0"), report.text()  # which moves at 0 only
        assert all(g.any() for g in target.cotangents) or target.name == "L0", target.name


# --- every fault is found ---------------------------------------------------------------------------------------------


def assert_found(planted: Planted, *, fast: bool) -> None:
    """The check fails, and blames the input with the fault and no other."""
    report = own.run(planted.pair(), planted.target, fast_mode=fast)
    text = report.text()
    assert not report, f"{planted.id} was missed"
    names = {report.parameters[i].name for i in planted.blamed} if report.parameters else set()
    wrong = {p.name for p in report.parameters if not p.passed}
    if planted.kind.said is not None:
        assert planted.kind.said in text, f"{planted.id}: {text}"
        return
    assert wrong <= names, f"{planted.id}: {text}"
    assert complained_of(report) == names, f"{planted.id}: {text}"


def complained_of(report: GradcheckReport) -> set[str]:
    """The parameters that the message finds fault with: above its table, in lines that accept nothing.

    A broken tie names every entry that shares it: which of them has too much is a matter of the documented value.
    """
    above = report.text().split("\n  parameter ")[0].splitlines()
    accepted = ("an accepted one", "tied entries: ")
    text = "\n".join(line.split(" it equals that of ")[0] for line in above if not any(a in line for a in accepted))
    names = [p.name for p in report.parameters]
    return {name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)}


def first_of_each() -> list[Planted]:
    """One fault of every kind, and one in every operation and surrogate."""
    by_kind = {p.kind.name: p for p in reversed(corpus())}
    by_target = {p.target.name: p for p in corpus() if p.kind.name in ("weight_decay", "two_exchanged")}
    return [*by_kind.values(), *by_target.values()]


@MODES
def test_a_fault_of_every_kind_and_in_every_target_is_found(fast: bool) -> None:
    for planted in first_of_each():
        assert_found(planted, fast=fast)


@pytest.mark.slow
@MODES
@pytest.mark.parametrize("kind", [kind.name for kind in KINDS.values() if kind.seen])
def test_every_fault_is_found(kind: str, fast: bool) -> None:
    planted = [p for p in corpus() if p.kind.name == kind]
    assert planted
    for p in planted:
        assert_found(p, fast=fast)


def test_limits_are_as_they_are_documented() -> None:
    for p in unseen()[::7]:
        assert own.full(p.pair(), p.target), f"{p.id} is found: move it to the kinds that are"


def test_kinks_without_the_documented_values() -> None:
    at_kinks = [p for p in corpus() if p.target.at_kink]
    assert sum(not own.undocumented(p.pair(), p.target) for p in at_kinks) == read()["unguided"]


# --- every truth is accepted ------------------------------------------------------------------------------------------


def refused(seed: int, *, fast: bool) -> list[str]:
    reports = [own.run(t.true, t, fast_mode=fast, seed=seed) for t in targets("smooth", seed)]
    modes = {r.mode for r, t in zip(reports, targets("smooth", seed), strict=True) if t.name != "L0"}
    assert modes == {"fast" if fast else "full"}
    return [report.text() for report in reports if not report]


@MODES
def test_every_true_gradient_is_accepted_square_and_at_kinks(fast: bool) -> None:
    found = [own.run(t.true, t, fast_mode=fast, seed=SEED) for at in POINTS[1:] for t in targets(at, SEED)]
    assert [report.text() for report in found if not report] == []
    assert {report.mode for report in found if report.target.endswith("at a kink")} == {
        "fast, then full" if fast else "full"
    }
    assert refused(100 * SEED, fast=fast) == []


@pytest.mark.slow
@MODES
@pytest.mark.parametrize("tens", range(10))
def test_every_true_gradient_is_accepted_over_100_seeds(tens: int, fast: bool) -> None:
    for seed in range(10 * tens, 10 * tens + 10):
        assert refused(100 * SEED + seed, fast=fast) == []


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_is_what_the_counts_say() -> None:
    assert table.PAGE.read_text(encoding="utf-8") == table.page(read()), "run python -m tests.faults"


def test_the_counts_are_those_of_this_corpus() -> None:
    counts, again = read(), "run python -m tests.faults"
    for key, faults in (("kinds", corpus()), ("unseen", unseen())):
        assert {k: v["planted"] for k, v in counts[key].items()} == Counter(p.kind.name for p in faults), again
    found_by_us = [v["missed"].keys() & {"l0ref", "l0ref fast"} for v in counts["kinds"].values()]
    assert found_by_us == [set()] * len(found_by_us)
    assert counts["truth"]["l0ref"] == counts["truth"]["l0ref fast"] == []


def test_every_miss_has_its_reason() -> None:
    missed = {name for name, kind in read()["kinds"].items() if kind["missed"]}
    assert missed <= set(table.WHY) <= set(KINDS)
    assert set("".join(table.WHY[name] for name in missed)) == set(table.REASONS)
    shown = {line.split(" | ")[-1].strip(" |") for line in table.PAGE.read_text(encoding="utf-8").splitlines()}
    assert {"(a)", "(a) (e)", "(k)"} < shown


def test_found_counts_what_is_not_missed() -> None:
    kind = {"planted": 5, "missed": {"torch": "all", "autograd": ["Linear 0", "Linear 1"]}}
    assert [table.found(kind, checker) for checker in ("l0ref", "torch", "autograd")] == [5, 0, 3]


def test_spots_are_the_same_in_every_call() -> None:
    target = targets("smooth", 0)[0]
    a, b = (Spot(target, 0).rng().random(4) for _ in range(2))
    np.testing.assert_array_equal(a, b)
