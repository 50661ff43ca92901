"""Every example runs, and its numbers are the ones its text claims."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from l0ref.methods import METHODS

FOLDER = Path(__file__).parents[1] / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("ex*.py"))


def run(name: str, **options: Any) -> dict[str, float]:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, float] = module.main(fast=True, **options)
    return found


def test_there_are_nine_and_each_is_tested() -> None:
    tested = {name for name in globals() if name.startswith("test_ex0")}
    assert {name.split("_")[0] for name in NAMES} == {name.split("_")[1] for name in tested}
    assert len(NAMES) == 9


def test_ex01_tape_and_paper_agree() -> None:
    found = run("ex01_gradients_by_hand")
    assert found["largest_difference"] < 1e-14
    assert found["loss"] == pytest.approx(
        4.0 + 0.1 * (4 - 0.367879441 - 0.135335283 - 0.002478752 - 0.000335463), rel=1e-8
    )
    assert found["du2"] == pytest.approx(-0.2 * 0.1353352832, rel=1e-9)
    assert found["dv2"] == pytest.approx(0.2 * 0.0003354626, rel=1e-6)


def test_ex02_dead_zones(tmp_path: Path) -> None:
    dead = run("ex02_surrogates_drawn", out=tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").read_bytes()[:4] == b"\x89PNG"
    assert len(dead) == 15
    assert dead["L0"] == pytest.approx((2 * 0.05) ** 0.5)
    assert dead["L1"] == pytest.approx(0.05)
    assert dead["Lp"] == pytest.approx(1.5 * 0.05 ** (2 / 3))
    assert dead["Gaussian"] == 0.0  # smooth at zero


def test_ex03_l0_survives_the_cut_and_the_control_does_not() -> None:
    found = run("ex03_mlp_prune_finetune")
    assert found["none_dense"] > found["l0_dense"] > 0.93
    assert found["none_pruned"] < 0.5 < found["l0_pruned"]
    assert found["l0_finetuned"] > 0.93
    assert found["l0_finetuned"] > found["none_finetuned"] + 0.1


def test_ex04_compression_is_not_speed() -> None:
    found = run("ex04_cnn_prune_finetune")
    assert found["compression_ratio"] >= 10
    assert found["theoretical_speedup"] < found["compression_ratio"]
    assert found["acc_finetuned"] > 0.9


def test_ex05_hover_radius() -> None:
    found = run("ex05_hover_radius")
    assert 0 < found["sgd"] <= 1e-4  # lr alpha beta
    assert 1e-3 < found["adam"] <= 0.02  # about lr
    assert found["proximal_sgd"] == 0.0


@pytest.mark.kernels
def test_ex06_bytes_are_those_of_the_formula(capsys: pytest.CaptureFixture[str]) -> None:
    found = run("ex06_sparse_bytes_and_time")
    assert found["dense_bytes"] == 4 * 30 * 78
    for percent, kept in ((100, 2340), (50, 1170), (20, 468), (10, 234), (5, 117), (2, 47), (1, 23), (0.5, 12)):
        assert found[f"bytes_{percent:g}"] == 6 * kept + 4 * 31
    assert 0 < found["largest_error"] < 1e-6
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if " % " in line] == ["100", "50", "20", "10", "5", "2", "1", "0.5"]


@pytest.mark.slow
def test_ex07_records_of_the_methods(tmp_path: Path) -> None:
    found = run("ex07_method_records", out=tmp_path)
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    assert drawn == {m.name for m in METHODS.values() if m.grain == "weight" and "training" not in m.reads} - {
        "on_the_fly"
    }
    assert found["quality"] > 1
    assert found["wanda_rows"] == 1
    assert found["snip_sum"] == pytest.approx(1, abs=1e-6)
    assert found["halving"] < 0.5  # twice as many values, less than half of the squared error


@pytest.mark.slow
def test_ex09_records_of_units_thresholds_and_gates(tmp_path: Path) -> None:
    found = run("ex09_unit_records", out=tmp_path)
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    training = {m.name for m in METHODS.values() if "training" in m.reads}
    assert drawn == {m.name for m in METHODS.values() if m.grain == "unit"} | training | {"on_the_fly"}
    assert found["merges"] > 0
    assert found["vip_mean_square"] == pytest.approx(1.0, rel=1e-12)
    assert found["learnt_l1"] <= 50_200
    assert found["tiles"] < found["pivoted"] < found["bound"]
    assert found["slope"] == pytest.approx(-0.5, abs=0.1)
    assert found["total"] > 1 / (1 - found["saving"]) * 0.999  # the cost it is held against, over its own


def test_ex08_swaps_end_at_what_is_proven(tmp_path: Path) -> None:
    found = run("ex08_one_neuron_proven", out=tmp_path / "neuron.png")
    assert (tmp_path / "neuron.png").read_bytes()[:4] == b"\x89PNG"
    assert found["proven"]
    assert found["lower"] <= found["upper"] <= found["swaps"] * (1 + 1e-9)
    assert found["swaps"] < 0.5 * found["magnitude"]
    assert 0 <= found["gap"] < 1e-5
