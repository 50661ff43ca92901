"""The commands: what they write, print and return, and what they say when something is wrong."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import checkpoint, metrics, optim
from l0ref.archive import read_npz
from l0ref.cli import build_parser, main
from l0ref.cli.build import build_job
from l0ref.cli.config import read_config
from l0ref.cli.settings import FLAGS_ONLY, PRESETS, Settings, resolve
from l0ref.data import Splits, load
from l0ref.errors import ConfigError, Diverged
from l0ref.nn import MODELS, Model
from l0ref.penalty import Penalty
from l0ref.pruning import Cut, Recipe, StagedCuts
from l0ref.schedules import Constant, Cosine, LinearWarmup, ReduceOnPlateau
from l0ref.surrogates import GemanMcClure

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
        "config.json", "report.json", "history.csv", "dense.npz", "model.npz", "masks.npz", "compact.npz",
        ".l0ref.json", "training.png", "weights.png", "surrogate.png", "masks.png", "axes.png", "compression.png",
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
        "theory",
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
        main(["compress", *QUICK, "--controls", "no", "--seed", "3", "--seeds", "2", "--out", str(out), "--no-figures"])
        == 0
    )
    assert {path.name for path in out.iterdir()} == {"seed-3", "seed-4", "summary.json", ".l0ref.json"}
    assert "n = 2 seeds" in capsys.readouterr().out
    assert main(["report", str(out)]) == 0
    text = capsys.readouterr().out
    accuracies = [report_of(out / f"seed-{k}")["stages"][0]["test_acc1"] for k in (3, 4)]
    mean, sd = np.mean(accuracies), np.std(accuracies, ddof=1)
    assert f"{100 * mean:.2f} ± {100 * sd:.2f} %" in text
    assert "n = 2 seeds" in text
    assert main(["report", str(out), str(result)]) == 2
    assert "controls differs between the runs" in capsys.readouterr().err
    assert main(["report", str(out), str(out / "seed-4")]) == 2
    assert "seed 4 appears twice" in capsys.readouterr().err


def test_settings_come_from_preset_then_file_then_flags(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text('model = "digits_cnn"\nfinetune-epochs = 7\nalpha = 3e-4\nthreshold = 0.02\ncontrols = ["l2"]\n')
    settings = resolve(read_config(str(file)), {"alpha": 9e-4, "data": None})
    assert (settings.model, settings.finetune_epochs, settings.alpha) == ("digits_cnn", 7, 9e-4)
    assert settings.epochs == PRESETS["digits_cnn"]["epochs"]
    assert (settings.threshold, settings.amount, settings.controls) == (0.02, None, ("l2",))
    assert resolve(read_config(str(file)), {"amount": 0.5}).threshold is None
    assert resolve({"data": "mnist"}).model == "lenet_300_100"
    assert resolve({}) == Settings(**{**PRESETS["digits_mlp"], "model": "digits_mlp"})


def test_every_setting_has_a_flag_and_no_flag_is_lost() -> None:
    flags = set(vars(build_parser().parse_args(["compress"])))
    own = {"command", "run", *FLAGS_ONLY}
    assert flags - own == set(Settings.__dataclass_fields__)


def test_every_setting_reaches_the_job() -> None:
    settings = resolve({
        "surrogate": GemanMcClure.name, "beta": 3.0, "alpha": 0.1,
        "l2": 0.2, "layer_weights": "none", "groups": "kind", "warmup": 0.3, "threshold": 0.4, "scope": "layer",
        "min_keep": 5, "method": "random", "epochs": 6, "finetune_epochs": 7,
        "finetune_penalty": "l2", "optimizer": "sgd", "lr": 0.8,
        "momentum": 0.7, "finetune_optimizer": "adamw", "finetune_lr": 0.9, "schedule": "cosine", "lr_final": 0.1,
        "batch_size": 11,
    })  # fmt: skip
    job = build_job(settings)
    penalty = Penalty(GemanMcClure(beta=3.0), alpha=0.1, l2=0.2, layer_weights="none", groups="kind")
    common: dict[str, Any] = {"schedule": Cosine(final=0.1), "batch_size": 11}
    sgd = optim.SGD(lr=0.8, momentum=0.7)
    assert job.train == Recipe(6, optimizer=sgd, penalty=penalty, warmup=LinearWarmup(0.3), **common)
    assert job.cut == Cut(threshold=0.4, scope="layer", min_keep=5, method="random")
    assert job.finetune == Recipe(7, optimizer=optim.AdamW(lr=0.9), penalty=Penalty(l2=0.2), **common)
    assert job.gradual is None
    own = build_job(dataclasses.replace(settings, finetune_lr_final=0.4, threshold=None, stages=(2.0, 4.0)))
    assert (own.train, own.finetune) == (job.train, dataclasses.replace(job.finetune, schedule=Cosine(final=0.4)))
    assert own.stages == StagedCuts((2.0, 4.0), 10, penalty)
    other = dataclasses.replace(
        settings, threshold=None, amount=0.5, gradual=4, finetune_penalty="l0+l2", schedule="reduce_on_plateau"
    )
    job = build_job(other)
    assert job.finetune.penalty == penalty
    assert job.gradual == dataclasses.replace(job.train, epochs=4, warmup=Constant())
    assert isinstance(job.train.schedule, ReduceOnPlateau)
    mode = job.train.schedule.mode
    assert job.train.monitor == job.finetune.monitor == {"min": "val_loss", "max": "val_acc1"}[mode]
    assert build_job(dataclasses.replace(other, finetune_penalty="none")).finetune.penalty == Penalty()
    assert build_job(dataclasses.replace(other, amount=7, gradual=0)).cut == Cut(
        amount=7, scope="layer", min_keep=5, method="random"
    )
    named = dataclasses.replace(other, gradual=0, method="wanda", method_options="samples=50,repair=obs")
    assert build_job(named).cut.options == {"samples": 50, "repair": "obs"}


def test_every_setting_reaches_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {}

    def stop(model: Model, data: Splits, **options: Any) -> None:
        found.update(options, model=model, data=data)
        raise KeyboardInterrupt

    monkeypatch.setattr("l0ref.cli.run.run_experiment", stop)
    flags = "--seed 5 --dtype float64 --gradual 2 --controls l1,none --control-l1 0.1 --control-l2 0.2 --curve 2,3"
    arguments = ["compress", *flags.split(), "--out", str(tmp_path / "x")]
    assert main([*arguments, "--quiet"]) == 130
    assert (found["seed"], found["controls"], found["curve"]) == (5, ("l1", "none"), (2.0, 3.0))
    assert (found["control_l1"], found["control_l2"], found["progress"]) == (0.1, 0.2, "none")
    assert found["gradual"].epochs == 2
    np.testing.assert_array_equal(found["data"].test.x, load("digits", seed=5, dtype=np.float64).test.x)
    assert found["data"].test.x.dtype == np.float64
    same = MODELS["digits_mlp"](seed=5, dtype=np.float64)
    np.testing.assert_array_equal(found["model"].params["fc1.weight"], same.params["fc1.weight"])
    assert main(["compress", "--rounds", "3", "--out", str(tmp_path / "y")]) == 130
    assert (found["rounds"], found["gradual"], found["progress"]) == (3, None, "auto")


def test_amount_is_a_fraction_or_a_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts: list[Cut] = []

    def stop(*_: Any, cut: Cut, **__: Any) -> None:
        cuts.append(cut)
        raise KeyboardInterrupt

    monkeypatch.setattr("l0ref.cli.run.run_experiment", stop)
    for text in ("100", "0.5", "1e-1", "1", "0.0"):
        assert main(["compress", "--amount", text, "--out", str(tmp_path), "--quiet"]) == 130
    assert [repr(cut.amount) for cut in cuts] == ["100", "0.5", "0.1", "1", "0.0"]


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
        resolve(read_config(str(file)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["compress", "--amount", "0.5", "--threshold", "0.1"], 2, "not allowed with argument"),
        (["compress", "--model", "lenet_6"], 2, "did you mean 'lenet_5'?"),
        (["compress", "--controls", "l3"], 2, "'l3' is not one of none, l2, l1, random, random_layers"),
        (["compress", "--amount", "1.5"], 2, "amount=1.5 must lie in [0, 1]"),
        (["compress", "--min-keep", "-1"], 2, "min_keep=-1 must be at least 0"),
        (["compress", "--finetune-epochs", "-1"], 2, "compress: finetune_epochs=-1 must be at least 0"),
        (["compress", "--batch-size", "0"], 2, "batch_size=0 must be at least 1"),
        (["compress", "--rounds", "0"], 2, "rounds=0 must be at least 1"),
        (["compress", "--control-l1", "-1"], 2, "control_l1=-1.0 must be 0 or greater"),
        (["compress", "--curve", "2,0.5"], 2, "curve=0.5 must be a compression ratio of at least 1"),
        (["compress", "--gradual", "-1"], 2, "gradual=-1 must be at least 0"),
        (["compress", "--gradual", "2", "--threshold", "0.1"], 2, "gradual=2 needs the fraction to reach"),
        (["compress", "--gradual", "2", "--rounds", "2"], 2, "gradual=2 and rounds=2 exclude each other"),
        (["compress", "--seed", "-1"], 2, "seed=-1 must be at least 0"),
        (["compress", "--alpha", "-1"], 2, "l0ref compress: alpha=-1.0 must be 0 or greater"),
        (["compress", "--beta", "0"], 2, "beta"),
        (["compress", "--lr", "0"], 2, "lr=0.0 must be greater than 0"),
        (["compress", "--surrogate", "mcp"], 2, "needs"),
        (["compress", "--surrogate-options", "lam"], 2, "surrogate_options='lam' must look like lam=1,gamma=2"),
        (["compress", "--model", "lenet_5"], 2, "takes samples of shape (1, 28, 28), data='digits' has (1, 8, 8)"),
        (["compress", "--config", "nowhere.toml"], 2, "config='nowhere.toml' is not a file; check the path"),
        (["compress", "--seeds", "0"], 2, "seeds=0 must be at least 1"),
        (["compress", "--data", "mnist", "--data-dir", "nowhere"], 2, "l0ref data fetch mnist"),
        (["report", "nowhere"], 2, "has no report.json"),
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


def test_a_folder_that_cannot_be_written_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, _: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("l0ref.cli.write.write_atomic", full)
    monkeypatch.delattr("l0ref.cli.run.run_experiment")
    out = tmp_path / "x"
    assert main(["compress", *QUICK, "--out", str(out), "--quiet"]) == 1
    said = f"{out / 'config.json'} cannot be written: No space left on device; free space in {out} or choose another fo"
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_finished_l0_network_outlives_a_control_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise Diverged("train, epoch 1, batch 1: the loss is nan; try a smaller learning rate")

    monkeypatch.setattr(
        "l0ref.experiment.controls.Control.train", lambda self, recipe: fail() if self.name == "none" else recipe
    )
    out = tmp_path / "x"
    assert main(["compress", *QUICK, "--controls", "none", "--out", str(out), "--quiet"]) == 1
    assert f"the finished network is in {out / 'model.npz'}" in capsys.readouterr().err
    assert checkpoint.load(out / "model.npz").masks


def test_divergence_is_reported_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--optimizer", "sgd", "--lr", "1e30", "--controls", "no", "--out", str(tmp_path / "x"), "--quiet"]
    assert main(["compress", *QUICK, *arguments]) == 1
    err = capsys.readouterr().err
    assert "train, epoch 1, batch" in err
    assert "the last good model of the training that stopped is in" in err
    assert checkpoint.load(tmp_path / "x" / "partial.npz").size == 50_200
    assert (tmp_path / "x" / "partial.csv").read_text() == ""  # no epoch was finished


def test_interrupt_gives_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("l0ref.cli.run.run_experiment", stop)
    assert main(["compress", "--out", str(tmp_path / "x"), "--quiet"]) == 130
    assert capsys.readouterr().err == "l0ref compress: interrupted\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_saves_what_was_reached(number: int, code: int, tmp_path: Path) -> None:
    out = tmp_path / "x"
    command = [sys.executable, "-m", "l0ref", "compress", "--epochs", "500", "--out", str(out)]
    # a shell's background job ignores Ctrl-C, and so would what is started from it
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    assert process.stderr is not None
    with process:
        try:
            while "epoch 50/500" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
    assert f"interrupted; the last good model of the training that stopped is in {out / 'partial.npz'}" in err
    assert "Traceback" not in err
    assert checkpoint.load(out / "partial.npz").size == 50_200
    assert len((out / "partial.csv").read_text().splitlines()) > 50


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^seeds=0"):
        main(["--debug", "compress", "--seeds", "0", "--out", str(tmp_path)])
    with pytest.raises(ConfigError, match=r"^seeds=0"):
        main(["compress", "--seeds", "0", "--out", str(tmp_path), "--debug"])


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
