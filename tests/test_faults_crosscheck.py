"""The counts of the fault corpus that are published for PyTorch's and autograd's checkers are what a run gives.

`python -m tests.faults` runs all of it; here every fault is given to autograd and every fifth to PyTorch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.faults.count import misses, place, read, title
from tests.faults.kinds import corpus
from tests.faults.plant import KINDS, plant, targets

pytest.importorskip("torch", reason="PyTorch is not installed; install the extra `crosscheck`")
pytest.importorskip("autograd", reason="autograd is not installed; install the extra `crosscheck`")

from tests.faults.others import OTHERS
from tests.history.run import cases, others

pytestmark = [pytest.mark.crosscheck, pytest.mark.slow]


@pytest.mark.parametrize(("checker", "every"), [("torch", 5), ("torch fast", 5), ("autograd", 1)])
def test_what_a_checker_finds_is_what_the_page_says(checker: str, every: int) -> None:
    counts = read()
    points = [t for at in ("smooth", "square", "kink") for t in targets(at, 0)]
    refused = [t for t in points if not OTHERS[checker](t.true, t)]
    assert [title(t) for t in refused] == counts["truth"][checker]
    wrong = []
    for p in corpus()[::every]:
        recorded = counts["kinds"][p.kind.name]["missed"].get(checker, [])
        if misses(checker, p, refused) != (recorded == "all" or place(p) in recorded):
            wrong.append(p.id)
    assert wrong == [], "run python -m tests.faults"


@pytest.mark.parametrize(("checker", "every"), [("torch", 3), ("torch fast", 3), ("autograd", 1)])
def test_what_a_checker_says_of_history_is_what_the_page_says(checker: str, every: int) -> None:
    counts, some = read()["history"], cases()[::every]
    missed = [case.name for case in some if others(case, checker, wrong=True)]
    refused = [case.name for case in some if not others(case, checker, wrong=False)]
    asked = {case.name for case in some}
    assert missed == [name for name in counts["missed"][checker] if name in asked]
    assert refused == [name for name in counts["refused"][checker] if name in asked]


@pytest.mark.parametrize("checker", OTHERS)
def test_the_wrapping_hides_nothing_and_adds_nothing(checker: str) -> None:
    """A gross fault in any input is rejected, the truth accepted, and the random numbers of others left alone."""
    state: Any = np.random.get_state()  # noqa: NPY002
    for p in list(plant(KINDS["sign"], 0))[::15]:
        assert OTHERS[checker](p.target.true, p.target)
        assert not OTHERS[checker](p.pair(), p.target)
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
