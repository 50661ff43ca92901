"""`l0ref bench`: exit codes, files and messages; the worker; the environment; the figure."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref.archive import json_bytes, read_json
from l0ref.bench import worker
from l0ref.bench.agreement import Disagreement
from l0ref.bench.environment import environment, environment_text
from l0ref.bench.threads import variables
from l0ref.bench.work import Contender, Plan, Suite, Work
from l0ref.cli import build_parser, main
from l0ref.errors import L0RefError
from l0ref.report.figures.bench import bar_label, bench_figure, bench_png, fit_exponent, panels

ROW_KEYS = ["suite", "work", "contender", "median_s", "iqr_s", "rounds"]
ENVIRONMENT_KEYS = {
    "l0ref", "python", "packages", "platform", "processor", "cores", "blas", "threads", "openblas_coretype", "pinned",
    "load", "warm_up_s", "plan",
}  # fmt: skip


def made_up_suite(answer: float = 1.0) -> Suite:
    """Two works of two contenders that do nothing; the second one's answer is `answer`."""

    def works(plan: Plan) -> Iterator[Work]:
        for name in ("width = 1", "a work"):
            yield Work(
                name,
                [
                    Contender("l0ref", lambda n: n, answer=lambda _: {"a": np.ones(1)}),
                    Contender("other", lambda n: n, answer=lambda _: {"a": np.full(1, answer)}),
                ],
                {"": lambda: {"a": np.ones(1)}},
                units=plan.rounds,
            )

    return Suite("made-up", "nothing", works)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure in this process, and know a made-up suite beside the real ones."""
    known = {"made-up": made_up_suite(), "odd": made_up_suite(1.5)}
    monkeypatch.setattr("l0ref.bench.worker.suites", lambda: known)
    monkeypatch.setattr("l0ref.bench.plan.suites", lambda: known)
    monkeypatch.setattr("l0ref.bench.worker.run_in_worker", worker.run_plan)


# --- the command, as a user runs it -----------------------------------------------------------------------------------


@pytest.mark.kernels
def test_a_fresh_process_measures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, picture = tmp_path / "b.json", tmp_path / "b.png"
    flags = ["--quick", "--rounds", "2", "--threads", "1", "--peers", "none", "--seed", "3"]
    assert main(["bench", "optimizer", *flags, "--json", str(out), "--figure", str(picture)]) == 0
    said = capfd.readouterr()
    assert said.out.startswith("processor  ")
    assert said.out.count("\noptimizer: ") == 5
    assert said.out.count("no ratios: they need 5 rounds or more, these are 2\n") == 5
    assert "compiling at their first call" in said.err
    found = json.loads(out.read_text())
    assert list(found) == ["environment", "rows"]
    assert set(found["environment"]) == ENVIRONMENT_KEYS
    assert found["environment"]["threads"] == variables(1)
    assert found["environment"]["plan"] == {
        "suites": ["optimizer"], "rounds": 2, "threads": 1, "peers": [], "quick": True, "seed": 3, "goals": False,
    }  # fmt: skip
    assert found["environment"]["blas"]["threads"] in (None, 1)
    assert [row["contender"] for row in found["rows"]] == ["l0ref"] * 5
    for row in found["rows"]:
        assert list(row) == ROW_KEYS
        assert row["suite"] == "optimizer"
        assert row["rounds"] == 2
        assert 0 < row["median_s"] < math.inf
        assert 0 <= row["iqr_s"] < math.inf
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.json", "b.png"]  # no temporary file is left


@pytest.mark.usefixtures("here")
def test_tables_rows_and_ratios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "b.json"
    assert main(["bench", "made-up", "--rounds", "5", "--peers", "none", "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert said.count("made-up: ") == 2
    assert "no ratios" not in said
    found = json.loads(out.read_text())
    assert [(row["work"], row["contender"]) for row in found["rows"]] == [
        ("width = 1", "l0ref"), ("width = 1", "other"), ("a work", "l0ref"), ("a work", "other"),
    ]  # fmt: skip


@pytest.mark.usefixtures("here")
def test_a_contender_that_cheats_fails_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "b.json"
    assert main(["bench", "odd", "--rounds", "5", "--peers", "none", "--json", str(out)]) == 1
    said = capsys.readouterr()
    assert "l0ref bench: contender='other' of 'width = 1' differs from the truth in 'a' by 0.5 of its norm" in said.err
    assert "median" not in said.out
    assert not out.exists()


def test_list_names_suites_and_peers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l0ref.bench.peers.installed", lambda name: name != "mygrad")
    assert main(["bench", "--list"]) == 0
    said = capsys.readouterr().out
    for name in ("conv", "import", "limits", "scaling", "sparse", "sparse-products", "train-mlp"):
        assert f"\n  {name:<10} " in said
    assert said.count("not installed") == 1
    assert "\n  mygrad     MyGrad, with Adam in NumPy [not installed: pip install 'l0ref[bench]']\n" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "SUITE is missing; name one or more of batch-many, "),
        (["trian-mlp"], "SUITE='trian-mlp' is not one of "),
        (["conv", "--rounds", "0"], "--rounds=0 must be at least 1"),
        (["conv", "--threads", "-1"], "--threads=-1 must be at least 1"),
        (["conv", "--peers", "tensorflow"], "--peers='tensorflow' is not one of "),
        (["conv", "--seed", "-3"], "--seed=-3 must be at least 0"),
        (["conv", "--json", "nowhere/b.json"], "--json nowhere/b.json cannot be written: its folder is missing"),
        (["conv", "--json", "."], "--json . cannot be written: it is a folder; name a file"),
        (["conv", "--figure", "nowhere/b.png"], "--figure nowhere/b.png cannot be written: its folder is missing"),
    ],
)
def test_bad_usage(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("l0ref.bench.worker.run_in_worker", lambda _: pytest.fail("measured all the same"))
    assert main(["bench", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"l0ref bench: {said}")


def test_a_folder_nobody_can_write_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)
    assert main(["bench", "conv", "--json", str(tmp_path / "b.json")]) == 2
    assert "cannot be written: its folder is missing or read-only; choose another" in capsys.readouterr().err


def test_a_near_match_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "trian-mlp"]) == 2
    assert capsys.readouterr().err.endswith("; did you mean 'train-mlp'?\n")


def test_help_has_examples_that_parse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help"]) == 0
    said = capsys.readouterr().out
    lines = [line.split("l0ref bench", 1)[1] for line in said.splitlines() if "  l0ref bench" in line]
    assert len(lines) >= 5
    for line in lines:
        words = line.split("   ")[0].split()
        build_parser().parse_args(["bench", *[word for word in words if word not in ("our", "own", "times", "only")]])


def test_the_command_line_does_not_load_the_benchmark() -> None:
    code = "import sys; import l0ref.cli; print([name for name in sys.modules if name.startswith('l0ref.bench')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- the worker -------------------------------------------------------------------------------------------------------

PLAN = Plan(("made-up",), rounds=1, threads=1, peers=())


def test_worker_gets_the_threads_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def fake(command: list[str], **options: Any) -> Any:
        calls.append((command, options))
        Path(command[-1]).write_bytes(json_bytes({"environment": {}, "rows": []}))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", fake)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    plan = Plan(("conv",), rounds=1, threads=7, peers=("limits",))
    assert worker.run_in_worker(plan) == {"environment": {}, "rows": []}
    ((command, options),) = calls
    assert command[:3] == [sys.executable, "-m", "l0ref.bench.worker"]
    assert Plan.from_json(json.loads(command[3])) == plan
    assert {name: options["env"][name] for name in variables(7)} == variables(7)
    assert options["env"]["OPENBLAS_CORETYPE"] == "Haswell"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
    assert not Path(command[-1]).parent.exists()


@pytest.mark.parametrize(
    ("code", "content", "said"),
    [
        (3, None, r"^suites=\['made-up'\] were not measured: the worker ended with exit code 3; its error message"),
        (0, None, r"^suites=\['made-up'\] were not measured: the worker ended with exit code 0; its error message"),
        (0, {"error": "contender='b' cheats"}, r"^contender='b' cheats$"),
    ],
)
def test_a_worker_that_fails(code: int, content: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(command: list[str], **_: Any) -> Any:
        if content is not None:
            Path(command[-1]).write_bytes(json_bytes(content))
        return subprocess.CompletedProcess(command, code)

    monkeypatch.setattr(subprocess, "run", fake)
    with pytest.raises(L0RefError, match=said):
        worker.run_in_worker(PLAN)


@pytest.mark.parametrize("wanted", [True, False])
def test_threads_are_pinned_unless_a_work_says_no(wanted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pins: list[str] = []

    @contextlib.contextmanager
    def fake(threads: int) -> Iterator[Any]:
        pins.append(f"for {threads}")
        yield lambda: pins.append("pinned")
        pins.append("freed")

    monkeypatch.setattr(worker, "pinned", fake)
    work = next(made_up_suite().works(PLAN))
    rows = worker.run_work("made-up", replace(work, pinned=wanted), PLAN)
    assert len(rows) == 2
    assert pins == ["for 1", *(["pinned"] * 2 if wanted else []), "freed"]


@pytest.mark.parametrize(
    ("raised", "code", "written"),
    [
        (None, 0, {"rows": [1]}),
        (Disagreement("b cheats"), 0, {"error": "b cheats"}),
        (KeyboardInterrupt(), 130, None),
    ],
)
def test_worker_writes_what_it_found_or_why_not(
    raised: BaseException | None, code: int, written: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(plan: Plan) -> dict[str, Any]:
        assert plan == PLAN
        if raised is not None:
            raise raised
        return {"rows": [1]}

    monkeypatch.setattr(worker, "run_plan", fake)
    result = tmp_path / "r.json"
    assert worker.main([json.dumps(PLAN.to_json()), str(result)]) == code
    assert (read_json(result) if result.exists() else None) == written


# --- the environment --------------------------------------------------------------------------------------------------


def test_environment_names_what_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT", raising=False)
    found = environment(PLAN)
    assert set(found) == ENVIRONMENT_KEYS
    assert found["openblas_coretype"] == "Haswell"
    assert found["threads"]["OMP_NUM_THREADS"] == "3"
    assert found["threads"]["OPENBLAS_THREAD_TIMEOUT"] is None
    assert found["packages"]["numpy"] == np.__version__
    assert {"numba", "llvmlite"} <= set(found["packages"])
    assert found["cores"] == os.cpu_count()
    assert read_json(json_bytes(found)) == found
    assert found["load"] is None or found["load"] >= 0
    text = environment_text({**found, "load": 0.5})
    assert [line.split()[0] for line in text.splitlines()] == ["processor", "BLAS", "threads", "versions"]
    busy = environment_text({**found, "load": 0.51})
    assert busy == text + "\nload       0.5 in the last minute: other programs are running; times are not reliable"
    assert environment_text({**found, "load": None}) == text
    assert "(OPENBLAS_CORETYPE Haswell)" in text
    assert f"numpy {np.__version__}" in text
    assert "not pinned" in environment_text({**found, "pinned": None})
    assert "main thread on 2, others on [5]" in environment_text({**found, "pinned": {"main": 2, "others": [5]}})
    monkeypatch.delenv("OPENBLAS_CORETYPE")
    assert "(OPENBLAS_CORETYPE unset)" in environment_text(environment(PLAN))


# --- the figure -------------------------------------------------------------------------------------------------------


def row(suite: str, work: str, contender: str, median: float, iqr: float = 0.0, rounds: int = 5) -> dict[str, Any]:
    return {"suite": suite, "work": work, "contender": contender, "median_s": median, "iqr_s": iqr, "rounds": rounds}


SIZES = (1, 2, 4, 8, 16)
ROWS = [
    row("train", "LeNet", "l0ref", 0.001, 0.0002),
    row("train", "LeNet", "torch", 0.004, 0.0004),
    *(row("scaling", f"width = {n}", "l0ref", 3.0 * n**1.5) for n in reversed(SIZES)),
    *(row("scaling", f"width = {n}", "torch", 5.0 * n**2.0) for n in SIZES),
]


def test_works_are_sorted_into_bars_and_curves() -> None:
    bars, curves = panels(ROWS)
    assert list(bars) == ["train: LeNet"]
    assert [r["contender"] for r in bars["train: LeNet"]] == ["l0ref", "torch"]
    assert list(curves) == [("scaling", "width")]
    assert curves["scaling", "width"]["l0ref"] == [(n, 3.0 * n**1.5) for n in SIZES]
    assert panels([]) == ({}, {})


def test_exponent_is_fitted_to_the_larger_half() -> None:
    points = [(1.0, 1.0), (2.0, 1.0), *((float(n), 7.0 * n**1.5) for n in (4, 8, 16))]
    found = fit_exponent(points)
    assert found is not None
    assert found == pytest.approx((1.5, 7.0, 4.0), rel=1e-12)
    noisy = fit_exponent([(1.0, 2.0), (10.0, 2.0 * 10**1.1), (100.0, 2.0 * 10**1.9)])
    assert noisy is not None
    assert noisy.exponent == pytest.approx(0.8, rel=1e-12)
    assert fit_exponent([(1.0, 3.0), (2.0, 6.0)]) == pytest.approx((1.0, 3.0, 1.0), rel=1e-12)
    assert fit_exponent([(4.0, 1.0)]) is None
    assert fit_exponent([]) is None


def test_figure_draws_what_was_measured() -> None:
    figure = bench_figure(ROWS)
    bars, curves = figure.axes
    assert [patch.get_width() for patch in bars.patches] == [0.001, 0.004]
    whiskers = [segment[:, 0] for segment in bars.collections[0].get_segments()]
    np.testing.assert_allclose(whiskers, [[0.0009, 0.0011], [0.0038, 0.0042]], rtol=1e-12)
    assert [label.get_text() for label in bars.get_yticklabels()] == ["l0ref", "torch"]
    assert [text.get_text().strip() for text in bars.texts] == ["1.000 ms", "4.000 ms, 4.00 x"]
    assert bars.get_xlim()[0] == 0.0
    assert (curves.get_xscale(), curves.get_yscale()) == ("log", "log")
    labels = [text.get_text() for text in curves.get_legend().get_texts()]
    assert labels == ["l0ref: width^1.50", "torch: width^2.00"]
    ours = curves.lines[0]
    assert list(zip(ours.get_xdata(), ours.get_ydata(), strict=True)) == [(n, 3.0 * n**1.5) for n in SIZES]
    fitted = curves.lines[1]
    assert list(fitted.get_xdata()) == [4.0, 16.0]
    np.testing.assert_allclose(fitted.get_ydata(), [3.0 * 4**1.5, 3.0 * 16**1.5], rtol=1e-12)
    assert bench_png(ROWS) == bench_png(ROWS)


def test_figure_of_little() -> None:
    assert bench_png([])[:4] == b"\x89PNG"
    (ax,) = bench_figure([row("s", "batch = 4", "l0ref", 2.0)]).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["l0ref"]
    (ax,) = bench_figure([row("s", "w", "NumPy", 2.0)]).axes
    assert [text.get_text().strip() for text in ax.texts] == ["2.000 s"]


@pytest.mark.parametrize(("rounds", "label"), [(4, "8.000 s"), (5, "8.000 s, 4.00 x")])
def test_figure_has_no_ratio_of_few_rounds(rounds: int, label: str) -> None:
    rows = [row("s", "w", "l0ref", 2.0, rounds=rounds), row("s", "w", "b", 8.0, rounds=rounds)]
    assert bar_label(rows[1], rows) == label
    assert bar_label(rows[0], rows) == "2.000 s"
