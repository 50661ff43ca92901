"""Every hostile file ends in one sentence of the package, in little memory and time, and nothing outside is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.corpus import CASES, table

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are those of Linux")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("hostile")
    command = [sys.executable, "-m", "tests.hostile.subject", str(folder)]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_every_file_ends_in_the_package_s_own_error(found: dict[str, Any]) -> None:
    assert list(found) == list(CASES)
    assert {name: (r["kind"], r["said"]) for name, r in found.items() if r["kind"] != "own"} == {}
    assert {name: r["said"] for name, r in found.items() if "\n" in r["said"].rstrip("\n")} == {}
    assert {name: r["length"] for name, r in found.items() if not 20 < r["length"] < 2000} == {}


def test_no_code_is_run_and_nothing_outside_is_touched(found: dict[str, Any]) -> None:
    assert {name: r["seen"] for name, r in found.items() if r["seen"]} == {}
    assert [name for name, r in found.items() if not r["kept"]] == []


def test_every_file_takes_less_than_two_seconds_of_work(found: dict[str, Any]) -> None:
    assert {name: r["seconds"] for name, r in found.items() if r["seconds"] > 2} == {}


def test_the_list_is_that_of_the_corpus() -> None:
    assert len(CASES) > 250
    assert len({each.reader for each in CASES.values()}) == 13
    assert table() in (ROOT / "tests" / "hostile" / "README.md").read_text(encoding="utf-8")
