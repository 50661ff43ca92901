"""docs/sparse.md: its sessions run, the kernels it explains are those of the package, and it is linked."""

from __future__ import annotations

import doctest
import re

import pytest

from l0ref.bench.suites import suites
from tests.house_files import ROOT

PAGE = (ROOT / "docs" / "sparse.md").read_text(encoding="utf-8")
INDEX = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.kernels
def test_the_sessions_print_what_they_show() -> None:
    test = doctest.DocTestParser().get_doctest("\n".join(blocks("pycon")), {}, "sparse.md", "sparse.md", 0)
    assert len(test.examples) > 20
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.failed == 0


def test_the_kernels_are_quoted_word_for_word() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "l0ref" / "fast" / "sparse").glob("*.py")]
    quoted = blocks("python")
    assert len(quoted) == 5
    for block in quoted:
        shown = block.partition("...")[0].strip().splitlines()
        indented = r"\n *".join(re.escape(line.strip()) for line in shown)
        assert sum(len(re.findall(indented, source)) for source in sources) == 1, block


def test_it_is_linked_and_names_every_suite() -> None:
    assert "](sparse.md)" in INDEX
    assert "\nsparse\n" in INDEX
    for name in suites():
        if name.startswith("sparse"):
            assert re.search(rf"\b{name}\b", PAGE), name
    assert PAGE.index("<!-- measured: begin -->") < PAGE.index("<!-- measured: end -->")
