"""Tables and aggregates: the numbers shown are the numbers given."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import data, nn
from l0ref.data import Splits
from l0ref.errors import CheckpointError, ConfigError, DataError
from l0ref.penalty import Penalty
from l0ref.pruning import Cut, Recipe, run_experiment
from l0ref.report import aggregate, aggregate_text, environment, find_reports, full_text, summarize, table
from l0ref.report.aggregate import check_same, mean_and_deviation
from l0ref.report.tables import percent, times, whole


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    full = data.load("digits", seed=0)
    part = {k: getattr(full, k).take(np.arange(n)) for k, n in (("train", 100), ("validation", 40), ("test", 40))}
    experiment = run_experiment(
        nn.mlp((64, 12, 10), seed=0, input_shape=(1, 8, 8)), Splits(**part, name="few", checksum="c0ffee"),
        train=Recipe(2, penalty=Penalty(alpha=1e-3)), cut=Cut(amount=0.9), finetune=Recipe(1), seed=0,
        controls=("none",), curve=(4,),
    )  # fmt: skip
    config = {"model": "mlp", "data": "few", "seed": 0, "data_dir": None}
    return summarize(experiment, Splits(**part, name="few", checksum="c0ffee"), config=config, seed=0)


def other_seed(report: dict[str, Any], seed: int, **stage: float) -> dict[str, Any]:
    new = copy.deepcopy(report)
    new["seed"] = new["config"]["seed"] = seed
    new["stages"][-1].update(stage)
    return new


def test_a_report_is_strict_json(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_table_aligns() -> None:
    text = table(["a", "bb"], [["xxx", "1"], ["y", "22"]])
    assert text.splitlines() == ["a    bb", "xxx   1", "y    22"]
    assert table(["a"], []) == "a"


def test_cells() -> None:
    assert percent(0.12345) == "12.35 %" or percent(0.12345) == "12.34 %"
    assert (percent(None), times(None), whole(None)) == ("-", "-", "-")
    assert (times(3.26), whole(1234567)) == ("3.3x", "1,234,567")


def test_full_text_shows_every_stage_of_every_run(report: dict[str, Any]) -> None:
    lines = full_text(report).splitlines()
    for run in ("l0", "none"):
        for stage in ("dense", "pruned", "finetuned"):
            assert any(line.split()[:2] == [run, stage] for line in lines)
    shown = next(line for line in lines if line.startswith("l0       finetuned"))
    stage = report["stages"][-1]
    assert percent(stage["test_acc1"]) in shown
    assert whole(stage["size_nz"]) in shown
    assert any(line.startswith("total") and whole(stage["flops_nz"]) in line for line in lines)
    assert "Curve:" in lines


def test_mean_and_sample_deviation() -> None:
    assert mean_and_deviation([2.0, 4.0, 9.0]) == (5.0, pytest.approx(math.sqrt((9 + 1 + 16) / 2)))
    assert mean_and_deviation([2.0]) == (2.0, None)


def test_aggregate_over_seeds(report: dict[str, Any]) -> None:
    reports = [other_seed(report, s, test_acc1=a) for s, a in ((0, 0.90), (1, 0.94), (2, 0.95))]
    found = aggregate(reports)
    cell = found["stages"]["l0"]["finetuned"]["test_acc1"]
    assert cell["mean"] == pytest.approx(0.93)
    assert cell["sd"] == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.02**2) / 2))
    assert cell["n"] == 3
    text = aggregate_text(found)
    assert "93.00 % ± 2.65 %" in text
    assert "n = 3 seeds" in text
    (point,) = found["curve"]["l0"]
    assert point["compression_asked"] == 4


def test_one_run_has_no_deviation(report: dict[str, Any]) -> None:
    assert "±" not in aggregate_text(aggregate([report])).split("seeds")[1]


def test_a_ratio_that_is_not_finite_is_left_out(report: dict[str, Any]) -> None:
    reports = [other_seed(report, 0), other_seed(report, 1)]
    reports[1]["stages"][-1]["compression_ratio"] = None
    assert "compression_ratio" not in aggregate(reports)["stages"]["l0"]["finetuned"]


def test_mixtures_are_refused(report: dict[str, Any]) -> None:
    changed = other_seed(report, 1)
    changed["config"]["model"] = "other"
    with pytest.raises(ConfigError, match=r"^model differs between the runs \('mlp' and 'other'\)"):
        check_same([report, changed])
    moved = other_seed(report, 1)
    moved["config"]["data_dir"] = "elsewhere"
    check_same([report, moved])
    forged = other_seed(report, 1)
    forged["data"]["checksum"] = "bad"
    with pytest.raises(ConfigError, match=r"^data differs between the runs"):
        check_same([report, forged])
    with pytest.raises(ConfigError, match=r"^seed 0 is there twice"):
        check_same([report, copy.deepcopy(report)])


def test_finding_reports(report: dict[str, Any], tmp_path: Path) -> None:
    for seed in (10, 2):
        folder = tmp_path / "runs" / f"seed-{seed}"
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(other_seed(report, seed)))
    assert [r["seed"] for r in find_reports([tmp_path / "runs"])] == [2, 10]
    with pytest.raises(DataError, match=r"has no report\.json"):
        find_reports([tmp_path])
    (tmp_path / "report.json").write_text('{"schema_version": 99}')
    with pytest.raises(CheckpointError, match=r"is not a report of schema version 1"):
        find_reports([tmp_path])
    (tmp_path / "report.json").write_text('{"a": NaN}')
    with pytest.raises(CheckpointError, match=r"is not strict JSON"):
        find_reports([tmp_path])


def test_environment_names_versions_and_no_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = environment()
    assert found["packages"]["numpy"] == np.__version__
    assert found["threads"]["OMP_NUM_THREADS"] == "3"
    assert str(Path.home()) not in json.dumps(found)
