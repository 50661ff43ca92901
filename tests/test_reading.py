"""docs/reading.md: its experiments run, its files exist, its figure shows the imports of today."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from docs import floors
from tests.house import CORE, FLOORS
from tests.house_files import ROOT

PAGE = (ROOT / "docs" / "reading.md").read_text(encoding="utf-8")


def test_the_experiments_print_what_they_show() -> None:
    sessions = re.findall(r"^```pycon\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    test = doctest.DocTestParser().get_doctest("\n".join(sessions), {}, "reading.md", "reading.md", 0)
    assert len(sessions) == 17
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed == 0


def test_every_file_and_name_it_sends_the_reader_to_exists() -> None:
    links = re.findall(r"\]\(\.\./([^)#]+)\)", PAGE)
    table = re.findall(r"^\| [^|]+ \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(links) > 20
    assert len(table) > 8
    cells = [name for cell in table for name in re.findall(r"`([^`]+)`", cell) if "/" in name or name.endswith(".md")]
    missing = [name for name in (*links, *cells) if not (ROOT / name).exists()]
    assert not missing
    for cell in table:
        path, *names = re.findall(r"`([^`]+)`", cell)[:2] or ["File"]
        for name in names:
            if "/" not in name and not name.endswith(".md"):
                source = (ROOT / path).read_text(encoding="utf-8")
                assert all(re.search(rf"(class|def) {part}\b", source) for part in name.split(".")), cell


def test_it_is_the_first_link_of_the_readme_and_of_the_index() -> None:
    for page in ("README.md", "docs/index.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert "reading.md" in re.findall(r"\]\(([^)]+)\)", text)[0], page


def test_the_experiments_are_one_for_each_file_and_one_for_the_truth() -> None:
    assert re.findall(r"^### (\d+)\.", PAGE, re.MULTILINE) == [str(n) for n in range(1, 17)]


def test_the_figure_shows_the_imports_of_today() -> None:
    drawn = floors.svg(floors.rooms(ROOT / "l0ref"), FLOORS, CORE)
    assert floors.FIGURE.read_text(encoding="utf-8") == drawn, "run: python docs/floors.py"


def test_the_figure_sees_a_new_import_and_what_it_implies(tmp_path: Path) -> None:
    package = tmp_path / "l0ref"
    package.mkdir()
    (package / "errors.py").write_text("")
    (package / "masks.py").write_text("def f():\n    from l0ref.errors import ShapeError\n")
    (package / "ops.py").write_text("from l0ref import masks\nimport l0ref.errors\n")
    used = floors.rooms(package)
    assert used == {"errors": set(), "masks": {"errors"}, "ops": {"masks", "errors"}}
    picture = floors.svg(used, {"errors": 0, "masks": 1, "ops": 3}, ())
    assert picture.count('stroke-opacity="0.6"') == 2  # that from ops to errors is implied by the other two
    (package / "errors.py").write_text("import l0ref.ops")
    assert "errors" in floors.reach(floors.rooms(package))["errors"]
