"""Gradients that were really wrong: found in every form, named rightly, and their true versions accepted."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.faults.count import read
from tests.history import page, run
from tests.history.case import CASES, FORMS
from tests.history.run import KINDS, cases, other_form, own

FAST = pytest.mark.parametrize("fast", [False, True], ids=["full", "fast"])
OURS = pytest.mark.parametrize("kind", [module.__name__.rsplit(".", 1)[-1] for module in KINDS])


@FAST
@OURS
def test_the_fault_is_found_and_the_truth_accepted(kind: str, fast: bool) -> None:
    found = cases(kind)
    assert found
    for case in found:
        for check in (own, other_form):
            accepted, text = check(case, wrong=False, fast_mode=fast)
            assert accepted, f"{case.name}: {text}"
            accepted, text = check(case, wrong=True, fast_mode=fast)
            assert not accepted, f"{case.name} was missed: {text}"


def names(text: str) -> list[str]:
    """The lines of a report that say what is wrong, beside the entries."""
    above = text.split("\n  parameter ")[0].splitlines()
    entries = re.compile(r": analytic |^  \.\.\. and |^gradcheck of ")
    return [line for line in above if not entries.search(line)]


@OURS
def test_the_fault_is_named_as_it_was_judged(kind: str) -> None:
    """`says` was compared with the report of the fault by hand, case by case; the reason stands beside it."""
    for case in cases(kind):
        _, text = own(case, wrong=True)
        if case.says:
            assert case.says in text, f"{case.name}: {names(text)}"
        else:
            assert names(text) == [], f"{case.name} got a name that nobody judged"


def test_most_faults_are_named() -> None:
    named = sum(bool(case.says) for case in CASES)
    assert named / len(CASES) >= 60 / 71
    assert all(case.because for case in CASES)


def test_the_corpus_is_large_and_sourced() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 88
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+#\d+( \(\w+\))?", case.source) for case in CASES)
    assert len({case.source for case in CASES}) == len(CASES)
    assert {case.kind for case in CASES} == {module.__name__.rsplit(".", 1)[-1] for module in KINDS}
    forms = Counter(case.form for case in CASES)
    assert set(forms) == set(FORMS)
    assert min(forms.values()) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_seeds_find_them_too(seed: int) -> None:
    for case in CASES:
        for fast in (False, True):
            assert own(case, wrong=False, fast_mode=fast, seed=seed)[0], case.name
            assert not own(case, wrong=True, fast_mode=fast, seed=seed)[0], case.name


def test_every_call_makes_functions_with_memory_of_their_own() -> None:
    for case in cases("memory"):
        assert [own(case, wrong=True)[0], own(case, wrong=False)[0]] == [False, True]
    assert run.cases() == [case for kind in KINDS for case in cases(kind.__name__.rsplit(".", 1)[-1])]


# --- the page ---------------------------------------------------------------------------------------------------------


def test_every_kind_is_told_with_an_example_of_its_own() -> None:
    assert list(page.WAYS) == [module.__name__.rsplit(".", 1)[-1] for module in KINDS]
    kinds = {case.name: case.kind for case in CASES}
    assert {example: kind for kind, (_, example, _) in page.WAYS.items()}.items() <= kinds.items()


def test_what_other_checkers_miss_has_its_reason_and_l0ref_misses_nothing() -> None:
    counts = read()["history"]
    strange = {c: set(counts["missed"][c]) | set(counts["refused"][c]) for c in counts["missed"]}
    assert strange["l0ref"] == strange["l0ref fast"] == set()
    assert set().union(*strange.values()) == set(page.WHY)
    assert {case.name for case in CASES} >= set(page.WHY)
