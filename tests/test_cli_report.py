"""`l0ref report` over a folder with other things beside results, and its messages about folders of other commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from l0ref.cli import main
from l0ref.report.schema import SCHEMA_VERSION


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two seeds of a result, and beside them what export, compare, sweep and an interrupted compress leave."""
    stage = {"name": "dense", "test_loss": 0.3, "val_acc1": 0.9, "test_acc1": 0.8, "size": 40, "size_nz": 10}
    for seed in (0, 1):
        folder = tmp_path / "job" / f"seed-{seed}"
        folder.mkdir(parents=True)
        report = {"schema_version": SCHEMA_VERSION, "seed": seed, "config": {"data": "digits"}}
        report["stages"] = [stage, stage | {"name": "pruned"}]
        (folder / "report.json").write_text(json.dumps(report))
    for name, file in (("compare-a", "compare.json"), ("sweep-a", "sweep.json"), ("cut", "config.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    (tmp_path / "mine.npz").write_bytes(b"PK")
    return tmp_path


def test_what_is_no_result_is_skipped_with_a_line(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *map(str, sorted(runs.iterdir()))]) == 0
    out, err = capsys.readouterr()
    assert "n = 2 seeds" in out
    lines = err.splitlines()
    told = [str(runs / name) for name in ("compare-a", "cut", "mine.npz", "sweep-a")]
    assert [line.split("'")[1] for line in lines] == told
    assert all(line.startswith("l0ref report: skipped: ") for line in lines)
    assert main(["report", *(str(runs / name) for name in ("cut", "mine.npz"))]) == 2
    assert capsys.readouterr().err.count("has no report.json") == 1


def test_the_page_has_the_results_alone(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("l0ref.report.html.page_html", lambda pages: shown.extend(p.label for p in pages) or "")
    assert main(["report", *map(str, sorted(runs.iterdir())), "--html", str(runs / "page.html")]) == 0
    assert shown == [str(runs / "job" / f"seed-{seed}") for seed in (0, 1)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("compare-a", "holds a comparison; l0ref compare --resume {0} prints its tables again"),
        ("sweep-a", "holds a sweep; the same l0ref sweep command prints its table again, l0ref report {0}/* --html "),
        ("cut", "has no report.json; name a folder that l0ref compress --out wrote"),
    ],
)
def test_a_folder_of_another_command_is_called_by_its_name(
    name: str, said: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(runs / name)]) == 2
    assert said.format(runs / name) in capsys.readouterr().err
