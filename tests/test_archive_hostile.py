"""Forged, damaged and oversized files: each is refused for its own fault, by name, in little memory.

`forge` is a zip writer of its own, in which any field can be wrong.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l0ref.archive import container, npz, read_json, read_npz, write_npz
from l0ref.errors import ArgumentError, CheckpointError

A = {"a": np.arange(3.0)}


def npy(array, *, magic=b"\x93NUMPY\x01\x00", length=None, raw=None, **parts):
    """A .npy file by hand; `parts` replaces entries of the header, `raw` the whole text of it."""
    array = np.asarray(array)
    parts = {"descr": repr(array.dtype.str), "fortran_order": "False", "shape": repr(array.shape)} | parts
    text = (raw or "{" + "".join(f"'{key}': {value}, " for key, value in parts.items()) + "}").encode("latin-1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return magic + struct.pack("<H", len(text) if length is None else length) + text + array.tobytes()


def deflate(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def entry(name, data, *, method=0, body=None, **fields):
    """What the two headers of a member say, and its packed bytes `body`."""
    body = (deflate(data) if method == 8 else data) if body is None else body
    header = {"signature": b"PK\1\2", "made": 20, "needed": 20, "flags": 0, "method": method, "time": 0, "date": 33}
    sizes = {"crc": zlib.crc32(data), "packed": len(body), "size": len(data)}
    rest = {"extra": b"", "comment": b"", "disk": 0, "internal": 0, "external": 0, "local": {}, "hidden": False}
    return header | sizes | rest | {"name": name.encode(), "body": body} | fields


def common(e):
    numbers = [e[key] for key in ("needed", "flags", "method", "time", "date", "crc", "packed", "size")]
    return struct.pack("<HHHHHIIIHH", *numbers, e.get("name_length", len(e["name"])), len(e["extra"]))


def forge(entries, *, prefix=b"", gap=b"", before_end=b"", tail=b"", comment=b"", **end):
    """The bytes of a zip file. An entry's `start` lies about where it is, `local` about what its local header says."""
    out, central = prefix, b""
    for e in entries:
        start, lie = len(out), e | e["local"]
        if not e["hidden"]:
            out += b"PK\3\4" + common(lie) + lie["name"] + lie["extra"] + e["body"] + gap
        central += e["signature"] + struct.pack("<H", e["made"]) + common(e)
        places = e["disk"], e["internal"], e["external"], e.get("start", start)
        central += struct.pack("<HHHII", len(e["comment"]), *places) + e["name"] + e["extra"] + e["comment"]
    n = len(entries)
    fields = {"disk": 0, "first": 0, "here": n, "all": n, "size": len(central), "start": len(out)} | end
    return (
        out
        + central
        + before_end
        + b"PK\5\6"
        + struct.pack("<HHHHIIH", *fields.values(), len(comment))
        + comment
        + tail
    )


def text_member(text):
    return entry("manifest.npy", npy(np.frombuffer(text, np.uint8)))


def document(arrays, /, **parts):
    """An honest manifest; `parts` replaces its top-level parts, None removes one."""
    records = {
        name: {"shape": list(a.shape), "dtype": a.dtype.str, "sha256": hashlib.sha256(a.tobytes()).hexdigest()}
        for name, a in arrays.items()
    }
    whole = {"format": "l0ref npz", "version": 1, "manifest": {"a": 1}, "arrays": records} | parts
    return text_member(json.dumps({key: part for key, part in whole.items() if part is not None}).encode())


DOC = document(A)


def good(**fields):
    return entry("a.npy", npy(A["a"]), **fields)


def pair(**fields):
    """A manifest and the member a.npy, `fields` of which are forged."""
    return forge([DOC, good(**fields)])


def member(data, **fields):
    """A manifest and the bytes `data` under the name a.npy."""
    return forge([DOC, entry("a.npy", data, **fields)])


@pytest.fixture
def read_bytes(tmp_path):
    """Read a file made of the given bytes."""

    def read(data, **options):
        (tmp_path / "forged.npz").unlink(missing_ok=True)  # many file systems are slow to overwrite
        (tmp_path / "forged.npz").write_bytes(data)
        return read_npz(tmp_path / "forged.npz", **options)

    return read


@pytest.mark.parametrize("method", [0, 8])
def test_forger_is_honest_unless_told_otherwise(read_bytes, method):
    """So every refusal below is due to the one thing that was changed."""
    arrays, manifest = read_bytes(pair(method=method))
    assert manifest == {"a": 1}
    np.testing.assert_array_equal(arrays["a"], A["a"])


# Below: the bytes of a file, and how the message goes on after the path (and, where said, after "member 'a.npy' ").
A_BAD_ENTRY = {
    "encrypted": (pair(flags=1), r"is encrypted"),
    "data descriptor": (pair(flags=8), r"has a directory entry this package does not write"),
    "bzip2": (pair(method=12), r"is packed by method 12, neither stored nor deflated"),
    "extra field": (pair(extra=b"UT\1\0x"), r"has a directory entry this"),
    "comment": (pair(comment=b"hello"), r"has a directory entry this"),
    "date": (pair(date=34), r"has a directory entry this"),
    "made by": (pair(made=0x0314), r"has a directory entry this"),
    "symbolic link": (pair(external=0o120777 << 16), r"has a directory entry this"),
    "signature": (pair(signature=b"PK\1\3"), r"has a directory entry this"),
    "local name": (pair(local={"name": b"b.npy"}), r"has a local header that contradicts the directory"),
    "local size": (pair(local={"size": 1}), r"has a local header that contradicts"),
    "local extra": (pair(local={"extra": b"x"}), r"has a local header that contradicts"),
    "twice": (forge([DOC, good(), good()]), r"occurs twice in the file"),
    "gap": (forge([DOC, good()], gap=b"x"), r"overlaps another or leaves a gap"),
    "64 bit": (pair(size=2**32 - 1, packed=2**32 - 1), r"overlaps another or leaves a gap"),
    "start beyond": (pair(start=2**31), r"overlaps another or leaves a gap"),
    "stored size": (pair(size=10), r"declares 10 bytes, packed in 152"),
    "impossible ratio": (pair(method=8, size=10**8), r"declares 100000000 bytes, packed in "),
    "crc": (pair(crc=1), r"has another CRC-32 than it declares: it is damaged"),
    "deflated crc": (pair(method=8, crc=1), r"has another CRC-32"),
    "not deflated": (member(npy(A["a"]), method=8, body=b"\xff" * 100), r"cannot be inflated"),
    "too little": (member(npy(A["a"]), method=8, body=deflate(npy(A["a"])[:-8])), r"ends 8 bytes early"),
    "too much": (member(npy(A["a"]), method=8, body=deflate(npy(A["a"]) + b"x")), r"holds more data than it declares"),
    "after the stream": (member(npy(A["a"]), method=8, body=deflate(npy(A["a"])) + b"x"), r"holds more data than"),
    "no end of stream": (member(npy(A["a"]), method=8, body=deflate(npy(A["a"]))[:-1]), r"holds more|ends \d+ bytes"),
}  # fmt: skip
OVERLAP = entry("b.npy", npy(A["a"]), hidden=True, start=len(forge([DOC])) - len("manifest.npy") - 68)
ZIPS = {
    "same bytes twice": (forge([DOC, good(), OVERLAP]), r"member 'b.npy' overlaps another or leaves a gap"),
    "inside another": (forge([DOC | {"packed": 4000}, good()]), r"member 'manifest.npy' overlaps another or leaves"),
    "gap at the end": (forge([DOC], gap=b"x"), r"bytes between the last member and the directory belong to no member"),
    "prefix": (forge([DOC, good()], prefix=b"#!/bin/sh\n"), r"member 'manifest.npy' overlaps another or leaves a gap"),
    "tail": (forge([DOC, good()], tail=b"x"), r"no zip end record in the last 22 bytes"),
    "comment": (forge([DOC, good()], comment=b"hello"), r"no zip end record in the last 22 bytes"),
    "comment like an end": (forge([DOC, good()], comment=b"PK\5\6" + bytes(18)), r"the zip end record does not fit"),
    "comment announced": (forge([DOC, good()])[:-2] + b"\1\0", r"the zip end record does not fit the file"),
    "padded directory": (forge([DOC, good()], before_end=b"x" * 22), r"the zip end record does not fit the file"),
    "count too low": (forge([DOC, good()], here=1, all=1), r"the zip directory is longer than its entries"),
    "count too high": (forge([DOC, good()], here=3, all=3), r"the zip directory is shorter than its entries"),
    "counts differ": (forge([DOC, good()], here=1), r"the zip end record does not fit the file"),
    "two disks": (forge([DOC, good()], disk=1), r"the zip end record does not fit the file"),
    "directory elsewhere": (forge([DOC, good()], start=0), r"the zip end record does not fit the file"),
    "name runs out": (pair(name_length=60), r"member 'a.npy' has a directory entry this package does not write"),
    "no members": (forge([]), r"the first member is not 'manifest.npy'"),
}  # fmt: skip
NAMES = [
    "../a.npy", "/a.npy", "a/b.npy", "a\\b.npy", ".npy", "..npy", ".a.npy", "a.npz", "anpy", "a", "", "é.npy",
    "a b.npy", "a\n.npy", "a.npy\n", "a\0.npy", "C:a.npy", "-a.npy", "x" * 197 + ".npy", "x" * 60_000 + ".npy",
]  # fmt: skip


class Trap:
    """Unpickling this makes a directory."""

    sprung = Path("unpickled")

    def __reduce__(self):
        return os.mkdir, (str(self.sprung),)


def header(text):
    return npy(A["a"], raw=text)


OUTSIDE = r"has a header outside the format"
A_BAD_NPY = {
    "32 GiB": (npy(np.zeros(0, "<f4"), shape="(8589934592,)"), r"declares shape \(8589934592,\) of <f4, but holds 0 b"),
    "one too many": (npy(A["a"], shape="(4,)"), r"declares shape \(4,\) of <f8, but holds 24 bytes"),
    "one too few": (npy(A["a"], shape="(2,)"), r"declares shape \(2,\) of <f8, but holds 24 bytes"),
    "overflow": (npy(np.zeros(0), shape="(4294967296, 4294967296)"), r"declares shape \(4294967296, 4294967296\)"),
    "overflow around 0": (npy(np.zeros(0), shape="(0, 4294967296, 4294967296)"), r"declares shape \(0, 4294967296"),
    "negative": (npy(A["a"], shape="(-3,)"), OUTSIDE),
    "negative twice": (npy(A["a"], shape="(-1, -3)"), OUTSIDE),
    "fractional": (npy(A["a"], shape="(3.0,)"), OUTSIDE),
    "expression": (npy(A["a"], shape="(2+1,)"), OUTSIDE),
    "digits": (npy(A["a"], shape=f"({'9' * 3000},)"), OUTSIDE),
    "65 axes": (npy(np.zeros(()), shape=f"({'1, ' * 65})"), r"has 65 axes, the limit is 64"),
    "objects": (npy(np.frombuffer(pickle.dumps(Trap()), "u1"), descr="'|O'"), rf"{OUTSIDE}: .*'\|O'"),
    "fortran": (npy(A["a"], fortran_order="True"), OUTSIDE),
    "big endian": (npy(A["a"].astype(">f8")), rf"{OUTSIDE}: .*>f8"),
    "complex": (npy(np.zeros(1, "<c8")), OUTSIDE),
    "half": (npy(np.zeros(1, "<f2")), OUTSIDE),
    "unsigned": (npy(np.zeros(1, "<u4")), OUTSIDE),
    "text": (npy(np.array(["ab"])), OUTSIDE),
    "dates": (npy(np.zeros(1, "<M8[s]")), OUTSIDE),
    "fields": (npy(np.zeros(1), descr="[('x', '<f8')]"), OUTSIDE),
    "code": (header("__import__('os').abort()"), rf"{OUTSIDE}: \"__import__"),
    "nested": (header("(" * 4000), OUTSIDE),
    "extra key": (header("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), 'x': 1, }"), OUTSIDE),
    "other order": (header("{'shape': (3,), 'fortran_order': False, 'descr': '<f8', }"), OUTSIDE),
    "two lines": (header("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }\n"), OUTSIDE),
    "long header": (header("{" + " " * 5000), r"has a header of \d+ bytes, the limit is 4096"),
    "header beyond the end": (npy(A["a"], length=4000), r"holds 142 more bytes where 4000 are needed"),
    "version 2": (npy(A["a"], magic=b"\x93NUMPY\x02\x00"), r"is not a .npy file of version 1.0"),
    "magic": (npy(A["a"], magic=b"\x93NUMPX\x01\x00"), r"is not a .npy file of version 1.0"),
    "empty": (b"", r"holds 0 more bytes where 8 are needed"),
    "half a header": (npy(A["a"])[:9], r"holds 1 more bytes where 2 are needed"),
    "bool of 2": (npy(np.array([0, 2, 1], "u1"), descr="'|b1'"), r"holds a bool that is neither 0 nor 1"),
}  # fmt: skip

B = {"a": np.array([1.0, np.nan, np.inf])}
RECORD = {"shape": [3], "dtype": "<f8", "sha256": hashlib.sha256(A["a"].tobytes()).hexdigest()}
DIFFERS = r"member 'a.npy' differs from the shape, dtype or SHA-256 in the manifest"
PARTS = r"member 'manifest.npy' lacks a part of the manifest or has one too many"
NOT_JSON = r"member 'manifest.npy' is not strict JSON: "
MANIFESTS = {
    "none": (forge([good()]), r"the first member is not 'manifest.npy'"),
    "not first": (forge([good(), DOC]), r"the first member is not 'manifest.npy'"),
    "array missing": (forge([DOC]), r"member 'a.npy' is in the file or in the manifest, but not in both"),
    "array too many": (forge([DOC, good(), entry("b.npy", npy(A["a"]))]), r"member 'b.npy' is in the file or in"),
    "other values": (member(npy(A["a"] + 1)), DIFFERS),
    "other shape": (member(npy(A["a"].reshape(3, 1))), DIFFERS),
    "other dtype": (member(npy(A["a"].view("<i8"))), DIFFERS),
    "record too full": (forge([document({}, arrays={"a": {**RECORD, "x": 1}}), good()]), DIFFERS),
    "record a list": (forge([document({}, arrays={"a": [3]}), good()]), DIFFERS),
    "version": (forge([document(A, version=2), good()]), r"the file has version 2, this release reads version 1"),
    "long version": (forge([document(A, version=[1] * 999), good()]), r"the file has version \[1, [1, ]{36}, this rel"),
    "version true": (forge([document(A, version=True), good()]), PARTS),
    "format": (forge([document(A, format="x"), good()]), r"member 'manifest.npy' is not a manifest of the format"),
    "a list": (forge([text_member(b"[1]")]), r"member 'manifest.npy' is not a manifest of the format"),
    "part missing": (forge([document(A, manifest=None), good()]), PARTS),
    "part too many": (forge([document(A, more=1), good()]), PARTS),
    "arrays a list": (forge([document(A, arrays=["a"]), good()]), PARTS),
    "not JSON": (forge([text_member(b"{")]), NOT_JSON + "Expecting"),
    "nothing": (forge([text_member(b"")]), NOT_JSON),
    "duplicate key": (forge([text_member(b'{"format": 1, "format": 2}')]), NOT_JSON + "the key 'format' occurs twice"),
    "NaN": (forge([text_member(b'{"format": NaN}')]), NOT_JSON + "NaN is not"),
    "not UTF-8": (forge([text_member(b'{"\xff": 1}')]), NOT_JSON + "'utf-8'"),
    "deep": (forge([text_member(b"[" * 200_000)]), NOT_JSON + "it is nested too deeply"),
    "floats": (forge([entry("manifest.npy", npy(np.zeros(3)))]), r"member 'manifest.npy' is not a row of bytes"),
    "square": (forge([entry("manifest.npy", npy(np.zeros((2, 2), "u1")))]), r"member 'manifest.npy' is not a row of"),
    "long key": (forge([document({}, arrays={"x" * 10**5: RECORD})]), r"member 'x{200}.npy' is in the file or in the"),
    "NaN in an array": (forge([document(B), entry("a.npy", npy(B["a"]))]), r"member 'a.npy' has NaN or infinite entr"),
}  # fmt: skip
NAME_SAID = r"member '.*' has a name that is not letters, digits, '_' and '.', ending in .npy"
HOSTILE = {
    **{f"entry, {key}": (data, f"member 'a.npy' {said}") for key, (data, said) in A_BAD_ENTRY.items()},
    **{f"zip, {key}": case for key, case in ZIPS.items()},
    **{f"name, {i}": (forge([DOC, entry(name, npy(A["a"]))]), NAME_SAID) for i, name in enumerate(NAMES)},
    **{f"npy, {key}": (member(data), f"member 'a.npy' {said}") for key, (data, said) in A_BAD_NPY.items()},
    **{f"npy deflated, {key}": (member(data, method=8), f"member 'a.npy' {said}")
       for key, (data, said) in A_BAD_NPY.items() if data},
    **{f"manifest, {key}": case for key, case in MANIFESTS.items()},
}  # fmt: skip


def peak_of(action):
    """Bytes allocated at the worst moment of action()."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_refused_for_its_fault(read_bytes, name):
    data, said = HOSTILE[name]

    def read():
        with pytest.raises(CheckpointError, match=rf"^path='.*forged.npz': ({said})") as caught:
            read_bytes(data)
        assert str(caught.value).endswith("; restore the file from a copy you trust")
        assert len(str(caught.value)) < 700

    assert peak_of(read) < 8 * len(data) + 2**19
    assert not Trap.sprung.exists()


def test_nonfinite_is_accepted_only_when_asked_for(read_bytes):
    got, _ = read_bytes(forge([document(B), entry("a.npy", npy(B["a"]))]), allow_nonfinite=True)
    np.testing.assert_array_equal(got["a"], B["a"])


def test_zip_bombs_take_no_memory(read_bytes):
    zeros = np.zeros(50_000_000, np.uint8)
    whole = npy(zeros)
    packed = deflate(whole)
    honest = entry("a.npy", whole, method=8, body=packed)
    liar = entry("a.npy", npy(zeros[:1000]), method=8, body=packed)
    empty = npy(zeros[:0])
    behind_nothing = entry("a.npy", empty, method=8, body=deflate(empty + bytes(50_000_000)))
    modest_header = entry("a.npy", npy(A["a"]), method=8, body=deflate(npy(A["a"]) + bytes(50_000_000)))

    def read(second, said, **options):
        with pytest.raises(CheckpointError, match=said):
            read_bytes(forge([DOC, second]), **options)

    for second, said, options in [
        (honest, r"the members declare 50\d+ bytes, above max_bytes=1000000", {"max_bytes": 10**6}),
        (liar, r"member 'a.npy' declares shape \(50000000,\) of \|u1, but holds 10", {}),
        (modest_header, r"member 'a.npy' holds more data than it declares", {}),
        (behind_nothing, r"member 'a.npy' holds more data than it declares", {}),
    ]:
        assert peak_of(lambda: read(second, said, **options)) < 10**6  # noqa: B023
    many = [entry(f"a{i}.npy", whole, method=8, body=packed) for i in range(30)]
    with pytest.raises(CheckpointError, match=r"the members declare 15\d{8} bytes, above max_bytes=67108864"):
        read_bytes(forge([DOC, *many]))


def test_caps_on_bytes_and_members(read_bytes, tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    write_npz(path, {"a": np.zeros(1000)}, manifest={}, compress=True)
    size = path.stat().st_size
    with zipfile.ZipFile(path) as plain:
        unpacked = sum(info.file_size for info in plain.infolist())
    assert size < unpacked
    assert read_npz(path, max_bytes=unpacked)[0]["a"].size == 1000
    with pytest.raises(CheckpointError, match=rf"the members declare {unpacked} bytes, above max_bytes={unpacked - 1}"):
        read_npz(path, max_bytes=unpacked - 1)
    with pytest.raises(CheckpointError, match=rf"^path=.* has {size} bytes, above max_bytes={size - 1}; raise it if"):
        read_npz(path, max_bytes=size - 1)
    with pytest.raises(ArgumentError, match=r"^max_bytes=1000000000.0 must be a whole number"):
        read_npz(path, max_bytes=1e9)
    many = {f"a{i}": np.zeros(0) for i in range(container.MAX_MEMBERS - 1)}
    write_npz(path, many, manifest={})
    assert len(read_npz(path)[0]) == container.MAX_MEMBERS - 1
    with pytest.raises(ArgumentError, match=r"^arrays has 4096 entries, the limit is 4095"):
        write_npz(path, {**many, "b": np.zeros(0)}, manifest={})
    with pytest.raises(CheckpointError, match=r"4097 members, more than 4096"):
        read_bytes(forge([entry(f"a{i}.npy", b"") for i in range(4097)]))
    monkeypatch.setattr(npz, "MAX_JSON", 100)
    with pytest.raises(ArgumentError, match=r"^manifest takes \d+ bytes as JSON, the limit is 100; store numbers as"):
        write_npz(path, {}, manifest={"x": "y" * 100})
    with pytest.raises(CheckpointError, match=r"member 'manifest.npy' has \d+ bytes of JSON, the limit is 100"):
        read_npz(path)


@pytest.mark.parametrize("read", [read_npz, read_json])
@pytest.mark.parametrize("name", ["missing", "", "fifo", "nul\0"])
def test_not_a_regular_file(tmp_path, read, name):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(CheckpointError, match=r"^(path|source)=.* is not a file; check the path"):
        read(f"{tmp_path}/{name}")


def test_device_is_not_a_file():
    with pytest.raises(CheckpointError, match=r"^path='/dev/zero' is not a file"):
        read_npz("/dev/zero")


def test_unreadable_file(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "a").write_bytes(b"{}")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(CheckpointError, match=r"^path=.* cannot be read: .*Permission denied; check the path"):
        read_npz(tmp_path / "a")


@pytest.mark.parametrize("data", [b"", b"PK", b"{}", b"\x89PNG" + bytes(100), b"PK\5\6" + bytes(17), bytes(500)])
def test_other_kinds_of_file(read_bytes, data):
    with pytest.raises(
        CheckpointError, match=r"no zip end record in the last 22 bytes: the file is truncated or of an"
    ):
        read_bytes(data)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_of_numpy_are_refused_without_fallback(tmp_path, save):
    save(tmp_path / "a.npz", **A)
    with pytest.raises(CheckpointError, match=r"^path=.* begins with 'a.npy' as np.savez writes it, without a mani"):
        read_npz(tmp_path / "a.npz")


@pytest.fixture(scope="module", params=[False, True], ids=["stored", "deflated"])
def small(request, tmp_path_factory):
    """The bytes of a small honest file."""
    path = tmp_path_factory.mktemp("small") / "a.npz"
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "m": np.array([True, False])}
    write_npz(path, arrays, manifest={"k": [1]}, compress=request.param)
    return path.read_bytes()


def test_every_truncation_is_refused(small, read_bytes):
    for n in range(1, len(small)):
        for part in (small[:n], small[n:]):
            with pytest.raises(CheckpointError, match=r"^path="):
                read_bytes(part)


def test_every_changed_byte_is_noticed(small, read_bytes, rng):
    for i in range(len(small)):
        broken = bytearray(small)
        broken[i] ^= int(rng.integers(1, 256))
        with pytest.raises(CheckpointError, match=r"^path="):
            read_bytes(bytes(broken))


KINDS = st.sampled_from(["set", "insert", "delete", "copy"])
EDITS = st.lists(
    st.tuples(KINDS, st.integers(0, 10**4), st.integers(0, 10**4), st.binary(max_size=9)), min_size=1, max_size=5
)


@given(edits=EDITS)
def test_random_damage_is_refused(small, tmp_path_factory, edits):
    broken = bytearray(small)
    for kind, at, other, data in edits:
        at, other = at % (len(broken) + 1), other % (len(broken) + 1)
        end = at + {"set": len(data), "insert": 0, "delete": len(data), "copy": 20}[kind]
        broken[at:end] = {"set": data, "insert": data, "delete": b"", "copy": broken[other : other + 20]}[kind]
    path = tmp_path_factory.mktemp("damaged") / "a.npz"
    path.write_bytes(broken)
    if broken == small:
        assert read_npz(path)[1] == {"k": [1]}
        return
    with pytest.raises(CheckpointError, match=r"^path=") as caught:
        read_npz(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("method", [0, 8])
def test_member_may_not_be_left_half_read(method):
    data = pair(method=method)
    reader = container.MemberReader(data, container.read_directory(data, max_bytes=10**6)[1])
    assert reader.read(6) == b"\x93NUMPY"
    with pytest.raises(CheckpointError, match=r"^member 'a.npy' holds more data than it declares"):
        reader.finish()


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_written_is_read_by_default_whatever_its_size(tmp_path, monkeypatch, compress):
    """Above MAX_UNPACKED nothing is deflated; a small file still may not unpack to more."""
    path, zeros = tmp_path / "a.npz", {"a": np.zeros(3000)}
    write_npz(path, zeros, manifest={}, compress=True)
    assert path.stat().st_size < 3000
    monkeypatch.setattr(npz, "MAX_UNPACKED", 20_000)
    with pytest.raises(CheckpointError, match=r"the members declare 24\d+ bytes, above max_bytes=20000"):
        read_npz(path)
    write_npz(path, zeros, manifest={}, compress=compress)
    assert path.stat().st_size > 24_000
    np.testing.assert_array_equal(read_npz(path)[0]["a"], zeros["a"])
    most = 20_000 - 256 * 2 - len(json.dumps({"a": 1}))
    write_npz(path, {"a": np.zeros(most - 1000, np.uint8)}, manifest={}, compress=compress)
    assert (path.stat().st_size < 3000) == compress
    assert read_npz(path)[0]["a"].size == most - 1000
