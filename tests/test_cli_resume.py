"""`l0ref compress --resume`: a run that was ended, by a signal or a kill, goes on in another process, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from l0ref.cli import main
from l0ref.cli.resume import HIDDEN, every_of

ROOT = Path(__file__).resolve().parents[1]
JOB = ["--epochs", "4", "--finetune-epochs", "2", "--controls", "none", "--rounds", "2", "--quiet", "--no-figures"]
FATAL = """
import os, signal, sys
from l0ref.checkpoint.folder import FolderKeeper
from l0ref.cli import main
keep, left = FolderKeeper.keep, [int(sys.argv[1])]
def kept(*args):
    keep(*args)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), getattr(signal, sys.argv[2]))
FolderKeeper.keep = kept
sys.exit(main(sys.argv[3:]))
"""


def ended(number: int, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process that gets a signal when it has written so many states."""
    command = [sys.executable, "-c", FATAL, str(number), name, *arguments]
    given = os.environ | {"PYTHONPATH": os.fspath(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=given, check=False)


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        timed = ("second", "time", "created", "measured", "speed", "path", "file", "latency", "throughput")
        return {k: without_seconds(v) for k, v in value.items() if not any(word in k for word in timed)}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def result(folder: Path) -> list[Any]:
    report = without_seconds(json.loads((folder / "report.json").read_text(encoding="utf-8")))
    return [*((folder / n).read_bytes() for n in ("model.npz", "dense.npz", "masks.npz", "compact.npz")), report]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("unbroken") / "out"
    assert main(["compress", *JOB, "--out", str(folder)]) == 0
    assert not (folder / HIDDEN).exists()
    return result(folder)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "name", "code"), [(6, "SIGKILL", -9), (3, "SIGTERM", 143)])
def test_an_ended_run_goes_on(number: int, name: str, code: int, unbroken: list[Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    stopped = ended(number, name, "compress", *JOB, "--checkpoint-every", "1epochs", "--out", str(out))
    assert stopped.returncode == code, stopped.stderr
    assert code < 0 or f"l0ref compress --resume {out} goes on" in stopped.stderr
    assert main(["compress", "--resume", str(out), "--quiet", "--no-figures"]) == 0
    assert result(out) == unbroken
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == [".l0ref.json"]
    assert main(["compress", "--resume", str(out)]) == 0  # finished already


def test_what_goes_on_is_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert ended(2, "SIGKILL", "compress", *JOB, "--checkpoint-every", "1epochs", "--out", str(out)).returncode == -9
    path = out / HIDDEN / "run.json"
    wrong = {
        ("--resume", str(out), "--lr", "0.5"): "lr=0.5 differs from 0.001 of the run in",
        ("--resume", str(out), "--seeds", "2"): "seeds=2 differs from 1 of the run in",
        ("--resume", str(out), "--override", "rate"): "override='rate' is not a setting; known are",
        ("--resume", str(out), "--out", "x"): "out='x' is for a new run, resume=",
        ("--resume", str(tmp_path)): "holds no interrupted run; begin one with --out",
        ("--override", "lr"): "override='lr' goes with --resume DIR; leave it out",
        ("--out", str(out)): "holds an interrupted run; go on with --resume, or pass --overwrite",
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
    assert "other samples than those of the run in" in capsys.readouterr().err
    changed = ["--finetune-epochs", "1", "--override", "finetune-epochs,data", "--quiet", "--no-figures"]
    assert main(["compress", "--resume", str(out), *changed]) == 0
    new = [*JOB, "--finetune-epochs", "1", "--out", str(tmp_path / "new")]
    assert main(["compress", *new]) == 0
    assert result(out) == result(tmp_path / "new")


def test_how_often() -> None:
    assert [every_of(t) for t in ("10min", "0.5 min", "2epochs", "1 epoch", "never")] == [10.0, 0.5, 2, 1, None]
    assert [type(every_of(t)) for t in ("10min", "2epochs")] == [float, int]
