"""Wrong use of `export` and `convert`, and of `evaluate` on what they wrote: one sentence, code 2, nothing written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from l0ref import checkpoint, data, nn, prune
from l0ref.cli import main
from l0ref.interop.files import write_model

onnx = pytest.importorskip("onnx", reason="needs the extra `interop`")
safetensors = pytest.importorskip("safetensors.numpy", reason="needs the extra `interop`")

NET = prune(nn.mlp((3, 5, 2), seed=0), amount=0.4)
STATE = dict(NET.params)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files to be used wrongly."""
    out = tmp_path_factory.mktemp("wrong")
    rng = np.random.default_rng(0)
    own = data.from_arrays(rng.normal(size=(60, 3)), ["yes", "no"] * 30)
    checkpoint.save(out / "net.npz", NET, preparation=own.preparation)
    checkpoint.save(out / "plain.npz", NET)
    write_model(out / "net.onnx", NET, preparation=own.preparation)
    write_model(out / "net.safetensors", NET)
    (out / "damaged.npz").write_bytes((out / "net.npz").read_bytes()[:300])
    (out / "damaged.onnx").write_bytes((out / "net.onnx").read_bytes()[:150])
    (out / "damaged.safetensors").write_bytes((out / "net.safetensors").read_bytes()[:150])
    (out / "text.npz").write_text("no archive")
    (out / "net.pt").write_bytes(b"a pickle")
    np.savez(out / "arrays.npz", x=np.ones(3))
    (out / "empty").mkdir()
    (out / "a.onnx").mkdir()
    proto = onnx.load(out / "net.onnx")
    proto.graph.node[1].op_type = "Gelu"
    onnx.save(proto, out / "gelu.onnx")
    proto = onnx.load(out / "net.onnx")
    proto.metadata_props[0].value = '{"classes": 3}'
    onnx.save(proto, out / "unsound.onnx")
    proto.metadata_props[0].value = "{"
    onnx.save(proto, out / "cut.onnx")
    proto.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    (out / "elsewhere.onnx").write_bytes(proto.SerializeToString())
    for name, arrays in {
        "state": STATE,
        "extra": {**STATE, "fc9.weight": np.ones((2, 2), np.float32)},
        "shape": {**STATE, "fc1.weight": np.ones((5, 4), np.float32)},
        "half": {key: v.astype(np.float16) for key, v in STATE.items()},
        "mixed": {key: v.astype(np.float64) if "fc2" in key else v for key, v in STATE.items()},
        "few": {"fc1.weight": STATE["fc1.weight"]},
        "soft": {**STATE, "fc1.weight_mask": np.full((5, 3), 0.5, np.float32)},
    }.items():
        safetensors.save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, out / f"{name}.safetensors")
    np.savez(out / "unknown.npz", x=np.ones((4, 3)), y=np.array(["yes", "maybe", "no", "yes"]))
    np.savez(out / "wide.npz", x=np.ones((4, 5)), y=np.array(["yes", "no", "no", "yes"]))
    np.savez(out / "raw.npz", x=np.ones((4, 3)), y=np.array(["yes", "no", "no", "yes"]))
    return out


LIKE = ["--like", "net.npz"]
CASES = {
    "no format": (["export", "net.npz"], r"the following arguments are required: --format"),
    "unknown format": (["export", "net.npz", "--format", "h5"], r"--format: invalid choice: 'h5'.*onnx"),
    "unknown form": (["export", "net.npz", "--format", "onnx", "--form", "thin"], r"--form: invalid choice: 'thin'.*"),
    "absent": (["export", "none.npz", "--format", "onnx"], r"'none.npz' is not there; pass a model file, or what "),
    "empty folder": (["export", "empty", "--format", "onnx"], r"result='empty' holds neither .*; pass what compress"),
    "no archive": (["export", "text.npz", "--format", "onnx"], r"path='text.npz'"),
    "damaged npz": (["export", "damaged.npz", "--format", "npz", "--out", "b.npz"], r"path='damaged.npz'"),
    "foreign npz": (["export", "arrays.npz", "--format", "onnx"], r"path='arrays.npz'"),
    "masked onnx": (["export", "net.npz", "--format", "onnx", "--form", "masked", "--out", "b.onnx"], r"form='masked"),
    "other ending": (["export", "net.npz", "--format", "onnx", "--out", "b.npz"], r"--out b.npz must end in .onnx, a"),
    "no folder": (["export", "net.npz", "--format", "npz", "--out", "no/b.npz"], r"'?no/b.npz'?.* folder is missing"),
    "out is a folder": (["export", "net.npz", "--format", "onnx", "--out", "a.onnx", "--overwrite"], r"a\.onnx"),
    "there already": (["export", "net.npz", "--format", "onnx"], r"out='net.onnx' exists already; choose another n"),
    "out missing": (["convert", "net.npz"], r"the following arguments are required: OUT"),
    "pickle in": (["convert", "net.pt", "b.npz"], r"'net.pt' would be a pickle of PyTorch, .*; use safetensors"),
    "pickle out": (["convert", "net.npz", "b.pth"], r"'b.pth' would be a pickle of PyTorch, .*; use safetensors"),
    "ending in": (["convert", "raw.csv", "b.npz"], r"'raw.csv'.*(; the endings known|is not there)"),
    "ending out": (["convert", "net.npz", "b.h5"], r"'b.h5' ends in '.h5'; the endings known are .npz, .onnx, .safet"),
    "no ending": (["convert", "net.npz", "b"], r"'b' ends in ''; the endings known are"),
    "same file": (["convert", "net.npz", "net.npz"], r"out='net.npz' exists already; choose another name or pass -"),
    "damaged onnx": (["convert", "damaged.onnx", "b.npz"], r"path='damaged.onnx' is not a sound ONNX file: .*; expor"),
    "unknown operator": (["convert", "gelu.onnx", "b.npz"], r"ONNX node 'relu1' \(Gelu\) is an operator .*; build th"),
    "external data": (["convert", "elsewhere.onnx", "b.npz"], r"is kept in another file; save the model as one file"),
    "unsound labels": (["convert", "unsound.onnx", "b.npz"], r"path='unsound.onnx' has unsound metadata 'l0ref.prepa"),
    "cut labels": (["convert", "cut.onnx", "b.npz"], r"path='cut.onnx' has unsound metadata .*not strict JSON"),
    "damaged safetensors": (["convert", "damaged.safetensors", "b.npz"], r"'damaged.safetensors' is not a safetensor"),
    "arrays alone": (["convert", "state.safetensors", "b.npz"], r"holds arrays without a configuration of l0ref; pas"),
    "names alone": (["convert", "state.safetensors", "b.npz", "--names", "fc1=a"], r"--names needs --like FILE, a ne"),
    "names of one": (["convert", "state.safetensors", "b.npz", *LIKE, "--names", "fc1"], r"'fc1' must be OURS=THEIRS"),
    "names twice": (
        ["convert", "state.safetensors", "b.npz", *LIKE, "--names", "fc1=fc1,fc1=fc2"], r"names 'fc1' twice; give it o"
    ),
    "names of nothing": (
        ["convert", "state.safetensors", "b.npz", *LIKE, "--names", "fcx=fc1"], r"names has 'fcx', which like does not"
    ),
    "names of theirs": (["convert", "state.safetensors", "b.npz", *LIKE, "--names", "fc1=z"], r"state lacks 'z.weigh"),
    "like for onnx": (["convert", "net.onnx", "b.npz", *LIKE], r"like is given with 'net.onnx', .*; leave it out"),
    "like absent": (["convert", "state.safetensors", "b.npz", "--like", "none.npz"], r"none.npz"),
    "like a pickle": (["convert", "state.safetensors", "b.npz", "--like", "net.pt"], r"'net.pt' would be a pickle of"),
    "extra array": (["convert", "extra.safetensors", "b.npz", *LIKE], r"state has 'fc9.weight', which no layer of li"),
    "other shape": (["convert", "shape.safetensors", "b.npz", *LIKE], r"'fc1.weight' of shape \(5, 4\), expected \(5"),
    "half precision": (["convert", "half.safetensors", "b.npz", *LIKE], r"in float16; convert it to float32 or float"),
    "two precisions": (["convert", "mixed.safetensors", "b.npz", *LIKE], r"float32.*float64|float64.*float32"),
    "too few": (["convert", "few.safetensors", "b.npz", *LIKE], r"state lacks 'fc1.bias' for 'fc1.bias' and has left"),
    "soft mask": (["convert", "soft.safetensors", "b.npz", *LIKE], r"'fc1.weight_mask' with entries other than 0 and"),
    "evaluate, no preparation": (["evaluate", "plain.npz", "--on", "raw.npz"], r"does not say how raw data are prepa"),
    "evaluate, other label": (["evaluate", "net.npz", "--on", "unknown.npz"], r"--on: .*the label 'maybe', none of "),
    "evaluate, other width": (["evaluate", "net.npz", "--on", "wide.npz"], r"--on: .*has 5 columns or channels, .*;"),
    "evaluate, onnx": (["evaluate", "net.onnx", "--on", "raw.npz"], r"net.onnx"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_wrong_use_ends_in_one_sentence_and_writes_nothing(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, said = CASES[case]
    monkeypatch.chdir(folder)
    before = {path.name: path.read_bytes() if path.is_file() else sorted(path.iterdir()) for path in folder.iterdir()}
    try:
        code = main(arguments)
    except SystemExit as error:  # argparse
        code = int(error.code or 0)
    told = capsys.readouterr()
    assert code == 2, told.err
    last = told.err.strip().splitlines()
    assert len(last) == 1 or last[0].startswith("usage:"), told.err
    assert re.search(said, last[-1]), last[-1]
    assert told.out == ""
    after = {path.name: path.read_bytes() if path.is_file() else sorted(path.iterdir()) for path in folder.iterdir()}
    assert after == before
