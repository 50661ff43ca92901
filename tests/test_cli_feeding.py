"""`l0ref compress --augment --teacher`: declared wherever a number stands, refused before training in one sentence."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from l0ref import checkpoint, metrics, nn
from l0ref.cli import main
from l0ref.data import load
from l0ref.data.augment import AffineElastic
from l0ref.distillation import Teacher
from l0ref.experiment import Experiment
from l0ref.report import aggregate, aggregate_text, full_text

QUICK = ["--epochs", "1", "--finetune-epochs", "1", "--controls", "no", "--quiet", "--no-figures", "--amount", "0.5"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, as far as a teacher needs one."""
    folder = tmp_path_factory.mktemp("teacher")
    checkpoint.save(folder / "model.npz", nn.digits_mlp(seed=9))
    return folder


@pytest.fixture(scope="module")
def result(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fed") / "one"
    flags = ["--augment", "affine_elastic:shift=0.5,elastic=0", "--teacher", str(teacher)]
    assert main(["compress", *QUICK, *flags, "--temperature", "3", "--teacher-weight", "0.4", "--out", str(out)]) == 0
    return out


def report_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def test_report_and_configuration_hold_what_training_was_fed(result: Path, teacher: Path) -> None:
    report, model = report_of(result), checkpoint.load(teacher / "model.npz")
    config, data = json.loads((result / "config.json").read_text()), load("digits", seed=0)
    digest = Teacher(model).checksum
    assert report["fed"]["augmentation"] == {
        "name": "affine_elastic", "shift": 0.5, "rotation": 10.0, "scale": 0.08, "shear": 0.08, "elastic": 0.0,
        "clean": 0,
    }  # fmt: skip
    assert report["fed"]["teacher"] == {
        "file": str(teacher), "sha256": digest, "temperature": 3.0, "weight": 0.4,
        "val_acc1": metrics.evaluate(model, data.validation).acc1, "test_acc1": metrics.evaluate(model, data.test).acc1,
    }  # fmt: skip
    for found in (config, report["config"]):
        assert (found["teacher"], found["teacher_sha256"], found["temperature"]) == (str(teacher), digest, 3.0)
        assert (found["augment"], found["teacher_weight"]) == ("affine_elastic:shift=0.5,elastic=0", 0.4)


def test_text_and_figures_say_it(result: Path) -> None:
    from l0ref.report.figures.compression import compression_figure
    from l0ref.report.figures.training import training_figure

    report = report_of(result)
    text = " ".join(full_text(report).split())
    assert "digits_mlp on digits (augmented, distilled), seed 0" in text
    assert "augmented by affine_elastic (shift 0.5, rotation 10, scale 0.08, shear 0.08, elastic 0, clean 0)" in text
    error = 1 - report["fed"]["teacher"]["test_acc1"]
    assert f"test error {100 * error:.2f} %) at temperature 3.0 with weight 0.4" in text
    assert "on digits (augmented, distilled): mean" in aggregate_text(aggregate([report]))
    for draw in (training_figure, compression_figure):
        assert draw(report).get_suptitle() == "every network: augmented, distilled"
        plain = {**report, "config": {**report["config"], "augment": "", "teacher": None}}
        assert draw(plain).get_suptitle() == ""
    del report["fed"], report["config"]
    assert "augmented" not in full_text(report)


def test_the_configuration_makes_the_same_network_again_or_refuses_another_teacher(
    result: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["compress", "--config", str(result / "config.json"), "--quiet", "--no-figures"]
    assert main([*again, "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "model.npz").read_bytes() == (result / "model.npz").read_bytes()
    assert main(["compress", *QUICK, "--out", str(tmp_path / "plain")]) == 0
    assert (tmp_path / "plain" / "model.npz").read_bytes() != (result / "model.npz").read_bytes()
    assert "fed" not in report_of(tmp_path / "plain")
    other = tmp_path / "other.npz"
    checkpoint.save(other, nn.digits_mlp(seed=8))
    capsys.readouterr()
    assert main([*again, "--teacher", str(other), "--out", str(tmp_path / "x")]) == 2
    assert "restore that network, or leave teacher_sha256 out" in capsys.readouterr().err


def test_feed_reaches_every_training(teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {}

    def stop(*_: Any, **options: Any) -> Experiment:
        found.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr("l0ref.cli.run.run_experiment", stop)
    flags = ["--augment", "affine_elastic:clean=2", "--teacher", str(teacher / "model.npz"), "--teacher-weight", "1"]
    assert main(["compress", *QUICK, *flags, "--out", str(tmp_path / "x")]) == 130
    assert found["batch"] == AffineElastic(clean=2)
    assert (found["teacher"].weight, found["teacher"].temperature) == (1.0, 2.0)
    found.clear()
    assert main(["compress", *QUICK, "--out", str(tmp_path / "y")]) == 130
    assert not {"batch", "teacher"} & set(found)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--teacher nowhere", "teacher='nowhere' has no model.npz; name a folder that l0ref compress --out wrote"),
        ("--teacher BROKEN", "no zip end record in the last 22 bytes: the file is truncated or of another kind"),
        ("--teacher FOUR", r"outputs of shape \(4,\), 'digits/train' has 10 classes; choose a teacher of the same"),
        ("--temperature 3", "temperature=3.0 applies to a teacher only; give --teacher RUN, or leave it out"),
        ("--teacher-sha256 ab", "teacher_sha256='ab' applies to a teacher only"),
        ("--teacher GOOD --teacher-sha256 ab", "not teacher_sha256='ab'; restore that network"),
        ("--teacher GOOD --temperature 0", "temperature=0.0 must be greater than 0"),
        ("--teacher GOOD --teacher-weight 2", r"teacher_weight=2.0 must lie in \[0, 1\]"),
        ("--augment blur", "augment='blur' is not one of affine_elastic"),
        ("--augment affine_elastic:shift=x", "augment='affine_elastic:shift=x' has the option 'shift=x'"),
        ("--augment affine_elastic --data VECTORS --model mlp:3-2", "is for images, .* has samples of shape"),
    ],
)
def test_what_is_refused_before_training(
    flags: str, said: str, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {
        "GOOD": teacher,
        "BROKEN": tmp_path / "broken.npz",
        "FOUR": tmp_path / "four.npz",
        "VECTORS": tmp_path / "v.csv",
    }
    places["BROKEN"].write_bytes(b"no archive")
    checkpoint.save(places["FOUR"], nn.mlp((64, 4), seed=0, input_shape=(1, 8, 8)))
    places["VECTORS"].write_text("a,b,c,label\n" + "".join(f"{i},{i * i % 7},{i % 3},{i % 2}\n" for i in range(40)))
    words = [str(places.get(word, word)) for word in flags.split()]
    words += ["--label", "label"] if "VECTORS" in flags else []
    assert main(["compress", *QUICK, *words, "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(said, err), err
    assert not (tmp_path / "out").exists()
