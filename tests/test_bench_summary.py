"""`l0ref bench --summary`: every goal finds its works and peers, and its verdict is that of the worst of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from l0ref.bench import summary
from l0ref.bench.suites import suites
from l0ref.bench.work import OURS, Contender, Plan, Work
from l0ref.cli import main

WORKS = {
    "train-mlp": ["LeNet-300-100, batch 128"],
    "train-cnn": ["LeNet-5, batch 128"],
    "conv": ["64 -> 64, 3x3, 32x32, batch 64, forward + backward", "LeNet-5 conv1, 1 -> 20, 5x5, forward + backward"],
    "train-norm": [
        f"{net} {what}" for net in ("vgg_small", "resnet_small") for what in ("step, batch 128", "logits, 5")
    ],
    "batch-one": [
        "784 x 300, one sample, density = 10 %",
        "300 x 100, one sample, density = 10 %",
        "4096 x 4096, one sample, density = 10 %",
        "LeNet-300-100, 95 %",
    ],
    "batch-many": ["784 x 300, n = 128, density = 10 %", "300 x 100, n = 128, density = 10 %"],
}
TORCH = [
    f"torch, {way}{end}" for way in ("Adam", "fused Adam", "fused Adam, channels_last") for end in ("", ", no penalty")
]
PEERS = [
    *TORCH,
    "torch",
    "torch, channels_last",
    "torch CSR",
    "dense, NumPy",
    "dense, torch",
    "as many bytes read",
    "matrix products alone, NumPy",
]


def rows(ours: float, theirs: float, *, rounds: int = 5) -> list[dict[str, Any]]:
    named = [(OURS, ours), *((name, theirs) for name in PEERS)]
    return [
        {"suite": suite, "work": work, "contender": name, "median_s": t, "rounds": rounds}
        for suite, works in WORKS.items()
        for work in works
        for name, t in named
    ]


def test_every_goal_is_measured_by_the_suites_of_the_summary() -> None:
    assert set(summary.SUITES) <= set(suites())
    for goal in summary.GOALS:
        assert goal.suite in summary.SUITES
        assert {found.value for found in summary.ratios(rows(2.0, 3.0), goal)} == {1.5}
        assert summary.ratios(rows(2.0, 3.0), goal), goal.what


@pytest.mark.kernels
def test_names_are_those_of_the_suites() -> None:
    """Of works and contenders, as far as a quick run has them."""
    plan = Plan(suites=(), rounds=1, threads=1, peers=("limits",), quick=True)
    for suite, part in (("conv", "64 -> 64"), ("train-norm", "resnet_small logits"), ("batch-one", "one sample")):
        names = [work.name for work in suites()[suite].works(plan)]
        assert any(part in name for name in names), names


def test_verdicts_are_of_the_worst_work_and_the_best_peer() -> None:
    found = rows(1.0, 4.0)
    assert "missed" not in summary.summary_text(found)
    for row in found:
        if row["work"].startswith("784 x 300, one") and row["contender"] == "torch CSR":
            row["median_s"] = 1.19
        if row["contender"] == "torch, fused Adam" and row["work"].startswith("vgg_small step"):
            row["median_s"] = 1.49
    missed = [line for line in summary.summary_text(found).splitlines() if line.endswith("missed")]
    assert [line.split("  ")[0] for line in missed] == ["vgg_small step, penalty", "one sample, 784x300 to 4096x4096"]


def test_a_goal_between_the_quartiles_leaves_the_verdict_open() -> None:
    goal = summary.GOALS[0]
    for value, low, high, said in (
        (2.6, 2.5, 3.0, "reached"), (2.6, 2.4, 3.0, "reached?"), (2.4, 2.3, 2.5, "missed?"), (2.4, 2.3, 2.4, "missed"),
    ):  # fmt: skip
        assert summary.verdict(goal, [summary.Found(value, low, high), summary.Found(9.0, 0.1, 9.0)]) == said
    row = {"suite": goal.suite, "work": "LeNet-300-100, batch 128", "rounds": 5}
    both = [
        {**row, "contender": OURS, "median_s": 1.0},
        {**row, "contender": "torch, Adam", "median_s": 2.6, "ratio_low": 2.0, "ratio_high": 3.0},
    ]
    assert summary.ratios(both, goal) == [(2.6, 2.0, 3.0)]
    line = summary.summary_text(both).splitlines()[1]
    assert line.split()[-6:] == ["2.50", "2.60", "2.00", "..", "3.00", "reached?"]


def test_only_what_a_goal_reads_is_timed() -> None:
    def of(name: str) -> Work:
        return Work(name, [Contender(each, print) for each in (OURS, *PEERS)])

    assert summary.read_by_goals("conv", of("64 -> 64, 3x3, forward")) is None
    assert summary.read_by_goals("train-mlp", of("64 -> 64, 3x3, forward + backward")) is None
    kept = summary.read_by_goals("conv", of("64 -> 64, 3x3, forward + backward"))
    assert kept is not None
    assert {OURS, "torch, channels_last"} <= {c.name for c in kept.contenders}
    assert "torch" not in {c.name for c in kept.contenders}
    kept = summary.read_by_goals("train-norm", of("vgg_small step, batch 128"))
    assert kept is not None
    assert [c.name for c in kept.contenders if "no penalty" in c.name] == []


def test_few_rounds_have_no_verdict() -> None:
    text = summary.summary_text(rows(1.0, 4.0, rounds=4))
    assert "reached" not in text
    assert "missed" not in text


def test_the_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    seen: list[Plan] = []

    def run(plan: Plan) -> dict[str, Any]:
        seen.append(plan)
        return {"environment": {}, "rows": rows(1.0, 4.0)}

    monkeypatch.setattr("l0ref.bench.worker.run_in_worker", run)
    monkeypatch.setattr("l0ref.bench.environment.environment_text", lambda _: "this machine")
    monkeypatch.setattr("l0ref.bench.plan.choose_peers", lambda asked: tuple(asked.split(",")))
    assert main(["bench", "--summary", str(tmp_path / "s.txt")]) == 0
    assert (seen[0].suites, seen[0].rounds, seen[0].peers) == (summary.SUITES, 5, ("torch", "limits"))
    assert seen[0].goals
    assert (tmp_path / "s.txt").read_text() in capsys.readouterr().out
    assert "this machine" in (tmp_path / "s.txt").read_text()
