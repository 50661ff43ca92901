"""The page of a run, as a value and as text: numbers are those of the report, names stay names, pictures are masks."""

from __future__ import annotations

import base64
import copy
import dataclasses
import io
import re
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from l0ref import nn
from l0ref.cli import main
from l0ref.cli.again import command_of
from l0ref.cli.flags import add_flags
from l0ref.cli.settings import Settings, resolve, to_json
from l0ref.errors import ConfigError
from l0ref.pruning import prune
from l0ref.report import find_runs
from l0ref.report.figures.pareto import front, pareto_figure
from l0ref.report.html import mask_image, page_html
from l0ref.report.page import Mask, RunPage, compared, masks_of, run_page, sides, story
from tests.pages import HOSTILE, write_run

jinja2 = pytest.importorskip("jinja2", reason="needs the extra `web`")

COLOURS = {(255, 255, 255): 0, (0, 114, 178): 1, (213, 94, 0): 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "run"
    write_run(path)
    return path


@pytest.fixture(scope="module")
def run(folder: Path) -> RunPage:
    ((path, report),) = find_runs([folder])
    return run_page(path, report, command="l0ref compress", label="first")


def test_story_has_five_sentences_with_the_numbers_of_the_report(run: RunPage) -> None:
    dense, pruned, final = run.report["stages"]
    trained, cut, tuned, controls, speed = run.story
    assert f"{dense['size']:,} weights" in trained
    assert f"reached {100 * dense['val_acc1']:.2f} % validation accuracy" in trained
    assert f"left {pruned['size_nz']:,} weights, {pruned['compression_ratio']:.1f}x fewer" in cut
    assert f"at {100 * pruned['val_acc1']:.2f} %" in cut
    assert tuned.startswith(f"After 1 epoch of fine-tuning it has {100 * final['val_acc1']:.2f} %")
    assert f"{100 * final['test_acc1']:.2f} % test accuracy, and the dense network" in tuned
    none = run.report["controls"]["none"]["stages"][-1]
    assert f"none {100 * none['val_acc1']:.2f} % validation accuracy" in controls
    assert f"{final['theoretical_speedup']:.1f}x fewer multiply-adds" in speed
    assert f"took {final['measured_speedup']:.2f} times less time" in speed


def test_story_of_a_regression_of_a_hidden_test_set_and_without_controls(run: RunPage) -> None:
    report = copy.deepcopy(dict(run.report))
    report["controls"] = {}
    for stage in report["stages"]:
        stage |= {"val_acc1": None, "val_loss": 0.25, "test_acc1": None, "test_loss": None, "measured_speedup": None}
    trained, _, tuned, controls, speed = story(report)
    assert "reached a validation loss of 0.25" in trained
    assert "test" not in tuned
    assert controls.startswith("No control was run")
    assert speed.endswith("no time was measured.")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"alpha": 0.0, "l2": 0.0}, "without penalty"),
        ({"alpha": 0.0, "l2": 1e-4}, "under the l2 penalty at l2 = 0.0001"),
        ({"alpha": 0.5, "l2": 0.0}, "under the laplace penalty at alpha = 0.5"),
        ({"alpha": 0.5, "l2": 1e-4}, "under the laplace penalty at alpha = 0.5 and the l2 penalty at l2 = 0.0001"),
    ],
)  # fmt: skip
def test_story_names_a_penalty_only_where_its_strength_is_positive(
    run: RunPage, settings: dict[str, float], told: str
) -> None:
    report = copy.deepcopy(dict(run.report))
    report["config"] |= {"surrogate": "laplace", **settings}
    assert f"samples, {told}, and reached" in story(report)[0]
    report["config"] = {}
    assert "samples, under l0, and reached" in story(report)[0]


def test_story_tells_the_cut_network_before_it_is_tuned(run: RunPage) -> None:
    report = copy.deepcopy(dict(run.report))
    report["stages"][1] |= {"size_nz": 77, "compression_ratio": 12.5, "val_acc1": 0.125}
    assert story(report)[1].endswith("left 77 weights, 12.5x fewer, at 12.50 % validation accuracy.")


def test_story_of_a_compact_network_tells_the_last_batch_and_the_bytes(run: RunPage) -> None:
    row = {"batch": 128, "measured_speedup": 2.0, "measured_speedup_low": 1.5, "measured_speedup_high": 3.0}
    sizes = {"masked": 4000, "compact": 300}
    report = {**run.report, "compact": {"latency": [{**row, "measured_speedup": 9.0}, row], "bytes_memory": sizes}}
    assert story(report)[-1].endswith(
        "measured, the network without its zeros took 2.00 times less time at batch 128 (range 1.50 to 3.00: faster) "
        "and 300 bytes instead of 4,000."
    )


def test_masks_of_convolutions_are_matrices_of_outputs_by_the_rest(rng: np.random.Generator) -> None:
    model = prune(nn.lenet_5(seed=int(rng.integers(100))), amount=0.9)
    for mask in masks_of(model):
        w = model.params[mask.name]
        assert mask.kept == np.count_nonzero(w)
        for place in rng.integers(w.shape, size=(50, w.ndim)):
            value = w[tuple(place)]
            row = mask.signs[place[0]]
            assert row[np.ravel_multi_index(tuple(place[1:]), w.shape[1:])] == (value > 0) + 2 * (value < 0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (2, 5), (7, 6), (5, 11), (40, 3)])
def test_image_decodes_to_the_signs(shape: tuple[int, int], rng: np.random.Generator) -> None:
    signs = rng.integers(0, 3, shape).astype(np.uint8)
    content = mask_image(Mask("w", shape, 0, signs)).removeprefix("data:image/png;base64,")
    pixels = np.rint(255 * imread(io.BytesIO(base64.b64decode(content)), format="png")[..., :3]).astype(int)
    assert [[COLOURS[tuple(p)] for p in row] for row in pixels.tolist()] == signs.tolist()


def test_page_is_one_file_whose_pictures_are_well_formed(run: RunPage) -> None:
    page = page_html([run])
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 3 + len(run.masks)
    for picture in pictures:
        ET.fromstring(picture)
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert all(re.fullmatch(r"[a-z]+[0-9a-f]{10}", name) for name in ids if ids.count(name) > 1)
    assert set(re.findall(r"""(?:src|href)=["']([^#"'][^"']{9})""", page)) == {"data:image"}
    for title, (_, rows) in run.tables.items():
        assert f"<h2>{title}</h2>" in page
        assert all(f"<td>{cell}</td>" in page for row in rows for cell in row)
    assert [line[0] for line in run.layers] == [("fc1.weight", "fc1.weight"), ("fc2.weight", "fc2.weight")]
    assert f'<td data-value="{64 * 13}">13x64</td>' in page
    assert page == page_html([run])


def hostile(run: RunPage) -> RunPage:
    report = copy.deepcopy(dict(run.report))
    report["config"] |= {"model": HOSTILE, "surrogate": HOSTILE, "method": HOSTILE}
    report["data"]["name"] = report["environment"]["python"] = HOSTILE
    report["controls"] = {HOSTILE: report["controls"]["none"]}
    masks = tuple(dataclasses.replace(mask, name=HOSTILE) for mask in run.masks)
    layers = (((HOSTILE, HOSTILE), *run.layers[0][1:]), *run.layers[1:])
    tables = {title: ([HOSTILE], [[HOSTILE]]) for title in (*run.tables, HOSTILE)}
    return dataclasses.replace(
        run, label=HOSTILE, command=HOSTILE, report=report, story=story(report), masks=masks, layers=layers,
        tables=tables, notes=(HOSTILE,),
    )  # fmt: skip


def test_names_are_escaped_wherever_they_stand(run: RunPage) -> None:
    page = page_html([hostile(run), run])
    assert page.count("<script>") == 1
    assert "<img" not in page
    assert page.count("&lt;script&gt;window.broken") >= 15
    for picture in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(picture)


def test_several_runs_stand_side_by_side(run: RunPage) -> None:
    other = dataclasses.replace(run, label="other")
    header, rows = compared(sides([run, other])["acc1"])  # the same seed twice: not two seeds of one configuration
    assert [row[0] for row in rows] == ["first", "other"]
    assert dict(zip(header, rows[0], strict=True))["kept"] == f"{run.final['size_nz']:,}"
    page = page_html([run, other])
    assert page.count("<section") == 2
    assert "Validation accuracy against compression of all runs" in page
    with pytest.raises(ConfigError, match=r"^runs is empty: nothing can be shown; give at least one run$"):
        page_html([])


def seeds_of(run: RunPage, label: str, rows: list[dict[str, float | None]], **config: Any) -> list[RunPage]:
    """Pages like `run`, a seed each, whose final networks have other numbers."""
    found = []
    for seed, row in enumerate(rows):
        report = copy.deepcopy(dict(run.report)) | {"seed": seed}
        report["config"] |= {"seed": seed, **config}
        report["stages"][-1] |= row
        found.append(dataclasses.replace(run, label=f"{label}/seed-{seed}", report=report))
    return found


def speed(middle: float, low: float, high: float) -> dict[str, float]:
    return {"measured_speedup": middle, "measured_speedup_low": low, "measured_speedup_high": high}


def test_seeds_of_a_configuration_are_one_row_of_mean_and_deviation(
    run: RunPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"val_acc1": 0.90, "size_nz": 100, "compression_ratio": 8.0, **speed(1.5, 1.2, 1.9)},
        {"val_acc1": 0.96, "size_nz": 104, "compression_ratio": 10.0, **speed(2.5, 0.9, 3.1)},
    ]
    first, second = seeds_of(run, "runs/a", rows), seeds_of(run, "runs/b", [*rows, *rows[:1]], amount=0.5)
    mixed = [second[0], first[0], second[1], first[1], second[2]]
    header, (b, a) = compared(sides(mixed)["acc1"])
    told = dict(zip(header, a, strict=True))
    assert (told["run"], told["seeds"]) == ("runs/a", "2")
    assert told["val acc"] == f"93.00 ± {100 * np.std([0.90, 0.96], ddof=1):.2f} %"
    assert told["kept"] == "102 ± 3"
    assert (told["measured"], told["range"], told["verdict"]) == ("2.00x ± 0.71x", "0.90 .. 3.10", "no gain")
    assert b[:3] == ["runs/b", "magnitude", "3"]
    drawn: list[Any] = []
    monkeypatch.setattr(
        "l0ref.report.figures.pareto.pareto_figure", lambda *given, **named: drawn.append((given, named)) or Figure()
    )
    page = page_html(mixed)
    (((points,), named),) = drawn
    assert points["runs/a"] == pytest.approx((9.0, 0.93))
    assert named["spread"]["runs/a"] == pytest.approx((np.std([8, 10], ddof=1), np.std([0.90, 0.96], ddof=1)))
    assert page.count("<section") == 5
    assert f"<td>{told['val acc']}</td>" in page
    assert "mean ± sample standard deviation over its seeds" in page
    assert "over its seeds" not in page_html([first[0], second[0]])
    apart = [dataclasses.replace(each, label=label) for each, label in zip(first, ("x/one", "y/two"), strict=True)]
    assert sides(apart)["acc1"][0].label == "x/one and 1 more"
    other = dataclasses.replace(first[1], report={**first[1].report, "data": {"checksum": "other samples"}})
    assert [len(side.runs) for side in sides([first[0], other])["acc1"]] == [1, 1]
    assert [len(side.runs) for side in sides([*first, first[1]])["acc1"]] == [2, 1]


def test_regressions_stand_in_a_table_and_a_figure_of_their_own(run: RunPage) -> None:
    rows: list[dict[str, float | None]] = [
        {"val_acc1": None, "test_acc1": None, "val_r2": r2, "test_r2": r2, "test_loss": 4.0, "test_rmse": rmse}
        for r2, rmse in ((0.75, 2.0), (0.85, 3.0))
    ]
    numbers = seeds_of(run, "runs/values", rows, task="values")
    header, (row,) = compared(sides([run, *numbers])["r2"])
    told = dict(zip(header, row, strict=True))
    assert told["val R²"] == f"80.00 ± {100 * np.std([0.75, 0.85], ddof=1):.2f} %"
    assert told["test rmse"] == "2.5 ± 0.7071"
    assert "val acc" not in told
    page = page_html([run, *numbers])
    assert "<h2>Classification</h2>" in page
    assert "<h2>Regression</h2>" in page
    picture = page[page.index("Validation R² against compression of all runs") :]
    assert ">runs/values</text>" in picture[: picture.index("</svg>")]
    assert "no run has both numbers" not in page


def test_bars_of_the_figure_are_the_deviations() -> None:
    figure = pareto_figure(
        {"a": (4.0, 0.9), "b": (2.0, -0.5)}, spread={"a": (1.0, 0.05), "b": (0.0, 0.0)}, quality="r2"
    )
    (ax,) = figure.axes
    (bars,) = ax.containers  # b has none
    across, along = (each.get_segments()[0].tolist() for each in bars.lines[2])
    assert across == [[3.0, 0.9], [5.0, 0.9]]
    np.testing.assert_allclose(along, [[4.0, 0.85], [4.0, 0.95]])
    assert ax.get_ylabel().startswith("R²")
    assert ax.get_title(loc="left") == "Validation R² against compression"
    assert ax.get_ylim()[0] < -0.5


def test_a_folder_of_seeds_is_a_row_of_the_page(tmp_path: Path, rng: np.random.Generator) -> None:
    x = rng.normal(size=(60, 3))
    np.savez(tmp_path / "own.npz", x=x, y=x.sum(axis=1))
    out, page = tmp_path / "runs", tmp_path / "page.html"
    flags = ["--task", "values", "--model", "mlp:3-8-1", "--epochs", "2", "--finetune-epochs", "1", "--controls", "no"]
    own = ["compress", "--data", str(tmp_path / "own.npz"), *flags, "--amount", "0.5", "--no-figures", "--quiet"]
    assert main([*own, "--seeds", "2", "--out", str(out)]) == 0
    assert main(["report", str(out), "--html", str(page)]) == 0
    (row,) = re.findall(rf"<tr><td>{re.escape(str(out))}</td>(.*?)</tr>", page.read_text("utf-8"))
    assert row.startswith("<td>magnitude</td><td>2</td>")
    r2 = [report["stages"][-1]["val_r2"] for _, report in find_runs([out])]
    assert f"<td>{100 * np.mean(r2):.2f} ± {100 * np.std(r2, ddof=1):.2f} %</td>" in row


def test_pictures_of_the_page_name_the_penalty(run: RunPage) -> None:
    report = copy.deepcopy(dict(run.report))
    report["config"] |= {"surrogate": "mcp"}
    page = page_html([dataclasses.replace(run, report=report)])
    assert page.count(">mcp penalty</text>") == 2  # training and compression
    assert ">mcp penalty: 962 weights" in page
    assert "l0 penalty" not in page


def test_front_is_what_no_other_beats(rng: np.random.Generator) -> None:
    points = {str(i): (float(x), float(y)) for i, (x, y) in enumerate(rng.integers(1, 6, (12, 2)))}
    beaten = set()
    for a, (x, y) in points.items():
        for b, (u, v) in points.items():
            if (u > x and v >= y) or (u >= x and v > y):
                assert b != a
                beaten.add(a)
    assert set(front(points)) == set(points) - beaten
    assert front({"low": (2.0, 0.8), "high": (2.0, 0.9), "twin": (2.0, 0.9), "less": (1.0, 0.9)}) == ["high", "twin"]
    line = pareto_figure({name: (x, y / 6) for name, (x, y) in points.items()}).axes[0].lines[0]
    assert np.all(np.diff(np.asarray(line.get_xdata())) >= 0)
    assert pareto_figure({}).axes[0].texts[0].get_text() == "no run has both numbers"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"data": "mnist", "model": "lenet_5", "seed": 3, "controls": ("none", "l1"), "curve": (2.0, 4.5)},
        {"threshold": 0.01, "surrogate": "mcp", "surrogate_options": "gamma=2", "controls": ()},
        {"model": "run some/dir with spaces", "amount": 70, "alpha": 1.25e-7, "lr": 0.1 + 0.2},
        {"data": "it's mine.csv", "label": "$(kind)", "model": "mlp:4-3-2", "split": (0.5, 0.25, 0.25)},
    ],
)  # fmt: skip
def test_command_is_read_back_as_the_same_settings(given: dict[str, Any]) -> None:
    import argparse

    settings = resolve(given)
    parser = add_flags(argparse.ArgumentParser().add_subparsers())
    words = shlex.split(command_of(to_json(settings)))
    assert words[:2] == ["l0ref", "compress"]
    flags = vars(parser.parse_args(words[2:]))
    assert resolve({k: v for k, v in flags.items() if k in Settings.__dataclass_fields__}) == settings


def test_command_of_unknown_settings_says_so() -> None:
    assert command_of({"data": "digits", "later": 1}).startswith(
        "# no command of this version repeats the run: later=1"
    )


def test_report_writes_the_page(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "page.html"
    assert main(["report", str(folder), "--html", str(path), "--hide-test"]) == 0
    assert capsys.readouterr().out == f"page in {path}\n"
    page = path.read_text(encoding="utf-8")
    assert "on the test set, read once" not in page
    assert "l0ref compress --alpha 0.001" in page
    assert main(["report", str(folder), "--html", str(tmp_path / "no" / "page.html")]) == 2
    assert "its folder is missing or read-only" in capsys.readouterr().err


def test_page_without_jinja2_names_the_extra(run: RunPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(ConfigError, match=r"^package 'jinja2' is not installed; it comes with the extra 'web'"):
        page_html([run])
