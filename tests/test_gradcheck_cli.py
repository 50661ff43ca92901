"""`l0ref gradcheck`: exit codes, files and messages; the figure; the page that explains it all."""

from __future__ import annotations

import doctest
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref.cli import main
from l0ref.report.figures.gradcheck import error_map, gradcheck_figure, gradcheck_png, worst_parameter
from l0ref.testing import check_gradient, gradcheck
from l0ref.testing.samples import KINKS, SAMPLES, SURROGATE_SAMPLES

CASES = """
import numpy as np
from l0ref import ops
from l0ref.testing import check_prox, gradcheck

def value(w): return float((w**3).sum())
def right(w): return 3 * w**2
def half(w): return 1.5 * w**2

X = np.array([[0.5, -0.3, 2.0], [1.5, -0.7, 0.11]])
def good(): return value, right, X
def bad(): return value, half, X
def tensors(): return (lambda x: ops.tanh(x)), X
def ready(): return gradcheck(lambda x: ops.relu(x), np.array([0.0, 1.0]))
def prox(): return check_prox(np.abs, lambda z, t: np.sign(z) * np.maximum(np.abs(z) - t, 0))
def failing(): return check_prox(np.abs, lambda z, t: z)
def odd(): return 3
def breaks(): raise KeyError("no data")
def vacuous(): return (lambda w: 1.0), (lambda w: 0 * w), X
def needs(x): return x
class Group:
    @staticmethod
    def bad(): return value, half, X
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of its own, which the command must find."""
    (tmp_path / "my_cases.py").write_text(CASES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "my_cases", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("good", 0),
        ("bad", 1),
        ("tensors", 0),
        ("ready", 0),
        ("prox", 0),
        ("failing", 1),
        ("Group.bad", 1),
        ("vacuous", 1),
    ],
)
def test_exit_code_of_own_callables(here: Path, name: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert here.exists()
    assert main(["gradcheck", f"my_cases:{name}"]) == code
    out = capsys.readouterr()
    if name == "vacuous":
        assert out.err.startswith("l0ref gradcheck: x: vacuous check")
    else:
        assert out.out.endswith(f"my_cases:{name}: {1 - code} of 1 checks passed\n")
    assert ("WRONG" in out.out) == (code == 1 and name != "vacuous")


def test_json_and_figure_are_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--json", "g.json", "--figure", "g.png", "--seed", "3", "--fast", "--max-entries", "2"]
    assert main(["gradcheck", "my_cases:bad", *flags]) == 1
    assert "looks like a factor 2 too small" in capsys.readouterr().out
    read = json.loads((here / "g.json").read_text())
    assert (read["target"], read["passed"]) == ("my_cases:bad", False)
    (report,) = read["reports"]
    assert report["seed"] == 3
    assert report["mode"] == "fast, then full"
    assert report["parameters"][0]["diagnosis"].startswith("looks like a factor 2 too small")
    assert (here / "g.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("target", "count"),
    [("ops", len(SAMPLES) + len(KINKS)), ("surrogates", 2 * len(SURROGATE_SAMPLES)), ("digits_mlp", 1)],
)
def test_own_gradients_pass(target: str, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", target, "--fast", "--max-entries", "2"]) == 0
    assert capsys.readouterr().out.endswith(f"{target}: {count} of {count} checks passed\n")


def test_a_broken_operation_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from l0ref.autodiff.op import OPS

    right = OPS["Sqrt"].vjp
    monkeypatch.setattr(
        OPS["Sqrt"], "vjp", staticmethod(lambda saved, y_bar: tuple(2 * g for g in right(saved, y_bar)))
    )
    assert main(["gradcheck", "ops", "--fast"]) == 1
    out = capsys.readouterr().out
    assert "gradcheck of Sqrt: the gradient is WRONG" in out
    assert "looks like a factor 2 too large" in out
    assert out.endswith(f"ops: {len(SAMPLES) + len(KINKS) - 1} of {len(SAMPLES) + len(KINKS)} checks passed\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "TARGET='nothing' is none of ops, surrogates, digits_mlp"),
        (["no_module:x"], "TARGET='no_module:x': module 'no_module' cannot be imported (ModuleNotFoundError"),
        (["./my_cases.py:odd"], "TARGET='./my_cases.py:odd' names a file; name its module, as in my_cases:odd"),
        (["a/b.py"], "TARGET='a/b.py' names a file; name its module, as in a.b:function"),
        (["my_cases:none"], "TARGET='my_cases:none': module 'my_cases' has no 'none'"),
        (["my_cases:X"], "TARGET='my_cases:X' is ndarray, expected a callable without arguments"),
        (
            ["my_cases:odd"],
            "TARGET='my_cases:odd' returned int, expected (func, inputs), (value, gradient, x) or a report",
        ),
        (["my_cases:breaks"], "TARGET='my_cases:breaks' raised KeyError: 'no data'; it is called without arguments"),
        (["my_cases:needs"], "TARGET='my_cases:needs' raised TypeError"),
        (["ops", "--seed", "-1"], "--seed -1 must be 0 or greater"),
        (["ops", "--max-entries", "0"], "--max-entries 0 must be at least 1"),
        (["ops", "--json", "nodir/x"], "--json nodir/x cannot be written: its folder is missing"),
        (["ops", "--figure", "."], "--figure . cannot be written: it is a folder"),
        (["my_cases:prox", "--figure", "p.png"], "--figure: there is no gradient check to draw"),
    ],
)
def test_bad_usage(here: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert here.exists()
    assert main(["gradcheck", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"l0ref gradcheck: {said}")


# --- the figure -------------------------------------------------------------------------------------------------------

W = np.linspace(-1, 1, 12).reshape(2, 2, 3) + 0.05


def wrong(w: Any) -> Any:
    g = 4 * w**3
    g[1, 0, 2] *= 2
    return g


def test_figure_shows_where_the_gradient_is_wrong() -> None:
    report = check_gradient(lambda w: float((w**4).sum()), wrong, W, raise_exception=False)
    (p,) = report.parameters
    image = error_map(p)
    assert image.shape == (4, 3)  # all axes but the last in rows
    assert image[2, 2] == pytest.approx(math.log10(0.5), abs=1e-6)
    assert np.delete(image.ravel(), 8).max() == -16.0  # what the differences may be off themselves is not shown
    figure = gradcheck_figure(report)
    scatter, heat = figure.axes[:2]
    assert {t.get_text() for t in scatter.get_legend().get_texts()} == {"agree: 11", "wrong: 1"}
    assert heat.get_title(loc="left") == "x (2 x 2 x 3)"
    drawn = {tuple(map(float, xy)) for c in scatter.collections for xy in c.get_offsets()}
    assert drawn == {(f.numeric, f.analytic) for f in report.findings}
    assert gradcheck_png(report) == gradcheck_png(report)


def test_figure_of_few_and_of_no_entries() -> None:
    from l0ref import ops

    x = np.random.default_rng(0).normal(size=(20, 30))
    few = gradcheck(lambda x: ops.sum(ops.tanh(x)), x, max_entries=4)
    image = error_map(few.parameters[0])
    assert np.isfinite(image).sum() == 4
    assert gradcheck_figure(few).axes[1].collections[0].get_offsets().shape == (4, 2)
    none = gradcheck(lambda x: ops.sum(ops.tanh(x)), x, fast_mode=True)
    assert worst_parameter(none) is None
    assert gradcheck_figure(none).axes[1].texts[0].get_text() == "no entry was compared by itself"


def test_figure_copes_with_what_is_not_finite() -> None:
    report = check_gradient(lambda w: float((w**2).sum()), lambda w: w * np.nan, W, raise_exception=False)
    assert error_map(report.parameters[0]).max() == 0.0
    assert gradcheck_png(report)[:4] == b"\x89PNG"


# --- the page ---------------------------------------------------------------------------------------------------------

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_shows_what_runs() -> None:
    page = (DOCS / "gradcheck.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```pycon\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "gradcheck.md", "gradcheck.md", 0)
    assert len(test.examples) > 10
    result = doctest.DocTestRunner(optionflags=flags).run(test)
    assert result.failed == 0


def test_the_page_is_linked_and_its_commands_exist() -> None:
    assert "(gradcheck.md)" in (DOCS / "index.md").read_text(encoding="utf-8")
    page = (DOCS / "gradcheck.md").read_text(encoding="utf-8")
    for line in re.findall(r"^l0ref gradcheck (\S+)", page, re.MULTILINE):
        assert line in ("ops", "surrogates", "lenet_5", "mine:case")
