"""What `l0ref compress` refuses first, and what it keeps: earlier results, finished seeds, jobs cut short."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from l0ref import checkpoint
from l0ref.archive.folder import marker_of
from l0ref.cli import main
from l0ref.errors import Interrupted, LayerCollapse

QUICK = ["--epochs", "2", "--finetune-epochs", "1", "--controls", "no", "--no-figures", "--quiet"]


def compress(*arguments: str) -> int:
    return main(["compress", *QUICK, *arguments])


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A finished result."""
    assert compress("--out", str(tmp_path / "good")) == 0
    return tmp_path / "good"


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "wrong",
    [
        ["--model", "lenet_5"],
        ["--data", "mnist", "--data-dir", "."],
        ["--seed", "99999999999"],
        ["--seed", "4294967295", "--seeds", "2"],
        ["--amount", "50201"],
        ["--amount", "1.0"],
        ["--min-keep", "40000"],
        ["--curve", "2,20000"],
        ["--curve", "2,100000"],
        ["--scope", "layer", "--amount", "0.9999"],
    ],
    ids=" ".join,
)
def test_what_cannot_succeed_is_refused_before_anything_is_touched(
    wrong: list[str], good: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(good)
    monkeypatch.delattr("l0ref.cli.run.run_experiment")
    monkeypatch.delattr("l0ref.cli.compress.claim")
    assert compress("--out", str(good), "--overwrite", *wrong) in (1, 2)
    assert capsys.readouterr().err.count("\n") == 1
    assert content(good) == before


def test_an_earlier_result_outlives_a_job_that_ends_early(
    good: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(good)

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("l0ref.cli.run.run_experiment", stop)
        assert compress("--out", str(good), "--overwrite") == 130
        assert content(good) == before
    with monkeypatch.context() as patch:
        patch.setattr("l0ref.cli.run.summarize", stop)
        assert compress("--out", str(good), "--overwrite") == 130
    aside = good / "unfinished"
    assert f"the finished network is in {aside / 'model.npz'}" in capsys.readouterr().err
    assert {k: v for k, v in content(good).items() if not k.startswith(("unfinished/", ".l0ref.run/"))} == before
    assert compress("--out", str(good), "--overwrite", "--amount", "0.5") == 0
    assert not aside.exists()
    assert json.loads((good / "report.json").read_text())["config"]["amount"] == 0.5


def test_files_of_other_people_are_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.npz").write_text("mine\n")
    (tmp_path / "config.json").write_text("{}")
    assert compress("--out", ".") == 2
    assert "holds config.json, which l0ref did not write there; move it" in capsys.readouterr().err
    assert content(tmp_path) == {"model.npz": b"mine\n", "config.json": b"{}"}


def test_a_collapse_after_training_leaves_the_trained_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r"
    assert compress("--threshold", "10", "--out", str(out)) == 1
    err = capsys.readouterr().err
    assert "threshold=10.0 leaves layer 'fc1.weight' none of its" in err
    assert f"the last good model of the training that stopped is in {out / 'partial.npz'}" in err
    trained = checkpoint.load(out / "partial.npz")
    assert (out / "dense.npz").read_bytes() == (out / "partial.npz").read_bytes()
    assert not trained.masks
    assert compress("--out", str(out)) == 2
    assert "holds an interrupted run; continue with --resume, or pass --overwrite" in capsys.readouterr().err
    assert compress("--out", str(out), "--overwrite") == 0
    assert not list(out.glob("partial.*"))


def test_a_later_round_that_fails_leaves_the_network_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from l0ref.pruning import pipeline

    sweep, calls = pipeline.sweep, [0]

    def failing(model: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise LayerCollapse("fc3.weight has nothing left")
        return sweep(model)

    monkeypatch.setattr(pipeline, "sweep", failing)
    assert compress("--rounds", "2", "--out", str(tmp_path / "r")) == 1
    assert checkpoint.load(tmp_path / "r" / "partial.npz").masks
    assert not checkpoint.load(tmp_path / "r" / "dense.npz").masks


def test_ctrl_c_in_fine_tuning_keeps_the_dense_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from l0ref.training import loop

    run_epoch = loop.Trainer.run_epoch

    def interrupted(self: Any, *arguments: Any) -> Any:
        if self.phase == "finetune":
            raise KeyboardInterrupt
        return run_epoch(self, *arguments)

    monkeypatch.setattr(loop.Trainer, "run_epoch", interrupted)
    out = tmp_path / "r"
    assert compress("--out", str(out)) == 130
    assert not checkpoint.load(out / "dense.npz").masks
    assert checkpoint.load(out / "partial.npz").masks
    err = capsys.readouterr().err
    assert f"training was interrupted; the dense network is in {out / 'dense.npz'}; the last good model of" in err


def test_the_dense_network_stands_beside_the_result(good: Path) -> None:
    report = json.loads((good / "report.json").read_text())
    dense = checkpoint.load(good / "dense.npz")
    assert dense.size == report["stages"][0]["size_nz"]
    assert not dense.masks


def test_an_interrupted_job_of_several_seeds_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from l0ref.cli import run as command

    run_experiment, out = command.run_experiment, tmp_path / "c"

    def stopping(*arguments: Any, seed: int, **options: Any) -> Any:
        if seed == 1:
            stop = Interrupted("training was interrupted")
            stop.model = arguments[0]
            raise stop
        return run_experiment(*arguments, seed=seed, **options)

    with monkeypatch.context() as patch:
        patch.setattr(command, "run_experiment", stopping)
        assert compress("--seeds", "2", "--out", str(out)) == 130
    err = capsys.readouterr().err
    assert f"the last good model of the training that stopped is in {out / 'seed-1' / 'partial.npz'}" in err
    assert err.endswith("; seeds finished: 0; the same command keeps them and continues with seed 1\n")
    first = content(out / "seed-0")
    assert compress("--seeds", "2", "--out", str(out), "--amount", "0.5") == 2
    assert (
        "seed-0' holds a result of other settings: amount=0.95, not 0.5; choose another folder"
        in capsys.readouterr().err
    )
    assert compress("--seeds", "2", "--out", str(out)) == 0
    assert capsys.readouterr().err == f"l0ref compress: {out / 'seed-0'} is finished already and is kept\n"
    assert content(out / "seed-0") == first
    assert {p.name for p in out.iterdir()} == {"seed-0", "seed-1", "summary.json", ".l0ref.json"}
    assert not list(out.rglob("partial.*"))
    assert compress("--seeds", "2", "--out", str(out)) == 2
    assert compress("--out", str(out)) == 2
    assert compress("--seeds", "3", "--seed", "1", "--out", str(out)) == 2
    assert compress("--out", str(out), "--overwrite") == 0
    assert not list(out.glob("seed-*"))
    assert not (out / "summary.json").exists()


def test_two_jobs_of_one_second_have_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("l0ref.cli.compress.time.strftime", lambda _: "now")
    assert [compress(), compress()] == [0, 0]
    names = {p.name for p in (tmp_path / "runs").iterdir()}
    assert names == {"digits-digits_mlp-now", "digits-digits_mlp-now-2"}


def test_two_jobs_cannot_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []

    def second(*_: Any, **__: Any) -> None:
        monkeypatch.undo()
        codes.append(compress("--out", str(tmp_path / "x")))
        raise KeyboardInterrupt

    monkeypatch.setattr("l0ref.cli.run.run_experiment", second)
    assert compress("--out", str(tmp_path / "x")) == 130
    assert codes == [2]


def test_pictures_come_after_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x"

    def full(*_: Any, folder: Path, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "training.png"))

    monkeypatch.setattr("l0ref.cli.run.draw_all", full)
    flags = [flag for flag in QUICK if flag != "--no-figures"]
    assert main(["compress", *flags, "--out", str(out)]) == 1
    err = capsys.readouterr().err
    assert err == (
        f"l0ref compress: {out / 'training.png'} cannot be written: No space left on device; free space in {out} or "
        f"choose another folder; the numbers are in {out}\n"
    )
    marker = marker_of(out)
    assert marker is not None
    assert marker.is_complete
    assert (out / "report.json").is_file()


def test_a_full_disk_is_named_with_file_and_folder(tmp_path: Path) -> None:
    """A real failing write: the limit on the size of files lets the configuration through and no network."""
    out = tmp_path / "x"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    command = [sys.executable, "-m", "l0ref", "compress", *QUICK, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert done.returncode == 1
    told = f"l0ref compress: {out / 'dense.npz'} cannot be written: File too large; free space in {out} or choose anot"
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_results_on_the_test_set_are_hidden_from_who_still_chooses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x"
    flags = [flag for flag in QUICK if flag not in ("--no-figures", "--quiet")]
    assert main(["compress", *flags, "--curve", "2", "--hide-test", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    report = json.loads((out / "report.json").read_text())
    assert main(["report", str(out), "--hide-test"]) == 0
    again = capsys.readouterr().out
    assert again.strip() in shown
    assert main(["report", str(out)]) == 0
    plain = capsys.readouterr().out
    rows = [*report["stages"], *(point[part] for point in report["curve"]["l0"] for part in ("pruned", "finetuned"))]
    told = {f"{100 * row['test_acc1']:.2f} %" for row in rows} - {f"{100 * row['val_acc1']:.2f} %" for row in rows}
    assert told
    for text in told:
        assert text in plain
        assert text not in shown + again
    assert main(["report", str(out), "--hide-test", "--debug"]) == 0
    assert (out / "compression.png").is_file()
