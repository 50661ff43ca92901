"""The commands: what they write, print and return, and what they say when something is wrong."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import checkpoint, metrics
from l0ref.archive import read_npz
from l0ref.cli import main
from l0ref.cli.settings import PRESETS, Settings, read_toml, resolve
from l0ref.data import load
from l0ref.errors import ConfigError
from l0ref.nn import MODELS

QUICK = ["--epochs", "3", "--finetune-epochs", "2", "--amount", "0.9", "--alpha", "1e-3"]
STAGE_KEYS = {
    "name", "size", "size_nz", "sparsity", "compression_ratio", "flops", "flops_nz", "theoretical_speedup",
    "measured_speedup", "bytes_dense", "bytes_csr", "val_acc1", "test_acc1", "val_loss", "test_loss", "seconds",
    "layers",
}  # fmt: skip


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one short run with controls and a curve."""
    out = tmp_path_factory.mktemp("run") / "one"
    assert main(["compress", *QUICK, "--controls", "none,random", "--curve", "2,4", "--out", str(out), "--quiet"]) == 0
    return out


def report_of(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return loaded


def test_every_file_is_written(result: Path) -> None:
    found = {path.name for path in result.iterdir()}
    assert found == {
        "config.json", "report.json", "history.csv", "model.npz", "masks.npz",
        "training.png", "weights.png", "surrogate.png", "masks.png", "compression.png",
    }  # fmt: skip
    for picture in result.glob("*.png"):
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_report_holds_what_the_schema_says(result: Path) -> None:
    report = report_of(result)
    assert report["schema_version"] == 1
    assert [stage["name"] for stage in report["stages"]] == ["dense", "pruned", "finetuned"]
    assert set(report["controls"]) == {"none", "random"}
    for run in (report, *report["controls"].values()):
        for stage in run["stages"]:
            assert set(stage) >= STAGE_KEYS
            assert [layer["name"] for layer in stage["layers"]] == ["fc1.weight", "fc2.weight", "fc3.weight"]
            assert sum(layer["size_nz"] for layer in stage["layers"]) == stage["size_nz"]
    assert report["data"]["checksum"] == load("digits").checksum
    assert report["seed"] == report["config"]["seed"] == 0
    assert report["environment"]["packages"]["numpy"] == np.__version__
    assert [point["compression_asked"] for point in report["curve"]["l0"]] == [2, 4]
    assert json.loads((result / "config.json").read_text()) == report["config"]


def test_the_saved_model_is_the_reported_one(result: Path) -> None:
    model, stage = checkpoint.load(result / "model.npz"), report_of(result)["stages"][-1]
    digits = load("digits", seed=0)
    assert metrics.evaluate(model, digits.test).acc1 == stage["test_acc1"]
    assert metrics.evaluate(model, digits.validation).acc1 == stage["val_acc1"]
    assert metrics.of(model)["size_nz"] == stage["size_nz"]
    masks, _ = read_npz(result / "masks.npz")
    for key in model.weights:
        np.testing.assert_array_equal(masks[key], model.masks[key])
    with np.load(result / "model.npz", allow_pickle=False) as plain:
        np.testing.assert_array_equal(plain["fc1.weight"], model.params["fc1.weight"])


def test_history_has_a_row_per_epoch_and_run(result: Path) -> None:
    rows = list(csv.DictReader((result / "history.csv").read_text().splitlines()))
    assert [(r["run"], r["phase"], r["epoch"]) for r in rows if r["run"] == "l0"] == [
        *(("l0", "train", str(i)) for i in (1, 2, 3)),
        *(("l0", "finetune", str(i)) for i in (4, 5)),
    ]
    assert {r["run"] for r in rows} == {"l0", "none", "random"}


def test_run_repeats_bit_for_bit(result: Path, tmp_path: Path) -> None:
    assert main(["compress", *QUICK, "--controls", "no", "--out", str(tmp_path / "b"), "--quiet", "--no-figures"]) == 0
    assert (tmp_path / "b" / "model.npz").read_bytes() == (result / "model.npz").read_bytes()
    assert not list((tmp_path / "b").glob("*.png"))


def test_tables_on_the_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", *QUICK, "--controls", "none", "--out", str(tmp_path / "r"), "--no-figures"]) == 0
    out, err = capsys.readouterr()
    for word in (
        "l0       dense",
        "l0       finetuned",
        "none     pruned",
        "fc2.weight",
        "total",
        "theoretical speed-up",
    ):
        assert word in out
    assert "l0 train  epoch 3/3" in err
    assert main(["report", str(tmp_path / "r")]) == 0
    again = capsys.readouterr().out
    assert again.strip() in out


def test_seeds_are_aggregated_and_mixtures_refused(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "seeds"
    assert (
        main(["compress", *QUICK, "--controls", "no", "--seeds", "2", "--out", str(out), "--quiet", "--no-figures"])
        == 0
    )
    assert {path.name for path in out.iterdir()} == {"seed-0", "seed-1"}
    capsys.readouterr()
    assert main(["report", str(out)]) == 0
    text = capsys.readouterr().out
    accuracies = [report_of(out / f"seed-{k}")["stages"][0]["test_acc1"] for k in (0, 1)]
    mean, sd = np.mean(accuracies), np.std(accuracies, ddof=1)
    assert f"{100 * mean:.2f} % ± {100 * sd:.2f} %" in text
    assert "n = 2 seeds" in text
    assert main(["report", str(out), str(result)]) == 2
    assert "controls differs between the runs" in capsys.readouterr().err
    assert main(["report", str(out), str(out / "seed-1")]) == 2
    assert "seed 1 is there twice" in capsys.readouterr().err


def test_settings_come_from_preset_then_file_then_flags(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text('model = "digits_cnn"\nfinetune-epochs = 7\nalpha = 3e-4\nthreshold = 0.02\ncontrols = ["l2"]\n')
    settings = resolve(read_toml(str(file)), {"alpha": 9e-4, "data": None})
    assert (settings.model, settings.finetune_epochs, settings.alpha) == ("digits_cnn", 7, 9e-4)
    assert settings.epochs == PRESETS["digits_cnn"]["epochs"]
    assert (settings.threshold, settings.amount, settings.controls) == (0.02, None, ("l2",))
    assert resolve(read_toml(str(file)), {"amount": 0.5}).threshold is None
    assert resolve({"data": "mnist"}).model == "lenet_300_100"
    assert resolve({}) == Settings(**{**PRESETS["digits_mlp"], "model": "digits_mlp"})


def test_presets_name_models_and_settings_that_exist() -> None:
    assert set(PRESETS) == set(MODELS)
    for preset in PRESETS.values():
        assert set(preset) <= set(Settings.__dataclass_fields__)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alhpa = 1.0", r"^alhpa=1\.0 is not a setting; did you mean 'alpha'\?$"),
        ("epochs = 1.5", r"^epochs=1\.5 must be a whole number, not float$"),
        ("epochs = true", r"^epochs=True must be a whole number, not bool$"),
        ('alpha = "big"', r"^alpha='big' must be a number, not str$"),
        ("model = 3", r"^model=3 is not one of"),
        ("curve = 3", r"^curve=3 must be a list, not int$"),
        ("alpha = ", r"^config='.*' is not TOML"),
    ],
)
def test_a_wrong_file_gets_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=said) as caught:
        resolve(read_toml(str(file)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["compress", "--amount", "0.5", "--threshold", "0.1"], 2, "not allowed with argument"),
        (["compress", "--model", "lenet_6"], 2, "invalid choice"),
        (["compress", "--controls", "l3"], 2, "'l3' is not one of none, l2, l1, random"),
        (["compress", "--amount", "1.5", "--epochs", "0"], 1, "amount=1.5 must lie in [0, 1]"),
        (["compress", "--alpha", "-1"], 2, "l0ref compress: alpha=-1.0 must be 0 or greater"),
        (["compress", "--beta", "0"], 2, "beta"),
        (["compress", "--lr", "0"], 2, "lr=0.0 must be greater than 0"),
        (["compress", "--surrogate", "mcp"], 2, "needs"),
        (["compress", "--surrogate-options", "lam"], 2, "surrogate_options='lam' must look like lam=1,gamma=2"),
        (["compress", "--model", "lenet_5"], 2, "takes images of shape (1, 28, 28), data='digits' has (1, 8, 8)"),
        (["compress", "--config", "nowhere.toml"], 2, "config='nowhere.toml' cannot be read"),
        (["compress", "--seeds", "0"], 2, "seeds=0 must be at least 1"),
        (["compress", "--data", "mnist", "--data-dir", "nowhere"], 1, "l0ref data fetch mnist"),
        (["report", "nowhere"], 1, "has no report.json"),
        (["data", "fetch", "cifar"], 2, "invalid choice"),
        (["shrink"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_errors_are_one_sentence_with_an_exit_code(
    arguments: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    extra = ["--out", "x", "--quiet"] if arguments[:1] == ["compress"] else []
    assert main([*arguments, *extra]) == code
    out, err = capsys.readouterr()
    assert said in err
    assert "Traceback" not in err + out


def test_a_result_is_not_overwritten_unasked(result: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (result / "report.json").read_bytes()
    assert main(["compress", *QUICK, "--out", str(result), "--quiet"]) == 2
    assert "holds a result already; choose another folder or pass --overwrite" in capsys.readouterr().err
    assert (result / "report.json").read_bytes() == before


def test_divergence_is_reported_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--optimizer", "sgd", "--lr", "1e30", "--controls", "no", "--out", str(tmp_path / "x"), "--quiet"]
    assert main(["compress", *QUICK, *arguments]) == 1
    err = capsys.readouterr().err
    assert "train, epoch 1, batch" in err
    assert "the last good model is in" in err
    assert checkpoint.load(tmp_path / "x" / "partial.npz").size == 50_200


def test_interrupt_gives_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("l0ref.cli.compress.run_experiment", stop)
    assert main(["compress", "--out", str(tmp_path / "x"), "--quiet"]) == 130
    assert capsys.readouterr().err == "l0ref compress: interrupted\n"


def test_ctrl_c_saves_what_was_reached(tmp_path: Path) -> None:
    out = tmp_path / "x"
    command = [sys.executable, "-m", "l0ref", "compress", "--epochs", "500", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        while "epoch 100/500" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert f"training was interrupted; the last good model is in {out / 'partial.npz'}" in err
    assert "Traceback" not in err
    assert checkpoint.load(out / "partial.npz").size == 50_200


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^seeds=0"):
        main(["--debug", "compress", "--seeds", "0", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    "command", [["--help"], ["compress", "--help"], ["report", "--help"], ["data", "fetch", "--help"]]
)
def test_help_has_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "usage: l0ref" in text
    assert command == ["--help"] or "examples:" in text


def test_python_dash_m_and_version() -> None:
    done = subprocess.run([sys.executable, "-m", "l0ref", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("l0ref ")
