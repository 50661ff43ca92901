"""`l0ref evaluate` on the images of the run: its seed, its data set, its folder, its held-out sets."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from l0ref import checkpoint, metrics, nn
from l0ref.cli import main
from l0ref.data import load
from l0ref.data.folders import FILES

QUICK = ["--epochs", "2", "--finetune-epochs", "0", "--controls", "no", "--no-figures", "--quiet"]


def write_mnist(folder: Path, n: int, seed: int) -> Path:
    """IDX files of random images."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for file, count in zip(FILES, (n, n, 20, 20), strict=True):
        shape = (count, 28, 28) if "images" in file else (count,)
        head = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
        values = rng.integers(0, 256 if "images" in file else 10, shape, dtype=np.uint8)
        (folder / f"{file}.gz").write_bytes(gzip.compress(head + values.tobytes()))
    return folder


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "c"
    assert main(["compress", *QUICK, "--seeds", "2", "--seed", "3", "--validation", "300", "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_split_is_that_of_the_run(seeds: Path, split: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(seeds / "seed-4"), "--split", split]) == 0
    out = capsys.readouterr().out
    data = getattr(load("digits", seed=4, validation=300), split)
    score = metrics.evaluate(checkpoint.load(seeds / "seed-4" / "compact.npz"), data)
    assert f"{score.loss:.4f}" in out
    assert f"{len(data):,}" in out
    report = json.loads((seeds / "seed-4" / "report.json").read_text())
    if split == "test":
        assert score.acc1 == report["stages"][-1]["test_acc1"]


def test_data_of_another_folder_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = write_mnist(tmp_path / "a", 400, 0), write_mnist(tmp_path / "b", 400, 1)
    flags = [*QUICK, "--data", "mnist", "--data-dir", str(one), "--validation", "100", "--epochs", "1"]
    out = tmp_path / "r"
    assert main(["compress", *flags, "--out", str(out)]) == 0
    assert main(["evaluate", str(out), "--split", "validation"]) == 0
    assert "100" in capsys.readouterr().out
    assert main(["evaluate", str(out), "--data-dir", str(other)]) == 2
    assert "data='mnist' has another checksum than the data of" in capsys.readouterr().err
    shutil.move(one, tmp_path / "moved")
    assert main(["evaluate", str(out)]) == 2
    assert main(["evaluate", str(out), "--data-dir", str(tmp_path / "moved")]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{c}/seed-3 --seed 0", "--seed 0 contradicts '{c}/seed-3/config.json', which says 3; leave the flag out"),
        ("{c}/seed-3 --data mnist", "--data mnist contradicts '{c}/seed-3/config.json', which says digits; leave the"),
        (
            "{c}",
            "result='{c}' holds neither compact.npz nor model.npz, but several seeds; name one network, as in {c}/se",
        ),
        ("{tmp}/m.npz", "'{tmp}/m.npz' has no config.json beside it that describes its training; give --data"),
        (
            "{tmp}/m.npz --data digits",
            "'{tmp}/m.npz' has no config.json beside it that describes its training; give --se",
        ),
        ("{tmp}/part", "result='{tmp}/part' holds neither compact.npz nor model.npz, but an unfinished job; name one"),
        *(
            (
                f"{{tmp}}/n.{e} --on x",
                f"result='{{tmp}}/n.{e}' is read after l0ref convert {{tmp}}/n.{e} {{tmp}}/n.npz\n",
            )
            for e in ("onnx", "safetensors")
        ),
        ("{tmp}/x.npz --data digits --seed 0", "path='{tmp}/x.npz' begins with 'a.npy' as np.savez writes it, without"),
    ],
)
def test_what_is_said_instead_of_a_wrong_number(
    arguments: str, said: str, seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(tmp_path / "m.npz", nn.digits_mlp(seed=0))
    (tmp_path / "part").mkdir()
    checkpoint.save(tmp_path / "part" / "partial.npz", nn.digits_mlp(seed=0))
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    for ending in ("onnx", "safetensors"):
        (tmp_path / f"n.{ending}").write_bytes(b"")
    for name, value in {"{c}": str(seeds), "{tmp}": str(tmp_path)}.items():
        arguments, said = arguments.replace(name, value), said.replace(name, value)
    assert main(["evaluate", *arguments.split()]) in (1, 2)
    err = capsys.readouterr().err
    assert err.startswith(f"l0ref evaluate: {said}")
    assert err.count("\n") == 1


def test_a_network_without_configuration_is_told_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.digits_mlp(seed=0)
    checkpoint.save(tmp_path / "m.npz", model)
    assert main(["evaluate", str(tmp_path / "m.npz"), "--data", "digits", "--seed", "2"]) == 0
    assert f"{metrics.evaluate(model, load('digits', seed=2).test).loss:.4f}" in capsys.readouterr().out
