"""Wrong flags, files and arguments of functions: one sentence with argument and value, exit code 2, nothing written."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import checkpoint, data, fit, layerwise, nn, prune
from l0ref.archive import read_json, read_npz, write_npz
from l0ref.cli import main
from l0ref.errors import L0RefError

INT = r"{flag}: '{value}' must be a whole number, as 20 is"
FLOAT = r"{flag}: '{value}' must be a number, as 0.5 is"
COMPRESS, COMPARE = ["compress", "--quiet", "--out", "x"], ["compare", "--quiet", "--out", "x"]

# command, flag, value, what is said
FLAGS: list[tuple[list[str], str, str, str]] = [
    *((COMPRESS, flag, value, FLOAT)
      for flag in ("--alpha", "--beta", "--l2", "--warmup", "--threshold", "--tolerance", "--lr", "--momentum",
                   "--finetune-lr", "--lr-final", "--finetune-lr-final", "--control-l1", "--control-l2")
      for value in ("abc", "")),
    *((COMPRESS, flag, value, INT)
      for flag in ("--validation", "--rounds", "--gradual", "--epochs", "--finetune-epochs", "--batch-size", "--seed",
                   "--seeds", "--min-keep") for value in ("1.5", "abc")),
    *((COMPRESS, flag, str(2**63), rf"{flag}: '{2**63}' is too large; give at most {2**63 - 1}")
      for flag in ("--epochs", "--seed", "--batch-size")),
    (COMPRESS, "--epochs", "9" * 5000, r"--epochs: '9{40}' must be a whole number, as 20 is"),
    ([*COMPRESS, "--schedule", "constant"], "--finetune-lr-final", "0.1",
     r"finetune_lr_final=0.1 applies to a cosine, not to schedule='constant'; leave one of them out"),
    (COMPRESS, "--seeds", "0", r"seeds=0 must be at least 1"),
    (COMPRESS, "--seeds", "1000000", r"seeds=1000000 must be at most 10000"),
    (COMPRESS, "--curve", "2,2", r"curve has 2.0 twice; give each once"),
    (COMPRESS, "--curve", "0.5", r"curve=0.5 must be a compression ratio of at least 1"),
    (COMPRESS, "--controls", "none,none", r"controls has 'none' twice; give each once"),
    (COMPRESS, "--surrogate-options", "beta=1,beta=2", r"surrogate_options='beta=1,beta=2' sets beta twice; giv"),
    (COMPRESS, "--surrogate-options", "beta", r"surrogate_options='beta' must look like lam=1,gamma=2"),
    (COMPRESS, "--surrogate-options", "=1", r"surrogate_options='=1' must look like"),
    (COMPRESS, "--surrogate-options", "beta=x", r"surrogate_options='beta=x' must look like"),
    (COMPRESS, "--surrogate-options", "beta=nan", r"beta=nan must be finite"),
    (COMPRESS, "--method-options", "a=1,a=2", r"method_options='a=1,a=2' sets a twice; give it once"),
    (COMPRESS, "--method-options", "a", r"method_options='a' must look like samples=500,scheme=cascade"),
    *(([*COMPRESS, "--method", method], "--method-options", f"{name}={value}", said)
      for method, name, value, said in (
          ("wanda", "samples", "0", r"samples=0 must be at least 1"),
          ("net_trim", "scheme", "zz", r"scheme='zz' is not one of 'cascade', 'parallel'"),
          ("hard_concrete", "drop_rate", "2", r"drop_rate=2.0 must lie in \[0.01, 0.99\]"),
          ("han", "sensitivity", "3", r"sensitivity=3 is not a value that method='han' takes; l0ref methods han"),
          ("prune_while_training", "stop", "x", r"stop='x' is not a value that method='prune_while_training' takes"),
      )),
    (COMPRESS, "--threshold", "-1", r"threshold=-1.0 must be 0 or greater"),
    (COMPRESS, "--rounds", "1000000", r"rounds=1000000 must be at most 1000"),
    (COMPRESS, "--momentum", "0.5", r"momentum=0.5 applies to sgd, not to adam; leave it out"),
    (COMPRESS, "--config", "", r"config='' is not a file; check the path"),
    (COMPRESS, "--config", ".", r"config='.' is not a file; check the path"),
    (COMPRESS, "--config", "/dev/zero", r"config='/dev/zero' is not a file"),
    (COMPRESS, "--data-dir", "here", r"data_dir='here' is of no use to data='digits'"),
    (["compress", "--quiet"], "--out", "", r"out='' names no folder; give a path"),
    (["compress", "--quiet"], "--out", "a\0b", r"out='a\\x00b' names no folder; give a path"),
    (["compress", "--quiet"], "--out", "x" * 300, r"out='x+' cannot be created: File name too long; choose another"),
    (["compress", "--quiet"], "--out", "/dev/null", r"out='/dev/null' is a file; choose another folder"),
    (COMPARE, "--methods", "", r"methods names none; give at least one"),
    (COMPARE, "--methods", "zz", r"methods='zz' is not one of"),
    (COMPARE, "--methods", "magnitude,magnitude", r"methods has 'magnitude' twice; give each once"),
    (COMPARE, "--ratios", "2,2", r"ratios has 2.0 twice; give each once"),
    (COMPARE, "--ratios", "nan", r"ratios=nan must be finite"),
    (COMPARE, "--ratios", "a", r"argument --ratios: 'a' must be numbers with commas between them"),
    (COMPARE, "--ratios", "0.5", r"ratios=0.5 must be a compression ratio of at least 1"),
    (COMPARE, "--ratios", "2,1e9", r"ratios=1000000000.0 leaves none of 50200 weights; ask for less"),
    (COMPARE, "--seeds", "1000000000", r"seeds=1000000000 must be at most 10000"),
    (COMPARE, "--seeds", "-1", r"seeds=-1 must be at least 1"),
    (COMPARE, "--epochs", "-1", r"epochs=-1 must be at least 0"),
    (COMPARE, "--finetune-epochs", "-1", r"finetune_epochs=-1 must be at least 0"),
    (["compare", "--quiet"], "--out", "", r"out='' names no folder"),
    (["compare", "--quiet"], "--out", "/dev/null", r"out='/dev/null' cannot be created: File exists; choose anoth"),
    (["compare", "--quiet"], "--out", "/dev/null/x", r"out='/dev/null/x' cannot be created: Not a directory"),
    (["evaluate", "nope"], "--label", "a", r"--label a is a column of --on FILE.csv; give --on, or leave it out"),
    (["report", "nope"], "--html", "/dev/null/x.html", r"--html /dev/null/x.html cannot be written: its folder is mis"),
    (["calibrate"], "--rounds", "0", r"--rounds=0 must be at least 1"),
    (["evaluate", "nope"], "--split", "all", r"--split: invalid choice: 'all'"),
    (["evaluate", "nope"], "--seed", "-1", r"--seed=-1 must be at least 0"),
    (["evaluate", "nope"], "--seed", "0", r"result='nope' holds neither compact.npz nor model.npz; pass what compress"),
    (["gradcheck", "ops"], "--seed", "x", INT),
    (["vectors", "run", "--adapter", "l0ref.vectors.own"], "--slack", "x", FLOAT),
    (["vectors", "run", "--adapter", "l0ref.vectors.own"], "--set", "zz", r"sets='zz' is not one of"),
    (["data", "fetch"], "--data-dir=x", "digits", r"invalid choice: 'digits'"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("row", range(len(FLAGS)))
def test_wrong_flag(row: int, capsys: pytest.CaptureFixture[str]) -> None:
    command, flag, value, said = FLAGS[row]
    arguments = [flag, value] if "=" in flag else [f"{flag}={value}"]
    assert main([*command, *arguments]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(said.replace("{flag}", flag).replace("{value}", value), last), last
    assert len(last) < 1000
    assert os.listdir() == []


FILES: list[tuple[str, str]] = [
    ("epochs = true", r"epochs=True must be a whole number, not bool"),
    ("epochs = 1.0", r"epochs=1.0 must be a whole number, not float"),
    ("epochs = 99999999999999999999", r"epochs is a number of 67 bits; give at most 9223372036854775807"),
    ("lr = 'a'", r"lr='a' must be a number, not str"),
    ("lr = [1]", r"lr=\[1\] must be a number, not list"),
    ("lr = nan", r"lr=nan must be finite"),
    ("lr = " + "9" * 400, r"lr is a number of 1329 bits; give at most"),
    ("curve = [[2]]", r"curve=\[2\] must be a number, not list"),
    ("curve = [2, 2]", r"curve has 2.0 twice"),
    ("controls = 'none'", r"controls='none' must be a list, not str"),
    ("controls = [1]", r"controls=1 must be text, not int"),
    ("controls = ['zz']", r"controls='zz' is not one of"),
    ("seed = 1979-05-27", r"seed=datetime.date\(1979, 5, 27\) must be a whole number, not date"),
    ("a.b = 1", r"config='a.toml' has a table \[a\]; write each setting as name = value, outside of tables"),
    ("epochs = 1\nepochs = 2", r"config='a.toml' is not TOML: Cannot overwrite a value"),
    ("epochs = " + "9" * 5000, r"config='a.toml' holds a number of too many digits; correct the file"),
    ("lr = " + "[" * 10_000, r"config='a.toml' is nested too deeply; write each setting as name = value"),
    ("# " + "x" * 20_000, r"config='a.toml' has 20002 bytes, above max_bytes=16384"),
    ("epoch = 3", r"epoch=3 is not a setting; did you mean 'epochs'\?"),
    (
        'data = "mnist"\ndata_dir = "none"',
        r"name='mnist': none/mnist/train-images-idx3-ubyte.gz is missing .*fetch",
    ),
]


@pytest.mark.parametrize("row", range(len(FILES)))
def test_wrong_file_of_settings(row: int, capsys: pytest.CaptureFixture[str]) -> None:
    text, said = FILES[row]
    Path("a.toml").write_text(text)
    assert main([*COMPRESS, "--config", "a.toml"]) == 2
    err = capsys.readouterr().err
    assert re.search(said, err), err
    assert err.count("\n") == 1
    assert os.listdir() == ["a.toml"]


NET = nn.Model.init([nn.Linear("a", 3, 2)], input_shape=(3,), seed=0)
SET = data.Dataset(np.zeros((4, 3), np.float32), np.zeros(4, int), 2, "four")
X, Y = np.eye(4)[:, :3], np.arange(4.0)
LAYER = layerwise.Quadratic.from_samples(X, Y)
ANY: Any = None
CALLS: list[tuple[Callable[[], Any], str]] = [
    (lambda: data.load("digits", data_dir="x"), r"data_dir='x' is of no use to name='digits', which are built in"),
    (lambda: data.load("digit"), r"name='digit' is not one of 'digits'.*did you mean 'digits'"),
    (lambda: data.load("digits", validation=-1), r"validation=-1 must be at least 0"),
    (lambda: data.load("digits", dtype="float16"), r"dtype=float16 is not float32 or float64"),
    (lambda: read_npz("nowhere"), r"path='nowhere' is not a file; check the path"),
    (lambda: read_json("a\0b"), r"source='a\\x00b' is not a file"),
    (lambda: checkpoint.load("nowhere"), r"path='nowhere' is not a file"),
    (lambda: checkpoint.save("x", ANY), r"model is NoneType, expected Model"),
    (lambda: write_npz("x", {"../a": X}, manifest={}), r"arrays has the name '../a'"),
    (lambda: fit(NET, SET, epochs=-1, seed=0), r"epochs=-1 must be at least 0"),
    (lambda: fit(NET, SET, epochs=1, seed=0, batch_size=0), r"batch_size=0 must be at least 1"),
    (lambda: prune(NET, amount=1.5), r"amount=1.5 must lie in \[0, 1\]"),
    (lambda: prune(NET, amount=-1), r"amount=-1 must be at least 0"),
    (lambda: prune(NET, amount=float("nan")), r"amount=nan must lie in"),
    (lambda: layerwise.Quadratic.from_samples(X, Y, ridge=-1), r"ridge=-1 must be 0 or greater"),
    (lambda: layerwise.Quadratic.from_samples(X * np.nan, Y), r""),
    (lambda: layerwise.Quadratic.from_samples(X[:0], Y[:0]), r""),
    (lambda: layerwise.Quadratic.from_samples(X, Y[:3]), r""),
    (lambda: layerwise.Quadratic.from_samples(X, Y, weights=np.zeros(7)), r""),
    (lambda: layerwise.solve(LAYER, -1, seed=0), r"k=-1 must be at least 0"),
    (lambda: layerwise.solve(LAYER, 1.5, seed=0), r"k"),
    (lambda: layerwise.solve(LAYER, 1, seed=-1), r"seed=-1 must be at least 0"),
    (lambda: layerwise.solve(LAYER, 1, seed=0, scope="all"), r"scope='all' is not one of"),
    (lambda: layerwise.certify(LAYER, -1), r"k=-1"),
    (lambda: layerwise.certify(LAYER, 1, time_limit=float("nan")), r"time_limit=nan must be finite"),
    (lambda: layerwise.certify(LAYER, 1, progress="loud"), r"progress='loud' is not one of"),
]


@pytest.mark.parametrize("row", range(len(CALLS)))
def test_wrong_argument(row: int) -> None:
    call, said = CALLS[row]
    with pytest.raises(L0RefError, match=said or r".{20}") as caught:
        call()
    assert "\n" not in str(caught.value)
    assert os.listdir() == []


@pytest.mark.parametrize("command", [["compare"], ["sweep", "--grid", "alpha=1e-5,1e-4"]])
def test_a_result_is_no_place_for_others(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--epochs", "1", "--finetune-epochs", "1", "--quiet"]
    assert main(["compress", *short, "--controls", "no", "--no-figures", "--out", "x"]) == 0
    before = sorted(os.listdir("x"))
    assert main([*command, "--quiet", "--out", "x"]) == 2
    assert "out='x' holds a result of l0ref compress; choose another folder" in capsys.readouterr().err
    assert sorted(os.listdir("x")) == before


def test_the_tables_have_a_hundred_and_twenty_rows() -> None:
    assert len(FLAGS) + len(FILES) + len(CALLS) >= 120
