"""docs/formulas.md is the page of today's registries: every entry has its formula, its file and a test."""

from __future__ import annotations

import re

import pytest

from docs import formulas
from l0ref.autodiff import OPS
from l0ref.methods import METHODS
from l0ref.optim import OPTIMIZERS
from l0ref.surrogates import SURROGATES

ROWS = re.findall(r"^\| `(\S+)` \| (.+?) \| (\[.+\)) \| (.*) \|$", formulas.page(), re.MULTILINE)


def test_the_page_is_that_of_today() -> None:
    assert formulas.PAGE.read_text(encoding="utf-8") == formulas.page(), "run: python docs/formulas.py"


def test_the_table_of_methods_is_that_of_today() -> None:
    text = (formulas.METHOD_PAGES / "index.md").read_text(encoding="utf-8")
    assert formulas.methods_page(text) == text, "run: python docs/formulas.py"
    rows = re.findall(r"^\| ([\w, ]+) \| \[`(\w+)`\]\((\w+\.md)\) \| (\w+) \|", text, re.MULTILINE)
    assert {name for _, name, *_ in rows} == set(METHODS)
    for reads, name, page, removes in rows:
        assert reads == ", ".join(METHODS[name].reads)
        assert removes == METHODS[name].grain + "s"
        assert f"`{name}`" in (formulas.METHOD_PAGES / page).read_text(encoding="utf-8").split("\n", 1)[0]
    assert [len(reads.split(", ")) for reads, *_ in rows] == sorted(len(m.reads) for m in METHODS.values())


def test_every_entry_has_a_formula_a_file_and_a_test() -> None:
    own = [
        name
        for table in (OPS, SURROGATES)
        for name, each in formulas.in_order(table)
        if each.__module__.startswith("l0ref.")
    ]
    assert [name for name, *_ in ROWS] == [*own, *OPTIMIZERS, "proximal_...", *METHODS]
    for name, formula, source, tests in ROWS:
        assert len(formula) > 6, name
        for path in re.findall(r"\(\.\./([^)]+)\)", f"{source} {tests}"):
            assert (formulas.ROOT / path).is_file(), name
        assert "(../tests/" in tests, name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Relu", r"y = max\(x, 0\)\."),
        ("SCAD", r"phi\(w\) = lam \\\|w\\\| for"),
        ("adam", r"w \\<- w - lr m\\_hat"),
        ("sgd", r"v \\<- momentum v \+ g"),
        ("magnitude", r"Mask the smallest \\\|w\\\|.*\(See, Luong, Manning 2016\)"),
    ],
)
def test_formulas_are_those_of_the_docstrings(name: str, words: str) -> None:
    (formula,) = [formula for each, formula, *_ in ROWS if each == name]
    assert re.search(words, formula)


def test_a_formula_stops_before_the_gradient_and_is_escaped() -> None:
    def made() -> None:
        """y = |x|_2.    VJP  no more of this.

        And no more of this.
        """

    assert formulas._formula(made) == r"y = \|x\|\_2."
