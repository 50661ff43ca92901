"""Results of `compress` on own data, in every format and form: read by others, read back, and evaluated."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import checkpoint, data
from l0ref.cli import main
from l0ref.data import from_arrays
from l0ref.interop.files import FORMATS, read_model, read_preparation
from l0ref.interop.forms import FORMS
from l0ref.nn import Model

onnx = pytest.importorskip("onnx", reason="needs the extra `interop`")
reference = pytest.importorskip("onnx.reference", reason="needs the extra `interop`")
ort = pytest.importorskip("onnxruntime", reason="needs the extra `interop`")
safetensors = pytest.importorskip("safetensors", reason="needs the extra `interop`")

QUICK = ["--epochs", "2", "--finetune-epochs", "1", "--controls", "no", "--no-figures", "--quiet"]
CASES = [(format_, form) for format_ in FORMATS for form in FORMS if (format_, form) != ("onnx", "masked")]


@dataclass
class Run:
    """A result folder, the file of raw data, raw test samples, and their labels as they stood in the file."""

    folder: Path
    source: Path
    x: Any
    y: Any

    @property
    def model(self) -> Model:
        return checkpoint.load(self.folder / "model.npz")


def raw(x: Any, y: Any, **options: Any) -> tuple[Any, Any]:
    """The test samples of a run with seed 0, before they were scaled, and their labels or targets."""
    found = from_arrays(x, y, seed=0, normalise=False, dtype=np.float64, **options)
    names = found.preparation.classes if found.preparation is not None else ()
    return found.test.x, np.array([names[i] for i in found.test.y]) if names else found.test.y


def images(folder: Path) -> Run:
    """Digits as whole numbers, channels last, with text as labels."""
    parts = data.load("digits", seed=0)
    x = (16 * np.concatenate([p.x for p in (parts.train, parts.test)])).astype(np.uint8).transpose(0, 2, 3, 1)
    y = np.array([f"digit {i}" for i in np.concatenate([p.y for p in (parts.train, parts.test)])])
    np.savez(folder / "own.npz", x=x, y=y)
    (folder / "net.toml").write_text(
        "[[layer]]\nkind='Conv2d'\nout_channels=8\nkernel_size=3\n[[layer]]\nkind='ReLU'\n[[layer]]\nkind='Flatten'\n"
        "[[layer]]\nkind='Linear'\nout_features=10\n"
    )
    flags = ["--layout", "nhwc", "--model", str(folder / "net.toml")]
    return made(folder, folder / "own.npz", flags, *raw(x, y, layout="nhwc"))


def table(folder: Path) -> Run:
    """Columns of numbers of unlike size, and a column of words."""
    rng = np.random.default_rng(1)
    x = np.round(rng.normal([5, -300, 0.01], [2, 40, 0.002], (300, 3)), 5)
    y = np.where(x[:, 0] - 5 + (x[:, 1] + 300) / 20 > 0, "yes", np.where(x[:, 2] > 0.01, "no", "maybe"))
    rows = "\n".join(f"{a},{b},{word},{c}" for (a, b, c), word in zip(x.tolist(), y, strict=True))
    (folder / "own.csv").write_text("a,b,kind,c\n" + rows + "\n")
    return made(folder, folder / "own.csv", ["--label", "kind", "--model", "mlp:3-48-48-3"], *raw(x, y))


def values(folder: Path) -> Run:
    """A regression with two targets."""
    rng = np.random.default_rng(2)
    x = rng.normal(7, 3, (200, 4))
    y = np.stack([x[:, 0] - x[:, 1], x[:, 2]], axis=1)
    np.savez(folder / "own.npz", x=x, y=y)
    flags = ["--task", "values", "--model", "mlp:4-32-32-2"]
    return made(folder, folder / "own.npz", flags, *raw(x, y, task="values"))


def made(folder: Path, source: Path, flags: list[str], x: Any, y: Any) -> Run:
    out = folder / "run"
    assert main(["compress", "--data", str(source), *flags, *QUICK, "--amount", "0.7", "--out", str(out)]) == 0
    return Run(out, source, x, y)


@pytest.fixture(scope="module", params=[images, table, values], ids=lambda make: make.__name__)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    make: Callable[[Path], Run] = request.param
    return make(tmp_path_factory.mktemp(make.__name__))


def told(file: Path) -> dict[str, Any]:
    """What a file says of raw data, read without l0ref."""
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as arrays:
            found = json.loads(arrays["manifest"].tobytes())["manifest"]["preparation"]
    elif file.suffix == ".safetensors":
        with safetensors.safe_open(file, framework="numpy") as opened:
            found = json.loads(opened.metadata()["l0ref"])["preparation"]
    else:
        session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        found = json.loads(session.get_modelmeta().custom_metadata_map["l0ref.preparation"])
    assert isinstance(found, dict)
    return found


def by_hand(how: dict[str, Any], x: Any) -> Any:
    """(x - mean) / std along the axis of columns or channels, in the order of axes that the network takes."""
    along = (1, -1, *(1,) * (x.ndim - 2))
    mean, std = (np.array(how["scale"][key]).reshape(along) for key in ("mean", "std"))
    return ((x - mean) / std).astype(np.float32)


@pytest.mark.parametrize(("format_", "form"), CASES)
def test_every_format_and_form_is_right_on_raw_data_by_what_it_says(
    format_: str, form: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, back = tmp_path / f"net.{format_}", tmp_path / "back.npz"
    assert main(["export", str(run.folder), "--format", format_, "--form", form, "--out", str(file)]) == 0
    how = told(file)
    x = by_hand(how, run.x)
    ours = run.model.logits(x)
    assert np.abs(ours).max() > 0
    close = {"rtol": 0, "atol": 3e-6 * float(np.abs(ours).max())}
    if format_ == "onnx":
        session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"x": x})[0], ours, **close)
        if form != "sparse":
            np.testing.assert_allclose(reference.ReferenceEvaluator(str(file)).run(None, {"x": x})[0], ours, **close)
    np.testing.assert_allclose(read_model(file).logits(x), ours, **close)
    if how["classes"]:
        report = json.loads((run.folder / "report.json").read_text())
        right = np.mean(np.array(how["classes"])[ours.argmax(axis=1)] == run.y)
        assert round(100 * float(right), 1) > 100 / len(how["classes"])
        assert report["data"]["preparation"]["classes"] == how["classes"]
    kept = read_preparation(file)
    assert kept is not None
    assert kept.to_json() == read_preparation(run.folder / "model.npz").to_json()  # type: ignore[union-attr]
    # back again, by the commands, on raw data
    capsys.readouterr()
    assert main(["convert", str(file), str(back), "--form", "dense"]) == 0
    assert main(["evaluate", str(run.folder / "model.npz"), "--on", str(run.source), *label_of(run)]) == 0
    first = capsys.readouterr().out.splitlines()[-1].split()
    assert main(["evaluate", str(back), "--on", str(run.source), *label_of(run)]) == 0
    second = capsys.readouterr().out.splitlines()[-1].split()
    assert second[2:4] == first[2:4]  # accuracy and number of samples
    assert float(second[1]) == pytest.approx(float(first[1]), rel=1e-3)


def label_of(run: Run) -> list[str]:
    return ["--label", "kind"] if run.source.suffix == ".csv" else []


def test_the_run_is_reported_and_evaluated_on_its_own_test_set(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run.folder)]) == main(["evaluate", str(run.folder)]) == 0
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last[0] == "compact.npz"
    assert str(len(run.y)) in last
    how = told(run.folder / "compact.npz")
    logits = checkpoint.load(run.folder / "compact.npz").logits(by_hand(how, run.x))
    if how["classes"]:
        right = np.mean(np.array(how["classes"])[logits.argmax(axis=1)] == run.y)
        assert float(last[2]) == round(100 * float(right), 2)
    else:
        assert float(last[1]) == pytest.approx(float(np.square(logits - run.y).mean()), rel=1e-3)


def test_a_file_without_preparation_says_nothing(tmp_path: Path) -> None:
    from l0ref import nn
    from l0ref.interop.files import write_model

    for format_ in FORMATS:
        write_model(tmp_path / f"a.{format_}", nn.mlp((2, 2), seed=0))
        assert read_preparation(tmp_path / f"a.{format_}") is None
