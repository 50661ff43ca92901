"""The hostile files: each has a name, what it attacks, the reader it is for, and a function that makes it.

`python -m tests.hostile.corpus` prints the table of README.md. Nothing is stored; the largest files are holes.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import pickle
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from l0ref import checkpoint, nn, vectors
from l0ref.archive import json_bytes, read_npz, write_npz
from tests import test_archive_hostile as archives
from tests import test_data_idx as idx
from tests.hostile import exchange

MIB = 2**20


class Case(NamedTuple):
    """One hostile file or folder. `make` fills an empty folder and returns what the reader is given."""

    attack: str
    reader: str
    make: Callable[[Path], Path]


CASES: dict[str, Case] = {}
NAMES = {"npz": "a.npz", "model": "a.npz", "state": "a.npz", "json": "a.json", "config": "a.toml", "costs": "a.json"}


def case(name: str, attack: str, reader: str, content: Any) -> None:
    """Add a case: the bytes of a file, or a function of a folder."""

    def make(folder: Path) -> Path:
        path = folder / NAMES.get(reader, "a")
        path.write_bytes(content() if callable(content) else content)
        return path

    assert name not in CASES
    CASES[name] = Case(attack, reader, make)


def place(name: str, attack: str, reader: str) -> Callable[[Callable[[Path], Path]], None]:
    """Add a case that a function makes in a folder."""

    def add(make: Callable[[Path], Path]) -> None:
        assert name not in CASES
        CASES[name] = Case(attack, reader, make)

    return add


# ---- archives of arrays


def deflated_zeros(size: int, *, head: bytes = b"") -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [packer.compress(head), *(packer.compress(bytes(MIB)) for _ in range(size // MIB)), packer.flush()]
    return b"".join(parts)


def bomb(real: int, **fields: Any) -> bytes:
    """An archive whose one array is `real` zeros, honest about everything but the checksums."""
    head = archives.npy(np.zeros(0, np.uint8), shape=f"({real},)")
    body = deflated_zeros(real, head=head)
    sizes = {"size": len(head) + real, "packed": len(body), "crc": 0} | fields
    return archives.forge([archives.DOC, archives.entry("a.npy", b"", method=8, body=body, **sizes)])


case("deflated bomb", "80 MiB of zeros in 80 KiB, declared", "npz", lambda: bomb(80 * MIB))
case("deflated bomb below the limit", "56 MiB of zeros, to be unpacked whole", "npz", lambda: bomb(56 * MIB))
case("deflated bomb that lies", "80 MiB declared as 100 bytes", "npz", lambda: bomb(80 * MIB, size=100))
case("sixty bombs", "each below every limit, together 1 GiB", "npz",
     lambda: archives.forge([archives.DOC] + 60 * [archives.entry("a.npy", b"", method=8, size=16 * MIB, crc=0,
                                                                  body=deflated_zeros(16 * MIB))]))  # fmt: skip
case("manifest bomb", "64 MiB of manifest in 64 KiB", "npz",
     lambda: archives.forge([archives.entry("manifest.npy", b"", method=8, size=48 * MIB, crc=0,
                                            body=deflated_zeros(48 * MIB))]))  # fmt: skip
case("manifest of a million lists", "objects that take 25 times their text", "npz",
     lambda: archives.forge([archives.text_member(b"[" + b"[]," * (8 * MIB // 3 - 100) + b"0]")]))  # fmt: skip
case("objects", "an array of pickled objects that makes a folder", "npz",
     lambda: archives.member(archives.npy(np.frombuffer(pickle.dumps(archives.Trap()), "u1"), descr="'|O'"))
)  # fmt: skip
case("pickle", "a pickle under the name of an archive", "npz", lambda: pickle.dumps(archives.Trap()))
case("4096 empty members", "as many members as may be, none in the manifest", "npz",
     lambda: archives.forge([archives.DOC, *(archives.entry(f"a{i}.npy", archives.npy(0.0)) for i in range(4095))])
)  # fmt: skip
for key, (data, _) in archives.HOSTILE.items():
    case(f"archive, {key}", "a field of the zip, the .npy or the manifest that lies", "npz", data)


def hole(folder: Path, head: bytes, size: int, tail: bytes) -> Path:
    path = folder / "a.npz"
    with path.open("wb") as file:
        file.write(head)
        file.seek(len(head) + size)
        file.write(tail)
    return path


@place("3 GiB of nothing", "a file with a hole, read whole before it is looked at", "npz")
def _(folder: Path) -> Path:
    return hole(folder, b"PK\3\4", 3 * 2**30, bytes(22))


def hollow(folder: Path, name: str, entries: list[dict[str, Any]]) -> Path:
    """An archive that is sound but for its last member, a stored one of 3 GiB that is a hole."""
    size = 3 * 2**30
    array = archives.npy(np.zeros(0, np.uint8), shape=f"({size},)")
    last = archives.entry(name, b"", body=b"", size=len(array) + size, packed=len(array) + size, crc=0)
    whole = archives.forge([*entries, last])
    n = 46 + len(name)
    central = 22 + sum(46 + len(e["name"]) for e in [*entries, last])
    cut = len(whole) - central
    end = struct.unpack("<HHHHIIH", whole[-18:])
    tail = whole[cut:-18] + struct.pack("<HHHHIIH", *end[:5], end[5] + len(array) + size, 0)
    assert n < central
    return hole(folder, whole[:cut] + array, size, tail)


@place("3 GiB of manifest", "a hole for a manifest", "npz")
def _(folder: Path) -> Path:
    return hollow(folder, "manifest.npy", [])


@place("3 GiB of array", "a hole for an array that the manifest describes as another", "npz")
def _(folder: Path) -> Path:
    return hollow(folder, "a.npy", [archives.DOC])


# ---- models and states of a training


def model_file(folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Path:
    """A sound file, checksums included, of a model whose description was changed."""
    path = folder / "a.npz"
    checkpoint.save(path, nn.digits_mlp(seed=0))
    arrays, manifest = read_npz(path)
    change(manifest, arrays)
    write_npz(path, arrays, manifest=manifest)
    return path


def layer(manifest: dict[str, Any], index: int) -> dict[str, Any]:
    found: dict[str, Any] = manifest["architecture"]["layers"][index]
    return found


def linear(manifest: dict[str, Any]) -> dict[str, Any]:
    return next(one for one in manifest["architecture"]["layers"] if "in_features" in one)


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def wide(norm: bool) -> list[dict[str, Any]]:
    """A layer of 2^33 features, whose arrays the file lacks."""
    build = nn.BatchNorm1d("b", 3) if norm else nn.Linear("b", 3, 3)
    told = nn.Model.init([build], input_shape=(3,), seed=0).architecture_json()["layers"][0]
    return [{k: 2**33 if v == 3 else v for k, v in told.items()}]


MODELS: dict[str, tuple[str, Callable[[Any, Any], object]]] = {
    "kind of a megabyte": ("a message as long as the file", lambda m, _: m.update(kind="x" * MIB)),
    "kind nested 900 deep": ("the message that quotes it", lambda m, _: m.update(kind=nested(900))),
    "no architecture": ("a key that is looked up", lambda m, _: m.pop("architecture")),
    "architecture a number": ("a type that is taken for granted", lambda m, _: m.update(architecture=3)),
    "layers nested 400 deep": ("recursion", lambda m, _: m["architecture"].update(layers=nested(400))),
    "unknown layer": ("a class looked up by name", lambda m, _: layer(m, 0).update(kind="os.system")),
    "layer with a command": ("an argument looked up by name", lambda m, _: layer(m, 0).update(command="true")),
    "layer of 2^40 weights": ("memory, by a layer's sizes", lambda m, _: linear(m).update(out_features=2**40)),
    "layer below 0": ("memory, by a layer's sizes", lambda m, _: linear(m).update(in_features=-4)),
    "layer of a fraction": ("memory, by a layer's sizes", lambda m, _: linear(m).update(in_features=0.5)),
    "2^33 features without arrays": ("memory, by a draw of weights", lambda m, _: m["architecture"].update(
        layers=wide(norm=False))),
    "2^33 features to normalise": ("memory, by buffers", lambda m, _: m["architecture"].update(layers=wide(norm=True))),
    "input of 2^60": ("memory, by the input's shape", lambda m, _: m["architecture"].update(input_shape=[2**60])),
    "parameter that is not there": ("a key that is looked up", lambda m, _: m["params"].append("fc9.weight")),
    "parameters a word": ("a list that is gone through", lambda m, _: m.update(params="fc1.weight")),
    "mask of another shape": ("an index", lambda m, a: (m["masks"].append("fc1.weight"),
                                                        a.update({"fc1.weight_mask": np.ones(3, bool)}))),
    "mask over weights": ("pruned weights that come back", lambda m, a: (
        m["masks"].append("fc1.weight"), a.update({"fc1.weight_mask": np.zeros_like(a["fc1.weight"], bool)}))),
    "pattern of 2^60 rows": ("memory, by a pattern's shape", lambda m, a: (
        m["patterns"].update({"fc1.weight": {"shape": [2**60, 2**60], "blocksize": None}}),
        a.update({"fc1.weight_indptr": np.zeros(3, np.int32), "fc1.weight_indices": np.zeros(3, np.int32)}))),
    "pattern of tiles of 0": ("a division by 0", lambda m, a: (
        m["patterns"].update({"fc1.weight": {"shape": [4, 4], "blocksize": [0, 0]}}),
        a.update({"fc1.weight_indptr": np.zeros(3, np.int32), "fc1.weight_indices": np.zeros(3, np.int32)}))),
    "pattern that points outside": ("memory of others, by an index", lambda m, a: (
        m["patterns"].update({"fc1.weight": {"shape": list(a["fc1.weight"].shape), "blocksize": None}}),
        a.update({"fc1.weight_indptr": np.array([0] + [1] * len(a["fc1.weight"]), np.int32),
                  "fc1.weight_indices": np.array([2**30], np.int32)}))),
}  # fmt: skip
for key, (attack, change) in MODELS.items():
    CASES[f"model, {key}"] = Case(attack, "model", lambda folder, change=change: model_file(folder, change))
CASES["state, a model"] = Case(
    "one kind of file taken for another", "state", lambda folder: model_file(folder, lambda m, _: m)
)
CASES["state, kind nested 900 deep"] = Case(
    "the message that quotes it", "state", lambda folder: model_file(folder, lambda m, _: m.update(kind=nested(900)))
)

# ---- IDX files and gzip


def gz_zeros(head: bytes, size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([packer.compress(head), *(packer.compress(bytes(MIB)) for _ in range(size // MIB)), packer.flush()])


for key, (data, _) in idx.HOSTILE.items():
    case(f"idx, {key}", "a field of the header or of gzip that lies", "idx", data)
case("idx, gzip bomb", "64 MiB behind a header of ten bytes", "idx", lambda: gz_zeros(idx.idx((10,), b""), 64 * MIB))
case("idx, a thousand gzip members", "a stream that goes on and on", "idx",
     lambda: gzip.compress(idx.idx((10,), b"")) + 1000 * gzip.compress(b""))  # fmt: skip
case("idx, gzip with a name of 1 MiB", "a header without a limit", "idx",
     lambda: b"\x1f\x8b\x08\x08" + bytes(6) + b"x" * MIB)  # fmt: skip
case("idx, gzip of 512 MiB", "a claim that deflate could just keep, in 1 MiB", "idx",
     lambda: gz_zeros(struct.pack(">4BI", 0, 0, 8, 1, 2**29), 8 * MIB) + bytes(MIB))  # fmt: skip


@place("idx, 512 MiB of nothing", "a file with a hole, honest about its size", "idx")
def _(folder: Path) -> Path:
    return hole(folder, struct.pack(">4BI", 0, 0, 8, 1, 2**29), 2**29 - 1, b"x")


# ---- JSON and TOML

TEXTS: dict[str, tuple[str, Any]] = {
    "empty": ("nothing where a value is expected", b""),
    "not UTF-8": ("the decoder", b'{"\xff": 1}'),
    "UTF-16": ("the decoder", '{"a": 1}'.encode("utf-16")),
    "nested 100,000 deep": ("the stack", b"[" * 100_000),
    "objects nested 20,000 deep": ("the stack", b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
    "key twice": ("which of two values counts", b'{"lr": 1, "lr": 2}'),
    "NaN": ("a number that is none", b'{"lr": NaN}'),
    "infinity": ("a number that is none", b'{"lr": -Infinity}'),
    "1e999": ("a number beyond floats", b'{"lr": 1e999}'),
    "number of a million digits": ("quadratic time", b'{"lr": ' + b"9" * 10**6 + b"}"),
    "number of 1001 digits": ("a conversion to float", b'{"lr": ' + b"9" * 1001 + b"}"),
    "16 MiB of lists": ("objects that take 25 times their text", lambda: b"[" + b"[]," * (16 * MIB // 3) + b"0]"),
    "8 MiB of lists": ("objects that take 25 times their text", lambda: b"[" + b"[]," * (8 * MIB // 3 - 9) + b"0,]"),
    "8 MiB of objects": ("objects, and a call for each", lambda: b"[" + b'{"a":0},' * (MIB - 9) + b"0,]"),
    "many keys of one hash": ("a table of keys", lambda: b"{" + b",".join(
        b'"%d": 1' % (i * 2**61) for i in range(10**4)) + b",}"),
    "truncated": ("a text that ends early", b'{"lr": [1, 2, {"a": '),
    "escape cut off": ("a text that ends early", b'{"lr": "\\u00'),
}  # fmt: skip
for key, (attack, text) in TEXTS.items():
    case(f"json, {key}", attack, "json", text)
    case(f"costs, {key}", attack, "costs", text)
COSTS = {"schema_version": 2, "lanes": 16, "error": 0.1, "few": {},
         "lines": {k: {"dense": [1, 1], "sparse": [1, 1, 1]} for k in ("linear", "conv")}}  # fmt: skip
for key, changed in {
    "a list": [1],
    "lines a word": COSTS | {"lines": "word"},
    "lanes of 0": COSTS | {"lanes": 0},
    "error a word": COSTS | {"error": "nan"},
    "coefficient below 0": COSTS | {"lines": {k: {"dense": [-1, 1], "sparse": [1, 1, 1]} for k in ("linear", "conv")}},
    "coefficient of 999 digits": COSTS | {"lines": {"linear": {"dense": [10**998, 1], "sparse": [1, 1, 1]}}},
    "coefficients nested": COSTS | {"lines": {"linear": {"dense": nested(900), "sparse": [1, 1, 1]}}},
}.items():
    case(f"costs, {key}", "a cost model of other values", "costs", json.dumps(changed).encode())
TOMLS: dict[str, tuple[str, bytes]] = {
    "not UTF-8": ("the decoder", b"\xff\xfe"),
    "nested 16,000 deep": ("the stack", b"lr = " + b"[" * 16_000),
    "tables nested 5,000 deep": ("the stack", b"lr = " + b"{a=" * 5_000),
    "dotted key of 8,000 parts": ("quadratic time and memory", b"a." * 8_000 + b"b = 1"),
    "number of 5000 digits": ("the limit of Python", b"epochs = " + b"9" * 5000),
    "number of 400 digits": ("a conversion to float", b"lr = " + b"9" * 400),
    "hexadecimal of 16,000 digits": ("a number without a limit", b"epochs = 0x" + b"f" * 16_000),
    "key twice": ("which of two values counts", b"epochs = 1\nepochs = 2"),
    "a table": ("settings out of sight", b"[penalty]\nalpha = 1"),
    "a date": ("a type that nobody expects", b"seed = 1979-05-27"),
    "nan": ("a number that is none", b"lr = nan"),
    "a megabyte": ("a file without a limit", b"#" * MIB),
    "where to": ("a file that says where results go", b'out = "/tmp"'),
    "folder with a null": ("a name no file has", b'data = "mnist"\ndata_dir = "a\\u0000b"'),
    "method by import": ("a name that is imported", b'method = "os.system"'),
    "options with code": ("a text that is evaluated", b'method = "wanda"\nmethod_options = "samples=exec(1)"'),
}  # fmt: skip
for key, (attack, text) in TOMLS.items():
    case(f"config, {key}", attack, "config", text)

# ---- reports and vectors


def report(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        value: Any = {"schema_version": 1, "config": {}, "stages": [], "seed": 0, "data": {"checksum": ""}}
        value = change(value) or value
        (folder / "report.json").write_bytes(json.dumps(value).encode())
        return folder

    return make


for key, (attack, change) in {
    "a list": ("a type that is taken for granted", lambda _: [1]),
    "nothing in it": ("keys that are looked up", lambda r: r),
    "version 99": ("a file of a release to come", lambda r: r.update(schema_version=99)),
    "stages a number": ("a list that is gone through", lambda r: r.update(stages=3)),
    "stage a word": ("keys that are looked up", lambda r: r.update(stages=["a"])),
    "seed a list": ("an order of seeds", lambda r: r.update(seed=[])),
    "config a word": ("keys that are looked up", lambda r: r.update(config="x")),
    "runs nested": ("recursion", lambda r: r.update(runs=nested(900), curve=nested(900))),
}.items():
    CASES[f"report, {key}"] = Case(attack, "report", report(change))


def index(folder: Path, **parts: Any) -> Path:
    row = {"about": "", "cases": 1, "name": "linear", "sha256": hashlib.sha256(b"").hexdigest()} | parts
    (folder / "index.json").write_text(json.dumps({"format": "l0ref-vectors", "version": 1, "sets": [row]}))
    return folder


@place("vectors, a name that leaves the folder", "path traversal", "vectors")
def _(folder: Path) -> Path:
    return index(folder, name="../../etc/passwd")


@place("vectors, 16 MiB of a set", "objects that take 25 times their text", "vectors")
def _(folder: Path) -> Path:
    text = b"[" + b"[]," * (16 * MIB // 3) + b"0]"
    (folder / "linear.json").write_bytes(text)
    return index(folder, sha256=hashlib.sha256(text).hexdigest())


@place("vectors, a set that is a pipe", "a file that never ends", "vectors")
def _(folder: Path) -> Path:
    os.mkfifo(folder / "linear.json")
    return index(folder)


@place("vectors, an array of 2^60", "memory, by a shape", "vectors")
def _(folder: Path) -> Path:
    found = json.loads((Path(vectors.__file__).parent / "v1" / "linear.json").read_bytes())
    found["cases"][0]["outputs"]["output"].update(shape=[2**30, 2**30])
    text = json.dumps(found).encode()
    (folder / "linear.json").write_bytes(text)
    return index(folder, cases=len(found["cases"]), sha256=hashlib.sha256(text).hexdigest())


# ---- what is no file, for every reader


def no_file(kind: str, name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "a folder":
            path.mkdir()
        elif kind == "a pipe":
            os.mkfifo(path)
        elif kind == "a socket":
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as server:
                os.chdir(folder)
                server.bind(name)
        else:
            targets = {"a link to /dev/zero": "/dev/zero", "a link to itself": name, "a link to nothing": "nowhere"}
            path.symlink_to(targets[kind])
        return path

    return make


KINDS = ("a folder", "a pipe", "a socket", "a link to /dev/zero", "a link to itself", "a link to nothing")
for reader in ("npz", "model", "state", "idx", "json", "config", "costs"):
    for kind in KINDS:
        CASES[f"{reader}, {kind}"] = Case("what is no file is opened", reader, no_file(kind, NAMES.get(reader, "a")))

# ---- folders


def marked(folder: Path, *files: str) -> Path:
    (folder / ".l0ref.json").write_bytes(
        json_bytes({"kind": "l0ref result", "version": 1, "is_complete": True, "files": list(files)})
    )
    return folder


@place("folder, lock that links to a file of others", "a file outside, emptied as the lock is taken", "folder")
def _(folder: Path) -> Path:
    (folder / ".l0ref.lock").symlink_to(folder.parent / "victim")
    return folder


@place("folder, lock that is another name of a file", "a file outside, emptied as the lock is taken", "folder")
def _(folder: Path) -> Path:
    os.link(folder.parent / "victim", folder / ".l0ref.lock")
    return folder


@place("folder, lock that is a pipe", "an open that waits for ever", "folder")
def _(folder: Path) -> Path:
    os.mkfifo(folder / ".l0ref.lock")
    return folder


@place("folder, work that links elsewhere", "files outside, moved into the result", "folder")
def _(folder: Path) -> Path:
    (folder.parent / "elsewhere").mkdir(exist_ok=True)
    (folder.parent / "elsewhere" / "model.npz").write_bytes(b"kept")
    (folder / ".l0ref.new").symlink_to(folder.parent / "elsewhere")
    return folder


@place("folder, marker with a way out", "a file outside, removed as part of the result", "folder")
def _(folder: Path) -> Path:
    return marked(folder, "../victim")


@place("folder, marker with a path", "a file outside, removed as part of the result", "folder")
def _(folder: Path) -> Path:
    return marked(folder, str(folder.parent / "victim"))


@place("folder, result in a linked folder", "files outside, removed as part of the result", "folder")
def _(folder: Path) -> Path:
    (folder / "sub").symlink_to(folder.parent)
    return marked(folder, "sub/victim")


@place("folder, marker of 9 MiB", "memory, by a file of a few bytes as a rule", "folder")
def _(folder: Path) -> Path:
    (folder / ".l0ref.json").write_bytes(b"[" + b"[]," * (3 * MIB) + b"0]")
    return folder


@place("folder of states, lock that links to a file of others", "a file outside, emptied", "states")
def _(folder: Path) -> Path:
    (folder / ".l0ref.lock").symlink_to(folder.parent / "victim")
    return folder


@place("folder of states, all damaged", "a training that goes on from nothing", "states")
def _(folder: Path) -> Path:
    for step in range(3):
        (folder / f"step-{step:010}.npz").write_bytes(bytes(30 + step))
    return folder


for reader, found in (("onnx", exchange.ONNX), ("safetensors", exchange.SAFETENSORS)):
    for key, (attack, content) in found.items():
        case(f"{reader}, {key}", attack, reader, content)


def table() -> str:
    """Return the corpus as a table."""
    rows = [f"| {name} | {each.reader} | {each.attack} |" for name, each in CASES.items()]
    return "\n".join(["| file | read as | attacks |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    print(table(), end="")
