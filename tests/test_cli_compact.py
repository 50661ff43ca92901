"""`l0ref compress` writes a compact network, `evaluate` runs it, `calibrate` measures what it is chosen by."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from l0ref import checkpoint, metrics
from l0ref.cli import main
from l0ref.data import load
from l0ref.deploy import calibration
from l0ref.deploy.compact import compact
from l0ref.deploy.costs import Costs, Line
from l0ref.nn import MODELS
from l0ref.pruning import shrink
from l0ref.report import deployment, deployment_text
from l0ref.report.usage import BATCHES

QUICK = ["--epochs", "2", "--finetune-epochs", "1", "--amount", "0.9", "--controls", "no", "--no-figures", "--quiet"]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one short run, on a machine that was not calibrated."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("L0REF_COSTS", str(folder / "absent.json"))
        assert main(["compress", *QUICK, "--out", str(folder / "one")]) == 0
    return folder / "one"


def test_report_holds_bytes_multiply_adds_and_seconds_of_the_three_forms(result: Path) -> None:
    found = json.loads((result / "report.json").read_text())["compact"]
    masked, small = (checkpoint.load(result / name) for name in ("model.npz", "compact.npz"))
    assert found["bytes_memory"] == {
        "masked": sum(p.nbytes for p in masked.params.values()),
        "shrunk": metrics.bytes_stored(shrink(masked)),
        "compact": metrics.bytes_stored(small),
    }
    assert found["multiply_adds"] == {
        "masked": masked.size,
        "shrunk": shrink(masked).size,
        "compact": sum(small.params[k].size for k in small.weights),
    }
    assert found["multiply_adds"]["masked"] > found["multiply_adds"]["shrunk"] > found["multiply_adds"]["compact"]
    assert found["bytes_disk"] == {
        "masked": (result / "model.npz").stat().st_size, "compact": (result / "compact.npz").stat().st_size,
    }  # fmt: skip
    assert [row["batch"] for row in found["latency"]] == list(BATCHES)
    for row in found["latency"]:
        assert min(row["masked_seconds"], row["shrunk_seconds"], row["compact_seconds"]) > 0
        assert 0 < row["measured_speedup_low"] <= row["measured_speedup"] <= row["measured_speedup_high"]
    assert found["theoretical_speedup"] == metrics.of(masked)["theoretical_speedup"]
    assert {row["name"]: row["form"] for row in found["layers"]} == {
        key: "sparse" if key in small.patterns else "dense" for key in masked.weights
    }
    x = load("digits").test.x
    np.testing.assert_allclose(small.logits(x), masked.logits(x), rtol=1e-4, atol=1e-5)


def test_report_prints_them_side_by_side(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(result)]) == 0
    out = capsys.readouterr().out
    assert "The same network without its dead units, and without its zeros:" in out
    assert "microseconds, batch 128" in out
    head, memory = (next(line for line in out.splitlines() if word in line) for word in ("shrunk ", "bytes in memory"))
    assert head.split() == ["masked", "shrunk", "compact", "ratio", "range"]
    found = json.loads((result / "report.json").read_text())["compact"]["bytes_memory"]
    assert memory.split()[3:6] == [f"{found[name]:,}" for name in ("masked", "shrunk", "compact")]
    assert "speed not calibrated on this machine" in " ".join(out.split())


def test_evaluate_runs_the_compact_network(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(result)]) == 0
    out = capsys.readouterr().out
    small = checkpoint.load(result / "compact.npz")
    score = metrics.evaluate(small, load("digits", seed=0).test)
    header, row = (line.split("  ") for line in out.splitlines())
    assert "compact.npz" in row[0]
    assert f"{100 * score.acc1:.2f} %" in out
    assert f"{score.loss:.4f}" in out
    assert f"{metrics.bytes_stored(small):,}" in out
    assert "us per 128 samples" in "  ".join(header)
    assert main(["evaluate", str(result / "model.npz"), "--split", "validation"]) == 0
    assert "model.npz" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{tmp}"], r"l0ref evaluate: result='{tmp}' holds neither compact.npz nor model.npz; pass what compress"),
        (["{result}", "--data", "mnist"], r"l0ref evaluate: "),
        (["{result}", "--seed", "-1"], r"l0ref evaluate: --seed=-1 must be at least 0"),
        (["{result}/report.json"], r"l0ref evaluate: path="),
    ],
)
def test_evaluate_says_what_is_wrong(
    arguments: list[str], said: str, result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"{tmp}": str(tmp_path), "{result}": str(result)}
    for name, value in names.items():
        arguments = [a.replace(name, value) for a in arguments]
        said = said.replace(name, value)
    code = main(["evaluate", *arguments, *(["--data-dir", str(tmp_path)] if "mnist" in arguments else [])])
    err = capsys.readouterr().err
    assert code in (1, 2)
    assert err.startswith(said)
    assert err.count("\n") == 1


def test_evaluate_refuses_images_of_another_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.save(tmp_path / "model.npz", MODELS["lenet_300_100"](seed=0))
    assert main(["evaluate", str(tmp_path), "--data", "digits", "--seed", "0"]) == 2
    assert "the network of" in capsys.readouterr().err


def test_calibrate_writes_what_compress_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "costs.json"
    monkeypatch.setenv("L0REF_COSTS", str(path))
    monkeypatch.setattr(calibration, "LINEAR", ((20, 5), (30, 6)))
    monkeypatch.setattr(calibration, "CONV", ((2, 6, 3, 3),))
    assert main(["calibrate", "--rounds", "1"]) == 0
    assert f"written to {path}" in capsys.readouterr().out
    assert set(Costs.load(path).lines) == {"linear", "conv"}
    never = Line(dense=(0.0, 0.0), sparse=(1.0, 0.0, 0.0))
    Costs({"linear": never, "conv": never}, 16, 0.0).save(path)
    assert main(["compress", *QUICK, "--out", str(tmp_path / "run")]) == 0
    layers = json.loads((tmp_path / "run" / "report.json").read_text())["compact"]["layers"]
    assert {row["form"] for row in layers} == {"dense"}
    assert all(
        "smaller, but 1e+06 us as sparse rows" in row["why"]
        for row in layers
        if row["bytes_sparse"] < row["bytes_dense"]
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds", "0"], "--rounds=0 must be at least 1"),
        (["--out", "{tmp}"], "--out {tmp} cannot be written: it is a folder; name a file"),
        (["--out", "{tmp}/file/costs.json"], "--out {tmp}/file/costs.json cannot be written: "),
    ],
)
def test_calibrate_says_what_is_wrong_before_it_measures(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("l0ref.deploy.calibration.calibrate", lambda **_: pytest.fail("measured"))
    assert main(["calibrate", *(a.replace("{tmp}", str(tmp_path)) for a in arguments)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("l0ref calibrate: " + said.replace("{tmp}", str(tmp_path)))
    assert err.count("\n") == 1


def test_deployment_takes_as_many_batches_as_there_are_samples(tmp_path: Path) -> None:
    model = MODELS["digits_mlp"](seed=0)
    path = tmp_path / "m.npz"
    checkpoint.save(path, model)
    found = deployment(model, compact(model), np.zeros((16, 64), np.float32).reshape(16, *model.input_shape),
                       files={"masked": path, "compact": path})  # fmt: skip
    assert [row["batch"] for row in found["latency"]] == [1, 16]
    assert "multiply-adds, in theory" in deployment_text(found)
