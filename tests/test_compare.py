"""`l0ref compare`: the same networks for all methods, a row a point, and a comparison that goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import metrics, nn
from l0ref.cli import main
from l0ref.errors import ArgumentError, LayerCollapse
from l0ref.experiment import Comparison, point
from l0ref.experiment.comparison import TRAININGS, TRIALS, equal_flops
from l0ref.methods import METHODS
from l0ref.report.comparison import comparison_text, error_table
from l0ref.report.figures.comparison import accuracy_figure, comparison_pictures, costs_figure
from l0ref.training import Recipe, follow
from tests.method_contract import networks

MLP, DATA = networks()["mlp"]
CNN, IMAGES = networks()["cnn"]
SHORT = ["compare", "--epochs", "1", "--finetune-epochs", "2", "--quiet", "--no-figures"]


def plan(*methods: str, ratios: tuple[float, ...] = (2.0, 4.0), seeds: tuple[int, ...] = (0,)) -> Comparison:
    return Comparison(methods, ratios, seeds, Recipe(2))


def test_a_point_is_the_method_and_the_fine_tuning_by_hand() -> None:
    row = point(MLP, DATA, method="magnitude", ratio=4.0, finetune=Recipe(2), seed=3)
    cut = METHODS["magnitude"].run(MLP, DATA, amount=round(MLP.size * 3 / 4), seed=3).model
    tuned, _ = follow(Recipe(2), cut, DATA.train, seed=3, phase="finetune", progress="none")
    assert row["size_nz"] == MLP.size - round(MLP.size * 3 / 4)
    assert row["val_acc1_pruned"] == metrics.evaluate(cut, DATA.validation).acc1
    assert row["test_acc1"] == metrics.evaluate(tuned, DATA.test).acc1
    z, other = (m.logits(DATA.validation.x) for m in (MLP, cut))
    assert row["logit_change"] == pytest.approx(np.linalg.norm(other - z) / np.linalg.norm(z), rel=1e-12)
    assert (row["epochs_method"], row["epochs_finetune"]) == (0, 2)


def test_a_method_that_trains_pays_with_its_share_of_the_epochs() -> None:
    row = point(MLP, DATA, method="slr", ratio=2.0, finetune=Recipe(3), seed=0)
    assert (row["epochs_method"], row["epochs_finetune"]) == (1, 2)


def test_a_budget_that_cannot_be_met_is_a_row_that_says_so() -> None:
    row = point(MLP, DATA, method="magnitude", ratio=200.0, finetune=Recipe(1), seed=0)
    assert "prune less" in row["refused"]
    text = comparison_text([row, point(MLP, DATA, method="magnitude", ratio=2.0, finetune=Recipe(1), seed=0)])
    assert text.splitlines()[-1].split()[-1] == "-"


def test_too_few_epochs_to_remove_anything_in_are_a_row_that_says_so() -> None:
    row = point(MLP, DATA, method="prune_while_training", ratio=2.0, finetune=Recipe(2), seed=0)
    assert row["refused"] == "epochs=1 ends before units go, after epoch start=1; train for more epochs"


def test_the_table_is_means_and_sample_deviations() -> None:
    rows = [{"method": "a", "ratio": 2.0, "test_acc1": v, "equal": "weights"} for v in (0.9, 0.92)]
    assert error_table(rows).splitlines()[1].split() == ["a", "9.0", "±1.4"]
    text = comparison_text([*rows, {**rows[0], "method": "b", "equal": "multiply-adds"}])
    assert text.count("found by search") == 1
    assert text.splitlines()[-1].split() == ["b", "10.0"]


def test_structured_methods_are_also_compared_at_equal_multiply_adds() -> None:
    what = plan("magnitude", "fpgm", "hard_concrete_units", ratios=(2.0,))
    assert [(key[1], key[3]) for key in what.points(CNN)] == [
        ("magnitude", "weights"), ("fpgm", "weights"), ("fpgm", "multiply-adds"), ("hard_concrete_units", "weights"),
        ("hard_concrete_units", "multiply-adds"),
    ]  # fmt: skip
    assert {key[3] for key in what.points(MLP)} == {"weights"}  # a weight there is a multiply-add


def test_methods_that_are_not_searched_remove_single_weights_by_default() -> None:
    every = plan(*METHODS, ratios=(2.0,))
    searched = {name for _, name, _, equal in every.points(CNN) if equal == "multiply-adds"}
    assert searched == {name for name, m in METHODS.items() if m.grain == "unit"} >= {"matrix_pivoting", "coreset"}
    assert {name for name, m in METHODS.items() if m.kind == "structured"} <= searched
    structures = {name: m.options["structure"] for name, m in METHODS.items() if "structure" in m.options}
    assert structures == {"slr": "element", "admm": "element"}


def test_the_search_for_multiply_adds_ends_at_the_largest_cut_that_fits() -> None:
    """By brute force over every amount."""
    fpgm, dense = METHODS["fpgm"], metrics.of(CNN)["flops"]
    left = []
    for amount in range(CNN.size):
        try:
            cut = fpgm.run(CNN, IMAGES, amount=amount, seed=0).model
        except LayerCollapse:
            break
        left.append(metrics.of(cut)["flops_nz"])
    best = min(n for n in left if n >= dense / 2)
    row = point(CNN, IMAGES, method="fpgm", ratio=2.0, equal="multiply-adds", finetune=Recipe(1), seed=0)
    assert dense / row["theoretical_speedup"] == pytest.approx(best, rel=0.01)
    assert 1 <= row["trials"] <= TRIALS


@pytest.mark.parametrize("method", ["prune_while_training", "hard_concrete_units"])
def test_a_search_that_trains_is_short(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most four trainings, the cut nearest above the target of those, charged for its own epochs alone."""
    tried: list[tuple[float, Any]] = []
    run = type(METHODS[method]).run

    def counted(*args: Any, **options: Any) -> Any:
        found = run(*args, **options)
        tried.append((metrics.of(found.model)["flops_nz"], options["epochs"]))
        return found

    monkeypatch.setattr(type(METHODS[method]), "run", counted)
    row = point(CNN, IMAGES, method=method, ratio=2.0, equal="multiply-adds", finetune=Recipe(4), seed=0)
    dense = metrics.of(CNN)["flops"]
    assert len(tried) <= row["trials"] <= TRAININGS < TRIALS
    assert {epochs for _, epochs in tried} == {row["epochs_method"]} == {2}
    assert row["epochs_finetune"] == 2
    assert dense / row["theoretical_speedup"] <= min(flops for flops, _ in tried if flops >= dense / 2)


@pytest.mark.parametrize("ratio", [1.5, 3.0, 6.0])
def test_a_search_in_small_steps_ends_within_one_percent_above_the_target(ratio: float) -> None:
    model = nn.digits_cnn(seed=0)
    found, trials = equal_flops(model, lambda n: METHODS["magnitude"].run(model, DATA, amount=n, seed=0), ratio=ratio)
    target = metrics.of(model)["flops"] / ratio
    assert target <= metrics.of(found.model)["flops_nz"] <= 1.01 * target
    assert 2 <= trials <= TRIALS


def test_a_method_that_always_takes_too_much_is_refused() -> None:
    cut = METHODS["magnitude"].run(CNN, IMAGES, amount=CNN.size - 20, seed=0)
    with pytest.raises(LayerCollapse, match=f"was met by none of {TRIALS} cuts"):
        equal_flops(CNN, lambda _: cut, ratio=1.0)
    with pytest.raises(LayerCollapse, match="was met by none of 3 cuts"):
        equal_flops(CNN, lambda _: cut, ratio=1.0, trials=3)


def test_the_command_goes_on_and_refuses_another_configuration(tmp_path: Path, capsys: Any) -> None:
    out = ["--out", str(tmp_path / "c")]
    assert main([*SHORT, *out, "--methods", "magnitude", "--ratios", "2"]) == 0
    first = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert main([*SHORT, *out, "--methods", "magnitude,random", "--ratios", "2"]) == 0
    found = json.loads((tmp_path / "c" / "compare.json").read_text())
    assert found["rows"][0] == first["rows"][0]
    assert [row["method"] for row in found["rows"]] == ["magnitude", "random"]
    assert not (tmp_path / "c" / ".l0ref.lock").exists()
    assert main([*SHORT[:1], *SHORT[3:], *out, "--epochs", "2", "--methods", "magnitude"]) == 2
    said = (
        f"epochs=2 differs from 1 of the run in {str(tmp_path / 'c')!r}; begin another run with --out, or continue this"
    )
    assert f"{said} one with --resume {tmp_path / 'c'} --override epochs\n" in capsys.readouterr().err
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "compare.json").write_text("[]")
    assert main([*SHORT, "--out", str(tmp_path / "d")]) == 2
    assert "l0ref compare did not write" in capsys.readouterr().err


def test_points_that_are_kept_are_shown_and_recorded(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    out, drawn = tmp_path / "c", []
    monkeypatch.setattr("l0ref.report.figures.comparison.comparison_pictures", lambda rows: drawn.append(rows) or {})
    loud = [*SHORT[:5], "--out", str(out)]
    assert main([*loud, "--methods", "magnitude", "--ratios", "2", "--seeds", "2"]) == 0
    capsys.readouterr()
    assert main([*loud, "--methods", "random", "--ratios", "4"]) == 0
    shown = capsys.readouterr().out
    found = json.loads((out / "compare.json").read_text())
    points = [(row["method"], row["ratio"], row["seed"]) for row in found["rows"]]
    assert points == [("random", 4.0, 0), ("magnitude", 2.0, 0), ("magnitude", 2.0, 1)]
    shared = {"methods": ["random", "magnitude"], "ratios": [4.0, 2.0], "seeds": 2}
    assert shared.items() <= found["config"].items()
    assert drawn[-1] == found["rows"]
    assert comparison_text(found["rows"]) in shown
    assert main(["compare", "--resume", str(out)]) == 0  # the points between are computed
    found = json.loads((out / "compare.json").read_text())
    assert drawn[-1] == found["rows"]
    assert len(found["rows"]) == 8
    assert comparison_text(found["rows"]) in capsys.readouterr().out


def test_help_names_the_default_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == 0
    assert "default: runs/compare-DATA-MODEL; an unfinished comparison" in " ".join(capsys.readouterr().out.split())
    assert main(["sweep", "--help"]) == 0
    assert "default: runs/sweep-DATA-MODEL" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--methods", "x"], "methods='x' is not one of"),
        (["--methods", ","], "methods names none; give at least one"),
        (["--ratios", "a"], "argument --ratios: 'a' must be numbers with commas between them"),
        (["--ratios", "0.5"], "ratios=0.5 must be a compression ratio of at least 1"),
        (["--seeds", "0"], "seeds=0 must be at least 1"),
    ],
)
def test_bad_flags_are_refused_before_work(flags: list[str], said: str, tmp_path: Path, capsys: Any) -> None:
    assert main([*SHORT, *flags, "--out", str(tmp_path / "c")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_a_seed_out_of_range_is_refused() -> None:
    with pytest.raises(ArgumentError, match="seeds=-1"):
        plan("magnitude", seeds=(-1,))


def test_the_pictures_have_a_curve_for_each_method_that_could() -> None:
    keys = plan("magnitude", "random", "fpgm", ratios=(2.0,), seeds=(0, 1)).points(CNN)
    rows = [
        point(CNN, IMAGES, method=method, ratio=ratio, equal=equal, finetune=Recipe(2), seed=seed)
        for seed, method, ratio, equal in keys
    ]
    rows = [row | ({"theoretical_speedup": 3.0} if row["equal"] == "multiply-adds" else {}) for row in rows]
    refused = {"method": "x", "kind": "score", "ratio": 2.0, "seed": 0, "equal": "weights", "refused": "no"}
    for x in ("compression_ratio", "theoretical_speedup"):
        figure = accuracy_figure([*rows, refused], x=x)
        assert [len(ax.containers) for ax in figure.axes] == [2, 2, 1, 1]
        equal = "weights" if x == "compression_ratio" else "multiply-adds"
        own = [row for row in rows if row["method"] == "fpgm" and row["equal"] == equal]
        line = figure.axes[3].containers[0].lines[0]
        assert line.get_xdata()[0] == pytest.approx(np.mean([row[x] for row in own]))
        assert line.get_ydata()[0] == pytest.approx(np.mean([row["val_acc1"] for row in own]))
    costs = costs_figure(rows).axes
    assert [len(ax.containers) for ax in costs] == [2, 1, 3, 3]
    widths = [bar.get_width() for bar in costs[3].containers[1]]
    assert widths == [2, 2, 2]  # epochs of fine-tuning
    pictures = comparison_pictures(rows)
    assert list(pictures) == ["compare.png", "compare-multiply-adds.png", "compare-costs.png"]
    assert all(content[:4] == b"\x89PNG" for content in pictures.values())
    assert comparison_pictures([refused])["compare.png"][:4] == b"\x89PNG"


def test_resuming_where_nothing_is_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--resume", str(tmp_path / "none")]) == 2
    assert "holds no interrupted run; begin one with --out" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
