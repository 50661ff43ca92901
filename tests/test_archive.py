"""Files that must survive: round trips of every kind of array, strict JSON, full disks, interruptions and kills."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l0ref.archive import container, json_bytes, read_json, read_npz, write_atomic, write_npz
from l0ref.errors import ArgumentError, CheckpointError, DTypeError

MANIFEST = {"kind": "model", "layers": [{"name": "fc1", "sizes": [3, 2]}], "alpha": 1e-4, "note": "größer", "empty": {}}


def arrays_of_all_sorts():
    base = np.arange(24, dtype=np.float32)
    return {
        "fc1.weight": base.reshape(4, 6),
        "fc1.bias": np.array([0.0, -0.0, 1.5, 5e-324]),
        "fortran": np.asfortranarray(base.reshape(2, 3, 4)),
        "transposed": base.reshape(4, 6).T,
        "strided": base[3::4],
        "reversed": base.reshape(4, 6)[::-1, ::-2],
        "broadcast": np.broadcast_to(np.float64(2.5), (3, 2)),
        "big_endian": base.astype(">f8"),
        "scalar": np.array(7, dtype=np.int64),
        "empty": np.zeros((0, 1000), np.int32),
        "none": np.zeros(0),
        "deep": np.ones((1,) * 40, np.uint8),
        "mask": base.reshape(4, 6) > 7,
    }


def same_bits(got, want):
    return (
        got.dtype == want.dtype.newbyteorder("=")
        and got.shape == want.shape
        and got.tobytes() == want.astype(got.dtype).tobytes()
    )


@pytest.mark.parametrize("compress", [False, True])
def test_round_trip_of_every_memory_layout(tmp_path, compress):
    path, arrays = tmp_path / "model.npz", arrays_of_all_sorts()
    write_npz(path, arrays, manifest=MANIFEST, compress=compress)
    got, manifest = read_npz(str(path))
    assert manifest == MANIFEST
    assert list(got) == list(arrays)
    assert all(same_bits(got[name], arrays[name]) for name in arrays)
    assert all(
        a.flags.writeable and a.flags.owndata and a.dtype.isnative and a.flags.c_contiguous for a in got.values()
    )
    with np.load(path, allow_pickle=False) as plain:
        assert plain.files == ["manifest", *arrays]
        assert all(same_bits(plain[name], arrays[name]) for name in arrays)
        records = json.loads(plain["manifest"].tobytes())["arrays"]
    want = {"shape": [6, 4], "dtype": "<f4", "sha256": hashlib.sha256(arrays["transposed"].tobytes()).hexdigest()}
    assert records["transposed"] == want


ARRAYS = st.builds(
    lambda dtype, shape, data: np.resize(np.frombuffer(data, np.uint8), math.prod(shape)).astype(dtype).reshape(shape),
    st.sampled_from(["f4", "f8", "i4", "i8", "u1", "?"]),
    st.lists(st.integers(0, 4), max_size=4),
    st.binary(min_size=1, max_size=20),
)


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3), max_leaves=4)


@given(
    arrays=st.dictionaries(st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.]{0,9}\Z"), ARRAYS, max_size=4),
    manifest=st.dictionaries(st.text(max_size=3), VALUES, max_size=3),
    compress=st.booleans(),
)
def test_round_trip_of_anything(tmp_path_factory, arrays, manifest, compress):
    arrays.pop("manifest", None)
    path = tmp_path_factory.mktemp("any") / "a.npz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)  # not to wait for the disk each time
        write_npz(path, arrays, manifest=manifest, compress=compress)
    got, found = read_npz(path)
    assert found == manifest
    assert list(got) == list(arrays)
    assert all(same_bits(got[name], arrays[name]) for name in arrays)


@pytest.mark.parametrize("compress", [False, True])
def test_same_values_same_bytes_and_a_plain_zip(tmp_path, compress):
    arrays = {"zeros": np.zeros(5000), "noise": np.random.default_rng(0).random(50)}
    for name in ("one", "two"):
        write_npz(tmp_path / name, {k: np.asfortranarray(v) for k, v in arrays.items()}, manifest={}, compress=compress)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with zipfile.ZipFile(tmp_path / "one") as plain:
        assert plain.testzip() is None
        infos = plain.infolist()
    assert [i.filename for i in infos] == ["manifest.npy", "zeros.npy", "noise.npy"]
    assert {(i.date_time, i.flag_bits, i.extra, i.comment) for i in infos} == {((1980, 1, 1, 0, 0, 0), 0, b"", b"")}
    methods = [zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED] * 2
    assert [i.compress_type for i in infos[:2]] == methods
    assert ((tmp_path / "one").stat().st_size < 10_000) == compress


def test_deflated_only_where_it_helps(tmp_path):
    noise = np.frombuffer(np.random.default_rng(0).bytes(2_000_000), np.uint8)
    write_npz(tmp_path / "a", {"noise": noise, "zeros": np.zeros(100)}, manifest={}, compress=True)
    with zipfile.ZipFile(tmp_path / "a") as plain:
        kinds = {info.filename: info.compress_type for info in plain.infolist()}
    assert kinds == {"manifest.npy": 8, "noise.npy": 0, "zeros.npy": 8}
    assert same_bits(read_npz(tmp_path / "a")[0]["noise"], noise)


A = {"a": np.arange(3.0)}


def test_nonfinite_is_written_only_when_asked_for(tmp_path):
    b = {"a": np.array([1.0, np.nan, -np.inf])}
    with pytest.raises(ArgumentError, match=r"^arrays\['a'\] has NaN or infinite entries; repair them or pass"):
        write_npz(tmp_path / "b", b, manifest={})
    write_npz(tmp_path / "b", b, manifest={}, allow_nonfinite=True)
    with pytest.raises(
        CheckpointError, match=r"member 'a.npy' has NaN or infinite entries; allow_nonfinite=True accepts"
    ):
        read_npz(tmp_path / "b")
    assert same_bits(read_npz(tmp_path / "b", allow_nonfinite=True)[0]["a"], b["a"])


@pytest.mark.parametrize(
    ("error", "said", "arrays", "manifest"),
    [
        (ArgumentError, r"^arrays has the name 'manifest'; a name consists of up to 196", {"manifest": A["a"]}, {}),
        *((ArgumentError, rf"^arrays has the name {re.escape(repr(n))};", {n: A["a"]}, {})
          for n in ("../a", "a/b", ".a", "", "é", "a b", "a\n", "x" * 197, 3)),
        (DTypeError, r"^arrays\['a'\] has dtype object, expected float32, float64, uint8", {"a": np.array([{}])}, {}),
        (DTypeError, r"^arrays\['a'\] has dtype float16, expected", {"a": np.zeros(1, np.float16)}, {}),
        (DTypeError, r"^arrays\['a'\] has dtype complex128, expected", {"a": np.zeros(1, complex)}, {}),
        (DTypeError, r"^arrays\['a'\] has dtype <U1, expected", {"a": np.array(["x"])}, {}),
        (ArgumentError, r"^value cannot be written as JSON: Out of range float values", {}, {"x": math.nan}),
        (ArgumentError, r"^value cannot be written as JSON: Object of type ndarray", {}, {"x": np.zeros(2)}),
        (ArgumentError, r"^value would not be readable as JSON: the key '1' occurs twice", {}, {"x": {1: 2, "1": 3}}),
    ],
)  # fmt: skip
def test_write_messages_and_nothing_written(tmp_path, error, said, arrays, manifest):
    with pytest.raises(error, match=said):
        write_npz(tmp_path / "a.npz", arrays, manifest=manifest)
    assert list(tmp_path.iterdir()) == []


def test_longest_name_and_the_4_gib_limit(tmp_path, monkeypatch):
    write_npz(tmp_path / "a", {"x" * 196: A["a"]}, manifest={})
    assert list(read_npz(tmp_path / "a")[0]) == ["x" * 196]
    before = (tmp_path / "a").read_bytes()
    limits = {len(before) - 200: "members end", 700: "member 'x{196}.npy' ends"}
    for limit, said in limits.items():
        monkeypatch.setattr(container, "MAX_ZIP", limit)
        with pytest.raises(ArgumentError, match=rf"^{said} beyond 4 GiB, the limit of the format; use several files"):
            write_npz(tmp_path / "a", {"x" * 196: A["a"]}, manifest={})
    assert (tmp_path / "a").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


# ---- JSON ----

JSON = [
    (b'{"a": 1, "b": {"a": 2}}', None),
    (b'{"a": 1, "b": 2, "a": 1}', r"the key 'a' occurs twice in one object"),
    (b'[{"x": {"b": 1, "b": 1}}]', r"the key 'b' occurs twice in one object"),
    (b"[NaN]", r"NaN is not a JSON number"),
    (b"[Infinity]", r"Infinity is not"),
    (b"[-Infinity]", r"-Infinity is not"),
    (b"[1e999]", r"1e999 is too large for a float"),
    (b"[-1e999]", r"-1e999 is too large"),
    (b"1" * 5000, r"1{20}... has 5000 digits, the limit is 1000"),
    (b"", r"Expecting value"),
    (b"{} {}", r"Extra data"),
    (b"{'a': 1}", r"Expecting property name"),
    (b"\xef\xbb\xbf{}", r"(Unexpected UTF-8 BOM|Expecting value)"),
    ("{}".encode("utf-16"), r"'utf-8' codec can't decode"),
    (b'"\xff"', r"'utf-8' codec can't decode"),
    (b"[" * 10**5, r"it is nested too deeply"),
]


@pytest.mark.parametrize(("text", "said"), JSON)
def test_strict_json(tmp_path, text, said):
    (tmp_path / "a.json").write_bytes(text)
    if said is None:
        assert read_json(text) == read_json(tmp_path / "a.json") == json.loads(text)
        return
    for source in (text, tmp_path / "a.json"):
        with pytest.raises(CheckpointError, match=rf"^source=.* is not strict JSON: {said}.*; restore the file"):
            read_json(source)


def test_json_size_cap(tmp_path):
    text = b'"' + b"x" * 98 + b'"'
    (tmp_path / "a.json").write_bytes(text)
    for source in (text, str(tmp_path / "a.json")):
        assert read_json(source, max_bytes=100) == "x" * 98
        with pytest.raises(CheckpointError, match=r"^source=.* has 100 bytes, above max_bytes=99"):
            read_json(source, max_bytes=99)
    with pytest.raises(CheckpointError, match=r"^source=<bytes> has 8388609 bytes, above max_bytes=8388608"):
        read_json(b" " * (2**23 + 1))


def test_json_with_a_million_keys_is_quick():
    text = b"{" + b",".join(b'"%d":0' % i for i in range(200_000)) + b',"199999":0}'
    with pytest.raises(CheckpointError, match=r"the key '199999' occurs twice"):
        read_json(text)


def test_json_bytes_are_repeatable_and_readable():
    assert json_bytes(MANIFEST) == json_bytes(json.loads(json.dumps(MANIFEST)))
    assert read_json(json_bytes(MANIFEST)) == MANIFEST
    assert list(read_json(json_bytes({"b": 1, "a": 2}))) == ["b", "a"]
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ArgumentError, match=r"^value cannot be written as JSON: Circular reference"):
        json_bytes(loop)


# ---- atomic writing ----


def test_write_atomic_bytes_function_and_mode(tmp_path):
    path = tmp_path / "a.bin"
    old = os.umask(0o027)
    try:
        write_atomic(path, b"one")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        os.umask(0o002)
        write_atomic(str(path), lambda file: (file.write(b"tw"), file.write(b"o")))
    finally:
        os.umask(old)
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o664
    assert os.listdir(tmp_path) == ["a.bin"]


def test_order_of_the_steps(tmp_path, monkeypatch):
    path, events = tmp_path / "a.bin", []
    fsync, replace = os.fsync, os.replace

    def spy_fsync(handle):
        is_directory = stat.S_ISDIR(os.fstat(handle).st_mode)
        events.append(("sync", "directory" if is_directory else os.fstat(handle).st_size))
        fsync(handle)

    def spy_replace(source, target):
        assert re.fullmatch(rf"\.a\.bin\.{os.getpid()}\.[0-9a-f]+\.tmp", Path(source).name)
        assert (Path(source).parent, Path(target)) == (tmp_path, path)
        events.append(("replace", path.exists()))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "replace", spy_replace)
    write_atomic(path, lambda file: file.write(b"12345"))
    assert events == [("sync", 5), ("replace", False), ("sync", "directory")]


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("fail", [no_space, interrupt])
@pytest.mark.parametrize("where", ["fsync", "replace", "writer"])
def test_failure_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, where, fail):
    path = tmp_path / "a.npz"
    write_npz(path, A, manifest={"old": True})
    before = path.read_bytes()

    def write():
        if where == "writer":
            write_atomic(path, lambda file: (file.write(b"half"), fail()))
        monkeypatch.setattr(os, where, fail)
        write_npz(path, A, manifest={"old": False})

    kind, said = (
        (OSError, r"No space left on device: '[^']*a\.npz'$") if fail is no_space else (KeyboardInterrupt, "^$")
    )
    with pytest.raises(kind, match=said):
        write()
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.npz"]
    assert read_npz(path)[1] == {"old": True}


def test_file_size_limit_of_the_system(tmp_path):
    """A real failing write(2): the soft limit on the size of files."""
    path = tmp_path / "a.npz"
    write_npz(path, A, manifest={})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match=r"File too large"):
            write_npz(path, {"a": np.zeros(50_000)}, manifest={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(read_npz(path)[0]) == ["a"]
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.parametrize(("code", "passes"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_directory_that_cannot_be_synced(tmp_path, monkeypatch, code, passes):
    fsync = os.fsync

    def picky(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", picky)
    opened = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    if passes:
        write_atomic(tmp_path / "a", b"x")
    else:
        with pytest.raises(OSError, match=r"Input/output error"):
            write_atomic(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"
    assert os.listdir(tmp_path) == ["a"]
    if opened:
        assert len(os.listdir("/proc/self/fd")) == opened


def test_missing_directory_and_directory_as_target(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: .*no'$"):
        write_atomic(tmp_path / "no" / "a", b"x")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match=r"directory"):
        write_atomic(tmp_path / "taken", b"x")
    assert os.listdir(tmp_path) == ["taken"]


def test_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "run3").write_bytes(b"kept")
    (tmp_path / "latest").symlink_to("run3")
    write_atomic(tmp_path / "latest", b"new")
    assert (tmp_path / "run3").read_bytes() == b"kept"
    assert not (tmp_path / "latest").is_symlink()


HALFWAY = """
import sys, time
from l0ref.archive import write_atomic
def half(file):
    file.write(bytes(100_000)); file.flush(); print("half", flush=True); time.sleep(60)
write_atomic(sys.argv[1], half)
"""
FOREVER = """
import sys
import numpy as np
from l0ref.archive import write_npz
arrays = {"a": np.arange(200_000.0)}
k = 0
while True:
    write_npz(sys.argv[1], arrays, manifest={"k": k}); print(k, flush=True); k += 1
"""


def start(script, path):
    return subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True)


def test_kill_halfway_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.npz"
    write_npz(path, A, manifest={"old": True})
    with start(HALFWAY, path) as child:
        assert child.stdout.readline() == "half\n"
        child.send_signal(signal.SIGKILL)
    assert read_npz(path)[1] == {"old": True}
    (orphan,) = [p for p in tmp_path.iterdir() if p != path]
    assert re.fullmatch(rf"\.a\.npz\.{child.pid}\.[0-9a-f]+\.tmp", orphan.name)


@pytest.mark.parametrize("writes", [1, 2, 4])
def test_kill_at_any_moment_leaves_a_whole_file(tmp_path, writes, rng):
    path = tmp_path / "a.npz"
    with start(FOREVER, path) as child:
        seen = [int(child.stdout.readline()) for _ in range(writes)]
        with pytest.raises(subprocess.TimeoutExpired, match=r"timed out"):
            child.wait(timeout=float(rng.uniform(0.0, 0.01)))
        child.send_signal(signal.SIGKILL)
    arrays, manifest = read_npz(path)
    assert manifest["k"] >= seen[-1]
    np.testing.assert_array_equal(arrays["a"], np.arange(200_000.0))
