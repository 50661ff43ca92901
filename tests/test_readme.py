"""What the README shows is what runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_it_opens_with_two_complete_commands() -> None:
    first = blocks("sh")[0].strip().splitlines()
    assert len(first) == 2
    assert all(line.startswith("python3 -m venv .venv && ") for line in first)
    assert first[0].endswith("l0ref compress")
    assert "pytest" in first[1]
    assert README.index("```sh") < 20


def test_the_snippet_runs_and_says_what_it_promises(capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = blocks("python")
    assert len(snippet.splitlines()) == 15
    space: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), space)
    w = np.array([0.5, -0.1, 0.0])
    np.testing.assert_allclose(space["slope"], 2 * w + 0.5 * np.exp(-5 * np.abs(w)) * np.sign(w), rtol=1e-14)
    accuracy, ratio = map(float, capsys.readouterr().out.split())
    assert accuracy > 0.9
    assert 19.9 < ratio < 20.1
