"""The pages: every link and anchor leads somewhere, every session is executed, every way in works."""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from l0ref.cli import build_parser, main
from tests.house_files import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "l0ref").rglob("*.md")])
PAGES = [page for page in PAGES if "_build" not in page.parts]
FENCE = re.compile(r"^(```+|~~~+).*?^\1\s*$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
LINK = re.compile(r"\]\(\s*<?([^)<>\s]+)>?(?:\s+\"[^\"]*\")?\s*\)")
EXECUTED = {"gradcheck.md", "own_data.md", "reading.md", "sparse.md", "quickstart.md"}  # pages with sessions, and tests


def prose(text: str) -> str:
    """A page without its code."""
    return CODE.sub("code", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """The anchors of a page: its headings as GitHub and MyST name them, and explicit ones."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+?)\s*#*$", FENCE.sub("", text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-")
        number = 0
        while (name := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(name)
    return (
        found
        | set(re.findall(r'(?:id|name)="([^"]+)"', text))
        | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))
    )


def broken(page: Path, text: str) -> Iterator[str]:
    """The links of a page that lead nowhere; those to other hosts are not looked at."""
    for target in LINK.findall(prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists():
            yield target
        elif anchor and path.suffix == ".md":
            other = text if path == page else path.read_text(encoding="utf-8")
            if anchor not in anchors(other):
                yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    assert list(broken(page, page.read_text(encoding="utf-8"))) == []


def test_broken_links_are_found() -> None:
    page = ROOT / "docs" / "index.md"
    text = "# One two\n```\n[g](no)\n```\n[a](#one-two) [b](#no) [c](no.md) [d](api.md#public-names) "
    text += "[e](api.md#no) `[f](no)`\n"
    assert list(broken(page, text)) == ["#no", "no.md", "api.md#no"]
    assert anchors("# A `b_c`, d!\n## A `b_c`, d!\n") == {"a-b_c-d", "a-b_c-d-1"}


def test_every_page_with_sessions_is_executed() -> None:
    assert {page.name for page in PAGES if "```pycon" in page.read_text(encoding="utf-8")} == EXECUTED | {WHOLE}
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    assert f'doctest.testfile(str(Path(__file__).parents[1] / "docs" / "{WHOLE}")' in tests
    assert all(f'get_doctest("\\n".join({how}), {{}}, "{name}"' in tests for name, how in HOW.items())


WHOLE = "augmentation.md"
HOW = {"gradcheck.md": "blocks", "own_data.md": "pages", "reading.md": "sessions", "sparse.md": 'blocks("pycon")',
       "quickstart.md": "sessions"}  # fmt: skip


def test_quick_start_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    sessions = re.findall(r"^```pycon\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    test = doctest.DocTestParser().get_doctest("\n".join(sessions), {}, "quickstart.md", "quickstart.md", 0)
    assert len(test.examples) == 18
    for session in sessions:  # each way in stands alone
        test = doctest.DocTestParser().get_doctest(session, {}, "quickstart.md", "quickstart.md", 0)
        assert doctest.DocTestRunner().run(test).failed == 0
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)).split("\n")
    commands = [line.split()[1:] for line in lines if line.startswith("l0ref ")]
    assert len(commands) == 6
    for words in commands:
        build_parser().parse_args(words)
    compress, report, evaluate, export = commands[2:]
    assert main([*compress, "--epochs", "1", "--finetune-epochs", "1", "--no-figures", "--quiet"]) == 0
    assert main(evaluate) == main(export) == 0
    assert np.load("runs/mine.npz", allow_pickle=False)
    pytest.importorskip("jinja2", reason="needs the extra `web`")
    assert main(report) == 0
