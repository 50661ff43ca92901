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
from l0ref.deploy.compact import compact
from l0ref.errors import ArgumentError, CheckpointError, ConfigError, DataError
from l0ref.experiment import Experiment, run_experiment
from l0ref.penalty import Penalty
from l0ref.pruning import Compressed, Cut, Recipe, Stage
from l0ref.report import (
    aggregate,
    aggregate_text,
    deployment,
    deployment_text,
    environment,
    find_reports,
    full_text,
    summarize,
    table,
    untuned_curves,
)
from l0ref.report.page import run_page
from l0ref.report.schema import main_of, shown_names
from l0ref.report.seeds import check_same, mean_and_deviation
from l0ref.report.speed import speedup, verdict
from l0ref.report.text import beyond
from l0ref.tables import percent, times, whole

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
    laps = [[4.0, 8.0], [2.0, 2.0], [1.0, 1.0], [6.0, 6.0], [3.0, 3.0], [1.5, 1.5]]  # l0, then none: three stages each
    monkeypatch.setattr("l0ref.report.summary.metrics.lap_seconds", lambda *_: laps)
    report = summarize(experiment, splits, config=CONFIG, seed=3)
    assert report["seed"] == 3
    assert report["data"] == {"name": "few", "checksum": "c0ffee", "train": 100, "validation": 40, "test": 50}
    for run, found in ((experiment.runs["l0"], report), (experiment.runs["none"], report["controls"]["none"])):
        assert found["history"] == list(run.rows)
        assert (found["cuts"], found["swept"]) == (list(run.cuts), run.swept)
        assert run.swept  # so that a lost count would show
        for stage, row in zip(run.stages, found["stages"], strict=True):
            assert_scores(stage, row, splits)
    speeds = [[s["measured_speedup"] for s in run["stages"]] for run in (report, report["controls"]["none"])]
    assert speeds == [[1.0, 3.0, 6.0], [1.0, 2.0, 4.0]]
    pruned = report["stages"][1]
    assert pruned["measured_speedup_low"] == pytest.approx(2.2)  # of the ratios 2 and 4
    assert pruned["measured_speedup_high"] == pytest.approx(3.8)
    assert [stage["latency_seconds"] for stage in report["stages"]] == [6.0, 2.0, 1.0]
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
    assert "2.00 % of the test set" in " ".join(lines)  # 50 samples
    header = next(line for line in lines if "verdict" in line)
    assert header.split() == ["penalty", "stage", "theory", "measured", "range", "verdict", "bytes", "csr"]


def first_cells(text: str) -> list[list[str]]:
    """The first column of each table that begins with "penalty"."""
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("penalty")]
    return [[re.split(r"  +", row)[0] for row in rows[1:]] for rows in tables]


NAMES = [  # surrogate, alpha, l2, and what the main run is called
    ("laplace", 1e-4, 0.0, "l0"), ("laplace", 1e-4, 1e-3, "l0"), ("mcp", 1e-4, 1e-3, "mcp"), ("l1", 1e-4, 0.0, "l1"),
    ("laplace", 0.0, 0.0, "no penalty"), ("l1", 0.0, 1e-3, "l2"), ("laplace", None, None, "l0"),
]  # fmt: skip


@pytest.mark.parametrize(("surrogate", "alpha", "l2", "name"), NAMES)
def test_the_main_run_is_shown_by_its_penalty_and_stored_by_its_key(
    surrogate: str, alpha: float | None, l2: float | None, name: str, report: dict[str, Any]
) -> None:
    report = copy.deepcopy(report)
    report["config"] |= {"surrogate": surrogate, **({} if alpha is None else {"alpha": alpha, "l2": l2})}
    assert shown_names(report) == {"l0": name, "none": "none"}
    text = full_text(report)
    assert (first := first_cells(text)) == [[name] * 3 + ["none"] * 3, [name] * 3 + ["none"] * 3, [name, "none"]], first
    assert f"Layers of the final network of {name}:" in text
    assert f"Dead units of the network of {name} swept" in text
    report["controls"]["none"]["stages"][-1]["compression_ratio"] = 1e3
    assert f"({name}) to 1000.0x (none)" in " ".join(full_text(report).split())
    both = aggregate([report, other_seed(report, 1)])
    assert set(both["stages"]) == set(both["curve"]) == {"l0", "none"}
    assert [set(found) for found in first_cells(aggregate_text(both))] == [{name, "none"}] * 3


def test_a_control_of_the_same_penalty_is_told_from_the_main_run(report: dict[str, Any]) -> None:
    other = {**report, "config": {"alpha": 1e-4, "surrogate": "l1"}, "controls": {"l1": report["controls"]["none"]}}
    assert shown_names(other) == {"l0": "main: l1", "l1": "l1"}
    assert shown_names({**other, "main": "mine"}) == {"mine": "mine", "l1": "l1"}


def cells(text: str, start: str) -> list[str]:
    """The cells of the first line that begins with `start`."""
    return re.split(r"  +", next(line for line in text.splitlines() if line.startswith(start)))


def test_every_column_shows_its_own_number(report: dict[str, Any]) -> None:
    numbers = {
        "val_acc1": 0.11, "test_acc1": 0.12, "size": 900, "size_nz": 130, "sparsity": 0.14, "compression_ratio": 15.0,
        "flops": 800, "flops_nz": 160, "theoretical_speedup": 17.0, "measured_speedup": 1.8,
        "measured_speedup_low": 1.7, "measured_speedup_high": 1.9, "bytes_dense": 1900,
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
    assert cells(text, "l0       finetuned")[2:] == ["11.00 %", "12.00 %", "130", "14.00 %", "15.0x", "2.1"]
    speed = text.split("Speed and bytes:")[1]
    assert cells(speed, "l0       finetuned")[2:] == ["17.0x", "1.80x", "1.70 .. 1.90", "faster", "200"]
    assert cells(text, "fc1.weight") == ["fc1.weight", "12x64", "900", "130", "14.00 %", "15.0x", "800", "160"]
    assert cells(text, "l1") == ["l1", "5.0x", "5.5x", "61.00 %", "71.00 %", "62.00 %", "72.00 %"]
    assert "Dead units of the network of l0 swept: 7." in text


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
    assert "93.00 ± 2.65 %" in text
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
    assert cells(text.split("penalty  asked")[1], "none") == [
        "none", "4.0x", "4.5x ± 0.0x", "65.00 ± 7.07 %", "15.00 ± 7.07 %", "10.00 ± 7.07 %",
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
    with pytest.raises(ConfigError, match=r"^seed 0 appears twice"):
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


# --- reports and experiments of users ---------------------------------------------------------------------------------

BARE: dict[str, Any] = {"stages": [{"name": "only"}]}


def test_the_report_holds_the_curves_that_are_drawn(report: dict[str, Any]) -> None:
    assert list(report["untuned_curves"]) == ["l0", "none"]
    curve = report["untuned_curves"]["none"]
    assert [ratio for ratio, _ in curve] == [1, 2, 4, 8, 16, 32, 64]
    assert curve[0][1] == report["controls"]["none"]["stages"][0]["val_acc1"]


def test_the_report_holds_the_compact_network_before_anything_is_written(
    experiment: Experiment, splits: Splits
) -> None:
    small = compact(experiment.runs["l0"].model)
    found = summarize(experiment, splits, config=CONFIG, seed=0, small=small)
    assert [row["batch"] for row in found["compact"]["latency"]] == [1, 16]  # 40 validation samples
    assert found["compact"]["bytes_disk"] == {}
    assert "bytes on disk" not in full_text(found)
    assert "The same network without its dead units, and without its zeros:" in full_text(json.loads(json.dumps(found)))


def test_an_experiment_without_a_run_called_l0_is_reported(experiment: Experiment, splits: Splits) -> None:
    runs = {"mine": experiment.runs["l0"], "other": experiment.runs["none"]}
    found = summarize(Experiment(runs, {}), splits, config={}, seed=5)
    assert (found["main"], list(found["controls"]), found["curve"]) == ("mine", ["other"], {})
    text = full_text(json.loads(json.dumps(found)))
    assert "a network on few, seed 5" in text
    assert any(line.split()[:2] == ["mine", "finetuned"] for line in text.splitlines())
    assert "Dead units of the network of mine swept" in text
    assert "over n = 1 seeds" in aggregate_text(aggregate([found]))
    with pytest.raises(ArgumentError, match=r"^experiment has no runs; give it at least one Compressed"):
        summarize(Experiment({}, {}), splits, config={}, seed=0)


def test_a_report_of_stages_alone_is_printed() -> None:
    text = full_text(BARE)
    assert cells(text, "l0       only") == ["l0", "only", *["-"] * 6]
    assert "Curve" not in text
    assert "of the test set" not in text
    assert "only" in aggregate_text(aggregate([{**BARE, "seed": 1}, {**BARE, "seed": 2}]))


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ([], r"^report is a list; pass the dictionary that summarize returns or report\.json holds$"),
        ({}, r"^report lacks the stages of the run 'l0'; 'stages' must be a list with one row per stage"),
        ({"main": "mine", "stages": []}, r"^report lacks the stages of the run 'mine'; "),
        ({"stages": [{}]}, r"^report lacks the stages of the run 'l0'; "),
        ({**BARE, "controls": {"none": {}}}, r"^report lacks the stages of the run 'none'; "),
        ({**BARE, "controls": [1]}, r"^report has 'controls' of type list; it must be a dictionary$"),
        ({**BARE, "data": "digits"}, r"^report has 'data' of type str; it must be a dictionary$"),
    ],
)
def test_what_a_report_lacks_is_said_in_one_sentence(report: Any, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        full_text(report)


def test_what_an_aggregate_lacks_is_said_in_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"^report lacks 'seed'; give each report of an aggregate"):
        aggregate([BARE])
    with pytest.raises(ConfigError, match=r"^reports is empty: no mean exists; give at least one report$"):
        aggregate([])
    with pytest.raises(ConfigError, match=r"^reports differ in their runs, stages or curves; aggregate reports of one"):
        aggregate([{**BARE, "seed": 1}, {"stages": [{"name": "dense"}], "seed": 2}])
    with pytest.raises(ConfigError, match=r"^summary lacks 'stages'; pass the dictionary that aggregate returns"):
        aggregate_text({})


# --- numbers that could mislead ---------------------------------------------------------------------------------------


def test_every_table_fits_a_screen(report: dict[str, Any]) -> None:
    several = [other_seed(report, seed, size_nz=266_200, compression_ratio=64.0) for seed in (0, 1)]
    for text in (full_text(report), aggregate_text(aggregate(several))):
        assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("reference", "own", "said"),
    [
        ([1.0] * 15, [1.0] * 15, "-"),
        ([1.0, 1.1] * 8, [1.0, 1.05] * 8, "no gain"),
        ([2.0, 2.2] * 8, [1.0, 1.05] * 8, "faster"),
        ([1.0, 1.1] * 8, [2.0, 2.05] * 8, "slower"),
        ([1.0] * 9 + [9.0], [1.0] * 10, "no gain"),  # one slow round is no gain
        ([2.0] * 9 + [0.1], [1.0] * 10, "faster"),  # nor does one lose it
    ],
)
def test_a_range_that_holds_1_is_no_gain(reference: list[float], own: list[float], said: str) -> None:
    assert verdict(speedup(reference, own)) == said


def test_runs_of_other_compression_are_announced_above_the_table(report: dict[str, Any]) -> None:
    forged = copy.deepcopy(report)
    forged["stages"][-1]["compression_ratio"] = 20.0
    forged["controls"]["none"]["stages"][-1]["compression_ratio"] = 25.0
    text = full_text(forged)
    words = "Final compression differs between the runs, from 20.0x (l0) to 25.0x (none)"
    assert words in " ".join(text.split("penalty  stage")[0].split())
    assert "the accuracies below are not those of equally small networks" in " ".join(text.split())
    forged["stages"][-1]["val_r2"] = 0.5
    assert "the R² below are not those of equally small networks" in " ".join(full_text(forged).split())
    forged["controls"]["none"]["stages"][-1]["compression_ratio"] = 20.1
    assert "Final compression" not in full_text(forged)


@pytest.mark.parametrize(
    ("config", "asked"),
    [({"amount": 0.8}, "Asked for"), ({"amount": 256}, "Asked for"), ({"threshold": 0.1}, "The cut removed")],
)
def test_a_sweep_far_beyond_the_cut_is_told_above_the_table(config: dict[str, Any], asked: str) -> None:
    stage = {"name": "pruned", "test_loss": 0.3, "val_acc1": 0.9, "test_acc1": 0.8, "size": 320, "size_nz": 8}
    report: dict[str, Any] = {"config": config, "stages": [stage], "cuts": [{"kept": 64, "kept_after_sweep": 8}]}
    words = f"{asked} 80.00 % of the weights; the sweep of dead units removed 56 more: 97.50 %."
    assert words in " ".join(full_text(report).split("penalty  stage")[0].split())
    page = run_page(Path("nowhere"), report | {"stages": [stage, stage | {"name": "finetuned"}]}, command="")
    assert words in " ".join(page.notes[0].split())
    report["cuts"][0]["kept_after_sweep"] = 62
    assert "the sweep of dead units removed 2 more" not in " ".join(full_text(report).split())


def test_sweeps_of_all_rounds_are_counted() -> None:
    cuts = [{"kept": 160, "kept_after_sweep": 40}, {"kept": 40, "kept_after_sweep": 32}]
    report = {"config": {"amount": 0.8}, "stages": [{"name": "pruned", "size": 320}], "cuts": cuts}
    words = "Asked for 80.00 % of the weights; the sweep of dead units removed 128 more: 90.00 %."
    assert words in " ".join(beyond(report).split())


def test_seconds_are_said_to_hold_imports(report: dict[str, Any]) -> None:
    words = "the first run also imports libraries and loads or compiles kernels, which takes some seconds"
    assert words in " ".join(full_text(report).split())


def test_the_main_run_is_l0_wherever_it_stands() -> None:
    assert main_of(["none", "l0"]) == "l0"
    assert main_of(["mine", "none"]) == "mine"


def test_no_network_is_pruned_beyond_its_last_weight() -> None:
    x = np.random.default_rng(0).standard_normal((6, 4))
    few = data.Dataset(x, np.array([0, 1, 0, 1, 0, 1]), 2, "few")
    model = nn.mlp((4, 2), seed=0, dtype=np.float64)
    stage = Stage("dense", model, metrics.evaluate(model, few), 0.0)
    run = Compressed((stage,), (), 0, {}, ())
    curves = untuned_curves(Experiment({"l0": run}, {}), Splits(few, few, few, "few", ""), seed=0)
    assert [ratio for ratio, _ in curves["l0"]] == [1, 2, 4, 8]
    deep = nn.mlp((4, 4, 4, 2), seed=0, dtype=np.float64)  # 40 weights, of which three layers keep one each
    run = Compressed((Stage("dense", deep, metrics.evaluate(deep, few), 0.0),), (), 0, {}, ())
    curves = untuned_curves(Experiment({"l0": run}, {}), Splits(few, few, few, "few", ""), seed=0)
    assert [ratio for ratio, _ in curves["l0"]] == [1, 2, 4, 8]


def test_the_compact_network_is_faster_where_its_seconds_are_fewer(
    experiment: Experiment, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l0ref.metrics.lap_seconds", lambda *_: [[6.0, 6.0], [2.0, 3.0]])
    model = experiment.runs["l0"].model
    found = deployment(model, compact(model), splits.validation.x, files={})
    assert [row["measured_speedup"] for row in found["latency"]] == [2.5, 2.5]
    assert (found["latency"][0]["masked_seconds"], found["latency"][0]["compact_seconds"]) == (6.0, 2.5)
    assert "2.50x" in deployment_text(found)
