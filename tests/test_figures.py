"""The figures of a job: what is drawn equals what was given, files are the same bytes twice, hard cases do not fail."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from l0ref import nn, surrogates
from l0ref.errors import ArgumentError
from l0ref.experiment import Experiment
from l0ref.metrics import Score
from l0ref.nn import Model
from l0ref.penalty import Penalty
from l0ref.pruning import Compressed, Stage, prune
from l0ref.report.figures import draw_all
from l0ref.report.figures.axes import axes_figure
from l0ref.report.figures.compression import compression_figure
from l0ref.report.figures.masks import connections_per_pixel, density, flow, masks_figure
from l0ref.report.figures.style import ACCURACIES, LOOKS, accuracy_axis, look, new_figure, png
from l0ref.report.figures.surrogate import half_width, level, surrogate_figure, visible_step
from l0ref.report.figures.training import cut_places, phases, training_figure
from l0ref.report.figures.weights import log_counts, log_edges, magnitudes, weights_figure

NAMES = ("training.png", "weights.png", "surrogate.png", "masks.png", "axes.png", "compression.png")
LAPLACE = Penalty(surrogates.Laplace(beta=5.0), alpha=4e-4)


def net(*sizes: int, shape: tuple[int, ...] | None = None, seed: int = 0) -> Model:
    return nn.mlp(sizes, seed=seed, input_shape=shape)


def history(*parts: tuple[str, int]) -> tuple[dict[str, Any], ...]:
    """Rows of the given phases, with numbers that differ in every epoch; the penalty is on before fine-tuning."""
    names = [name for name, epochs in parts for _ in range(epochs)]
    return tuple(
        {
            "phase": name,
            "epoch": i,
            "loss_data": 2.0 / i,
            "loss_l0": 0.0 if name.startswith("finetune") else 1.0 + 1 / i,
            "loss_l2": 0.0,
            "val_acc1": 0.99 - 0.5 / i,
            "below_threshold": i / 100,
            "sparsity": i / 200,
        }
        for i, name in enumerate(names, start=1)
    )


def compressed(
    dense: Model,
    *,
    final: Model | None = None,
    rows: Sequence[Any] = (),
    cuts: Sequence[tuple[float, float]] = ((0.3, 0.6),),
) -> Compressed:
    """A compression with made-up history; `cuts` are pairs (largest removed, accuracy right after)."""
    last = prune(dense, amount=0.8, min_keep=1) if final is None else final
    models = {"dense": dense, "pruned": last, "finetuned": last}
    stages = tuple(Stage(name, model, Score(0.1, 0.9, 10), 1.0) for name, model in models.items())
    found = tuple({"kept": 1, "kept_after_sweep": 1, "largest_removed": w, "val_acc1": a} for w, a in cuts)
    return Compressed(stages, tuple(rows), 1, {}, found)


def experiment(*names: str, rows: Sequence[Any] | None = None, model: Model | None = None) -> Experiment:
    """The main run and the named controls, each from another network of the same shape."""
    epochs = history(("train", 4), ("finetune", 3)) if rows is None else rows
    runs = {
        name: compressed(
            model or net(64, 30, 10, shape=(1, 8, 8), seed=i), rows=epochs, cuts=[(0.3 + i / 10, 0.6 + i / 50)]
        )
        for i, name in enumerate(("l0", *names))
    }
    return Experiment(runs, {name: [] for name in runs})


def told(experiment: Experiment) -> dict[str, Any]:
    """The report of an experiment as far as the training figure reads it."""
    runs = {
        name: {"stages": [{"name": "dense"}], "cuts": list(run.cuts), "history": list(run.rows)}
        for name, run in experiment.runs.items()
    }
    return {**runs.pop("l0"), "controls": runs}


def stage(name: str, ratio: float | None, validation: float | None, test: float | None) -> dict[str, Any]:
    return {"name": name, "compression_ratio": ratio, "val_acc1": validation, "test_acc1": test}


def stages(shift: float = 0.0, ratio: float | None = 20.0) -> dict[str, Any]:
    rows = [
        stage("dense", 1.0, 0.98 - shift, 0.97 - shift),
        stage("pruned", ratio, 0.60 - shift, 0.55 - shift),
        stage("finetuned", ratio, 0.96 - shift, 0.95 - shift),
    ]
    return {"stages": rows, "cuts": [], "swept": {}}


def summary(
    *controls: str, curve: Mapping[str, Any] | None = None, ratio: float | None = 20.0, untuned: Any = None
) -> dict[str, Any]:
    """A report as far as the compression figure reads it; run number i is worse by i/10."""
    return {
        **stages(ratio=ratio),
        "controls": {name: stages(i / 10) for i, name in enumerate(controls, start=1)},
        "curve": curve if curve is not None else {},
        "untuned_curves": untuned or {},
        "data": {"train": 1197, "validation": 200, "test": 400},
    }


def point(ratio: float, pruned: float, finetuned: float) -> dict[str, Any]:
    """A point of a curve; the test accuracy is 0.01 below that of validation."""
    parts = {"pruned": pruned, "finetuned": finetuned}
    return {"compression_asked": ratio} | {k: stage(k, ratio + 0.5, a, a - 0.01) for k, a in parts.items()}


def line(ax: Axes, label: str) -> Line2D:
    found = [each for each in ax.lines if each.get_label() == label]
    assert len(found) == 1, f"{len(found)} lines are labelled {label!r}"
    return found[0]


def xy(each: Line2D) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(each.get_xdata(), each.get_ydata(), strict=True)]


def cut_lines(ax: Axes) -> list[float]:
    """Where the vertical dashed lines of an axis are."""
    return [
        float(each.get_xdata()[0]) for each in ax.lines if len(set(each.get_xdata())) == 1 and each.get_ls() == "--"
    ]


def chunks(data: bytes) -> dict[str, bytes]:
    """The chunks of a PNG file by type."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, found = 8, {}
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        found[data[at + 4 : at + 8].decode("ascii")] = data[at + 8 : at + 8 + size]
        at += size + 12
    return found


# --- files ------------------------------------------------------------------------------------------------------------


def test_draw_all_writes_five_pictures_and_repeats_them(tmp_path: Path) -> None:
    run, untuned = experiment("none"), {"l0": [(1.0, 0.98), (2.0, 0.9)]}
    report = told(run) | summary("none", curve={"l0": [point(4.0, 0.8, 0.9)]}, untuned=untuned)
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
        paths = draw_all(run, report, penalty=LAPLACE, folder=folder)
        assert paths == [folder / name for name in NAMES]
        assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    assert (folders[0] / "masks.png").read_bytes() == png(masks_figure(run.runs["l0"].model))
    for name in NAMES:
        data = (folders[0] / name).read_bytes()
        assert data == (folders[1] / name).read_bytes()
        found = chunks(data)
        assert set(found) <= {"IHDR", "pHYs", "IDAT", "IEND"}  # neither text nor time
        width, height = struct.unpack(">II", found["IHDR"][:8])
        assert width == 900
        assert 250 < height < 1300
        assert 5_000 < len(data) < 400_000


def test_nothing_is_written_if_a_picture_fails(tmp_path: Path) -> None:
    broken: Any = "no penalty"
    with pytest.raises(AttributeError, match="'surrogate'"):
        draw_all(experiment(rows=()), summary(), penalty=broken, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_report_read_back_from_json_is_drawn_without_its_experiment(tmp_path: Path) -> None:
    report = json.loads(json.dumps(told(experiment("none")) | summary("none", untuned={"l0": [(1.0, 0.98)]})))
    report["history"] = report["controls"]["none"]["history"] = list(history(("train", 3)))
    drawn = draw_all(None, report, folder=tmp_path)
    assert [path.name for path in drawn] == ["training.png", "compression.png"]
    bare = {"main": "mine", "stages": [{"name": "dense"}]}
    assert [path.name for path in draw_all(None, bare, folder=tmp_path)] == ["compression.png"]


def test_an_experiment_without_a_run_called_l0_is_drawn(tmp_path: Path) -> None:
    run = Experiment({"mine": experiment().runs["l0"]}, {})
    report = {"main": "mine", "stages": [stage("dense", 1.0, 0.9, 0.9)], "cuts": None, "history": None}
    assert len(draw_all(run, report, folder=tmp_path, penalty=LAPLACE)) == 6
    with pytest.raises(ArgumentError, match=r"^experiment has no runs; give it at least one Compressed"):
        draw_all(Experiment({}, {}), report, folder=tmp_path)


def test_threads_draw_the_same_bytes() -> None:
    report = summary("none")
    alone, found = png(compression_figure(report)), []
    threads = [threading.Thread(target=lambda: found.append(png(compression_figure(report)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone, alone]


HARD: dict[str, Any] = {
    "no epoch": lambda: training_figure(told(experiment("none", rows=()))),
    "one epoch": lambda: training_figure(told(experiment(rows=history(("train", 1))))),
    "no validation": lambda: training_figure(
        told(experiment(rows=[{**row, "val_acc1": None} for row in history(("train", 3))]))
    ),
    "loss of 0": lambda: training_figure(
        told(experiment(rows=[{**row, "loss_data": 0.0} for row in history(("finetune", 3))]))
    ),
    "all weights 0": lambda: weights_figure(Experiment({"l0": compressed(zeroed(), final=zeroed())}, {})),
    "subnormal weights": lambda: weights_figure(Experiment({"l0": compressed(scaled(1e-40))}, {})),
    "huge weights": lambda: weights_figure(Experiment({"l0": compressed(scaled(1e30))}, {})),
    "one weight": lambda: weights_figure(Experiment({"l0": compressed(net(1, 1), final=net(1, 1))}, {})),
    "masks, all weights 0": lambda: masks_figure(zeroed()),
    "masks, one layer": lambda: masks_figure(net(5, 3)),
    "masks, one weight": lambda: masks_figure(net(1, 1)),
    "masks, convolutions": lambda: masks_figure(nn.digits_cnn(seed=0)),
    "masks, many layers": lambda: masks_figure(nn.resnet_small(seed=0)),
    "infinite slope": lambda: surrogate_figure(Penalty(surrogates.L0())),
    "no dead zone": lambda: surrogate_figure(Penalty(surrogates.L2())),
    "no finite ratio": lambda: compression_figure(summary("none", ratio=None)),
    "accuracies 0 and 1": lambda: compression_figure(summary(untuned={"l0": [(1.0, 1.0), (1000.0, 0.0)]})),
    "unknown run": lambda: compression_figure(summary("mine")),
}


def zeroed() -> Model:
    model = net(64, 30, 10, shape=(1, 8, 8))
    return model.replace(params={k: np.zeros_like(v) for k, v in model.params.items()})


def scaled(factor: float) -> Model:
    model = net(4, 3)
    with np.errstate(under="ignore"):
        return model.replace(params={k: v * np.float32(factor) for k, v in model.params.items()})


@pytest.mark.parametrize("case", HARD)
def test_hard_cases_are_drawn(case: str) -> None:
    width, height = struct.unpack(">II", chunks(png(HARD[case]()))["IHDR"][:8])
    assert width == 900
    assert 250 < height < 2500


# --- style ------------------------------------------------------------------------------------------------------------


def test_every_run_has_a_look_of_its_own() -> None:
    assert list(LOOKS) == ["l0", "none", "l2", "l1", "random", "random_layers"]
    assert len({each.colour for each in LOOKS.values()}) == len({each.marker for each in LOOKS.values()}) == 6
    assert look("mine").label == "mine"
    assert look("mine").colour not in {each.colour for each in LOOKS.values()}


@pytest.mark.parametrize(
    ("surrogate", "alpha", "l2", "label"),
    [
        ("laplace", 1e-4, 0.0, "l0 penalty"),
        ("mcp", 1e-4, 0.0, "mcp penalty"),
        ("mcp", 0.0, 0.0, "no penalty, main run"),
        ("l1", 0.0, 1e-4, "l2 penalty, main run"),
    ],
)
def test_pictures_name_the_main_run_by_its_penalty(
    surrogate: str, alpha: float, l2: float, label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = experiment("none")
    report = told(run) | {"config": {"surrogate": surrogate, "alpha": alpha, "l2": l2}}
    labels = [label, "no penalty"]
    training, compression = training_figure(report), compression_figure(report)
    assert [each.get_label() for each in training.axes[1].lines if each.get_label()[0] != "_"] == labels
    assert [text.get_text() for text in compression.legends[0].get_texts()] == labels
    term = {"laplace": "l0"}.get(surrogate, surrogate)
    assert line(training.axes[0], f"{term} term").get_color() == look("l0").colour
    drawn: list[Any] = []
    monkeypatch.setattr("l0ref.report.figures.style.png", lambda figure: drawn.append(figure) or b"")
    draw_all(run, report, folder=tmp_path)
    titles = [
        ax.get_title(loc="left") for figure in drawn for ax in figure.axes if "weights, " in ax.get_title(loc="left")
    ]
    assert [title.split(":")[0] for title in titles] == labels


def test_training_of_a_regression_draws_its_losses() -> None:
    report = told(experiment())
    report["history"] = [row | {"val_acc1": None, "val_loss": 1.0 + n} for n, row in enumerate(report["history"])]
    report["cuts"], report["stages"] = [{"val_acc1": None, "val_loss": 0.25}], [{"name": "dense", "val_r2": 0.5}]
    loss, validation, _ = training_figure(report).axes
    assert line(loss, "data: mean squared error").get_label()
    assert validation.get_title(loc="left") == "Validation loss (hollow: after a cut)"
    assert validation.get_yscale() == "log"
    heights = [y for _, y in xy(line(validation, "l0 penalty"))]
    assert heights == [1.0, 2.0, 3.0, 4.0, 0.25, 5.0, 6.0, 7.0]


@pytest.mark.parametrize(("worst", "ticks"), [(0.1, 8), (0.5, 7), (0.97, 4), (1.0, 3), (None, 8)])
def test_accuracy_axis(worst: float | None, ticks: int) -> None:
    ax = new_figure(3.0).subplots()
    accuracy_axis(ax, [worst, None, float("nan"), 1.0] if worst is not None else [], label="accuracy")
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == [f"{100 * a:.0f} %" for a in ACCURACIES][-ticks:]
    low, high = ax.get_ylim()
    assert low < ACCURACIES[-ticks] < 1.0 < high
    there, scale = ax.transData, np.array([[0.0, a] for a in ACCURACIES])
    heights = there.transform(scale)[:, 1]
    assert (np.diff(heights) > 0).all()
    np.testing.assert_allclose(there.inverted().transform(there.transform(scale)), scale, atol=1e-12)
    error = 1 - np.array(ACCURACIES)
    ours = -np.log(error / 0.01 + np.sqrt((error / 0.01) ** 2 + 1))  # arcsinh, spelled out
    np.testing.assert_allclose((heights - heights[0]) / np.ptp(heights), (ours - ours[0]) / np.ptp(ours), rtol=1e-9)


# --- training ---------------------------------------------------------------------------------------------------------


def test_training_draws_the_history() -> None:
    run = experiment("none", "random")
    figure = training_figure(told(run))
    loss, accuracy, weights = figure.axes
    rows = run.runs["l0"].rows
    epochs = list(range(1, 8))
    assert xy(line(loss, "data: mean cross-entropy")) == [(i, 2.0 / i) for i in epochs]
    assert xy(line(loss, "l0 term"))[:4] == [(i, 1 + 1 / i) for i in epochs[:4]]
    assert np.isnan(line(loss, "l0 term").get_ydata()[4:]).all()  # 0 has no place on a log axis
    assert not any(each.get_label() == "l2 term" for each in loss.lines)
    assert loss.get_yscale() == "log"
    for name, after in {"l0": 0.60, "none": 0.62, "random": 0.64}.items():
        drawn = line(accuracy, look(name).label)
        rising = [(i, 0.99 - 0.5 / i) for i in epochs]
        assert xy(drawn) == [*rising[:4], (4.5, after), *rising[4:]]
        assert drawn.get_color() == look(name).colour
        assert (drawn.get_lw() > 2) == (name == "l0")
        hollow = [each for each in accuracy.lines if xy(each) == [(4.5, after)]]
        assert [(each.get_marker(), each.get_markerfacecolor()) for each in hollow] == [(look(name).marker, "white")]
    gone = line(weights, "exactly zero")
    assert list(gone.get_xdata()) == epochs
    assert list(gone.get_ydata()) == pytest.approx([100 * row["sparsity"] for row in rows])
    near = line(weights, "small: |w| below the threshold of the recipe, by default 0.01")
    assert list(near.get_ydata()) == pytest.approx([100 * row["below_threshold"] for row in rows])
    assert [cut_lines(ax) for ax in figure.axes] == [[4.5]] * 3
    assert [text.get_text() for text in loss.texts] == ["train", "finetune"]
    shaded = [patch.get_extents().transformed(ax.transData.inverted()) for ax in figure.axes for patch in ax.patches]
    assert [(round(box.x0, 6), round(box.x1, 6)) for box in shaded] == [(4.5, 7.5)] * 3
    assert weights.get_xlabel() == "epochs trained"
    assert loss.get_xlim() == (0, 8)


@pytest.mark.parametrize(
    ("parts", "cuts", "places"),
    [
        ([("train", 4), ("finetune", 3)], 1, [4.5]),
        ([("train", 4), ("finetune 1", 2), ("finetune 2", 2)], 2, [4.5, 6.5]),
        ([("train", 4), ("gradual", 3), ("finetune", 1)], 1, [7.5]),
        ([("train", 4)], 3, [4.5, 4.5, 4.5]),
        ([("train", 4), ("gradual", 3)], 1, [7.5]),
        ([("finetune", 3)], 1, [0.5]),
        ([], 1, [0.5]),
    ],
)
def test_cut_places(parts: list[tuple[str, int]], cuts: int, places: list[float]) -> None:
    run = compressed(net(4, 3), rows=history(*parts), cuts=[(0.1, 0.5)] * cuts)
    report = told(Experiment({"l0": run}, {}))
    assert cut_places(report) == places
    assert [last - first + 1 for _, first, last in phases(run.rows)] == [epochs for _, epochs in parts]
    drawn = training_figure(report).axes[0]
    assert cut_lines(drawn) == places


def test_training_says_that_there_was_none() -> None:
    assert [text.get_text() for text in training_figure(told(experiment(rows=()))).axes[0].texts] == [
        "no epoch was trained"
    ]


def test_narrow_phases_are_not_named() -> None:
    ax = training_figure(told(experiment(rows=history(("train", 40), ("finetune", 2))))).axes[0]
    assert [text.get_text() for text in ax.texts] == ["train"]


# --- weights ----------------------------------------------------------------------------------------------------------


def steps(ax: Axes) -> list[Any]:
    """The histograms of an axis: values and edges."""
    return [patch.get_data() for patch in ax.patches if hasattr(patch, "get_data")]


def test_weights_histograms_count_every_weight_once() -> None:
    run = experiment("none", "l1")
    figure = weights_figure(run)
    assert len(figure.axes) == 2  # the main run and the first control only
    size = 64 * 30 + 30 * 10
    gone = int(0.8 * size + 0.5)
    for ax, name, largest in zip(figure.axes, ("l0", "none"), (0.3, 0.4), strict=True):
        dense, final = steps(ax)
        bars = [patch for patch in ax.patches if not hasattr(patch, "get_data")]
        assert [bar.get_height() for bar in bars] == [0, gone]
        assert (dense.values.sum(), final.values.sum()) == (size, size - gone)
        assert bars[1].get_x() + bars[1].get_width() < dense.edges[0]  # left of all other bins
        assert bars[0].get_x() + bars[0].get_width() == pytest.approx(bars[1].get_x())
        assert min(bar.get_width() for bar in bars) > 0
        assert ax.get_xlim()[0] < bars[0].get_x()
        w = np.concatenate(
            [v.ravel() for k, v in run.runs[name].stages[0].model.params.items() if k.endswith("weight")]
        )
        expected = [
            int(((abs(w) >= a) & (abs(w) < b)).sum()) for a, b in zip(dense.edges, dense.edges[1:], strict=False)
        ]
        expected[0] += int((abs(w) < dense.edges[0]).sum())
        assert dense.values.tolist() == expected
        assert cut_lines(ax) == [largest]
        assert ax.get_legend().get_texts()[-1].get_text() == f"largest weight removed: {largest:.1f}"
        assert ax.get_title(loc="left") == f"{look(name).label}: {size:,} weights, {size - gone:,} left"
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        assert dense.edges.tolist() == steps(figure.axes[0])[0].edges.tolist()
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_weights_without_control_or_cut() -> None:
    figure = weights_figure(Experiment({"l0": compressed(net(4, 3), cuts=[(0.0, 0.9)])}, {}))
    assert len(figure.axes) == 1
    assert cut_lines(figure.axes[0]) == []


def test_log_edges_span_what_is_there() -> None:
    edges = log_edges([np.array([0.0, 0.02, 0.5]), np.array([3.0, 0.0]), np.zeros(0)])
    np.testing.assert_allclose(edges[[0, -1]], [0.01, 10.0], rtol=1e-12)
    assert edges.size == 3 * 8 + 1
    np.testing.assert_allclose(np.diff(np.log10(edges)), 1 / 8, rtol=1e-9)
    np.testing.assert_allclose(log_edges([np.array([1e-30, 0.5])])[[0, -1]], [1e-8, 1.0], rtol=1e-12)
    np.testing.assert_allclose(log_edges([np.array([1.0])])[[0, -1]], [1.0, 10.0], rtol=1e-12)
    assert np.isfinite(log_edges([np.zeros(3)])).all()


def test_log_counts_by_hand() -> None:
    zeros, counts = log_counts(np.array([0.0, 1e-9, 0.02, 0.2, 0.3, 1.0, 0.0]), np.array([0.01, 0.1, 1.0]))
    assert zeros == 2
    assert counts.tolist() == [2, 3]


def test_magnitudes_leave_biases_out() -> None:
    model = net(4, 3)
    model = model.replace(params={**model.params, "fc1.bias": np.full(3, 7.0, np.float32)})
    found = magnitudes(model)
    assert found.dtype == np.float64
    assert found.size == 12
    np.testing.assert_allclose(np.sort(found), np.sort(abs(model.params["fc1.weight"]).ravel()), rtol=0)


# --- surrogate --------------------------------------------------------------------------------------------------------

SURROGATES = [
    surrogates.Laplace(beta=5.0),
    surrogates.Laplace(beta=200.0),
    surrogates.Gaussian(sigma=0.1),
    surrogates.LogSum(eps=0.1),
    surrogates.CappedL1(theta=0.1),
    surrogates.SCAD(lam=0.1, a=3.7),
    surrogates.Lp(p=0.5),
    surrogates.L0(),
    surrogates.L1(),
    surrogates.L2(),
]


@pytest.mark.parametrize("phi", SURROGATES, ids=repr)
def test_surrogate_panels_hold_value_slope_and_prox(phi: surrogates.Surrogate) -> None:
    figure = surrogate_figure(Penalty(phi, alpha=1e-3))
    half = half_width(phi)
    assert 1e-3 < half < 9.1
    thick = [next(each for each in ax.lines if each.get_lw() == 2) for ax in figure.axes]
    for ax, drawn in zip(figure.axes, thick, strict=True):
        w = np.asarray(drawn.get_xdata())
        assert ax.get_xlim() == (-half, half)
        np.testing.assert_allclose(w[[0, w.size // 2, -1]], [-half, 0, half])
        assert (np.diff(w) > 0).all()
    w = np.asarray(thick[0].get_xdata())
    np.testing.assert_allclose(thick[0].get_ydata(), phi.value(w))
    slope = np.asarray(thick[1].get_ydata())
    assert np.isnan(slope[w == 0]).all()
    np.testing.assert_allclose(slope[w != 0], phi.grad(w[w != 0]))
    step = visible_step(phi, half)
    assert figure.axes[2].get_title(loc="left") == f"Effect of a proximal step {step:.3g}"
    np.testing.assert_allclose(thick[2].get_ydata(), phi.prox(w, step))
    assert figure.get_suptitle().split("\n")[0] == f"φ: {phi!r}, times alpha = 0.001 and the layer weight"


@pytest.mark.parametrize("phi", SURROGATES, ids=repr)
def test_visible_step_is_visible(phi: surrogates.Surrogate) -> None:
    half = half_width(phi)
    step = visible_step(phi, half)
    assert np.log2(step) == round(np.log2(step))
    assert step <= 1
    assert phi.dead_zone(step) <= 0.4 * half
    assert phi.prox(np.array([half]), step)[0] >= 0.5 * half
    if step < 1:  # and it is the largest
        assert phi.dead_zone(2 * step) > 0.4 * half or phi.prox(np.array([half]), 2 * step)[0] < 0.5 * half


def test_surrogate_comparisons() -> None:
    value, slope, prox = surrogate_figure(LAPLACE).axes
    w = np.asarray(value.lines[0].get_xdata())
    away = w != 0
    np.testing.assert_allclose(line(value, "l1").get_ydata(), abs(w))
    l0 = np.asarray(line(value, "l0").get_ydata())
    assert (l0[away] == 1).all()
    assert np.isnan(l0[~away]).all()
    np.testing.assert_allclose(np.asarray(slope.lines[0].get_ydata())[away], np.where(w > 0, 1, -1)[away])
    dead = surrogates.Laplace(beta=5.0).dead_zone(visible_step(LAPLACE.surrogate, half_width(LAPLACE.surrogate)))
    (zone,) = prox.patches
    box = zone.get_extents().transformed(prox.transData.inverted())
    assert (box.x0, box.x1) == pytest.approx((-dead, dead))
    unchanged, soft, hard = (np.asarray(each.get_ydata()) for each in prox.lines[:3])
    np.testing.assert_allclose(unchanged, w)
    for drawn, removed in ((soft, dead), (hard, 0.0)):
        np.testing.assert_allclose(
            drawn, [0.0 if abs(z) <= dead else z - np.copysign(removed, z) for z in w], atol=1e-15
        )


def test_infinite_slope_leaves_the_rest_to_be_seen() -> None:
    slope = surrogate_figure(Penalty(surrogates.Lp(p=0.5))).axes[1]
    assert slope.get_ylim() == pytest.approx((-1.1 * 0.05**-0.5 / 2, 1.1 * 0.05**-0.5 / 2))


def test_level_of_l0_is_that_of_the_surrogate() -> None:
    assert level(surrogates.Laplace(beta=5.0)) == 1
    assert level(surrogates.CappedL1(theta=0.25)) == 0.25
    assert level(surrogates.LogSum(eps=0.1)) == 1  # it has no level
    value = surrogate_figure(Penalty(surrogates.CappedL1(theta=0.25))).axes[0]
    assert np.nanmax(line(value, "l0 times 0.25").get_ydata()) == 0.25


def test_surrogate_says_when_nothing_is_priced() -> None:
    assert surrogate_figure(Penalty()).get_suptitle().startswith("φ: Laplace(beta=5.0), times alpha = 0: no l0 term\n")


# --- masks ------------------------------------------------------------------------------------------------------------


def images(figure: Figure) -> list[Any]:
    return [
        np.ma.filled(ax.images[0].get_array(), 0) for ax in figure.axes if ax.images and ax.get_ylabel() == "output"
    ]


def test_masks_show_the_sign_of_every_weight() -> None:
    model = prune(net(64, 30, 10, shape=(1, 8, 8)), amount=0.9)
    figure = masks_figure(model)
    for shown, key in zip(images(figure), ("fc1.weight", "fc2.weight"), strict=True):
        np.testing.assert_array_equal(shown, np.sign(model.params[key]))
    titles = [ax.get_title(loc="left") for ax in figure.axes[:3]]
    kept = [np.count_nonzero(model.params[key]) for key in model.weights]
    assert sum(kept) == 222
    assert titles[0] == f"fc1.weight  30 x 64\n{kept[0]:,} of 1,920 left"
    assert titles[1] == f"fc2.weight  10 x 30\n{kept[1]:,} of 300 left"
    assert titles[2] == "fc1.weight\nweights left per input pixel; white: none"
    image = figure.axes[0].images[0]
    assert image.get_clim() == (-1, 1)
    signs = [tuple(np.round(image.to_rgba(np.array([[s]]), bytes=False)[0, 0, :3], 2)) for s in (-1.0, 0.0, 1.0)]
    assert signs == [(0.84, 0.37, 0.0), (1.0, 1.0, 1.0), (0.0, 0.45, 0.7)]  # orange, white, blue


def test_masks_flatten_kernels() -> None:
    model = nn.digits_cnn(seed=0)
    figure = masks_figure(model)
    first = images(figure)[0]
    kernel = model.params["conv1.weight"]
    assert first.shape == (16, 9)
    assert first[5, 7] == np.sign(kernel[5, 0, 2, 1])
    assert len(figure.axes) == len(model.weights)  # a kernel is used at every pixel: no panel for pixels


def test_masks_of_large_arrays_are_drawn_in_blocks() -> None:
    model = prune(net(1700, 320, 3), amount=0.999, min_keep=1)
    figure = masks_figure(model)
    shown = images(figure)[0]
    kept = model.params["fc1.weight"] != 0
    assert shown.shape == (160, 567)
    ax = figure.axes[0]
    best = 100 * shown.max()
    assert ax.get_title(loc="left").endswith(f"; blocks of 2 x 3, black: {best:.3g} % left")
    naive = [[kept[i : i + 2, j : j + 3].mean() for j in range(0, 1700, 3)] for i in range(0, 320, 2)]
    np.testing.assert_allclose(shown, naive, rtol=1e-12)
    assert ax.images[0].get_clim() == (0, shown.max())


@pytest.mark.parametrize(("shape", "block"), [((1, 1), (1, 1)), ((5, 7), (2, 3)), ((4, 6), (4, 1)), ((3, 3), (5, 5))])
def test_density_against_loops(shape: tuple[int, int], block: tuple[int, int], rng: np.random.Generator) -> None:
    kept = rng.random(shape) < 0.4
    down, across = (range(0, size, step) for size, step in zip(shape, block, strict=True))
    naive = [[np.mean(kept[i : i + block[0], j : j + block[1]]) for j in across] for i in down]
    np.testing.assert_allclose(density(kept, block), naive, rtol=1e-12)


def test_connections_per_pixel() -> None:
    model = net(12, 5, 3, shape=(2, 2, 3))
    w = np.zeros((5, 12), np.float32)
    w[0, 4] = w[3, 4] = 1  # pixel (1, 1) of the first channel, twice
    w[2, 6 + 4] = w[2, 6 + 5] = -1  # pixels (1, 1) and (1, 2) of the second
    model = model.replace(params={**model.params, "fc1.weight": w})
    assert np.asarray(connections_per_pixel(model)).tolist() == [[0, 0, 0], [0, 3, 1]]
    shown = masks_figure(model).axes[2].images[0].get_array()
    assert np.ma.getmaskarray(shown).tolist() == [[True, True, True], [True, False, False]]
    assert shown.filled(0).tolist() == [[0, 0, 0], [0, 3, 1]]


POOLED = Model.init(
    [nn.AvgPool2d("pool", 2), nn.Flatten("flatten"), nn.Linear("fc", 4, 3)], input_shape=(1, 4, 4), seed=0
)


@pytest.mark.parametrize(
    "model", [net(12, 3), nn.digits_cnn(seed=0), POOLED], ids=["vectors", "convolution", "pooled first"]
)
def test_no_pixels_to_count(model: Model) -> None:
    assert connections_per_pixel(model) is None


def test_flow_of_panels() -> None:
    whole = slice(0, 2)
    assert flow([False, False, False]) == [(0, 0), (0, 1), (1, 0)]
    assert flow([True, False, False, False]) == [(0, whole), (1, 0), (1, 1), (2, 0)]
    assert flow([False, True, False]) == [(0, 0), (1, whole), (2, 0)]
    assert flow([]) == []


# --- compression ------------------------------------------------------------------------------------------------------


def markers(ax: Axes, name: str, kind: str) -> list[tuple[float, float]]:
    """Where one stage of one run is drawn."""
    own = [each for each in ax.lines if each.get_gid() == kind and each.get_markeredgecolor() == look(name).colour]
    return [place for each in own for place in xy(each)]


def test_compression_markers_are_the_stages() -> None:
    figure = compression_figure(summary("none", "random"))
    validation, test = figure.axes
    for number, name in enumerate(("l0", "none", "random")):
        for ax, dense, pruned, tuned in ((validation, 0.98, 0.60, 0.96), (test, 0.97, 0.55, 0.95)):
            shift = number / 10
            assert markers(ax, name, "dense") == [(1.0, dense - shift)]
            assert markers(ax, name, "pruned") == [(20.0, pruned - shift)]
            assert markers(ax, name, "finetuned") == [(20.0, tuned - shift)]
    faces = {each.get_gid(): each.get_markerfacecolor() for each in validation.lines if each.get_marker() == "o"}
    assert faces == {"pruned": "white", "finetuned": look("l0").colour}
    assert [(text.xyann, text.xy) for text in validation.texts][-1] == ((20.0, 0.60), (20.0, 0.96))
    assert len(validation.texts) == 3  # an arrow for each run
    assert validation.get_title(loc="left") == "validation set, 200 samples"
    assert test.get_title(loc="left") == "test set, 400 samples"
    assert validation.get_xscale() == "log"
    assert [text.get_text() for text in validation.get_xticklabels()] == ["1x", "2x", "4x", "8x", "16x", "32x"]
    labels = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert labels == [
        ["l0 penalty", "no penalty", "random pruning"],
        ["dense", "pruned", "pruned and fine-tuned"],
    ]


def test_compression_draws_curves_and_untuned_points() -> None:
    curve = {"l0": [point(32.0, 0.5, 0.85), point(4.0, 0.8, 0.9)], "none": [point(4.0, 0.3, 0.4)]}
    untuned = {"l0": [(1.0, 0.98), (3.0, 0.7)]}
    figure = compression_figure(summary("none", curve=curve, untuned=untuned))

    def drawn(ax: Axes, name: str) -> dict[str, list[tuple[float, float]]]:
        own = [each for each in ax.lines if each.get_gid() is None and each.get_color() == look(name).colour]
        return {str(each.get_ls()): xy(each) for each in own}

    validation, test = figure.axes
    assert drawn(validation, "l0") == {"--": untuned["l0"], "-": [(4.5, 0.9), (20.0, 0.96), (32.5, 0.85)]}
    assert drawn(validation, "none") == {"--": [(4.5, 0.3), (20.0, 0.5)], "-": [(4.5, 0.4), (20.0, 0.86)]}
    assert drawn(test, "l0") == {
        "--": [(4.5, 0.8 - 0.01), (20.0, 0.55), (32.5, 0.5 - 0.01)],
        "-": [(4.5, 0.9 - 0.01), (20.0, 0.95), (32.5, 0.85 - 0.01)],
    }
    unjoined = compression_figure(summary("none", curve={"none": curve["none"]})).axes[0]
    assert drawn(unjoined, "l0") == {}  # one cut alone is no curve
    assert drawn(unjoined, "none") == drawn(validation, "none")
    assert figure.legends[1].get_texts()[-1].get_text() == "pruned by other ratios, not fine-tuned"


def test_compression_leaves_out_what_has_no_ratio() -> None:
    ax = compression_figure(summary(ratio=None)).axes[0]
    assert markers(ax, "l0", "dense") == [(1.0, 0.98)]
    assert markers(ax, "l0", "pruned") == markers(ax, "l0", "finetuned") == []
    assert len(ax.texts) == 0


def test_many_octaves_get_few_ticks() -> None:
    ax = compression_figure(summary(untuned={"l0": [(1.0, 0.9), (2000.0, 0.2)]})).axes[0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1x", "4x", "16x", "64x", "256x", "1,024x"]
    low, high = ax.get_xlim()
    assert low < 1
    assert high > 2000


def test_the_coupled_axes_are_boxes_and_the_layers_between_them_arrows() -> None:
    """A residual network: two layers write one axis, and one of them goes back up to it."""
    model = nn.resnet_small(seed=0)
    drawn = axes_figure(model).axes[0]
    texts = {text.get_text(): text for text in drawn.texts}
    arrows = [text for text in drawn.texts if isinstance(text, Annotation)]
    layers = [key.removesuffix(".weight") for key in model.weights]
    assert [name for name in layers if name not in texts] == []
    assert len(arrows) == len(layers)
    assert "stem.conv: 16 units\nwritten by stem.conv, block1.2.conv" in texts
    assert "input: 1 unit\ninput of the network" in texts
    heights = {name: texts[name].get_position()[1] for name in ("stem.conv", "block1.1.conv", "block1.2.conv")}
    assert heights == {"stem.conv": 0.5, "block1.1.conv": 1.5, "block1.2.conv": 1.5}
    back = [arrow for arrow in arrows if arrow.xy[1] < arrow.xyann[1]]  # y points down
    assert [text.get_ha() for name, text in texts.items() if name == "block1.2.conv"] == ["right"]
    assert len(back) == 1


def test_an_arrow_goes_from_box_to_box_and_a_flattened_axis_says_how_many_features_a_unit_has() -> None:
    figure = axes_figure(nn.digits_mlp(seed=0))
    drawn = figure.axes[0]
    assert "input: 1 unit of 64 features\ninput of the network" in [text.get_text() for text in drawn.texts]
    FigureCanvasAgg(figure).draw()
    boxes = [t.get_bbox_patch().get_window_extent() for t in drawn.texts if t.get_bbox_patch() is not None]
    arrows = [text for text in drawn.texts if isinstance(text, Annotation)]
    assert len(arrows) == len(boxes) - 1
    for above, below, arrow in zip(boxes, boxes[1:], arrows, strict=False):
        (x, end), (start_x, start) = (drawn.transData.transform(at) for at in (arrow.xy, arrow.xyann))
        assert x == start_x == pytest.approx((below.x0 + below.x1) / 2, abs=0.5)
        assert abs(start - above.y0) < 6  # pixels
        assert abs(end - below.y1) < 6
