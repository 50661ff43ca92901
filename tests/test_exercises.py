"""docs/exercises.md: every stub fails the check the page names, every solution passes it."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from l0ref.autodiff import OPS
from l0ref.cli import main
from l0ref.errors import L0RefError
from l0ref.testing import GradcheckFailure

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "exercises.md").read_text(encoding="utf-8")
PARTS = dict(re.findall(r"^## \d+\. ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def exit_code(code: str, command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Save `code` as mine.py in a folder, and run there what the page says to type."""
    (folder / "mine.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    program, *words = shlex.split(command)
    registered = dict(OPS)
    try:
        if program == "l0ref":
            return main(words)
        assert (program, words) == ("python", ["mine.py"])
        try:
            runpy.run_path("mine.py", run_name="__main__")
        except (L0RefError, GradcheckFailure):
            return 1
        return 0
    finally:
        sys.modules.pop("mine", None)
        OPS.clear()
        OPS.update(registered)


def test_there_are_ten_and_each_has_a_stub_a_command_and_a_solution() -> None:
    assert len(PARTS) == 10
    for title, text in PARTS.items():
        assert [language for language, _ in BLOCK.findall(text)] == ["python", "sh", "python"], title
        stub, solution = (text for language, text in BLOCK.findall(text) if language == "python")
        assert stub.count('raise NotImplementedError("') + stub.count("raise NotImplementedError('") == 1, title
        assert 'raise NotImplementedError("' not in solution, title
        assert "<details><summary>Solution</summary>" in text.split("```sh")[1]


@pytest.mark.parametrize("title", PARTS)
def test_stub_fails_and_solution_passes(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (_, stub), (_, command), (_, solution) = BLOCK.findall(PARTS[title])
    assert exit_code(stub, command, tmp_path, monkeypatch) == 1
    assert exit_code(solution, command, tmp_path, monkeypatch) == 0


@pytest.mark.parametrize(
    ("title", "right", "wrong"),
    [
        ("A surrogate", "-np.expm1(-beta * np.abs(w))", "1 - np.exp(-beta * np.abs(w))"),
        ("Its gradient", "* np.sign(w)", "* np.where(w >= 0, 1, -1)"),
        ("A VJP", "grad_output.T @ input", "(input.T @ grad_output).T * 1.001"),
        ("An operation of your own", "2 * x - x**2", "2 * x + x**2"),
        ("A prox", "- t, 0)", "- t / 2, 0)"),
        ("A prox with a tie", "> np.sqrt", ">= np.sqrt"),
        ("A tie rule", "math.floor(amount * flat.size + 0.5)", "math.floor(amount * flat.size)"),
        ("A tie rule", 'np.argsort(flat, kind="stable")', "np.lexsort((-np.arange(flat.size), flat))"),
        ("A masked step of Adam", "np.where(keep, start, 0.0)", "start"),
        ("A masked step of Adam", "g = np.where(keep, gradient, 0.0)", "g = gradient"),
        ("Sparse rows", ", minlength=len(dense)", ""),
        ("A CSR product", "indptr[row + 1]", "indptr[row + 1] - 1"),
    ],
)
def test_checks_see_what_people_write_by_mistake(
    title: str, right: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (_, command), (_, solution) = BLOCK.findall(PARTS[title])
    assert solution.count(right) == 1
    assert exit_code(solution.replace(right, wrong), command, tmp_path, monkeypatch) == 1
