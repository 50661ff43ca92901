"""What `l0ref compress` says: every setting by the name it was given under, its defaults, and slips of the keyboard."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from l0ref.archive import json_bytes
from l0ref.cli import build_parser, main
from l0ref.cli.config import read_config
from l0ref.cli.settings import CHOICES, FLAGS_ONLY, PRESETS, Settings, resolve, to_json
from l0ref.errors import ConfigError, LayerCollapse

NUMBERS = {f.name for f in dataclasses.fields(Settings) if str(f.type) in ("int", "float", "float | None")}
NEVER_WRONG = {"threshold": ("-1",)}  # removes nothing
ABOVE = dict.fromkeys(("warmup", "lr_final", "finetune_lr_final", "amount", "momentum"), "1.5")


@pytest.fixture(autouse=True)
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is trained."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("l0ref.cli.run.run_experiment", stop)


@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_a_number_out_of_range_is_called_by_its_flag(
    name: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = "--" + name.replace("_", "-")
    kind = Settings.__dataclass_fields__[name].type
    for wrong in filter(None, ("-1", ABOVE.get(name), "nan" if kind == "float" else None)):
        if wrong in NEVER_WRONG.get(name, ()):
            continue
        assert main(["compress", f"{flag}={wrong}", "--out", str(tmp_path / "x"), "--quiet"]) == 2, wrong
        said = capsys.readouterr().err
        assert re.match(rf"l0ref compress: {name}={wrong}", said), said
    assert not (tmp_path / "x").exists()


def test_a_cost_model_of_another_version_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "costs.json"
    path.write_text('{"schema_version": 1, "lanes": 16, "error": 0.1, "lines": {}}')
    monkeypatch.setenv("L0REF_COSTS", str(path))
    assert main(["compress", "--out", str(tmp_path / "x")]) == 2
    assert re.search(r"is not a cost model: 'schema_version' is wrong or missing; use ", capsys.readouterr().err)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--amount=most", r"argument --amount: 'most' is neither a share, as 0.95 is, nor a whole number$"),
        ("--curve=2,x", r"argument --curve: '2,x' must be numbers with commas between them, as in 2,4,8$"),
        ("--curve=nan", r"^l0ref compress: curve=nan must be finite$"),
        (
            "--controls=no,l1",
            r"argument --controls: 'no' is not one of none, l2, l1, random, random_layers; or pass the one word no$",
        ),
    ],
)
def test_no_internal_name_is_shown(flag: str, said: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", flag, "--out", str(tmp_path / "x")]) == 2
    assert re.search(said, capsys.readouterr().err.strip())


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        ("95", "amount=95 removes 95 weights, not 95 %; for a share of the weights give 0.95\n"),
        ("1", "amount=1 removes 1 weight, not 1 %; for a share of the weights give 0.01\n"),
        ("99", "amount=99 removes 99 weights, not 99 %; for a share of the weights give 0.99\n"),
        ("100", ""),
        ("0", ""),
        ("0.999", ""),
        ("0.95", ""),
    ],
)
def test_an_amount_that_looks_like_per_cent_is_warned_of(
    amount: str, said: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compress", "--amount", amount, "--out", str(tmp_path / "x"), "--quiet"]) == 130
    warning = f"l0ref compress: warning: {said}" if said else ""
    assert capsys.readouterr().err == f"{warning}l0ref compress: interrupted\n"


@pytest.mark.parametrize(
    ("line", "flag"), [("seeds = 3", "--seeds"), ('out = "x"', "--out"), ("no-figures = true", "--no-figures")]
)
def test_a_file_says_what_is_done_and_not_how_often_or_where_to(line: str, flag: str, tmp_path: Any) -> None:
    file = tmp_path / "job.toml"
    file.write_text(line)
    with pytest.raises(ConfigError, match=rf"^\w+=.* is about running the job, not part of it; pass {flag} by hand$"):
        resolve(read_config(str(file)))


def test_settings_and_flags_only_are_all_flags() -> None:
    flags = set(vars(build_parser().parse_args(["compress"]))) - {"command", "run"}
    assert flags == set(Settings.__dataclass_fields__) | set(FLAGS_ONLY)


def test_help_tells_the_default_of_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", "--help"]) == 0
    flags = capsys.readouterr().out.partition("\ndata and network:")[2].partition("\nexamples:")[0]
    for field in dataclasses.fields(Settings):
        if field.name in ("threshold", "tolerance"):  # given instead of the amount
            continue
        (about,) = re.findall(rf"--{field.name.replace('_', '-')} (.*?)(?= --[a-z]|$)", " ".join(flags.split()))
        assert "default" in about, field.name
        if isinstance(field.default, int | float):
            assert re.search(rf"default {re.escape(str(field.default))}(,| |$)", about), field.name
            presets = any(field.name in preset for preset in PRESETS.values())
            assert ("or the preset of the model" in about) == presets, field.name


def test_help_lists_the_presets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", "--help"]) == 0
    shown = capsys.readouterr().out.partition("\npresets of the models")[2].partition("\n")[2]
    rows = re.findall(r"^  (\w+) +(.*(?:\n {3,}.*)*)", shown, re.MULTILINE)
    assert [model for model, _ in rows] == list(PRESETS)
    for model, row in rows:
        for word, (name, value) in zip(" ".join(row.split()).split(", "), PRESETS[model].items(), strict=True):
            said = ",".join(value) if isinstance(value, tuple) else pytest.approx(value, rel=1e-3)
            flag, _, text = word.partition(" ")
            assert flag.replace("-", "_") == name
            assert (text if isinstance(value, tuple) else float(text)) == said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('optimizer = "adamm"', r"^optimizer='adamm' is not one of 'sgd', .*; did you mean 'adam'\?$"),
        ('finetune_optimizer = "x"', r"^finetune_optimizer='x' is not one of 'sgd', "),
        ('surrogate = "laplac"', r"^surrogate='laplac' is not one of .*; did you mean 'laplace'\?$"),
        ('schedule = "cosin"', r"^schedule='cosin' is not one of .*; did you mean 'cosine'\?$"),
        ('groups = "x"', r"^groups='x' is not one of 'joint', 'kind'$"),
        (
            "[penalty]\nalpha = 1",
            r"^config='.*' has a table \[penalty\]; write each setting as name = value, outside of ta",
        ),
        ("[penalty]", r"^config='.*' has a table \[penalty\]; write each setting"),
        (
            'data-dir = "here"',
            r"^data_dir='here' is of no use to data='digits', which are built in; name the data set of ",
        ),
    ],
)
def test_a_file_is_told_of_by_the_names_in_it(line: str, said: str, tmp_path: Any) -> None:
    file = tmp_path / "job.toml"
    file.write_text(line)
    with pytest.raises(ValueError, match=said):
        resolve(read_config(str(file)))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--surrogate", "gaussian"], "surrogate='gaussian' needs sigma; give --surrogate-options as in sigma=1"),
        (["--data", "nofile.npz"], "data='nofile.npz' does not exist; check the path"),
        (["--data", "my.py:load"], "data='my.py:load' names a file; name its module, as in my:load"),
        (["--model", "./my.py:net"], "model='./my.py:net' names a file; name its module, as in my:net"),
        (["--surrogate", "scad"], "surrogate='scad' needs lam; give --surrogate-options as in lam=1"),
        (
            ["--data-dir", "mydata"],
            "data_dir='mydata' is of no use to data='digits', which are built in; name the data",
        ),
        (
            ["--validation", "1500"],
            "validation=1500 leaves nothing to train on: 'digits' has 1397 images; choose a small",
        ),
    ],
)
def test_a_remedy_names_the_flag(
    flags: list[str], said: str, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compress", *flags, "--out", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err.startswith(f"l0ref compress: {said}")


@pytest.mark.parametrize(("flags", "name"), [(["--model", "run"], "model"), (["--teacher"], "teacher")])
def test_a_network_of_another_tool_is_converted_first(
    flags: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.onnx").write_bytes(b"")
    assert main(["compress", *flags, "net.onnx", "--out", "x"]) == 2
    said = f"l0ref compress: {name}='net.onnx' is read after l0ref convert net.onnx net.npz\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("library", "said"),
    [
        ("prune less or pass min_keep=1", "prune less or pass --min-keep 1"),
        ("pass scope='layer', not 'global'", "pass --scope layer, not 'global'"),
        ("pass override=True to train it anew", "pass override=True to train it anew"),
        ("pass validation= and mode='min'", "pass validation= and mode='min'"),
    ],
)
def test_an_argument_of_python_is_told_as_a_flag(
    library: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def collapse(*_: Any, **__: Any) -> None:
        raise LayerCollapse(f"amount=0.9; {library}")

    monkeypatch.setattr("l0ref.cli.run.run_experiment", collapse)
    assert main(["compress", "--out", str(tmp_path / "x"), "--quiet"]) == 1
    assert capsys.readouterr().err.startswith(f"l0ref compress: amount=0.9; {said}")


def test_the_configuration_of_a_result_is_a_configuration(tmp_path: Any) -> None:
    settings = resolve({"amount": 0.5, "controls": ["l1"], "curve": [2.0, 4.0], "seed": 3, "validation": 100})
    file = tmp_path / "config.json"
    file.write_bytes(json_bytes(to_json(settings)))
    assert resolve(read_config(str(file))) == settings
    assert resolve(read_config(str(file)), {"threshold": 0.1}).amount is None
    file.write_text("[1]")
    with pytest.raises(ConfigError, match=r"^config='.*' holds list, expected settings by name$"):
        read_config(str(file))


def test_every_choice_is_a_setting_and_its_default_is_among_them() -> None:
    for name, allowed in CHOICES.items():
        assert Settings.__dataclass_fields__[name].default in allowed
