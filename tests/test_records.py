"""The files of examples/records: valid settings, cuts their networks survive, and one of them run, small."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from l0ref.cli import main
from l0ref.cli.build import build_job
from l0ref.cli.config import read_config
from l0ref.cli.settings import Settings, resolve
from l0ref.experiment import CONTROLS
from l0ref.experiment.controlled import check_cuts
from l0ref.nn import MODELS, Model
from l0ref.pruning.stages import parts_of

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "examples/records").glob("*.toml"))


def read(path: Path) -> tuple[Settings, Model]:
    settings = resolve(read_config(str(path)))
    return settings, MODELS[settings.model](seed=0)


TEACHER = "runs/lenet-5-dense-augmented/dense.npz"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_record_is_a_job_its_network_survives(path: Path) -> None:
    """And its comment is the command that makes it, beside all four controls."""
    settings, model = read(path)
    job = build_job(settings)
    check_cuts(model, job.cut, settings.curve, stages=settings.stages)
    last = parts_of(job.cut, job.finetune, size=model.size, stages=job.stages)[-1]
    asked = re.search(r"-(\d+)x", path.stem)
    if asked:
        assert 1 / (1 - float(last.cut.amount or 0)) == pytest.approx(int(asked[1]), rel=1e-3)
    is_row = "dense" not in path.stem  # but the teacher of others
    assert set(settings.controls) == (set(CONTROLS) - {"random"} if is_row else set())
    seeds = "--seeds 5 " if is_row else ""
    command = f"#   l0ref compress --config examples/records/{path.name} {seeds}--out runs/{path.stem}"
    assert path.read_text().splitlines()[1] == command
    assert ("augmented" in path.stem) == bool(settings.augment)
    assert (settings.teacher or TEACHER) == TEACHER
    assert ("teacher" in path.stem) == bool(settings.teacher)


def test_the_page_of_results_names_every_record() -> None:
    page = (ROOT / "docs/results.md").read_text()
    named = set(re.findall(r"`([\w-]+\.toml)`", page.partition("## Records")[2]))
    assert {path.name for path in FILES} == named
    assert len(FILES) >= 5


SMALL = [
    "--data", "digits", "--model", "digits_mlp", "--epochs", "2", "--finetune-epochs", "1", "--stage-epochs", "1",
    "--controls", "no", "--no-figures", "--quiet",
]  # fmt: skip


@pytest.mark.parametrize("name", ["lenet-300-100-100x", "lenet-300-100-100x-stages"])
def test_a_record_runs_on_the_digits(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--config", str(ROOT / f"examples/records/{name}.toml"), *SMALL]
    assert main(["compress", *flags, "--seeds", "2", "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    for seed in (0, 1):
        report: dict[str, Any] = json.loads((tmp_path / f"run/seed-{seed}/report.json").read_text())
        assert report["stages"][-1]["compression_ratio"] >= 99.9
        assert len(report["cuts"]) == (5 if name.endswith("stages") else 1)
        assert report["config"]["method"] == "fisher"
