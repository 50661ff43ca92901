"""`l0ref sweep`: the grid, what is chosen, wrong inputs, and sweeps that are killed and go on."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import metrics
from l0ref.archive.lock import locked
from l0ref.checkpoint.folder import FolderKeeper
from l0ref.cli import jobs as command
from l0ref.cli import main
from l0ref.cli.grid import Range, combinations, folder_name, read_grid
from l0ref.cli.resume import HIDDEN
from l0ref.cli.settings import resolve, to_json
from l0ref.errors import L0RefError
from l0ref.experiment import engine
from l0ref.experiment.engine import completed
from l0ref.report.figures.sweep import sweep_figure
from l0ref.report.sweep import front, sweep_rows, sweep_text

ROOT = Path(__file__).resolve().parents[1]
SEED = int(os.environ.get("L0REF_SEED", "0"))
JOB = "epochs = 2\nfinetune-epochs = 1\ncontrols = []\namount = 0.5\nbatch_size = 256\n"
GRID = ["--grid", "alpha=1e-4,4e-4", "amount=0.5,0.8", "--seeds", "2"]
ARRAYS = ("model.npz", "dense.npz", "masks.npz", "compact.npz")


@pytest.fixture
def job(tmp_path: Path) -> str:
    (tmp_path / "job.toml").write_text(JOB, encoding="utf-8")
    return str(tmp_path / "job.toml")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of four combinations and two seeds, finished in this process; nobody writes into it."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "job.toml").write_text(JOB, encoding="utf-8")
    assert main(["sweep", str(folder / "job.toml"), *GRID, "--quiet", "--out", str(folder / "out")]) == 0
    return folder / "out"


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["rows"])


def report_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "report.json").read_text(encoding="utf-8")))


def bits(folder: Path) -> dict[str, bytes]:
    """The arrays of all runs below a folder, by path."""
    return {str(p.relative_to(folder)): p.read_bytes() for name in ARRAYS for p in folder.rglob(f"seed-*/{name}")}


# the grid


@pytest.mark.parametrize(
    ("entry", "name", "values"),
    [
        ("alpha=1e-5, 2e-5", "alpha", (1e-5, 2e-5)),
        ("finetune-epochs=3", "finetune_epochs", (3,)),
        ("amount=0.5,100", "amount", (0.5, 100)),
        ("controls=none;no;l1,l2", "controls", (("none",), (), ("l1", "l2"))),
        ("controls=none,l2", "controls", (("none",), ("l2",))),
        ("curve=2,4;8", "curve", ((2.0, 4.0), (8.0,))),
        ("surrogate=laplace,scad", "surrogate", ("laplace", "scad")),
        ("surrogate_options=lam=1,gamma=2;lam=2,gamma=3", "surrogate_options", ("lam=1,gamma=2", "lam=2,gamma=3")),
        ("alpha=1e-6..1e-3:log", "alpha", Range(1e-6, 1e-3, True, False)),
        ("epochs=5..20", "epochs", Range(5, 20, False, True)),
        ("amount=0.5..0.9", "amount", Range(0.5, 0.9, False, False)),
        ("data=../own.npz,./b..c.npz", "data", ("../own.npz", "./b..c.npz")),
    ],
)  # fmt: skip
def test_read_grid(entry: str, name: str, values: Any) -> None:
    assert read_grid([entry]) == {name: values}
    found = read_grid([entry])[name]
    assert [type(v) for v in found] == [type(v) for v in values]


def test_all_combinations_are_the_product_and_some_are_a_part_of_it() -> None:
    grid = read_grid(["alpha=1e-5,2e-5,3e-5", "beta=2,5", "lr=0.1,0.2"])
    product = [
        {"alpha": a, "beta": b, "lr": c} for a, b, c in itertools.product((1e-5, 2e-5, 3e-5), (2.0, 5.0), (0.1, 0.2))
    ]
    assert combinations(grid, random=None, seed=SEED) == product
    for many in (12, 13, 40):
        assert combinations(grid, random=many, seed=SEED) == product
    counts: collections.Counter[str] = collections.Counter()
    for seed in range(SEED, SEED + 200):
        some = combinations(grid, random=5, seed=seed)
        assert len(some) == 5
        assert [each for each in product if each in some] == some
        counts.update(map(repr, some))
    assert len(counts) == 12
    assert all(40 < n < 130 for n in counts.values())  # 200 * 5 / 12 = 83, deviation 7
    assert combinations(grid, random=5, seed=SEED) == combinations(grid, random=5, seed=SEED)


def test_ranges_are_drawn_within_their_ends() -> None:
    grid = read_grid(["alpha=1e-6..1e-2:log", "beta=2..6", "epochs=1..3", "scope=global,layer"])
    found = combinations(grid, random=2000, seed=SEED)
    alphas, betas = (np.array([each[name] for each in found]) for name in ("alpha", "beta"))
    assert len(found) == 2000
    assert alphas.min() >= 1e-6
    assert alphas.max() <= 1e-2
    assert abs(np.mean(np.log10(alphas)) + 4) < 0.12  # uniform in the logarithm: deviation of the mean 0.026
    assert betas.min() >= 2
    assert betas.max() <= 6
    assert abs(betas.mean() - 4) < 0.13
    epochs = collections.Counter(each["epochs"] for each in found)
    assert set(epochs) == {1, 2, 3}
    assert {type(n) for n in epochs} == {int}
    assert min(epochs.values()) > 550
    assert collections.Counter(each["scope"] for each in found)["layer"] > 850
    few = combinations(read_grid(["epochs=1..3"]), random=50, seed=SEED)
    assert sorted(each["epochs"] for each in few) == [1, 2, 3]  # one that came before is left out


def test_folders_have_the_names_of_their_settings_and_no_two_the_same() -> None:
    assert folder_name({"alpha": 1e-5, "beta": 5.0}) == "alpha=1e-05,beta=5.0"
    odd = [{"data": "a/b"}, {"data": "a-b"}, {"data": "a b"}, {"data": "x" * 150}, {"data": "x" * 151}]
    names = [folder_name(each) for each in odd]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_.,=+-]{1,120}", name) for name in names)


# what is chosen


def row(folder: str, accuracy: float, ratio: float, **other: Any) -> dict[str, Any]:
    numbers = {"val_acc1": accuracy, "val_loss": 1 - accuracy, "compression_ratio": ratio}
    made = {key: {"mean": value, "sd": 0.01, "n": 2} for key, value in numbers.items()}
    return {"folder": folder, "settings": {"alpha": 1e-5}, "seeds": 2, "chosen": False, **made, **other}


def test_the_front_is_what_no_other_beats(rng: np.random.Generator) -> None:
    for n in (0, 1, 2, 30):
        rows = [row(str(i), *pair) for i, pair in enumerate(rng.integers(1, 6, size=(n, 2)).astype(float))]
        chosen, best = [], -np.inf  # the oracle: a staircase, from the largest ratio down
        for _, group in itertools.groupby(
            sorted(rows, key=lambda r: -r["compression_ratio"]["mean"]), key=lambda r: r["compression_ratio"]["mean"]
        ):
            same = list(group)
            top = max(r["val_acc1"]["mean"] for r in same)
            if top > best:
                chosen += [r["folder"] for r in same if r["val_acc1"]["mean"] == top]
                best = top
        assert sorted(r["folder"] for r in front(rows)) == sorted(chosen)
    losses = [{k: v for k, v in r.items() if k != "val_acc1"} for r in (row("a", 0.9, 2.0), row("b", 0.8, 2.0))]
    assert [r["folder"] for r in front(losses)] == ["a"]  # a regression: the smaller loss
    no_ratio = {k: v for k, v in row("c", 1.0, 9.0).items() if k != "compression_ratio"}  # nothing was left
    assert [r["folder"] for r in front([row("a", 0.9, 2.0), no_ratio])] == ["a"]


def test_rows_are_means_over_seeds_and_the_settings_that_differ(swept: Path) -> None:
    rows = rows_of(swept)
    assert [r["settings"] for r in rows] == [
        {"alpha": a, "amount": b} for a, b in itertools.product((1e-4, 4e-4), (0.5, 0.8))
    ]
    for each in rows:
        finals = [report_of(swept / each["folder"] / f"seed-{seed}")["stages"][-1] for seed in (0, 1)]
        assert each["seeds"] == 2
        for key in ("val_loss", "val_acc1", "compression_ratio"):
            values = [final[key] for final in finals]
            assert each[key]["mean"] == pytest.approx(np.mean(values))
            assert each[key]["sd"] == pytest.approx(np.std(values, ddof=1))
        assert each["chosen"] == ("test_acc1" in each)
    text = sweep_text(rows)
    assert sum(line.startswith("*") for line in text.splitlines()[1:5]) == sum(r["chosen"] for r in rows)
    assert "±" in text
    assert "Mean ± sample" in " ".join(text.split())


def test_a_combination_with_a_missing_seed_is_not_chosen(swept: Path) -> None:
    reports = {r["folder"]: [report_of(swept / r["folder"] / f"seed-{s}") for s in (0, 1)] for r in rows_of(swept)}
    before = {r["folder"] for r in sweep_rows(reports, seeds=2) if r["chosen"]}
    assert before
    for name in before:
        rows = sweep_rows({k: v[:1] if k == name else v for k, v in reports.items()}, seeds=2)
        assert name not in {r["folder"] for r in rows if r["chosen"]}
        assert {r["folder"]: r["seeds"] for r in rows}[name] == 1


def test_the_test_set_is_read_for_chosen_runs_alone(tmp_path: Path, job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    evaluate = metrics.evaluate

    def spy(model: Any, data: Any, **options: Any) -> Any:
        if data.name == "digits/test" and len(data):
            read.append(str(len(data)))
        return evaluate(model, data, **options)

    monkeypatch.setattr(metrics, "evaluate", spy)
    assert main(["sweep", job, *GRID, "--quiet", "--no-figures", "--out", str(tmp_path / "out")]) == 0
    rows = rows_of(tmp_path / "out")
    chosen = [r for r in rows if r["chosen"]]
    assert 0 < len(chosen) <= len(rows)
    assert read == ["400"] * (2 * 2 * len(chosen))  # two seeds, the dense and the final network
    for each, seed in itertools.product(rows, (0, 1)):
        report = report_of(tmp_path / "out" / each["folder"] / f"seed-{seed}")
        accuracies = [stage["test_acc1"] is not None for stage in report["stages"]]
        assert accuracies == ([True, False, True] if each["chosen"] else [False] * 3)
        assert report["data"]["test"] == (400 if each["chosen"] else 0)
    read.clear()
    assert main(["sweep", job, *GRID, "--quiet", "--no-figures", "--out", str(tmp_path / "out")]) == 0
    assert read == []  # once


def test_runs_are_results_of_compress(swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same bits as `compress` by itself, and the commands that take its results take these."""
    first = swept / rows_of(swept)[0]["folder"] / "seed-1"
    flags = ["--epochs", "2", "--finetune-epochs", "1", "--controls", "no", "--batch-size", "256"]
    flags += ["--alpha", "1e-4", "--amount", "0.5", "--seed", "1", "--quiet", "--no-figures"]
    assert main(["compress", *flags, "--out", str(tmp_path / "alone")]) == 0
    for name in ARRAYS:
        assert (first / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    alone, here = report_of(tmp_path / "alone"), report_of(first)
    assert alone["stages"][-1]["val_loss"] == here["stages"][-1]["val_loss"]
    for each in (r for r in rows_of(swept) if r["chosen"] and r["folder"] == rows_of(swept)[0]["folder"]):
        assert (
            alone["stages"][-1]["test_loss"] == report_of(swept / each["folder"] / "seed-1")["stages"][-1]["test_loss"]
        )
    capsys.readouterr()
    unread = next((swept / r["folder"] for r in rows_of(swept) if not r["chosen"]), None)
    for folder in filter(None, (first.parent, unread)):
        for arguments in (
            ["report", str(folder / "seed-0")],
            ["report", str(folder)],
            ["evaluate", str(folder / "seed-0")],
        ):
            assert main(arguments) == 0, arguments
        told = capsys.readouterr().out
        assert ("the test set was read once" in told) == (folder != unread)
    assert main(["export", str(first), "--format", "npz", "--out", str(tmp_path / "a.npz")]) == 0


# going on


def test_finished_runs_are_kept_and_the_index_is_made_from_the_folders(
    swept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: (swept / name).read_bytes() for name in ("sweep.json", "sweep.png")}
    for name in before:
        (swept / name).unlink()
    monkeypatch.setattr(command, "run_claimed", None)  # nothing may be run
    arguments = ["sweep", str(swept.parent / "job.toml"), *GRID, "--out", str(swept)]
    assert main(arguments) == 0
    assert {name: (swept / name).read_bytes() for name in before} == before
    told = capsys.readouterr()
    assert "8/8" in told.err
    assert "results in" in told.out


def test_other_settings_in_the_same_folder_are_refused(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.toml").write_text(JOB.replace("epochs = 2", "epochs = 3", 1), encoding="utf-8")
    assert main(["sweep", str(tmp_path / "other.toml"), *GRID, "--quiet", "--out", str(swept)]) == 2
    said = r"holds a result of other settings: epochs=2, not 3; choose another folder with --out, or remove that one\n"
    assert re.search(said, capsys.readouterr().err)


KILLED = """
import os, signal, sys
from l0ref.checkpoint.folder import FolderKeeper
from l0ref.cli import main
keep, left = FolderKeeper.keep, [int(sys.argv[1])]
def kept(*args):
    keep(*args)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
FolderKeeper.keep = kept
sys.exit(main(sys.argv[2:]))
"""


def test_a_killed_client_goes_on_bit_for_bit(swept: Path, tmp_path: Path, job: str) -> None:
    arguments = ["sweep", job, *GRID, "--quiet", "--no-figures", "--checkpoint-every", "1epochs"]
    arguments += ["--out", str(tmp_path / "out")]
    given = os.environ | {"PYTHONPATH": os.fspath(ROOT)}
    process = [sys.executable, "-c", KILLED, "4", *arguments]  # in the second run
    assert subprocess.run(process, env=given, check=False, cwd=ROOT).returncode == -signal.SIGKILL
    first, second = (tmp_path / "out" / "alpha=0.0001,amount=0.5" / f"seed-{seed}" for seed in (0, 1))
    states = [p.name for p in sorted(second.rglob("step-*.npz"))]
    assert states
    written = (first / "report.json").stat().st_mtime_ns
    begun: list[int] = []
    taken: list[int] = []
    go_on, follow = FolderKeeper.go_on, command.run_claimed

    def watched_state(self: FolderKeeper, found: Any) -> None:
        taken.append(found.state.epoch)
        go_on(self, found)

    def watched(settings: Any, *rest: Any) -> Any:
        begun.append(settings.seed)
        return follow(settings, *rest)

    command.run_claimed = watched  # type: ignore[assignment]
    FolderKeeper.go_on = watched_state  # type: ignore[method-assign]
    try:
        assert main(arguments) == 0
    finally:
        command.run_claimed, FolderKeeper.go_on = follow, go_on  # type: ignore[method-assign]
    assert taken  # what the killed run had kept is gone on from, not trained again
    assert begun == [1, 0, 1, 0, 1, 0, 1]  # the first run is not repeated
    assert (first / "model.npz").stat().st_mtime_ns <= written
    assert bits(tmp_path / "out") == bits(swept)
    assert not list((tmp_path / "out").rglob(HIDDEN))


def test_an_interrupted_run_of_other_settings_is_refused(
    tmp_path: Path, job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "out" / "alpha=0.0001" / "seed-0" / HIDDEN
    place.mkdir(parents=True)
    config = to_json(resolve({"epochs": 7}))
    found = {"kind": "l0ref run", "version": 1, "command": "sweep", "config": config, "data": {}}
    (place / "run.json").write_text(json.dumps(found), encoding="utf-8")
    assert main(["sweep", job, "--grid", "alpha=1e-4", "--quiet", "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert re.search(r"an interrupted run of other settings, alpha=0.0001/seed-0 with \w+=.*; choose another", told)


def test_a_run_that_another_process_holds_is_waited_for(
    tmp_path: Path, job: str, swept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out" / "alpha=0.0001" / "seed-0"
    folder.mkdir(parents=True)
    held = locked(folder / ".l0ref.lock", name="test")
    held.__enter__()
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        held.__exit__(None, None, None)

    monkeypatch.setattr(command.time, "sleep", nap)
    assert main(["sweep", job, "--grid", "alpha=1e-4", "--quiet", "--no-figures", "--out", str(tmp_path / "out")]) == 0
    assert len(naps) == 1
    assert (folder / "model.npz").read_bytes() == (swept / "alpha=0.0001,amount=0.5/seed-0/model.npz").read_bytes()


def test_a_run_that_fails_is_told_and_the_others_go_on(
    tmp_path: Path, job: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--quiet", "--no-figures", "--out", str(tmp_path / "out")]
    assert main(["sweep", job, "--grid", "lr=1e30,1e-3", *out]) == 1
    told = capsys.readouterr()
    assert re.search(
        r"1 of 2 runs failed, the first in .*lr=1e\+30/seed-0: train, epoch 1, batch \d+: the loss", told.err
    )
    assert [r["folder"] for r in rows_of(tmp_path / "out")] == ["lr=0.001"]


# the engine


def double(x: int) -> int:
    return 2 * x


def once_killed(marker: str) -> str:
    """Kill the worker, unless the file is there."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.environ["NUMBA_NUM_THREADS"]


def always_killed(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fails(x: int) -> int:
    if x == 3:
        raise L0RefError(f"x={x} must not be 3")
    return x


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_job_is_done_once(workers: int) -> None:
    if workers > 1:
        pytest.importorskip("joblib", reason="needs the extra `sweep`")
    assert sorted(completed(double, range(7), workers=workers)) == [(i, 2 * i) for i in range(7)]
    assert list(completed(double, [], workers=workers)) == []
    with pytest.raises(L0RefError, match="x=3 must not be 3"):
        list(completed(fails, range(7), workers=workers))


def test_killed_workers_are_replaced_and_have_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("joblib", reason="needs the extra `sweep`")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    markers = [str(tmp_path / str(i)) for i in range(2)]
    assert sorted(completed(once_killed, markers, workers=2)) == [(0, "1"), (1, "1")]
    monkeypatch.setattr(engine, "KILLS", 1)
    with pytest.raises(L0RefError, match="jobs=2: workers were killed 1 times in a row, perhaps for lack of memory"):
        list(completed(always_killed, range(2), workers=2))


def test_two_processes_give_the_bits_of_one(swept: Path, tmp_path: Path, job: str) -> None:
    pytest.importorskip("joblib", reason="needs the extra `sweep`")
    out = ["--quiet", "--no-figures", "--jobs", "2", "--out", str(tmp_path / "out")]
    assert main(["sweep", job, *GRID, *out]) == 0
    assert bits(tmp_path / "out") == bits(swept)
    mine, theirs = rows_of(tmp_path / "out"), rows_of(swept)
    assert mine == theirs


@pytest.mark.parametrize("again", ["compress", "compare"])
def test_seeds_and_points_are_the_same_in_two_processes(again: str, tmp_path: Path, capsys: Any) -> None:
    """Networks bit for bit and numbers but seconds; what was done before a kill is kept, in one process or two."""
    pytest.importorskip("joblib", reason="needs the extra `sweep`")
    short = {
        "compress": ["--epochs", "2", "--finetune-epochs", "1", "--controls", "no", "--amount", "0.5"],
        "compare": ["--epochs", "2", "--finetune-epochs", "2", "--methods", "magnitude,slr", "--ratios", "2"],
    }[again]
    told, networks, numbers = {}, {}, {}
    for jobs in ("1", "2"):
        out = tmp_path / jobs
        assert main([again, *short, "--seeds", "2", "--no-figures", "--jobs", jobs, "--out", str(out)]) == 0
        shown = capsys.readouterr().out.splitlines()
        told[jobs] = [line.rsplit(None, 1)[0] for line in shown if re.match(r"(l0|magnitude|slr) .*\d", line)]
        networks[jobs] = {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.npz"))}
        numbers[jobs] = [
            json.loads(p.read_text(encoding="utf-8"), object_hook=without_times) for p in sorted(out.rglob("*.json"))
        ]
        left = {p.name for p in out.rglob("*") if p.name.startswith(".")} - {".l0ref.json"}
        assert not left
    assert told["1"]
    assert [line for line in told["1"] if "%" in line] == [line for line in told["2"] if "%" in line]
    assert networks["1"] == networks["2"]
    assert len(networks["1"]) == (8 if again == "compress" else 2)
    if again == "compare":
        assert numbers["1"] == numbers["2"]


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in found.items() if not k.startswith("seconds")}


def test_seeds_that_fail_are_told_and_the_others_are_kept(tmp_path: Path, capsys: Any) -> None:
    """A second command with fewer jobs takes the seed that stands there, and does the one that is missing."""
    pytest.importorskip("joblib", reason="needs the extra `sweep`")
    short = ["compress", "--epochs", "1", "--finetune-epochs", "0", "--controls", "no", "--no-figures", "--seeds", "3"]
    out = tmp_path / "out"
    out.mkdir()
    (out / "seed-1").write_text("not a folder", encoding="utf-8")
    assert main([*short, "--jobs", "2", "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert re.search(r"1 of 3 runs failed, the first in .*seed-1: ", said)
    assert "seeds finished: 0, 2; the same command keeps them and continues with seed 1" in said
    (out / "seed-1").unlink()
    before = (out / "seed-2" / "model.npz").stat().st_mtime_ns
    assert main([*short, "--out", str(out)]) == 0
    assert (out / "seed-2" / "model.npz").stat().st_mtime_ns == before
    assert json.loads((out / "summary.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["compress", "compare"])
def test_wrong_workers_are_refused(name: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l0ref.cli.jobs.completed", None)
    for flags, said in (
        (["--jobs", "0"], "jobs=0 must be at least 1"),
        (["--jobs", "2", "--scheduler", "tcp://localhost:1"], "jobs=2 and scheduler='tcp://localhost:1' exclude"),
        (["--scheduler", "nowhere"], "scheduler='nowhere' must look like tcp://HOST:PORT"),
    ):
        assert main([name, *flags]) == 2
        assert said in capsys.readouterr().err
    monkeypatch.setattr("l0ref.cli.jobs.need", lambda *_, **__: None)
    if name == "compress":
        assert main([name, "--scheduler", "tcp://localhost:1"]) == 2
        assert "scheduler='tcp://localhost:1' is for several seeds; give --seeds N" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "joblib", None)
    assert main([name, "--jobs", "2"]) == 2
    assert "l0ref[sweep]" in capsys.readouterr().err


# the picture


def test_the_picture_has_a_panel_for_loss_and_one_for_accuracy() -> None:
    rows = [row("a", 0.9, 2.0, chosen=True), row("b", 0.8, 4.0, chosen=True), row("c", 0.7, 3.0)]
    figure = sweep_figure(rows)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["validation loss", "validation accuracy"]
    for ax, key in zip(figure.axes, ("val_loss", "val_acc1"), strict=True):
        lines = {c[0].get_gid() or c.get_gid(): c[0].get_xydata().tolist() for c in ax.containers}
        found = sorted(lines.values(), key=len)
        assert found == [[[3.0, rows[2][key]["mean"]]], [[2.0, rows[0][key]["mean"]], [4.0, rows[1][key]["mean"]]]]
    losses = [{k: v for k, v in r.items() if k != "val_acc1"} for r in rows]
    assert len(sweep_figure(losses).axes) == 1
    one = [row("a", 0.9, 2.0, chosen=True)]
    one[0] |= {key: one[0][key] | {"sd": None} for key in ("val_loss", "val_acc1", "compression_ratio")}
    assert len(sweep_figure(one).axes) == 2
    assert sweep_figure([]).axes[0].texts[0].get_text() == "no combination is finished"


# wrong inputs: what is written, what is said

WRONG: list[tuple[str, str]] = [
    ("--grid", r"grid=\[\] names no setting; give at least one, as in --grid alpha"),
    ("--grid alpha", r"grid='alpha' must be a setting and its values, as in alpha=1e-5,2e-5"),
    ("--grid =1", r"grid='=1' must be a setting and its values"),
    ("--grid alpha=", r"grid='alpha=' has no values; give at least one"),
    ("--grid alpha=;", r"grid='alpha=;' has no values"),
    ("--grid alhpa=1", r"alhpa='1' is not a setting; did you mean 'alpha'\?"),
    ("--grid zzzz=1", r"zzzz='1' is not a setting; known are alpha, "),
    ("--grid alpha=x", r"grid='alpha=x': 'x' must be a number, as 0.5 is"),
    ("--grid epochs=1.5", r"grid='epochs=1.5': '1.5' must be a whole number, as 20 is"),
    ("--grid amount=half", r"grid='amount=half': 'half' is neither a share"),
    ("--grid controls=l3", r"grid='controls=l3': 'l3' is not one of"),
    ("--grid alpha=1,1", r"grid='alpha=1,1' has 1.0 twice; give each once"),
    ("--grid alpha=1 alpha=2", r"grid='alpha=2': alpha has been given already; give all of its values at once"),
    ("--grid seed=1,2", r"grid='seed=1,2': seed cannot be varied; give --seeds N"),
    ("--grid out=a,b", r"grid='out=a,b': out cannot be varied"),
    ("--grid alpha=-1", r"alpha=-1.0 must be "),
    ("--grid alpha=nan", r"alpha=nan must be finite"),
    ("--grid lr=0", r"lr=0.0 must be "),
    ("--grid amount=1.5", r"amount=1.5 must lie in \[0, 1\]"),
    ("--grid amount=0.5,1.0", r"leave"),
    ("--grid surrogate=nope", r"surrogate='nope' is not one of"),
    ("--grid method=nope", r"method='nope' is not one of"),
    ("--grid model=digits_mlp,lenet_5", r"model='lenet_5' takes samples of shape \(1, 28, 28\), data='digits'"),
    ("--grid data=digits,nope", r"data='nope' is not one of"),
    ("--grid epochs=-1,2", r"epochs=-1 must be at least 0"),
    ("--grid batch_size=0", r"batch_size=0 must be at least 1"),
    ("--grid threshold=0.1 tolerance=0.1", r"threshold"),
    ("--grid rounds=2 gradual=3", r"gradual=3 and rounds=2 exclude each other"),
    ("--grid alpha=1..2", r"grid: alpha is a range, of which values are drawn; add --random N"),
    ("--grid alpha=2..1 --random 3", r"grid='alpha=2..1' must be a range from low to high"),
    ("--grid alpha=1..1 --random 3", r"grid='alpha=1..1' must be a range from low to high"),
    ("--grid alpha=0..inf --random 3", r"grid='alpha=0..inf' must be a range from low to high"),
    ("--grid alpha=0..1:log --random 3", r"grid='alpha=0..1:log': a range in the logarithm has real ends above 0"),
    ("--grid epochs=1..9:log --random 3", r"grid='epochs=1..9:log': a range in the logarithm has real ends"),
    ("--grid alpha=1..2:lin --random 3", r"grid='alpha=1..2:lin' must be a range"),
    ("--grid alpha=1..x --random 3", r"grid='alpha=1..x': 'x' must be a number"),
    ("--grid alpha=1,2 --random 0", r"random=0 must lie in \[1, 100000\]"),
    ("--grid alpha=1,2 --random -1", r"random=-1 must lie in"),
    ("--grid alpha=1,2 --random x", r"--random: 'x' must be a whole number"),
    ("--grid alpha=1 --seeds 0", r"seeds=0 must be at least 1"),
    ("--grid alpha=1 --seeds 20000", r"seeds=20000 must be at most 10000"),
    ("--grid alpha=1 --jobs 0", r"jobs=0 must be at least 1"),
    ("--grid alpha=1 --jobs 2 --scheduler tcp://localhost:1", r"jobs=2 and scheduler='tcp://localhost:1' exclude"),
    ("--grid alpha=1e-5 --data nope", r"data='nope' is not one of"),
    ("--grid alpha=1e-5 --checkpoint-every often", r"--checkpoint-every: 'often' must be minutes or epochs"),
    ("--grid " + " ".join(f"{name}=" + ",".join(f"0.{i:03}" for i in range(1, 400))
                          for name in ("alpha", "l2", "lr")), r"grid has 63521199 combinations, the most is 100000"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "told"), WRONG, ids=[text[:40] for text, _ in WRONG])
def test_wrong_inputs_are_refused_before_anything_starts(
    arguments: str, told: str, tmp_path: Path, job: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = arguments.split() if arguments != "--grid" else []
    assert main(["sweep", job, *words, "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert re.search(told, said), said
    assert os.listdir(tmp_path) == ["job.toml"]


def test_wrong_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, told in (
        (None, r"config='.*job.toml' is not a file; check the path"),
        ("alpha = [", r"is not TOML"),
        ("alhpa = 1", r"alhpa=1 is not a setting; did you mean 'alpha'"),
        ("alpha = 'x'", r"alpha='x' must be a number, not str"),
        ("seeds = 3", r"seeds=3 is about running the job, not part of it; pass --seeds by hand"),
        ("data = 'os:system'", r"names code, data='os:system'; a file may not"),
    ):
        if text is not None:
            (tmp_path / "job.toml").write_text(text, encoding="utf-8")
        assert main(["sweep", str(tmp_path / "job.toml"), "--grid", "alpha=1e-5", "--out", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert re.search(told, said), said
    assert not (tmp_path / "out").exists()
    (tmp_path / "job.toml").write_text(JOB, encoding="utf-8")
    for out, told in (("", "out='' names no folder"), ("/dev/null", "out='/dev/null' cannot be created")):
        assert main(["sweep", str(tmp_path / "job.toml"), "--grid", "alpha=1e-5", "--out", out]) == 2
        assert told in capsys.readouterr().err


def test_a_worker_with_other_samples_refuses(tmp_path: Path) -> None:
    settings = dataclasses.replace(resolve({"epochs": 1}), controls=())
    told = command.run_one(command.Job(str(tmp_path / "x"), to_json(settings), None, "0" * 64))
    assert told == "data='digits' are other samples here than where the command runs; copy them"
    assert not (tmp_path / "x").exists()
