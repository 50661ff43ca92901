"""Data of a user: what becomes of labels, axes and scales, and one sentence for each wrong file."""

from __future__ import annotations

import doctest
import io
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import checkpoint, data, fit, metrics, nn, optim
from l0ref.archive.foreign import read_foreign_npz
from l0ref.cli import main
from l0ref.data import Preparation, from_arrays, open_data, split
from l0ref.data.files import RECORD
from l0ref.data.idx import idx_header
from l0ref.data.standardize import moments
from l0ref.errors import ArgumentError, DataError, L0RefError, ShapeError
from tests.house_files import ROOT

QUICK = ["--epochs", "2", "--finetune-epochs", "1", "--quiet", "--no-figures"]


@pytest.fixture
def seed() -> int:
    import os

    return int(os.environ.get("L0REF_SEED", "0"))


def digits() -> tuple[Any, Any]:
    found = data.load("digits", seed=0)
    parts = (found.train, found.validation, found.test)
    return np.concatenate([p.x for p in parts])[:, 0], np.concatenate([p.y for p in parts])


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        ([3, 1, 2] * 20, ("1", "2", "3")),
        ([-5, 10, 9] * 20, ("-5", "9", "10")),
        (["cat", "dog", "ape"] * 20, ("ape", "cat", "dog")),
        (np.eye(3)[[2, 0, 1] * 20], ("0", "1", "2")),
        (["²", "1", "10"] * 20, ("1", "10", "²")),
        (["٣", "1", "10"] * 20, ("1", "٣", "10")),
        (["9" * 5000, "5", "10"] * 20, ("10", "5", "9" * 5000)),
        (np.array([2**64 - 1, 0, 2**63] * 20, np.uint64), ("0", str(2**63), str(2**64 - 1))),
        (np.array([-(2**63), 7, 2**63 - 1] * 20), (str(-(2**63)), "7", str(2**63 - 1))),
        (np.array([2.0**62, -0.0, 3] * 20), ("0", "3", str(2**62))),
        (np.array([[7], [8], [7]] * 20), ("7", "8")),
        (np.array([True, False, True] * 20), ("0", "1")),
    ],
)
def test_labels_of_any_kind_are_mapped(y: Any, classes: tuple[str, ...]) -> None:
    x = np.arange(120.0).reshape(60, 2)
    found = from_arrays(x, y, seed=1, normalise=False)
    assert found.preparation is not None
    assert found.preparation.classes == classes
    texts = np.asarray(y).argmax(1) if np.asarray(y).shape == (60, 3) else np.asarray(y).reshape(60)
    texts = texts.astype(int) if texts.dtype.kind in "bf" else texts
    back = {tuple(row): str(text) for row, text in zip(x.astype(np.float32), texts, strict=True)}
    for part in (found.train, found.validation, found.test):
        assert [classes[i] for i in part.y] == [back[tuple(row)] for row in part.x]


def test_a_split_is_stratified_seeded_disjoint_and_complete(rng: np.random.Generator, seed: int) -> None:
    y = np.repeat([0, 1, 2], [50, 30, 20])[rng.permutation(100)]
    whole = data.Dataset(np.arange(100.0)[:, None], y, 3, "whole")
    parts = split(whole, (0.7, 0.2, 0.1), seed=seed)
    assert [np.bincount(p.y).tolist() for p in parts] == [[35, 21, 14], [10, 6, 4], [5, 3, 2]]
    assert sorted(np.concatenate([p.x[:, 0] for p in parts])) == list(range(100))
    assert all((np.diff(p.y) != 0).any() and (np.diff(p.y) < 0).any() for p in parts)
    again, other = split(whole, (0.7, 0.2, 0.1), seed=seed), split(whole, (0.7, 0.2, 0.1), seed=seed + 1)
    assert all((a.x == b.x).all() for a, b in zip(parts, again, strict=True))
    assert (parts[0].x != other[0].x).any()


def test_scale_is_that_of_the_training_set_alone(rng: np.random.Generator, seed: int) -> None:
    x = rng.normal(3, 5, (200, 4))
    x[:, 3] = 7
    y = rng.integers(0, 2, 200)
    found = from_arrays(x, y, seed=seed, dtype=np.float64)
    raw = from_arrays(x, y, seed=seed, dtype=np.float64, normalise=False)
    np.testing.assert_allclose(found.train.x.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.train.x[:, :3].std(axis=0), 1, rtol=1e-12)
    assert (found.train.x[:, 3] == 0).all()
    mean, std = raw.train.x.mean(axis=0), raw.train.x.std(axis=0)
    np.testing.assert_allclose(found.test.x[:, :3], (raw.test.x - mean)[:, :3] / std[:3], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("constant", [0.1, 123.456, -1e300])
def test_a_constant_column_is_only_shifted(rng: np.random.Generator, constant: float, dtype: Any) -> None:
    constant = constant if dtype == np.float64 else max(constant, -1e30)
    x = rng.normal(size=(1000, 2))
    x[:, 1] = constant
    held = np.column_stack([x[:100, 0], np.full(100, 2 * constant)])
    y = np.arange(1000) % 2
    found = from_arrays(x, y, test=(held, y[:100]), dtype=dtype)
    assert found.preparation is not None
    assert (found.preparation.scale.mean[1], found.preparation.scale.std[1]) == (dtype(constant), 1.0)
    assert (found.train.x[:, 1] == 0).all()
    assert (found.test.x[:, 1] == dtype(2 * constant) - dtype(constant)).all()
    images = np.repeat(x[:, :, None, None], 3, axis=3).astype(dtype)
    mean, std = moments(images)
    assert (mean[1], std[1]) == (dtype(constant), 0.0)
    rows = [float(v) for v in images[:, 0].reshape(-1)]
    assert std[0] == pytest.approx(math.sqrt(math.fsum((v - math.fsum(rows) / 3000) ** 2 for v in rows) / 3000))


@pytest.mark.parametrize("scale", [1e200, 1e308, 1e-200])
def test_numbers_that_float64_cannot_square_are_refused(rng: np.random.Generator, scale: float) -> None:
    x, y = rng.uniform(-1, 1, size=(50, 3)), np.arange(50) % 2
    x[:, 1] *= scale
    if scale > 1:
        with pytest.raises(
            ArgumentError, match=r"^train.x has NaN or infinite entries in float32, in channel 1; drop or"
        ):
            from_arrays(x, y)
        with pytest.raises(ArgumentError, match=r"NaN or infinite entries"):
            from_arrays(x[:, :1], x[:, 1], task="values")
    with pytest.raises(ArgumentError, match=r"^train.x has entries in channel 1 that are too (large|small) to square"):
        from_arrays(x, y, dtype=np.float64)
    assert np.isfinite(from_arrays(x, y, dtype=np.float64, normalise=False).train.x).all()


def test_axes_are_asked_for_and_never_guessed(rng: np.random.Generator) -> None:
    y = [0, 1] * 20
    last = rng.normal(size=(40, 5, 4, 3))
    kept = from_arrays(last, y, normalise=False, dtype=np.float64)
    assert kept.train.sample_shape == (5, 4, 3)
    moved = from_arrays(last, y, layout="nhwc", normalise=False, dtype=np.float64)
    assert (moved.train.x == kept.train.x.transpose(0, 3, 1, 2)).all()
    assert from_arrays(last[..., 0], y).train.sample_shape == (1, 5, 4)
    with pytest.raises(ShapeError, match=r"has shape \(32, 5, 4\), but layout nhwc means"):
        from_arrays(last[..., 0], y, layout="nhwc")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": [0.5, 1] * 10}, "has fractions, infinities or NaN; for a regression set task='values'"),
        ({"y": [1e19, 1.0] * 10}, r"has floats from 2\*\*63 up, too large for labels"),
        ({"y": [[1, 1], [0, 1]] * 10}, "is not one-hot"),
        ({"y": [0] * 20}, "has the one class '0'"),
        ({"y": [0, 1]}, "give one label for each sample"),
        ({"x": np.array(["a", "b"] * 10)}, "which is not numeric"),
        ({"x": np.zeros(20)}, r"has shape \(16,\); give vectors"),
        ({"x": np.full((20, 2), np.nan)}, "NaN or infinite entries"),
        ({"split": (0.5, 0.5)}, r"split=\(0.5, 0.5\) must be three shares"),
        ({"split": (0.98, 0.01, 0.01)}, "leaves no sample for validation"),
        ({"test": (np.zeros((2, 2)), [0, 5])}, "has the label '5', none of the training labels 0, 1"),
        ({"x": np.ma.masked_less(np.arange(40.0).reshape(20, 2), 1)}, "^x of 'arrays/train' is a masked array"),
        ({"y": np.ma.array([0, 1] * 10)}, "^y of 'arrays/train' is a masked array"),
        ({"test": (np.ma.zeros((2, 2)), [0, 1])}, "^x of 'arrays/test' is a masked array"),
        ({"validation": True}, r"^validation=bool must be a pair \(x, y\), or None"),
        ({"x": [[1.0], [1.0, 2.0]]}, "^x of 'arrays/train' is a ragged list"),
        ({"y": [[0], [1, 0]]}, "^y of 'arrays/train' is a ragged list"),
        ({"task": "ranks"}, "task='ranks' is not one of"),
        ({"task": "values", "y": ["a"] * 20}, r"a regression needs numbers \(N,\) or \(N, K\)"),
    ],
)
def test_wrong_arrays_get_a_sentence(changes: dict[str, Any], message: str) -> None:
    given = {"x": np.arange(40.0).reshape(20, 2), "y": [0, 1] * 10, **changes}
    with pytest.raises(L0RefError, match=message):
        from_arrays(**given)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ma.zeros((2, 2)), [0, 1], "^x of 'raw' is a masked array"),
        (np.zeros((2, 2)), np.ma.array([0, 1]), "^y of 'raw' is a masked array"),
        ([[1.0], [1.0, 2.0]], [0, 1], "^x of 'raw' is a ragged list"),
    ],
)
def test_a_preparation_refuses_what_has_gaps(x: Any, y: Any, message: str) -> None:
    with pytest.raises(L0RefError, match=message):
        Preparation(("0", "1")).apply(x, y, name="raw")


def test_a_preparation_survives_its_file(tmp_path: Path, rng: np.random.Generator) -> None:
    x, y = rng.normal(2, 3, (100, 6)), np.array(["a", "b"] * 50)
    found = from_arrays(x, y)
    net = nn.mlp((6, 4, 2), seed=0)
    checkpoint.save(tmp_path / "m.npz", net, preparation=found.preparation)
    how = checkpoint.preparation_of(tmp_path / "m.npz")
    assert how is not None
    assert found.preparation is not None
    again, raw = how.apply(x, y, name="raw"), from_arrays(x, y, normalise=False)
    there = {tuple(row): tuple(done) for row, done in zip(x.astype(np.float32), again.x, strict=True)}
    assert [there[tuple(row)] for row in raw.test.x] == [tuple(row) for row in found.test.x]
    checkpoint.save(tmp_path / "m.npz", net)
    assert checkpoint.preparation_of(tmp_path / "m.npz") is None
    with pytest.raises(L0RefError, match="is unsound"):
        Preparation.from_json(how.to_json() | {"scale": {"mean": [0.0], "std": [0.0]}})


def savez(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_files_of_numpy_are_read_exactly(tmp_path: Path, rng: np.random.Generator) -> None:
    wanted = {
        "a": rng.normal(size=(3, 4)), "f": np.asfortranarray(rng.normal(size=(3, 4))), "u": np.arange(5, dtype=">u2"),
        "s": np.array(["x", "yz"]), "none": np.zeros((0, 3)), "one": np.array(2.0), "b": np.array([True, False]),
    }  # fmt: skip
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "d.npz", **wanted)
        found = read_foreign_npz(tmp_path / "d.npz")
        assert set(found) == set(wanted)
        for key, array in wanted.items():
            assert found[key].dtype == array.dtype
            assert found[key].shape == array.shape
            assert (found[key] == array).all()


def member(shape: str, *, descr: str = "'<f8'", body: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (member("(4294967296,)"), "declares shape"),
        (member("(2,)", body=b"\0" * 17), "declares shape"),
        (member("(2,)", descr="'|O'", body=b"\0" * 16), "neither numbers nor text"),
        (member("(2,)", descr="[('a', '<f8')]", body=b"\0" * 16), "neither numbers nor text"),
        (b"cos\nsystem\n(S'true'\ntR.", "has no sound .npy header"),
        (member("(0, 4294967296, 4294967296, 4294967296)"), "declares shape"),
    ],
)
def test_hostile_members_cost_nothing(tmp_path: Path, content: bytes, message: str) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as file:
        file.writestr("x.npy", content)
    with pytest.raises(DataError, match=message):
        read_foreign_npz(tmp_path / "d.npz")


def test_hostile_archives_are_refused(tmp_path: Path) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", member("(125000,)", body=b"\0" * 1_000_000))
    (tmp_path / "d.npz").write_bytes(bomb.getvalue())
    with pytest.raises(DataError, match="the limit is 100,000"):
        read_foreign_npz(tmp_path / "d.npz", max_bytes=100_000)
    damaged = bytearray(savez(tmp_path / "e.npz", x=np.arange(100.0)).read_bytes())
    damaged[400] ^= 1
    (tmp_path / "e.npz").write_bytes(bytes(damaged))
    with pytest.raises(DataError, match="CRC"):
        read_foreign_npz(tmp_path / "e.npz")
    for content in (b"", b"no zip at all", bomb.getvalue()[:200]):
        (tmp_path / "f.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"is not a sound .npz file"):
            read_foreign_npz(tmp_path / "f.npz")


def test_parts_of_a_file_are_kept_apart(tmp_path: Path) -> None:
    x, y = np.arange(200.0).reshape(100, 2), np.array([0, 1] * 50)
    path = savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[:10] + 0.5, y_test=y[:10])
    found = open_data(str(path), normalise=False)
    assert (len(found.train), len(found.validation)) == (
        88,
        12,
    )  # 0.8 to 0.1: 50 / 9 of each class, rounded
    assert (found.test.x == x[:10] + 0.5).all()


def test_csv_columns_and_labels(tmp_path: Path) -> None:
    rows = "\n".join(f"{i},{'ab'[i % 2]},{i / 2}" for i in range(40))
    (tmp_path / "d.csv").write_text("one,kind,two\n" + rows + "\n")
    found = open_data(str(tmp_path / "d.csv"), label="kind", normalise=False)
    assert found.preparation is not None
    assert found.preparation.classes == ("a", "b")
    assert (found.train.x[:, 1] == found.train.x[:, 0] / 2).all()
    assert (found.train.y == found.train.x[:, 0] % 2).all()


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        ("a,b\n1,2\n", None, "needs the name of its column of labels; give --label NAME"),
        ("a,b\n1,2\n", "c", "must have one column 'c' and others; it has a, b"),
        ("a,b\n1,2\n1,2,3\n", "b", "line 3: 3 fields, expected 2"),
        ("a,b\nx,2\n", "b", "line 2: column 'a' holds 'x', not a number"),
        ("a,b\n\xff,2\n", "b", "is not a .csv file of UTF-8 text"),
        ("", "b", "must have one column 'b'"),
    ],
)
def test_wrong_csv_files(tmp_path: Path, text: str, label: str | None, message: str) -> None:
    (tmp_path / "d.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(L0RefError, match=message):
        open_data(str(tmp_path / "d.csv"), label=label)


def test_folders_of_idx_files_and_of_cifar(tmp_path: Path, rng: np.random.Generator) -> None:
    images, labels = rng.integers(0, 255, (40, 5, 4), dtype=np.uint8), np.array([3, 8] * 20, np.uint8)
    for name, array in (("train-images", images), ("train-labels", labels)):
        (tmp_path / name).write_bytes(idx_header(array.shape) + array.tobytes())
    found = open_data(str(tmp_path), normalise=False)
    assert found.train.sample_shape == (1, 5, 4)
    assert found.preparation is not None
    assert found.preparation.classes == ("3", "8")
    folder = tmp_path / "cifar"
    folder.mkdir()
    records = rng.integers(0, 256, (30, RECORD), dtype=np.uint8)
    records[:, 0] = np.arange(30) % 3
    (folder / "data_batch_1.bin").write_bytes(records.tobytes())
    (folder / "test_batch.bin").write_bytes(records[:6].tobytes())
    found = open_data(str(folder), normalise=False)
    assert (found.test.x == records[:6, 1:].reshape(6, 3, 32, 32)).all()
    assert (found.test.y == records[:6, 0]).all()
    (folder / "data_batch_1.bin").write_bytes(records.tobytes()[:-1])
    with pytest.raises(DataError, match="not a multiple of 3073"):
        open_data(str(folder))


def test_a_regression_learns_and_is_measured(rng: np.random.Generator) -> None:
    x = rng.normal(size=(400, 3))
    y = x @ np.array([1.0, -2.0, 0.5])
    found = from_arrays(x, y, task="values")
    net = nn.mlp((3, 16, 1), seed=0)
    before, fast = metrics.evaluate(net, found.test), {"optimizer": optim.Adam(lr=1e-2)}
    after, _ = fit(net, found.train, validation=found.validation, epochs=40, seed=0, progress="none", **fast)
    score = metrics.evaluate(after, found.test)
    by_hand = float(np.square(after.logits(found.test.x) - found.test.y).mean(dtype=np.float64))
    assert score.loss == pytest.approx(by_hand)
    assert np.isnan(score.acc1)
    assert score.loss < 0.1 * before.loss
    with pytest.raises(ArgumentError, match="NaN"):
        data.Dataset(np.zeros((2, 1)), np.array([[np.nan], [0.0]]), 0, "bad")


def test_the_command_on_own_data_and_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = digits()
    names = np.array([f"digit {i}" for i in range(10)])
    source = savez(tmp_path / "own.npz", x=(x * 16).astype(np.uint8), y=names[y])
    net = tmp_path / "net.toml"
    net.write_text(
        "[[layer]]\nkind='Conv2d'\nout_channels=4\nkernel_size=3\n[[layer]]\nkind='ReLU'\n[[layer]]\nkind='Flatten'\n"
        "[[layer]]\nkind='Linear'\nout_features=10\n"
    )
    out = str(tmp_path / "out")
    assert main(["compress", "--data", str(source), "--model", str(net), *QUICK, "--out", out, "--curve", "2"]) == 0
    capsys.readouterr()
    assert main(["evaluate", out, "--split", "train"]) == 0
    own = capsys.readouterr().out
    report = (tmp_path / "out" / "report.json").read_text()
    assert "digit 7" in report
    splits = open_data(str(source), seed=0)
    train = from_arrays((x * 16).astype(np.uint8), names[y], seed=0, normalise=False).train
    np.savez(tmp_path / "again.npz", x=train.x.astype(np.uint8), y=names[train.y])
    assert main(["evaluate", out, "--on", str(tmp_path / "again.npz")]) == 0
    raw = capsys.readouterr().out
    assert raw.splitlines()[1].split()[:4] == own.splitlines()[1].split()[:4]
    assert len(splits.train) == len(train)
    assert main(["compress", "--data", str(source), "--model", "run", out, *QUICK, "--out", f"{out}2"]) == 0
    values = savez(tmp_path / "values.npz", x=x.reshape(len(x), -1), y=y.astype(float))
    flags = ["--task", "values", "--model", "mlp:64-8-1", *QUICK]
    assert main(["compress", "--data", str(values), *flags, "--out", f"{out}3"]) == 0
    assert main(["report", f"{out}3"]) == main(["evaluate", f"{out}3"]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data", "mnits"], "data='mnits' is not one of"),
        (["--data", "FILE"], "needs a network; give --model"),
        (["--data", "none.npz", "--model", "mlp:2-2"], "does not exist; give a file .npz or .csv"),
        (["--data", "FILE", "--model", "mlp:5-2"], "has 5 inputs, a sample has 2; give mlp:2-2"),
        (["--data", "FILE", "--model", f"mlp:2-{10**12}-2"], "does not fit into memory (Unable to allocate"),
        (["--data", "FILE", "--model", "mlp:2-x"], "must name inputs, hidden units and outputs"),
        (["--data", "FILE", "--model", "mlp:2-3"], "has 2 classes; end the network with as many outputs"),
        (["--data", "FILE", "--model", "net.toml"], "cannot be read"),
        (["--data", "FILE", "--model", "lenet"], "model='lenet' is not one of"),
        (["--data", "FILE", "--model", "run", "nowhere"], "has no model.npz"),
        (["--data", "FILE", "--model", "no.module:f"], "model='no.module:f' cannot be imported"),
        (["--data", "math:pi", "--model", "mlp:2-2"], "data='math:pi' failed with TypeError"),
        (["--data", "builtins:list", "--model", "mlp:2-2"], "returned list; return Splits"),
        (["--data", "FILE", "--model", "mlp:2-2", "--split", "0.5,0.5"], "must be three shares above 0"),
        (["--data", "FILE", "--model", "mlp:2-2", "--label", "a"], "label='a' is for .csv files"),
        (["--data", "digits", "--layout", "nhwc"], "layout='nhwc' is for data of your own"),
    ],
)
def test_wrong_arguments_are_refused_before_training(
    tmp_path: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = savez(tmp_path / "d.npz", x=np.arange(80.0).reshape(40, 2), y=[0, 1] * 20)
    words = [str(path) if word == "FILE" else word for word in flags]
    assert main(["compress", *words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[layer]]\nkind='Linaer'", "layer 'layer1': kind='Linaer' is not a layer"),
        ("[[layer]]\nkind='Linear'\nname='head'\nwidth=3", "layer 'head': Linear has no field 'width'"),
        ("[[layer]]\nkind='Linear'\nname='head'", "layer 'head': Linear 'head' is incomplete"),
        ("[[layer]]\nkind='Linear'\nin_features=3\nout_features=2", "layer 'layer1': layer 'layer1' (Linear) got"),
        ("layer = 3", "must hold one list of layers"),
        ("[[layer", "is not TOML"),
    ],
)
def test_wrong_networks_name_the_layer(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = savez(tmp_path / "d.npz", x=np.arange(80.0).reshape(40, 2), y=[0, 1] * 20)
    (tmp_path / "net.toml").write_text(text)
    assert main(["compress", "--data", str(path), "--model", str(tmp_path / "net.toml")]) == 2
    assert message in capsys.readouterr().err


def test_functions_give_data_and_networks_by_flag_but_not_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_module.py").write_text(
        "import numpy as np\nfrom l0ref import data, nn\n"
        "def load():\n    x = np.random.default_rng(0).normal(size=(60, 2))\n"
        "    return data.from_arrays(x, (x[:, 0] > 0).astype(int))\n"
        "def net(*, input_shape, outputs, seed, dtype):\n"
        "    return nn.mlp((*input_shape, 64, outputs), seed=seed, dtype=dtype)\n"
    )
    monkeypatch.chdir(tmp_path)
    code = ["--data", "own_module:load", "--model", "own_module:net"]
    assert main(["compress", *code, *QUICK, "--amount", "0.5", "--out", "out"]) == 0
    assert main(["evaluate", "out"]) == 2
    assert "names code, data='own_module:load'; a file may not" in capsys.readouterr().err
    assert main(["evaluate", "out", "--data", "own_module:load"]) == 0
    (tmp_path / "job.toml").write_text('data = "own_module:load"\nmodel = "mlp:2-2"\n')
    assert main(["compress", "--config", "job.toml"]) == 2


def test_a_network_of_a_function_that_does_not_flatten_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "flat_module.py").write_text(
        "from l0ref import nn\n"
        "def net(*, input_shape, outputs, seed, dtype):\n"
        "    return nn.mlp((64, outputs), seed=seed, dtype=dtype)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["compress", "--model", "flat_module:net"]) == 2
    said = "takes samples of shape (64,), data='digits' has (1, 8, 8); build it for input_shape, as in "
    assert f"{said}nn.mlp(sizes, input_shape=input_shape), which flattens images\n" in capsys.readouterr().err


def test_values_print_as_a_screen_and_never_as_arrays(rng: np.random.Generator) -> None:
    found = from_arrays(rng.normal(size=(60, 2)), [0, 1, 2] * 20, name="own")
    net = nn.mlp((2, 8, 3), seed=0)
    for value in (found, net):
        lines = repr(value).splitlines()
        assert len(lines) <= 25
        assert max(map(len, lines)) <= 100
        assert "array" not in repr(value)
        assert value._repr_html_().startswith("<pre>")
        assert "<pre>" not in repr(value)
    assert repr(found).splitlines()[0].startswith("Splits('own', 3 classes)")
    assert [line.split()[:2] for line in repr(found).splitlines()[2:]] == [
        ["train", "48"], ["validation", "6"], ["test", "6"],
    ]  # fmt: skip


def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8")
    pages = re.findall(r"^```pycon\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    test = doctest.DocTestParser().get_doctest("\n".join(pages), {}, "own_data.md", "own_data.md", 0)
    assert len(test.examples) == 7
    assert doctest.DocTestRunner().run(test).failed == 0
    (tmp_path / "net.toml").write_text(re.findall(r"^```toml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[0])
    commands = [line.split()[1:] for line in text.splitlines() if line.startswith("    l0ref ")]
    assert main([*commands[0], *QUICK]) == main(commands[1]) == 0
    assert main(["compress", "--data", "mine.npz", "--model", "net.toml", *QUICK, "--out", "toml"]) == 0
