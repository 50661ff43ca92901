"""Tables and aggregates: the numbers shown are the numbers given."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import data, metrics, nn
from l0ref.data import Splits
from l0ref.errors import CheckpointError, ConfigError, DataError
from l0ref.penalty import Penalty
from l0ref.pruning import Cut, Experiment, Recipe, Stage, run_experiment
from l0ref.report import aggregate, aggregate_text, environment, find_reports, full_text, summarize, table
from l0ref.report.aggregate import check_same, mean_and_deviation
from l0ref.report.tables import percent, times, whole

CONFIG = {"model": "mlp", "data": "few", "seed": 0, "data_dir": None}


@pytest.fixture(scope="module")
def splits() -> Splits:
    full = data.load("digits", seed=0)
    part = {k: getattr(full, k).take(np.arange(n)) for k, n in (("train", 100), ("validation", 40), ("test", 50))}
    return Splits(**part, name="few", checksum="c0ffee")


@pytest.fixture(scope="module")
def experiment(splits: Splits) -> Experiment:
    return run_experiment(
        nn.mlp((64, 12, 10), seed=0, input_shape=(1, 8, 8)), splits, train=Recipe(2, penalty=Penalty(alpha=1e-3)),
        cut=Cut(amount=0.97), finetune=Recipe(1), seed=0, controls=("none",), curve=(4,),
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(experiment: Experiment, splits: Splits) -> dict[str, Any]:
    return summarize(experiment, splits, config=CONFIG, seed=0)


def other_seed(report: dict[str, Any], seed: int, **stage: float) -> dict[str, Any]:
    new = copy.deepcopy(report)
    new["seed"] = new["config"]["seed"] = seed
    new["stages"][-1].update(stage)
    return new


def test_a_report_is_strict_json(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_report_says_what_was_measured_and_on_which_data(
    experiment: Experiment, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l0ref.report.summary.metrics.latencies", lambda *_: [4.0, 2.0, 1.0])
    report = summarize(experiment, splits, config=CONFIG, seed=3)
    assert report["seed"] == 3
    assert report["data"] == {"name": "few", "checksum": "c0ffee", "train": 100, "validation": 40, "test": 50}
    for run, found in ((experiment.runs["l0"], report), (experiment.runs["none"], report["controls"]["none"])):
        assert [stage["measured_speedup"] for stage in found["stages"]] == [1.0, 2.0, 4.0]
        assert [stage["latency_seconds"] for stage in found["stages"]] == [4.0, 2.0, 1.0]
        assert (found["cuts"], found["swept"]) == (list(run.cuts), run.swept)
        assert run.swept  # so that a lost count would show
        for stage, row in zip(run.stages, found["stages"], strict=True):
            assert_scores(stage, row, splits)
    (point,) = report["curve"]["none"]
    ((ratio, run),) = experiment.curves["none"]
    assert point["compression_asked"] == ratio == 4
    assert_scores(run.stages[1], point["pruned"], splits)
    assert_scores(run.stages[2], point["finetuned"], splits)


def assert_scores(stage: Stage, row: dict[str, Any], splits: Splits) -> None:
    validation, test = (metrics.evaluate(stage.model, part) for part in (splits.validation, splits.test))
    assert (row["val_loss"], row["val_acc1"]) == (validation.loss, validation.acc1)
    assert (row["test_loss"], row["test_acc1"]) == (test.loss, test.acc1)
    assert row["seconds"] == stage.seconds
    assert row["size_nz"] == metrics.of(stage.model)["size_nz"]


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


def cells(text: str, start: str) -> list[str]:
    """The cells of the first line that begins with `start`."""
    return re.split(r"  +", next(line for line in text.splitlines() if line.startswith(start)))


def test_every_column_shows_its_own_number(report: dict[str, Any]) -> None:
    numbers = {
        "val_acc1": 0.11, "test_acc1": 0.12, "size": 900, "size_nz": 130, "sparsity": 0.14, "compression_ratio": 15.0,
        "flops": 800, "flops_nz": 160, "theoretical_speedup": 17.0, "measured_speedup": 1.8, "bytes_dense": 1900,
        "bytes_csr": 200, "seconds": 2.1,
    }  # fmt: skip
    forged = copy.deepcopy(report)
    forged["stages"][-1].update(numbers)
    forged["stages"][-1]["layers"] = [{"name": "fc1.weight", "kind": "linear", "shape": [12, 64], **numbers}]
    forged["swept"] = {"fc1": 3, "fc2": 4}
    forged["curve"] = {"l1": [{
        "compression_asked": 5.0, "pruned": {"val_acc1": 0.61, "test_acc1": 0.62},
        "finetuned": {"val_acc1": 0.71, "test_acc1": 0.72, "compression_ratio": 5.5},
    }]}  # fmt: skip
    text = full_text(forged)
    assert cells(text, "l0       finetuned")[2:] == [
        "11.00 %", "12.00 %", "130", "14.00 %", "15.0x", "17.0x", "1.8x", "1,900", "200", "2.1",
    ]  # fmt: skip
    assert cells(text, "fc1.weight") == [
        "fc1.weight", "linear", "12x64", "900", "130", "14.00 %", "15.0x", "800", "160",
    ]  # fmt: skip
    assert cells(text, "l1") == ["l1", "5.0x", "5.5x", "61.00 %", "71.00 %", "62.00 %", "72.00 %"]
    assert "7 dead units of the l0 network were swept" in text


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


def test_aggregate_of_the_curve_shows_errors(report: dict[str, Any]) -> None:
    reports = [other_seed(report, seed) for seed in (0, 1)]
    for forged, accuracy in zip(reports, (0.9, 0.8), strict=True):
        (point,) = forged["curve"]["none"]
        point["pruned"].update(test_acc1=accuracy - 0.5)
        point["finetuned"].update(test_acc1=accuracy, val_acc1=accuracy + 0.05, compression_ratio=4.5, size_nz=100)
    text = aggregate_text(aggregate(reports))
    assert cells(text.split("asked")[1], "none") == [
        "none", "4.0x", "4.5x ± 0.0x", "100 ± 0", "65.00 % ± 7.07 %", "15.00 % ± 7.07 %", "10.00 % ± 7.07 %",
    ]  # fmt: skip


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
