"""Networks in files of other formats, the commands that write them, and docs/exchange.md, run as it stands."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from l0ref import checkpoint, nn, prune
from l0ref.archive import write_npz
from l0ref.checkpoint.model import KIND, described
from l0ref.cli import main
from l0ref.data import load
from l0ref.errors import ArgumentError, CheckpointError, ConfigError, DTypeError, L0RefError, ShapeError
from l0ref.interop.files import FORMATS, TOLERANCE, format_of, read_model, write_model
from l0ref.interop.forms import FORMS, unpacked
from l0ref.interop.safetensors import checksum, load_safetensors, read_arrays, save_safetensors
from l0ref.interop.state import from_state_dict
from tests.house_files import ROOT

onnx = pytest.importorskip("onnx", reason="needs the extra `interop`")
ort = pytest.importorskip("onnxruntime", reason="needs the extra `interop`")
stnp = pytest.importorskip("safetensors.numpy", reason="needs the extra `interop`")

PAGE = (ROOT / "docs" / "exchange.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def same(a, b):
    """Both are one value: architecture, arrays, masks, bit for bit."""
    assert a.architecture_json() == b.architecture_json()
    for side in ("params", "buffers", "masks"):
        ours, theirs = getattr(a, side), getattr(b, side)
        assert set(ours) == set(theirs)
        for key, array in ours.items():
            assert array.dtype == theirs[key].dtype
            assert np.array_equal(array, theirs[key])


def test_page_runs_and_prints_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    printed = ""
    for language, text in BLOCK.findall(PAGE):
        if language == "text":
            assert printed == text
            continue
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(text, "docs/exchange.md", "exec"), space)
        printed = out.getvalue()
    alone = [text for _, text in BLOCK.findall(PAGE) if text.startswith("import json\nimport numpy")]
    assert len(alone) == 1
    assert len(alone[0].strip().splitlines()) == 10
    assert "l0ref" not in alone[0]


# --- safetensors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", FORMS)
def test_safetensors_there_and_back(form, dtype, tmp_path, rng):
    model = prune(nn.resnet_small(seed=0, dtype=dtype), amount=0.9)
    model = model.replace(buffers={k: v + rng.random(v.shape).astype(dtype) for k, v in model.buffers.items()})
    file = tmp_path / "net.safetensors"
    assert write_model(file, model, form=form) == (form, 0.0)
    back = read_model(file)
    assert bool(back.patterns) == (form == "sparse")
    if form in ("masked", "sparse"):
        same(unpacked(back), model)
        return
    x = rng.standard_normal((2, *model.input_shape)).astype(dtype)
    np.testing.assert_allclose(back.logits(x), model.logits(x), atol=1e-5 if dtype == np.float32 else 1e-12)
    assert dict(back.masks) == {}


def test_arrays_of_any_memory_order_are_written_right(tmp_path):
    model = nn.mlp((4, 3, 2), seed=0)
    odd = {
        "fc1.weight": np.asfortranarray(model.params["fc1.weight"]),
        "fc2.weight": np.repeat(model.params["fc2.weight"], 2, axis=1)[:, ::2],
        "fc1.bias": np.arange(3, dtype=np.float32)[::-1],
    }
    assert not any(array.flags.c_contiguous for array in odd.values())
    model = model.replace(params={**model.params, **odd})
    file = tmp_path / "net.safetensors"
    save_safetensors(file, model)
    same(load_safetensors(file), model)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("key", ["a.weight", "b.running_var"])
def test_numbers_that_are_not_finite_are_neither_written_nor_read(key, value, ending, tmp_path, monkeypatch):
    layers = [nn.Linear("a", 4, 3), nn.BatchNorm1d("b", 3)]
    net = nn.Model.init(layers, input_shape=(4,), seed=0)
    arrays = {name: array.copy() for name, array in {**net.params, **net.buffers}.items()}
    arrays[key].flat[-1] = value
    bad = net.replace(**{part: {name: arrays[name] for name in getattr(net, part)} for part in ("params", "buffers")})
    path, said = tmp_path / f"net.{ending}", "has NaN or infinite entries; "
    with pytest.raises(ArgumentError, match=rf"^arrays\['{key}'\] {said}repair them"):
        write_model(path, bad)
    assert not path.exists()
    with monkeypatch.context() as patch:
        for module in ("safetensors", "onnx_write", "onnx_read"):
            patch.setattr(f"l0ref.interop.{module}.finite", lambda model: model)
        patch.setattr("l0ref.interop.files._difference", lambda *_: 0.0)
        if ending == "npz":
            write_npz(
                path,
                described(bad)[1],
                manifest={"kind": KIND, "version": 1, **described(bad)[0]},
                allow_nonfinite=True,
            )
        else:
            write_model(path, bad)
    with pytest.raises(L0RefError, match=said):
        read_model(path)
    if ending == "safetensors":
        with pytest.raises(ArgumentError, match=said):
            read_model(path, like=net)


def test_what_reads_back_wrong_is_not_written(tmp_path, monkeypatch):
    file = tmp_path / "net.safetensors"
    file.write_bytes(b"old")
    honest = stnp.save
    monkeypatch.setattr(stnp, "save", lambda arrays, **k: honest({n: a * 2 for n, a in arrays.items()}, **k))
    with pytest.raises(CheckpointError, match=r"was not written: it reads back as other values"):
        save_safetensors(file, nn.mlp((4, 2), seed=0))
    assert file.read_bytes() == b"old"


def test_damaged_safetensors_are_refused(tmp_path, rng):
    file = tmp_path / "net.safetensors"
    model = nn.mlp((4, 3, 2), seed=0)
    save_safetensors(file, model)
    good = file.read_bytes()
    said = []
    for cut in (0, 7, 40, len(good) - 1):
        file.write_bytes(good[:cut])
        with pytest.raises(CheckpointError, match=r"is not a safetensors file that NumPy can hold") as caught:
            load_safetensors(file)
        said.append(str(caught.value))
    for at in rng.integers(len(good), size=100):
        data = bytearray(good)
        data[at] ^= 1 << int(rng.integers(8))
        file.write_bytes(data)
        try:
            same(load_safetensors(file), model)  # white space and names in the header may change
        except L0RefError as error:
            said.append(str(error))
    assert len(said) > 80
    assert not any("\n" in text for text in said)
    assert any("has another sha256 than it states" in text for text in said)


def test_files_without_configuration_are_arrays_for_an_architecture(tmp_path):
    file = tmp_path / "net.safetensors"
    stnp.save_file({"a": np.ones(3, np.float32)}, file)
    with pytest.raises(CheckpointError, match=r"without a configuration of l0ref; pass read_arrays\(path\) to from_st"):
        load_safetensors(file)
    assert read_arrays(file)["a"].tolist() == [1, 1, 1]
    kinds = [
        {"a": np.ones(3)},
        {"a": np.ones((3, 1))},
        {"b": np.ones(3)},
        {"a": np.ones(3, np.float32)},
        {"a": np.zeros(3)},
    ]
    assert len({checksum(arrays, text) for arrays in kinds for text in "xy"}) == 10


# --- arrays alone -----------------------------------------------------------------------------------------------------

NET = prune(nn.mlp((4, 3, 2), seed=0), amount=0.5)
ORIG = {f"{k}_orig": np.where(mask, NET.params[k], 7).astype(np.float32) for k, mask in NET.masks.items()}
MASK = {f"{k}_mask": mask.astype(np.float32) for k, mask in NET.masks.items()}
STATE = {k: v for k, v in NET.params.items() if k not in NET.masks} | ORIG | MASK


def test_pruned_state_with_a_map_of_names():
    assert any(key.endswith("_orig") for key in STATE)
    same(from_state_dict(STATE, like=nn.mlp((4, 3, 2), seed=5)), NET)
    other = {k.replace("fc1.", "net.0."): v for k, v in STATE.items()} | {"net.1.num_batches_tracked": np.array(3)}
    same(from_state_dict(other, like=NET, names={"fc1": "net.0"}), NET)
    one = {("w" + k.removeprefix("fc2.weight") if k.startswith("fc2.weight") else k): v for k, v in STATE.items()}
    same(from_state_dict(one, like=NET, names={"fc2.weight": "w"}), NET)


WRONG = {
    "missing": ({}, NET, ArgumentError, r"^state lacks 'fc1.weight' for 'fc1.weight' and has left nothing; name it"),
    "extra": ({**STATE, "z": np.ones(1)}, NET, ArgumentError, r"^state has 'z', which no layer of like reads; remove"),
    "shape": (STATE, nn.mlp((4, 5, 2), seed=0), ShapeError, r"has 'fc1.weight_orig' of shape \(3, 4\), expected \(5"),
    "soft": ({**STATE, "fc1.weight_mask": np.full((3, 4), 0.5)}, NET, ArgumentError, r"with entries other than"),
    "half": (
        {k: v.astype(np.float16) for k, v in STATE.items()}, NET, DTypeError, r"in float16; convert it to float32 or f"
    ),
    "like": (STATE, 3, ArgumentError, r"^like must be a Model without sparse layers; pass one of the same"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_state_that_does_not_fit_is_refused(case):
    state, like, error, said = WRONG[case]
    with pytest.raises(error, match=said):
        from_state_dict(state, like=like)


# --- the commands -----------------------------------------------------------------------------------------------------

QUICK = ["--epochs", "2", "--finetune-epochs", "1", "--controls", "no", "--no-figures", "--quiet"]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of `compress`: convolutions, 95 % pruned."""
    out = tmp_path_factory.mktemp("run") / "digits.cnn"
    assert main(["compress", *QUICK, "--model", "digits_cnn", "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("form", ["dense", "shrunk", "sparse"])
def test_exported_run_gives_its_logits_in_onnxruntime_on_its_test_images(form, result, tmp_path, capsys):
    file = tmp_path / "net.onnx"
    assert main(["export", str(result), "--format", "onnx", "--form", form, "--out", str(file)]) == 0
    assert re.match(rf".*net.onnx: {form}, float32, [\d,]+ bytes, logits read back within \d", capsys.readouterr().out)
    x = load("digits", seed=0).test.x
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    ours = checkpoint.load(result / "model.npz").logits(x)
    theirs = session.run(None, {"x": x})[0]
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-6 * np.abs(ours).max())
    if form != "sparse":
        evaluator = pytest.importorskip("onnx.reference", reason="needs the extra `interop`").ReferenceEvaluator(
            str(file)
        )
        np.testing.assert_allclose(evaluator.run(None, {"x": x})[0], ours, rtol=0, atol=1e-6 * np.abs(ours).max())


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_comes_back_by_convert_and_overwriting_is_asked_for(name, result, tmp_path, capsys):
    middle, end = tmp_path / f"a.{name}", tmp_path / "b.npz"
    assert main(["convert", str(result), str(middle)]) == 0
    assert main(["convert", str(middle), str(end), "--form", "dense"]) == 0
    x = load("digits", seed=0).test.x
    ours = checkpoint.load(result / "model.npz").logits(x)
    np.testing.assert_allclose(checkpoint.load(end).logits(x), ours, rtol=0, atol=1e-6 * np.abs(ours).max())
    before = middle.read_bytes()
    assert main(["convert", str(result / "compact.npz"), str(middle)]) == 2
    assert capsys.readouterr().err == (
        f"l0ref convert: out={str(middle)!r} exists already; choose another name or pass --overwrite\n"
    )
    assert middle.read_bytes() == before
    assert main(["convert", str(result / "compact.npz"), str(middle), "--overwrite"]) == 0
    assert middle.read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["b.npz", f"a.{name}"])
    assert main(["evaluate", str(end), "--data", "digits", "--seed", "0"]) == 0


def test_default_name_and_arrays_alone(result, tmp_path, capsys):
    assert main(["export", str(result), "--format", "safetensors"]) == 0
    file = result.parent / "digits.cnn.safetensors"
    same(read_model(file), checkpoint.load(result / "model.npz"))
    assert main(["export", str(result / "model.npz"), "--format", "onnx"]) == 0
    assert (result / "model.onnx").is_file()
    alone, back = tmp_path / "alone.safetensors", tmp_path / "back.npz"
    stnp.save_file({k.replace("fc1", "head"): v for k, v in read_arrays(file).items()}, alone)
    flags = ["--like", str(result / "model.npz"), "--names", "fc1=head"]
    assert main(["convert", str(alone), str(back), *flags]) == 0
    same(checkpoint.load(back), checkpoint.load(result / "model.npz"))
    file.unlink()
    (result / "model.onnx").unlink()
    capsys.readouterr()


BAD = {
    "pickle out": (
        ["convert", "RUN", "TMP/net.pt"],
        2,
        r"'.*net.pt' would be a pickle of PyTorch, which can run any co",
    ),
    "pickle in": (["convert", "TMP/net.pth", "TMP/a.npz"], 2, r"'.*net.pth' would be a pickle of PyTorch"),
    "ending": (["convert", "RUN", "TMP/net.h5"], 2, r"ends in '.h5'; the endings known are .npz, .onnx, .safetensors"),
    "other ending": (["export", "RUN", "--format", "onnx", "--out", "TMP/a.npz"], 2, r"must end in .onnx, as --format"),
    "masked": (
        ["export", "RUN", "--format", "onnx", "--form", "masked"],
        2,
        r"form='masked' cannot be stored in ONNX; choo",
    ),
    "names": (["convert", "RUN", "TMP/a.npz", "--names", "a=b"], 2, r"--names needs --like FILE"),
    "like": (["convert", "RUN", "TMP/a.npz", "--like", "RUN/model.npz"], 2, r"like is given with .* leave it out"),
    "folder": (
        ["export", "RUN", "--format", "onnx", "--out", "TMP/no/a.onnx"],
        2,
        r"its folder is missing or read-only",
    ),
    "damaged": (["convert", "TMP/bad.onnx", "TMP/a.npz"], 2, r"bad.onnx' is not a sound ONNX file"),
    "absent": (["convert", "TMP/absent.onnx", "TMP/a.npz"], 2, r"absent.onnx' is not there; pass a model file, or wha"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_use_is_one_sentence(case, result, tmp_path, capsys):
    arguments, code, said = BAD[case]
    (tmp_path / "bad.onnx").write_bytes(b"\xff\xfenot one")
    for name in ("net.pth",):
        (tmp_path / name).write_bytes(b"x")
    argv = [a.replace("RUN", str(result)).replace("TMP", str(tmp_path)) for a in arguments]
    assert main(argv) == code
    err = capsys.readouterr().err
    assert re.search(said, err)
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.onnx", "net.pth"]


def test_logits_that_would_differ_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setitem(TOLERANCE, 4, -1.0)
    with pytest.raises(CheckpointError, match=r"net.onnx' was not written: its logits would be off by 0"):
        write_model(tmp_path / "net.onnx", nn.mlp((4, 2), seed=0))
    assert not list(tmp_path.iterdir())


def test_absent_extra_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"package 'onnx' is not installed; .*: pip install 'l0ref\[interop\]'"):
        write_model(tmp_path / "net.onnx", nn.mlp((4, 2), seed=0))
    assert format_of("a/b.ONNX") == "onnx"
