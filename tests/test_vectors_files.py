"""Vector files that are damaged, or made to mislead, are refused with the place; export and command line."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref import vectors
from l0ref.cli import main
from l0ref.errors import ArgumentError, ConfigError, DataError
from l0ref.vectors import decode

ROOT = Path(__file__).parents[1]
NAME = "linear"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The index and two of its sets."""
    for name in ("index", NAME, "conv2d"):
        shutil.copy(Path(vectors.__file__).parent / "v1" / f"{name}.json", tmp_path)
    return tmp_path


def rewrite(folder: Path, change: Callable[[Any], Any], *, index: bool = True) -> None:
    """Change the set `linear` as its author could, checksum and all."""
    path = folder / f"{NAME}.json"
    read = json.loads(path.read_bytes())
    read = change(read) or read
    path.write_text(json.dumps(read))
    if index:
        listed = json.loads((folder / "index.json").read_bytes())
        row = next(row for row in listed["sets"] if row["name"] == NAME)
        row["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (folder / "index.json").write_text(json.dumps(listed))


def test_export_reads_back_and_refuses_to_overwrite(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    vectors.export(folder)
    assert vectors.names(folder) == vectors.names()
    for name in vectors.names():
        ours, theirs = vectors.load(name), vectors.load(name, folder)
        assert [case.id for case in ours.cases] == [case.id for case in theirs.cases]
    with pytest.raises(ConfigError, match=r"^folder='.*' has surrogate_value.json already; .* \(--overwrite\)$"):
        vectors.export(folder)
    (folder / "linear.json").write_text("{}")
    assert vectors.export(folder, overwrite=True)[-1] == folder / "index.json"
    assert vectors.load(NAME, folder).name == NAME
    (folder / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^folder='.*' cannot be created: "):
        vectors.export(folder / "file" / "below")


def case_of(read: Any) -> Any:
    return read["cases"][0]


def output_of(read: Any) -> Any:
    return case_of(read)["outputs"]["output"]


# what is done to the set, and what is said about it
DAMAGE: list[tuple[Callable[[Any], Any], str]] = [
    (lambda r: [r], r"does not say format 'l0ref-vectors'"),
    (lambda r: r.update(format="other"), r"does not say format"),
    (lambda r: r.update(version=2), r"has version 2, and this l0ref reads 1; use the l0ref it came with"),
    (lambda r: r.pop("about"), r"lacks key 'about'"),
    (lambda r: r.update(command="rm"), r"has the unknown key 'command'"),
    (lambda r: r.update(tolerance=-1), r"has tolerance -1, expected a number from 0 to 1e9"),
    (lambda r: r.update(tolerance=10**400), r"has tolerance 1000+, expected"),
    (lambda r: r.update(tolerance=True), r"has tolerance True"),
    (lambda r: r.update(about=3), r"has no name or description"),
    (lambda r: r.update(cases=[]), r"has no cases"),
    (lambda r: r.update(cases={}), r"has no cases"),
    (lambda r: r.update(set="conv2d"), r"holds 4 cases of 'conv2d'; its index says otherwise"),
    (lambda r: r["cases"].pop(), r"holds 3 cases of 'linear'; its index says otherwise"),
    (lambda r: r.update(arguments=["input", "a b"]), r"arguments is \['input', 'a b'\], expected a list of names"),
    (lambda r: r.update(outputs=[]), r"outputs is \[\], expected a list of names"),
    (lambda r: r["cases"].append(3), r"has a case without an id"),
    (lambda r: r["cases"].append(case_of(r)), r"has two cases of one id"),
    (lambda r: case_of(r).pop("inputs"), r"case '3x5-to-4' lacks key 'inputs'"),
    (lambda r: case_of(r).update(inputs=3), r"case '3x5-to-4' has no inputs"),
    (lambda r: case_of(r)["inputs"].pop("weight"), r"inputs lacks key 'weight'"),
    (lambda r: case_of(r)["inputs"].update(secret=1), r"inputs has the unknown key 'secret'"),
    (lambda r: case_of(r)["outputs"].pop("output"), r"outputs lacks key 'output'"),
    (lambda r: case_of(r)["inputs"].update(bias=0.5), r"inputs.bias has 0.5, a number without its hexadecimal"),
    (lambda r: case_of(r)["inputs"].update(bias=[0.5]), r"inputs.bias\[0\] has 0.5"),
    (lambda r: case_of(r)["outputs"].update(output="x"), r"output is 'x', expected a number or an array"),
    (lambda r: case_of(r)["outputs"].update(output=[[1], [1, 2]]), r"output is \[\[1\], \[1, 2\]\], expected a number"),
    (lambda r: case_of(r)["outputs"].update(output=True), r"output is True, expected a number or an array"),
    (lambda r: case_of(r).update(outputs=dict.fromkeys(r["outputs"])), r"case '3x5-to-4' expects nothing"),
    (lambda r: output_of(r).update(dtype="object"), r"has dtype 'object', expected float64, int64 or bool"),
    (lambda r: output_of(r).update(dtype=["float64"]), r"has dtype \['float64'\], expected float64"),
    (lambda r: output_of(r).update(dtype="int64"), r"lacks key 'values'"),
    (lambda r: output_of(r).update(shape=[13]), r"hex has 12 entries, expected a list of 13"),
    (lambda r: output_of(r).update(shape=[-1, -12]), r"has shape \[-1, -12\], expected at most 8 sizes"),
    (lambda r: output_of(r).update(shape=[10**6, 10**6]), r"has shape \[1000000, 1000000\], more than 1000000 entries"),
    (lambda r: output_of(r).update(shape=[0, 10**12]), r"has shape \[0, 1000000000000\], expected at most"),
    (lambda r: output_of(r).update(shape=[1] * 9), r"expected at most 8 sizes"),
    (lambda r: output_of(r).update(shape="3"), r"has shape '3'"),
    (lambda r: output_of(r).update(shape=[True, 12]), r"has shape \[True, 12\]"),
    (lambda r: output_of(r).update(hex="0x1p0"), r"hex has str, expected a list of 12"),
    (lambda r: output_of(r)["hex"].__setitem__(0, "nan"), r"output\[0\] has hex 'nan', which is not the hexa"),
    (lambda r: output_of(r)["hex"].__setitem__(0, "inf"), r"has hex 'inf'"),
    (lambda r: output_of(r)["hex"].__setitem__(0, "0x1p99999"), r"has hex '0x1p99999'"),
    (lambda r: output_of(r)["hex"].__setitem__(0, " 0x1.0000000000000p+0"), r"has hex ' 0x1"),
    (lambda r: output_of(r)["hex"].__setitem__(0, 1), r"has hex 1, which"),
    (lambda r: output_of(r)["hex"].__setitem__(0, "0x1.0000000000000p+0"), r"which are different numbers"),
    (lambda r: output_of(r)["decimal"].__setitem__(0, "1"), r"which are different numbers"),
    (lambda r: output_of(r)["decimal"].__setitem__(0, 10**400), r"which are different numbers"),
    (lambda r: output_of(r)["magnitude"].__setitem__(0, 1e-9), r"magnitude is below the absolute value it belongs to"),
    (lambda r: output_of(r)["magnitude"].__setitem__(0, -1), r"magnitude\[0\] is -1, expected a number of 0 or more"),
    (lambda r: output_of(r)["magnitude"].__setitem__(0, 10**400), r"magnitude\[0\] is 1000+, expected"),
    (lambda r: output_of(r)["magnitude"].__setitem__(0, True), r"magnitude\[0\] is True"),
    (lambda r: output_of(r)["magnitude"].pop(), r"magnitude has 11 entries, expected a list of 12"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), DAMAGE, ids=range(len(DAMAGE)))
def test_damaged_set_is_refused(folder: Path, change: Callable[[Any], Any], said: str) -> None:
    def change_it(read: Any) -> Any:
        result = change(read)
        return result if isinstance(result, list) and result and result[0] is read else None

    rewrite(folder, change_it)
    with pytest.raises(DataError, match=said) as caught:
        vectors.load(NAME, folder)
    assert str(caught.value).startswith(f"path={str(folder / 'linear.json')!r}")
    assert "; " in str(caught.value)
    assert vectors.load("conv2d", folder).name == "conv2d"


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"dtype": "int64", "shape": [1], "values": [1.0]}, r"^here.values\[0\] is 1.0, expected int64"),
        ({"dtype": "int64", "shape": [1], "values": [True]}, r"^here.values\[0\] is True, expected int64"),
        ({"dtype": "int64", "shape": [1], "values": [2**63]}, r"^here.values\[0\] is 9223372036854775808, expected"),
        ({"dtype": "bool", "shape": [1], "values": [1]}, r"^here.values\[0\] is 1, expected bool"),
        ({"dtype": "bool", "shape": [1], "values": "a"}, r"^here.values has str, expected a list of 1"),
        ({"hex": "0x0.0p+0"}, r"^here lacks key 'decimal'"),
        ({"hex": "0x0.0p+0", "decimal": 0.0, "x": 1}, r"^here has the unknown key 'x'"),
        ({"hex": "0x0.0p+0", "decimal": False}, r"^here has hex 0x0.0p\+0 and decimal False"),
    ],
)
def test_damaged_value_is_refused(form: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        decode.value(form, "here")


def test_values_are_read_exactly() -> None:
    form = {
        "a": {"dtype": "bool", "shape": [2, 1], "values": [True, False]},
        "b": {"dtype": "int64", "shape": [0, 3], "values": []},
        "c": {"hex": (0.1).hex(), "decimal": 0.1},
        "d": [1, "x", None, {"dtype": "float64", "shape": [], "hex": [(-0.0).hex()], "decimal": [-0.0]}],
    }
    read = decode.value(form, "here")
    np.testing.assert_array_equal(read["a"], [[True], [False]])
    assert read["a"].dtype == np.bool_
    assert (read["b"].dtype, read["b"].shape) == (np.int64, (0, 3))
    assert read["c"] == 0.1
    assert read["d"][:3] == [1, "x", None]
    assert np.signbit(read["d"][3])


def test_checksum_and_text_are_checked(folder: Path) -> None:
    rewrite(folder, lambda read: output_of(read)["decimal"], index=False)
    with pytest.raises(DataError, match=r"linear.json' does not have the checksum of its index; restore"):
        vectors.load(NAME, folder)
    (folder / "linear.json").unlink()
    with pytest.raises(DataError, match=r"^path='.*linear.json' is not a file; check the path; l0ref vectors export"):
        vectors.load(NAME, folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", r"cannot be read: source=<bytes> is not strict JSON"),
        ("[" * 100_000, r"nested too deeply"),
        ('{"format": NaN}', r"NaN is not a JSON number"),
        ("[]", r"does not say format"),
        ('{"format": "l0ref-vectors", "version": 7, "sets": []}', r"has version 7, and this l0ref reads 1"),
        ('{"format": "l0ref-vectors", "version": 1, "sets": 3}', r"has no list of sets"),
        ('{"format": "l0ref-vectors", "version": 1, "sets": [3]}', r"has no list of sets"),
        ('{"format": "l0ref-vectors", "version": 1, "sets": [{}]}', r"lacks key 'about'"),
        (
            '{"format": "l0ref-vectors", "version": 1, "sets": '
            '[{"about": "", "cases": 1, "sha256": "", "name": "../secret"}]}',
            r"names the set '../secret', which is not the name of a function",
        ),
    ],
)
def test_damaged_index_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(DataError, match=rf"^path=.*index.json' .*{said}"):
        vectors.names(tmp_path)


def test_missing_folder_and_unknown_set(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^path='.*index.json' is not a file; .*l0ref vectors export writes the files$"
    ):
        vectors.names(tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match=r"^name='linaer' is not one of .*did you mean 'linear'\?$"):
        vectors.load("linaer")


# --- the command line -------------------------------------------------------------------------------------------------


def test_list_names_arguments_outputs_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vectors", "list"]) == 0
    out = capsys.readouterr().out
    assert "linear(input, weight, bias, grad_output)\n    -> output, grad_input, grad_weight, grad_bias\n" in out
    assert "[4 cases, 4 ulp]" in out
    assert [line.split("(")[0] for line in out.splitlines() if line[0] != " "] == list(vectors.names())


def test_export_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vectors", "export", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "new" / "index.json")
    assert main(["vectors", "export", str(tmp_path / "new")]) == 2
    assert "has surrogate_value.json already" in capsys.readouterr().err
    assert main(["vectors", "export", str(tmp_path / "new"), "--overwrite"]) == 0


def test_run_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = tmp_path / "report.json"
    own = ["vectors", "run", "--adapter", "l0ref.vectors.own", "--set", "linear", "--set", "score"]
    assert main([*own, "--json", str(report)]) == 0
    assert capsys.readouterr().out.endswith("2 passed, 0 failed, 0 not provided\n")
    written = json.loads(report.read_text())
    assert (written["adapter"], written["ok"]) == ("l0ref.vectors.own", True)
    assert [row["name"] for row in written["sets"]] == ["linear", "score"]

    (tmp_path / "vectors_wrong.py").write_text(
        "class Adapter:\n    def score(self, **_):\n        return {'loss': 1}\n"
    )
    wrong = ["vectors", "run", "--adapter", "vectors_wrong"]
    assert main(wrong) == 1
    assert "score, case 'ordinary': loss is 1.0, expected" in capsys.readouterr().out
    assert main([*wrong, "--slack", "1e30"]) == 0
    assert main([*wrong, "--vectors", str(tmp_path)]) == 2
    assert "index.json' is not a file" in capsys.readouterr().err
    for bad in (["--set", "linear"], ["--set", "scoer"], ["--slack", "-1"]):
        assert main([*wrong, *bad]) == 2
    assert main(["vectors", "run", "--adapter", "no_such_adapter"]) == 2
    assert main(["vectors", "run"]) == 2
    assert main(["vectors"]) == 2


def test_help_says_that_the_module_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vectors", "run", "--help"]) == 0
    assert "The module is imported, so its code runs" in " ".join(capsys.readouterr().out.split())


def test_the_page_shows_what_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "vectors.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vectors_page.py").write_text(re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[0])
    assert main(["vectors", "run", "--adapter", "vectors_page", "--set", "surrogate_value"]) == 1
    assert capsys.readouterr().out in page
    for name in vectors.names():
        assert f"`{name}`" in page
