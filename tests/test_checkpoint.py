"""The model file: what is saved comes back bit for bit; anything else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from l0ref import checkpoint, nn, prune
from l0ref.archive import read_npz, write_npz
from l0ref.errors import ArgumentError, CheckpointError


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["digits_mlp", "lenet_5", "resnet_small"])
def test_round_trip(name: str, dtype: type, tmp_path: Path) -> None:
    model = prune(nn.MODELS[name](seed=0, dtype=dtype), amount=0.7)
    path = tmp_path / "model.npz"
    checkpoint.save(path, model)
    back = checkpoint.load(path)
    assert back.architecture == model.architecture
    assert back.input_shape == model.input_shape
    for part in ("params", "masks", "buffers"):
        ours, theirs = getattr(model, part), getattr(back, part)
        assert list(ours) == list(theirs)
        for key in ours:
            assert ours[key].dtype == theirs[key].dtype
            np.testing.assert_array_equal(ours[key], theirs[key])
    first = path.read_bytes()
    checkpoint.save(path, back)
    assert path.read_bytes() == first


def test_masks_are_saved_only_where_there_are_any(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    checkpoint.save(path, nn.digits_mlp(seed=0))
    arrays, _ = read_npz(path)
    assert not any(name.endswith("_mask") for name in arrays)
    assert checkpoint.load(path).masks == {}


def test_compressed_file_is_smaller_and_equal(tmp_path: Path) -> None:
    model = prune(nn.digits_mlp(seed=0), amount=0.95)
    checkpoint.save(tmp_path / "a.npz", model)
    checkpoint.save(tmp_path / "b.npz", model, compress=True)
    assert (tmp_path / "b.npz").stat().st_size < 0.3 * (tmp_path / "a.npz").stat().st_size
    np.testing.assert_array_equal(checkpoint.load(tmp_path / "b.npz").params["fc1.weight"], model.params["fc1.weight"])


def rewritten(tmp_path: Path, *, drop: str | None = None, **changes: object) -> Path:
    """A model file with one array or one part of the manifest changed."""
    model = prune(nn.mlp((3, 4, 2), seed=0), amount=0.5)
    path = tmp_path / "model.npz"
    checkpoint.save(path, model)
    arrays, manifest = read_npz(path)
    manifest.update({k: v for k, v in changes.items() if k in manifest})
    arrays.update({k.replace("__", "."): v for k, v in changes.items() if k not in manifest})  # type: ignore[misc]
    if drop is not None:
        del arrays[drop]
    write_npz(path, arrays, manifest=manifest)
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "another"}, r"holds 'another' version 1, expected 'l0ref model' version 1"),
        ({"version": 99}, r"holds 'l0ref model' version 99"),
        (
            {"architecture": {"input_shape": [3], "layers": [{"kind": "Evil", "name": "x"}]}},
            r"kind='Evil' is not a layer",
        ),
        ({"architecture": 3}, r"is not a sound model"),
        ({"params": ["fc1.weight"]}, r"params lacks 'fc1\.bias'"),
        ({"fc1__weight": np.ones((4, 3), np.float32)}, r"is not 0 everywhere its mask is False"),
        ({"fc1__weight": np.ones((3, 4), np.float32)}, r"has shape \(3, 4\), expected \(4, 3\)"),
        ({"drop": "fc2.weight"}, r"is not a sound model"),
        ({"masks": 5}, r"is not a sound model"),
    ],
)
def test_unsound_files_are_refused(changes: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=said):
        checkpoint.load(rewritten(tmp_path, **changes))  # type: ignore[arg-type]


def test_other_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", a=np.ones(3))
    (tmp_path / "text.npz").write_text("not a zip")
    for name in ("plain.npz", "text.npz"):
        with pytest.raises(CheckpointError, match=name):
            checkpoint.load(tmp_path / name)


def test_the_path_comes_first(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"^path is a Model; the path comes first, as in save\('net\.npz', model\)"):
        checkpoint.save(nn.mlp((2, 2), seed=0), str(tmp_path / "x.npz"))  # type: ignore[arg-type]


def test_a_model_with_nan_is_not_saved(tmp_path: Path) -> None:
    model = nn.mlp((2, 2), seed=0)
    bad = model.replace(params={**model.params, "fc1.bias": np.array([np.nan, 0], np.float32)})
    with pytest.raises(ArgumentError, match=r"^arrays\['fc1\.bias'\] has NaN"):
        checkpoint.save(tmp_path / "model.npz", bad)
    assert not list(tmp_path.iterdir())
