"""Networks that predict numbers: R² and root mean squared error from `metrics` to tables, pictures and comparisons."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import metrics, nn
from l0ref.cli import main
from l0ref.data import Dataset
from l0ref.report.comparison import comparison_text
from l0ref.report.figures.comparison import accuracy_figure
from l0ref.report.figures.compression import compression_figure
from l0ref.report.tables import curve_table, short, stages_table

JOB = ["--label", "price", "--task", "values", "--model", "mlp:4-16-1", "--epochs", "40", "--lr", "0.01"]


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 rows of four columns and a price that is linear in them but for a little noise."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("prices") / "prices.csv"
    x = rng.normal(size=(300, 4))
    y = x @ np.array([1.0, -2.0, 0.5, 0.0]) + 0.1 * rng.normal(size=300)
    np.savetxt(path, np.column_stack([x, y]), delimiter=",", header="a,b,c,d,price", comments="")
    return path


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("outputs", [1, 3])
def test_r2_is_that_of_a_loop(dtype: Any, outputs: int, rng: np.random.Generator) -> None:
    model = nn.mlp([5, outputs], seed=0, dtype=dtype)
    x, y = rng.normal(size=(40, 5)).astype(dtype), (3 + rng.normal(size=(40, outputs))).astype(dtype)
    found = metrics.evaluate(model, Dataset(x, y, 0, "numbers"), batch_size=7)
    predicted, left, whole = model.logits(x), 0.0, 0.0
    for k in range(outputs):
        mean = sum(float(v) for v in y[:, k]) / 40
        left += sum((float(a) - float(b)) ** 2 for a, b in zip(y[:, k], predicted[:, k], strict=True))
        whole += sum((float(a) - mean) ** 2 for a in y[:, k])
    assert found.r2 == found.quality == pytest.approx(1 - left / whole, rel=1e-5)
    assert found.loss == pytest.approx(left / (40 * outputs), rel=1e-5)
    assert math.isnan(found.acc1)


def test_r2_of_the_mean_is_0_and_of_targets_that_do_not_vary_unknown() -> None:
    model = nn.mlp([2, 1], seed=0)
    still = model.replace(params={k: np.zeros_like(v) for k, v in model.params.items()})
    x = np.zeros((4, 2), np.float32)
    y = np.array([[-1.0], [1.0], [-3.0], [3.0]], np.float32)
    assert metrics.evaluate(still, Dataset(x, y, 0, "numbers")).r2 == pytest.approx(0.0)
    assert math.isnan(metrics.evaluate(still, Dataset(x, y * 0, 0, "numbers")).r2)
    assert math.isnan(metrics.evaluate(still, Dataset(x[:0], y[:0], 0, "numbers")).quality)


def test_quality_of_classes_is_the_accuracy() -> None:
    assert metrics.Score(0.1, 0.9, 10).quality == 0.9


def test_reports_tell_r2_and_the_root_of_the_loss(prices: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    flags = ["--finetune-epochs", "20", "--amount", "0.5", "--controls", "no", "--curve", "2", "--out", str(out)]
    assert main(["compress", "--data", str(prices), *JOB, *flags, "--seeds", "2"]) == 0
    said = capsys.readouterr().out
    assert "val R²" in said
    assert "test rmse" in said
    assert "variance that is not explained, 1 - R²" in said
    assert " acc " not in said
    assert "One sample" not in said
    report = json.loads((out / "seed-1" / "report.json").read_text(encoding="utf-8"))
    final = report["stages"][-1]
    assert 0.6 < final["test_r2"] < 1
    assert f"{100 * final['test_r2']:.2f} %" in stages_table(report)
    assert final["test_rmse"] == math.sqrt(final["test_loss"])
    assert short(final["test_rmse"]) == f"{math.sqrt(final['test_loss']):.4g}"
    assert short(final["test_rmse"]) in stages_table(report)
    assert short(None) == "-"
    other = json.loads((out / "seed-0" / "report.json").read_text(encoding="utf-8"))["stages"][-1]
    errors = [math.sqrt(stage["test_loss"]) for stage in (other, final)]
    assert f"{np.mean(errors):.4g} ± {np.std(errors, ddof=1):.4g}" in said
    assert f"{100 * report['curve']['l0'][0]['finetuned']['val_r2']:.2f} %" in curve_table(report)
    figure = compression_figure(report)
    assert figure.axes[0].get_ylabel().startswith("R²")
    assert [line for line in figure.axes[1].lines if line.get_gid() == "finetuned"]
    assert main(["evaluate", str(out / "seed-1" / "model.npz")]) == 0
    said = capsys.readouterr().out
    assert f"{100 * final['test_r2']:.2f} %" in said
    assert "R²" in said.splitlines()[0]
    assert "image" not in said


def test_methods_are_compared_by_what_they_explain(prices: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ["--methods", "magnitude,obd", "--ratios", "2", "--finetune-epochs", "3", "--out", str(out)]
    job = [word for word in JOB if word not in ("--lr", "0.01")]
    assert main(["compare", "--data", str(prices), *job, *flags, "--quiet"]) == 0
    rows = json.loads((out / "compare.json").read_text(encoding="utf-8"))["rows"]
    assert all(row["val_r2_pruned"] <= 1 and row["val_r2"] <= 1 and "val_acc1" not in row for row in rows)
    text = comparison_text(rows)
    assert text.startswith("Variance of the test targets that is not explained, 1 - R², in % after fine-tuning")
    assert f"{100 * (1 - rows[0]['test_r2']):.1f}" in text
    assert accuracy_figure(rows, x="compression_ratio").axes[0].get_ylabel() == "validation R²"
    assert (out / "compare.png").is_file()


def test_targets_far_from_0_are_warned_of(tmp_path: Path, capsys: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    for shift, warned in ((0.0, False), (50.0, True)):
        np.savez(tmp_path / "d.npz", x=x, y=x[:, 0] + shift)
        flags = [
            "--task",
            "values",
            "--model",
            "mlp:3-4-1",
            "--epochs",
            "1",
            "--finetune-epochs",
            "0",
            "--controls",
            "no",
        ]
        flags += ["--no-figures", "--amount", "0.5", "--out", str(tmp_path / f"out{shift}")]
        assert main(["compress", "--data", str(tmp_path / "d.npz"), *flags]) == 0
        assert ("subtract the mean and divide by the deviation" in capsys.readouterr().err) is warned
