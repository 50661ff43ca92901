"""Every source of data and networks with every command: a tiny result of `compress` serves all that take one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import checkpoint
from l0ref.cli import main
from l0ref.data.files import RECORD
from l0ref.data.idx import idx_header
from l0ref.interop.files import FORMATS, read_model, read_preparation

SHORT = ["--epochs", "1", "--finetune-epochs", "1", "--controls", "no", "--no-figures", "--quiet", "--amount", "0.5"]
NET = "[[layer]]\nkind='Conv2d'\nout_channels=3\nkernel_size=3\n[[layer]]\nkind='Flatten'\n"
NET += "[[layer]]\nkind='Linear'\nout_features=3\n"
CODE = """
import numpy as np
from l0ref import data, nn

def load():
    x = np.random.default_rng(0).normal(size=(60, 4))
    return data.from_arrays(x, np.arange(60) % 3)

def net(*, input_shape, outputs, seed, dtype):
    return nn.mlp((*input_shape, 6, outputs), seed=seed, dtype=dtype)
"""


@dataclasses.dataclass
class Source:
    """Flags that name data and network, and those by which `evaluate` is told of raw data."""

    flags: list[str]
    raw: tuple[str, ...] = ()  # beside --on


def arrays(folder: Path, *shape: int, values: bool = False, onehot: bool = False) -> str:
    """A file of 60 samples with labels 5, 6, 7, as one-hot rows, or with a target."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(2, 3, (60, *shape)), np.arange(60) % 3
    labels = np.eye(3)[y] if onehot else y + 5
    np.savez(folder / "own.npz", x=x, y=x.reshape(60, -1).sum(axis=1) if values else labels)
    return str(folder / "own.npz")


def values(folder: Path) -> Source:
    return Source(["--data", arrays(folder, 4, values=True), "--task", "values", "--model", "mlp:4-6-1"])


def idx(folder: Path) -> Source:
    rng = np.random.default_rng(2)
    images, labels = rng.integers(0, 255, (60, 5, 4), dtype=np.uint8), (np.arange(60) % 3).astype(np.uint8)
    for name, array in (("train-images", images), ("train-labels", labels)):
        (folder / name).write_bytes(idx_header(array.shape) + array.tobytes())
    return Source(["--data", str(folder), "--model", "mlp:20-6-3"])


def cifar(folder: Path) -> Source:
    records = np.random.default_rng(3).integers(0, 256, (60, RECORD), dtype=np.uint8)
    records[:, 0] = np.arange(60) % 3
    (folder / "data_batch_1.bin").write_bytes(records.tobytes())
    (folder / "test_batch.bin").write_bytes(records[:9].tobytes())
    return Source(["--data", str(folder), "--model", "mlp:3072-2-3"])


def csv(folder: Path) -> Source:
    x = np.random.default_rng(4).normal(size=(60, 3)).round(3)
    rows = "\n".join(f"{a},{('no', 'yes')[i % 2]},{b},{c}" for i, (a, b, c) in enumerate(x.tolist()))
    (folder / "own.csv").write_text(f"a,kind,b,c\n{rows}\n")
    label = ("--label", "kind")
    return Source(["--data", str(folder / "own.csv"), *label, "--model", "mlp:3-6-2"], label)


def code(folder: Path) -> Source:
    (folder / "own_commands_code.py").write_text(CODE)
    return Source(["--data", "own_commands_code:load", "--model", "own_commands_code:net"])


def toml(folder: Path) -> Source:
    (folder / "net.toml").write_text(NET)
    flags = ["--data", arrays(folder, 6, 5, 2), "--layout", "nhwc", "--model", str(folder / "net.toml")]
    return Source(flags)


def on(folder: Path) -> Source:
    """A network goes on from another result."""
    data = ["--data", arrays(folder, 4)]
    assert main(["compress", *data, "--model", "mlp:4-6-3", *SHORT, "--out", str(folder / "first")]) == 0
    return Source([*data, "--model", "run", str(folder / "first")])


SOURCES: dict[str, Callable[[Path], Source]] = {
    "npz": lambda folder: Source(["--data", arrays(folder, 4), "--model", "mlp:4-6-3"]),
    "one-hot": lambda folder: Source(["--data", arrays(folder, 4, onehot=True), "--model", "mlp:4-6-3"]),
    "values": values, "idx": idx, "cifar": cifar, "csv": csv, "code": code, "toml": toml, "run": on,
}  # fmt: skip


@pytest.fixture(params=list(SOURCES))
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    monkeypatch.chdir(tmp_path)
    return SOURCES[request.param](tmp_path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints that must succeed."""
    capsys.readouterr()
    code = main(list(arguments))
    found = capsys.readouterr()
    assert code == 0, (arguments, found.err)
    return found.out


def test_a_result_serves_every_command(source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    told(capsys, "compress", *source.flags, *SHORT, "--out", out)
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    names = report["data"].get("preparation", {}).get("classes")
    is_regression = "values" in source.flags
    assert ("val R²" in told(capsys, "report", out)) == is_regression
    data = source.flags[source.flags.index("--data") + 1]
    is_code = ":" in data
    own = ["--data", data] if is_code else []
    measured = told(capsys, "evaluate", out, *own).splitlines()[1].split()
    final = report["stages"][-1]
    assert float(measured[1]) == pytest.approx(final["test_loss"], abs=1e-3, rel=1e-3)
    model = checkpoint.load(tmp_path / "out" / "model.npz")
    x = np.random.default_rng(0).normal(size=(5, *model.input_shape)).astype(np.float32)
    for format_ in FORMATS:
        if format_ != "npz":
            pytest.importorskip(format_, reason="needs the extra `interop`")
        file, back = str(tmp_path / f"net.{format_}"), str(tmp_path / f"back-{format_}.npz")
        told(capsys, "export", out, "--format", format_, "--out", file)
        told(capsys, "convert", file, back)
        np.testing.assert_allclose(read_model(back).logits(x), model.logits(x), rtol=1e-6, atol=1e-4)
        how = read_preparation(back)
        assert (None if how is None else list(how.classes) or None) == (names or None)
        if not is_code and Path(data).is_file():
            whole = [told(capsys, "evaluate", f, "--on", data, *source.raw) for f in (f"{out}/model.npz", back)]
            (first, second) = (text.replace(" %", "").splitlines()[1].split()[1:4] for text in whole)
            assert first[1:] == second[1:]
            assert first[2] == "60"
            assert float(first[0]) == pytest.approx(float(second[0]), rel=1e-3)


@pytest.mark.slow
def test_a_result_has_a_page_and_a_torch_module(
    source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("jinja2", reason="needs the extra `web`")
    torch = pytest.importorskip("torch", reason="needs the extra `crosscheck`")
    from l0ref.interop.torch import to_torch

    out, page = str(tmp_path / "out"), str(tmp_path / "page.html")
    told(capsys, "compress", *source.flags, *SHORT, "--out", out)
    told(capsys, "report", out, "--html", page)
    assert "</html>" in Path(page).read_text("utf-8")
    model = checkpoint.load(tmp_path / "out" / "model.npz")
    x = np.random.default_rng(0).normal(size=(5, *model.input_shape)).astype(np.float32)
    with torch.no_grad():
        theirs = to_torch(model)(torch.from_numpy(x)).numpy()
    ours = model.logits(x)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-6 * max(10, abs(ours).max()))


def test_a_sweep_over_two_points(source: Source, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = tmp_path / "job.toml"
    job.write_text("epochs = 1\nfinetune-epochs = 1\ncontrols = []\namount = 0.5\n")
    where: Any = ["--quiet", "--no-figures", "--out", str(tmp_path / "swept")]
    told(capsys, "sweep", str(job), *source.flags, "--grid", "alpha=0,1e-3", *where)
    rows = json.loads((tmp_path / "swept" / "sweep.json").read_text("utf-8"))["rows"]
    assert [row["settings"]["alpha"] for row in rows] == [0.0, 1e-3]
    assert any(row["chosen"] for row in rows)
    name = {"values": "val R²"}.get(source.flags[3], "val acc")
    assert name in told(capsys, "report", str(tmp_path / "swept" / rows[0]["folder"]))
