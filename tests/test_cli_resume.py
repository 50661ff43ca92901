"""`--resume`: a run that was ended, by a signal or a kill, goes on in another process, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref.archive.atomic import write_atomic
from l0ref.cli import main
from l0ref.cli.resume import HIDDEN, every_of
from l0ref.training import Trainer
from tests.ended import Commands, signals_itself

COMPRESS = ["--epochs", "3", "--finetune-epochs", "2", "--controls", "none", "--rounds", "2", "--quiet", "--no-figures"]
COMPARE = ["--epochs", "2", "--finetune-epochs", "2", "--methods", "magnitude,slr", "--ratios", "2,4", "--quiet"]
JOBS = {"compress": COMPRESS, "compare": [*COMPARE, "--no-figures"]}
EPOCHS = {"compress": 14, "compare": 10}
OFTEN = ["--checkpoint-every", "1epochs", "--out"]
pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="forks, and signals of POSIX")


@pytest.fixture(scope="module")
def run() -> Iterator[Commands]:
    with Commands() as commands:
        yield commands


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        timed = ("second", "time", "created", "measured", "speed", "path", "file", "latency", "throughput")
        return {k: without_seconds(v) for k, v in value.items() if not any(word in k for word in timed)}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def result(folder: Path) -> dict[str, Any]:
    """Every bit of a result folder but the clock; hidden files are there by name."""
    found: dict[str, Any] = {}
    for path in folder.rglob("*"):
        name, kind = str(path.relative_to(folder)), path.suffix
        if path.is_dir() or path.name.startswith("."):
            found[name] = "there"
        elif kind in (".npz", ".json"):
            content = path.read_bytes()
            found[name] = content if kind == ".npz" else without_seconds(json.loads(content))
    return found


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("unbroken")
    for command, job in JOBS.items():
        assert main([command, *job, "--out", str(root / command)]) == 0
    found = {command: result(root / command) for command in JOBS}
    assert {".l0ref.json", "model.npz", "compact.npz", "report.json"} <= found["compress"].keys()
    assert found["compare"].keys() == {"compare.json", "dense-0.npz"}
    return found


def resumed(command: str, out: Path) -> dict[str, Any]:
    assert main([command, "--resume", str(out), "--quiet", "--no-figures"]) == 0
    return result(out)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param({"states": 7}, id="between epochs"),
        pytest.param({"writes": 7}, id="in a write", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("command", JOBS)
def test_a_killed_run_goes_on(
    command: str, moment: dict[str, int], run: Commands, unbroken: dict[str, Any], tmp_path: Path, monkeypatch: Any,
    capsys: Any,
) -> None:  # fmt: skip
    out, epochs, whole = tmp_path / "out", [0], Trainer.run_epoch

    def counted(*args: Any) -> Any:
        epochs[0] += 1
        return whole(*args)

    assert run(command, *JOBS[command], *OFTEN, str(out), signal="SIGKILL", **moment) == (-signal.SIGKILL, "")
    assert result(out) != unbroken[command]
    monkeypatch.setattr(Trainer, "run_epoch", counted)
    assert resumed(command, out) == unbroken[command]
    assert "writes" in moment or epochs[0] == EPOCHS[command] - moment["states"]  # those that are kept are not repeated
    epochs[0] = 0
    assert resumed(command, out) == unbroken[command]  # finished already
    if command == "compress":
        assert main([command, "--resume", str(out), "--alpha", "1", "--epochs", "3"]) == 2
        said = f"alpha=1.0 differs from 0.0004 of the finished run in {str(out)!r}; leave it out, or begin another run"
        assert said in capsys.readouterr().err
    assert epochs[0] == 0


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize(("command", "states"), [("compress", 4), ("compare", 8)])
def test_a_signalled_run_says_how_it_goes_on(
    command: str, states: int, name: str, code: int, unbroken: dict[str, Any], tmp_path: Path, capsys: Any
) -> None:
    """Really sent, to this process."""
    out, number = tmp_path / "out", getattr(signal, name)
    outside = signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
    patch = signals_itself(number, states=states)
    try:
        assert main([command, *JOBS[command], *OFTEN, str(out)]) == code
    finally:
        patch.undo()
        signal.signal(number, outside)
    said = capsys.readouterr().err
    assert said.startswith(f"l0ref {command}: training was interrupted")
    assert said.endswith(f"l0ref {command} --resume {out} continues the run\n")
    assert resumed(command, out) == unbroken[command]


def test_a_second_signal_ends_a_command_at_once(run: Commands, unbroken: dict[str, Any], tmp_path: Path) -> None:
    for command, name in {"compress": "SIGINT", "compare": "SIGTERM"}.items():
        out = tmp_path / command
        ended = run(command, *JOBS[command], *OFTEN, str(out), signal=name, states=4, times=2)
        assert ended == (-getattr(signal, name), "")
        assert resumed(command, out) == unbroken[command]


@pytest.mark.slow
def test_compress_killed_at_fifty_random_moments(run: Commands, unbroken: dict[str, Any], tmp_path: Path) -> None:
    rng, kills, number = np.random.default_rng(int(os.environ.get("L0REF_SEED", "0"))), 0, 0
    begun = time.perf_counter()
    assert run("compress", *COMPRESS, "--checkpoint-every", "0min", "--out", str(tmp_path / "x")).code == 0
    longest = time.perf_counter() - begun
    while kills < 50:
        out = tmp_path / str(number)
        arguments = [*COMPRESS, "--checkpoint-every", "0min", "--out", str(out)]
        while (ended := run("compress", *arguments, after=rng.uniform(0.1, longest))).code == -signal.SIGKILL:
            kills += 1
            if (out / HIDDEN / "run.json").exists():
                arguments = ["--resume", str(out), "--checkpoint-every", "0min", "--quiet", "--no-figures"]
        assert ended.code == 0 or "holds a result already" in ended.err, ended.err  # killed after its last file
        assert result(out) == unbroken["compress"]
        number += 1


def test_an_error_that_would_come_again_is_no_interruption(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert main(["compress", *COMPRESS, "--finetune-lr", "1e30", *OFTEN, str(out)]) == 1
    said = capsys.readouterr().err
    assert said.endswith(f"--resume {out} continues the run with another setting, which --override names\n")
    assert (
        main(["compress", "--resume", str(out), "--finetune-lr", "1e-3", "--override", "finetune-lr", "--quiet"]) == 0
    )
    write_atomic(tmp_path / "bad.csv", b"a,kind\n1,x\n")
    for command in JOBS:
        wrong = ["--data", str(tmp_path / "bad.csv"), "--label", "nothing", "--model", "mlp:1-1"]
        assert main([command, *wrong, "--out", str(tmp_path / "bad")]) == 2
        assert "--resume" not in capsys.readouterr().err


def test_what_goes_on_is_the_same_run(run: Commands, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run("compress", *COMPRESS, *OFTEN, str(out), signal="SIGKILL", states=2).code == -signal.SIGKILL
    path = out / HIDDEN / "run.json"
    wrong = {
        ("--resume", str(out), "--lr", "0.5"): f"lr=0.5 differs from 0.001 of the run in {str(out)!r}; leave it out, ",
        ("--resume", str(out), "--seeds", "2"): "seeds=2 differs from 1 of the run in",
        ("--resume", str(out), "--override", "rate"): "override='rate' is not a setting; known are",
        ("--resume", str(out), "--out", "x"): "out='x' is for a new run, not for resume=",
        ("--resume", str(tmp_path)): "holds no interrupted run; begin one with --out",
        ("--resume", ""): "resume='' names no folder; give a path",
        ("--override", "lr"): "override='lr' needs --resume DIR; leave it out",
        ("--out", str(out)): "holds an interrupted run; continue with --resume, or pass --overwrite",
    }
    for arguments, said in wrong.items():
        assert main(["compress", *arguments]) == 2
        assert said in capsys.readouterr().err
    assert main(["compress", "--resume", str(out), "--checkpoint-every", "often"]) == 2
    assert "must be minutes or epochs, as in 10min or 2epochs, or never" in capsys.readouterr().err
    found = json.loads(path.read_text(encoding="utf-8"))
    found["data"]["train"] = "0" * 64
    path.write_text(json.dumps(found), encoding="utf-8")
    assert main(["compress", "--resume", str(out), "--quiet"]) == 2
    said = "other samples than those of the run in {0!r}; restore them, begin another run with --out, or continue this"
    said += " one with --resume {0} --override data"
    assert said.format(str(out)) in capsys.readouterr().err
    changed = ["--finetune-epochs", "1", "--override", "finetune-epochs,data", "--quiet", "--no-figures"]
    assert main(["compress", "--resume", str(out), *changed]) == 0
    new = [*COMPRESS, "--finetune-epochs", "1", "--out", str(tmp_path / "new")]
    assert main(["compress", *new]) == 0
    assert result(out) == result(tmp_path / "new")


def test_what_goes_on_is_the_same_comparison(run: Commands, tmp_path: Path, capsys: Any) -> None:
    out, short = tmp_path / "out", ["--methods", "magnitude", "--ratios", "2"]
    job = [*JOBS["compare"], *short]
    assert run("compare", *job, *OFTEN, str(out), signal="SIGKILL", states=3).code == -signal.SIGKILL
    go_on = ["compare", "--resume", str(out), "--no-figures", "--quiet"]
    wrong = {
        ("--epochs", "3"): "epochs=3 differs from 2 of the run in",
        ("--methods", "slr"): "methods=['slr'] differs from ['magnitude'] of the run in",
        ("--seeds", "2"): "seeds=2 differs from 1 of the run in",
        ("--override", "lrs"): "override='lrs' is not a setting; known are",
        ("--out", "x"): "out='x' is for a new run, not for resume=",
        ("--resume", ""): "resume='' names no folder; give a path",
        ("--resume", str(tmp_path)): "holds no interrupted run; begin one with --out",
    }
    for arguments, said in wrong.items():
        assert main([*go_on, *arguments]) == 2
        assert said in capsys.readouterr().err
    assert main(["compare", *job, "--override", "epochs", "--out", str(out)]) == 2
    assert "override='epochs' needs --resume DIR" in capsys.readouterr().err
    dense = (out / "dense-0.npz").read_bytes()
    assert main([*go_on, "--finetune-epochs", "1", "--override", "finetune-epochs"]) == 0
    assert (out / "dense-0.npz").read_bytes() == dense
    assert main([*go_on, "--epochs", "1", "--ratios", "4", "--override", "epochs,ratios"]) == 0
    new = ["--epochs", "1", "--finetune-epochs", "1", "--ratios", "4", "--out", str(tmp_path / "new")]
    assert main(["compare", *job, *new]) == 0
    assert result(out) == result(tmp_path / "new")
    assert main([*go_on, "--finetune-epochs", "2", "--override", "finetune-epochs"]) == 0
    found = json.loads((out / "compare.json").read_text(encoding="utf-8"))
    assert [row["epochs_finetune"] for row in found["rows"]] == [2]  # the earlier point is gone
    found["data"]["train"] = "0" * 64
    for broken, said in {
        "data": "other samples than those of the run in",
        "rows": "that l0ref compare did not write",
    }.items():
        found[broken] = found[broken] if broken == "data" else 3
        (out / "compare.json").write_text(json.dumps(found), encoding="utf-8")
        assert main(go_on) == 2
        assert said in capsys.readouterr().err


def test_how_often() -> None:
    assert [every_of(t) for t in ("10min", "0.5 min", "2epochs", "1 epoch", "never")] == [10.0, 0.5, 2, 1, None]
    assert [type(every_of(t)) for t in ("10min", "2epochs")] == [float, int]
