from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l0ref.data import fetch, load
from l0ref.data.folders import FILES
from l0ref.data.sources import SOURCES, Resource, Source
from l0ref.errors import ArgumentError, DataError, DownloadError

NAMES = [f"{name}.gz" for name in FILES]
SLOW = threading.Event()  # set at the end of a test, so that a stalled answer ends with it


def served() -> dict[str, bytes]:
    """A tiny MNIST: 30 training and 12 test images."""
    rng = np.random.default_rng(0)
    contents = []
    for n in (30, 12):
        images, labels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), rng.integers(0, 10, n, dtype=np.uint8)
        contents += [struct.pack(">4B3I", 0, 0, 8, 3, n, 28, 28) + images.tobytes()]
        contents += [struct.pack(">4BI", 0, 0, 8, 1, n) + labels.tobytes()]
    return {name: gzip.compress(content, mtime=0) for name, content in zip(NAMES, contents, strict=True)}


CONTENT = served()


def resource(name: str) -> Resource:
    content = CONTENT[name]
    return Resource(name, len(content), hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest())


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT under /<behaviour>/<file>, in the way the behaviour says."""

    log: list[str]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        type(self).log.append(self.path)
        _, behaviour, name = self.path.split("/")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client is right to hang up
            getattr(self, f"do_{behaviour}")(CONTENT[name])

    def answer(self, content: bytes, *, length: int | None) -> None:
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def do_good(self, content: bytes) -> None:
        self.answer(content, length=len(content))

    def do_unsized(self, content: bytes) -> None:
        self.answer(content, length=None)

    def do_ranged(self, content: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked is None:
            return self.do_closes(content)
        start = int(asked[1])
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:])
        return None

    def do_lies(self, content: bytes) -> None:
        if "Range" not in self.headers:
            return self.do_good(content)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(content)
        return None

    def do_unsatisfiable(self, content: bytes) -> None:
        if "Range" in self.headers:
            return self.send_error(416)
        return self.do_good(content)

    def do_missing(self, content: bytes) -> None:
        self.send_error(404)

    def do_corrupt(self, content: bytes) -> None:
        self.answer(content[:-1] + bytes([content[-1] ^ 1]), length=len(content))

    def do_short(self, content: bytes) -> None:
        self.answer(content[:-1], length=len(content) - 1)

    def do_long(self, content: bytes) -> None:
        self.answer(content + b"x", length=len(content) + 1)

    def do_endless(self, content: bytes) -> None:
        self.answer(content, length=None)
        for _ in range(1000):
            self.wfile.write(bytes(2**16))

    def do_closes(self, content: bytes) -> None:
        self.answer(content[: len(content) // 2], length=len(content))

    def do_trickles(self, content: bytes) -> None:
        self.answer(content[: len(content) // 2], length=None)

    def do_stalls(self, content: bytes) -> None:
        self.answer(content[:10], length=len(content))
        self.wfile.flush()
        SLOW.wait(10)

    def do_babbles(self, content: bytes) -> None:
        self.wfile.write(b"220 this is not http\r\n")

    def do_moved(self, content: bytes) -> None:
        self.redirect(self.path.replace("/moved/", "/good/"))

    def do_loops(self, content: bytes) -> None:
        self.redirect(self.path)

    def do_local(self, content: bytes) -> None:
        self.redirect(f"file://{__file__}")

    def do_ftp(self, content: bytes) -> None:
        self.redirect("ftp://127.0.0.1/file")

    def redirect(self, target: str) -> None:
        self.send_response(302)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Base address of a server on this machine that stands in for all mirrors."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setitem(SOURCES, "mnist", Source(("http://127.0.0.1:9/",), tuple(map(resource, NAMES))))
    Handler.log = []
    SLOW.clear()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    SLOW.set()
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("behaviour", ["good", "unsized", "moved"])
def test_fetch_brings_four_files_and_load_reads_them(tmp_path: Path, server: str, behaviour: str) -> None:
    paths = fetch("mnist", data_dir=tmp_path, mirrors=[f"{server}/{behaviour}"], progress=False)
    assert paths == [tmp_path / "mnist" / name for name in NAMES]
    assert {path.name: path.read_bytes() for path in paths} == CONTENT
    assert files(tmp_path / "mnist") == sorted(NAMES)
    assert len(load("mnist", data_dir=tmp_path, validation=5).train) == 25


def test_fetch_keeps_valid_files_and_replaces_damaged_ones(tmp_path: Path, server: str) -> None:
    mirrors = [f"{server}/good/"]
    paths = fetch("mnist", data_dir=tmp_path, mirrors=mirrors, progress=False)
    assert len(Handler.log) == 4
    fetch("mnist", data_dir=tmp_path, mirrors=mirrors, progress=False)
    assert len(Handler.log) == 4  # nothing was asked for a second time
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    damaged = bytearray(paths[2].read_bytes())
    damaged[100] ^= 1
    paths[2].write_bytes(damaged)
    fetch("mnist", data_dir=tmp_path, mirrors=mirrors, progress=False)
    assert Handler.log[4:] == [f"/good/{NAMES[1]}", f"/good/{NAMES[2]}"]
    assert {path.name: path.read_bytes() for path in paths} == CONTENT


FAULTS = {
    "missing": r"answers 404 Not Found",
    "corrupt": r"served a file with MD5 [0-9a-f]{32}, expected [0-9a-f]{32}",
    "short": r"offers \d+ bytes, expected \d+",
    "long": r"offers \d+ bytes, expected \d+",
    "endless": r"sends more than the expected \d+ bytes",
    "closes": r"(stopped after \d+ of \d+ bytes|failed: IncompleteRead.*)",
    "trickles": r"stopped after \d+ of \d+ bytes",
    "stalls": r"failed: timed out",
    "babbles": r"failed: .*220 this is not http.*",
    "loops": r"answers 302 .*infinite loop.*",
    "local": r"answers 302 .*",
    "ftp": r"failed: unknown url type: ftp",
}


BROKEN, PART = ("closes", "trickles", "stalls"), f".{NAMES[0]}.part"


@pytest.mark.parametrize("fault", FAULTS)
def test_fetch_refuses_a_faulty_mirror_and_uses_nothing_of_it(tmp_path: Path, server: str, fault: str) -> None:
    mirror = f"{server}/{fault}/"
    said = (
        rf"^train-images-idx3-ubyte\.gz could not be fetched: {mirror} {FAULTS[fault]}; check the network.* {tmp_path}"
    )
    with pytest.raises(DataError, match=re.compile(said, re.DOTALL)):
        fetch("mnist", data_dir=tmp_path, mirrors=[mirror], progress=False, timeout=0.2 if fault == "stalls" else 10)
    assert files(tmp_path / "mnist") == ([PART] if fault in BROKEN else [])
    fetch("mnist", data_dir=tmp_path, mirrors=[f"{server}/good/"], progress=False)
    assert files(tmp_path / "mnist") == sorted(NAMES)


def test_fetch_goes_on_behind_what_a_broken_connection_brought(tmp_path: Path, server: str) -> None:
    mirrors = [f"{server}/ranged/"]
    for name in NAMES:  # each breaks once and is whole in the next call
        with pytest.raises(DownloadError, match=rf"^{name} could not be fetched"):
            fetch("mnist", data_dir=tmp_path, mirrors=mirrors, progress=False)
        half = (tmp_path / "mnist" / f".{name}.part").read_bytes()
        assert 0 < len(half) < len(CONTENT[name])
        assert CONTENT[name].startswith(half)
    paths = fetch("mnist", data_dir=tmp_path, mirrors=mirrors, progress=False)
    assert {path.name: path.read_bytes() for path in paths} == CONTENT
    assert files(tmp_path / "mnist") == sorted(NAMES)


@pytest.mark.parametrize("behaviour", ["good", "ranged", "lies"])
@pytest.mark.parametrize("left", ["wrong bytes", "a link", "too much"])
def test_fetch_trusts_nothing_that_was_left(tmp_path: Path, server: str, behaviour: str, left: str) -> None:
    folder, victim = tmp_path / "mnist", tmp_path / "victim"
    folder.mkdir()
    victim.write_bytes(b"kept")
    for name in NAMES:
        part = folder / f".{name}.part"
        if left == "a link":
            part.symlink_to(victim)
        else:
            part.write_bytes(bytes(10 if left == "wrong bytes" else len(CONTENT[name]) + 5))
    mirrors = [f"{server}/{behaviour}/", f"{server}/good/"]
    paths = fetch("mnist", data_dir=tmp_path, mirrors=mirrors, progress=False)
    assert {path.name: path.read_bytes() for path in paths} == CONTENT
    assert victim.read_bytes() == b"kept"


def test_fetch_begins_anew_where_the_server_has_nothing_behind_what_came(tmp_path: Path, server: str) -> None:
    (tmp_path / "mnist").mkdir()
    for name, more in zip(NAMES, (-5, 0, 5, 1), strict=True):
        (tmp_path / "mnist" / f".{name}.part").write_bytes(bytes(len(CONTENT[name]) + more))
    paths = fetch("mnist", data_dir=tmp_path, mirrors=[f"{server}/unsatisfiable/"], progress=False)
    assert {path.name: path.read_bytes() for path in paths} == CONTENT
    assert Handler.log == [f"/unsatisfiable/{name}" for name in NAMES for _ in range(2)]
    assert files(tmp_path / "mnist") == sorted(NAMES)


def test_fetch_falls_through_to_the_next_mirror(tmp_path: Path, server: str) -> None:
    order = ["missing", "corrupt", "closes", "endless", "good", "missing"]
    paths = fetch("mnist", data_dir=tmp_path, mirrors=[f"{server}/{b}/" for b in order], progress=False)
    assert {path.name: path.read_bytes() for path in paths} == CONTENT
    assert Handler.log == [
        f"/{b}/{name}" for name in NAMES for b in ("missing", "corrupt", "closes", "endless", "endless", "good")
    ]
    assert files(tmp_path / "mnist") == sorted(NAMES)


def test_fetch_lists_every_failure(tmp_path: Path, server: str) -> None:
    with socket.socket() as unused:  # bound but not listening: a connection is refused
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(DataError) as caught:  # noqa: PT011 (the whole message is checked below)
            fetch("mnist", data_dir=tmp_path, mirrors=[f"{server}/missing", nobody, f"{server}/short/"], progress=False)
    size = len(CONTENT[NAMES[0]])
    found = re.sub(r"\[Errno \d+\] ", "", str(caught.value))  # the number differs between systems
    assert found == (
        f"{NAMES[0]} could not be fetched: {server}/missing/ answers 404 Not Found; "
        f"{nobody} failed: Connection refused; {server}/short/ offers {size - 1} bytes, expected {size}; "
        f"check the network and try again, or put the file into {tmp_path}/mnist yourself"
    )


def test_fetch_leaves_an_existing_file_alone_when_every_mirror_fails(tmp_path: Path, server: str) -> None:
    mine = tmp_path / "mnist" / NAMES[0]
    mine.parent.mkdir()
    mine.write_bytes(b"my own copy")
    with pytest.raises(DataError, match=r"could not be fetched"):
        fetch("mnist", data_dir=tmp_path, mirrors=[f"{server}/corrupt/"], progress=False)
    assert mine.read_bytes() == b"my own copy"


@pytest.mark.parametrize(("field", "kind"), [("md5", "MD5"), ("sha256", "SHA-256")])
def test_fetch_checks_both_checksums(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, field: str, kind: str
) -> None:
    table = [resource(name) for name in NAMES]
    table[3] = replace(table[3], **{field: "0" * len(getattr(table[3], field))})
    monkeypatch.setitem(SOURCES, "mnist", Source((f"{server}/good/",), tuple(table)))
    with pytest.raises(DataError, match=rf"served a file with {kind} [0-9a-f]+, expected 0+;"):
        fetch("mnist", data_dir=tmp_path, progress=False)
    assert files(tmp_path / "mnist") == sorted(NAMES[:3])
    (tmp_path / "mnist" / NAMES[3]).write_bytes(CONTENT[NAMES[3]])  # nor is such a file kept for valid
    with pytest.raises(DataError, match=rf"served a file with {kind}"):
        fetch("mnist", data_dir=tmp_path, progress=False)


def test_fetch_syncs_before_it_renames(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def noted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any) -> Any:
            calls.append(name)
            if name == "replace":
                source, target = Path(args[0]), Path(args[1])
                assert source.parent == target.parent
                assert source.read_bytes() == CONTENT[target.name]
            return original(*args)

        return wrapper

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    fetch("mnist", data_dir=tmp_path, mirrors=[f"{server}/good/"], progress=False)
    assert calls == ["fsync", "replace"] * 4


def test_fetch_interrupted_leaves_what_came(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch("mnist", data_dir=tmp_path, mirrors=[f"{server}/good/"], progress=False)
    assert files(tmp_path / "mnist") == [PART]


def test_fetch_reports_a_full_disk_as_such(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"^data_dir: cannot write to \S+/mnist: No space left on device; name another"):
        fetch("mnist", data_dir=tmp_path, mirrors=[f"{server}/good/", f"{server}/good/"], progress=False)
    assert len(Handler.log) == 1  # a full disk is no fault of the mirror, so the next is not tried


def test_fetch_progress(tmp_path: Path, server: str, capfd: pytest.CaptureFixture[str]) -> None:
    mirrors = [f"{server}/good/"]
    fetch("mnist", data_dir=tmp_path / "silent", mirrors=mirrors, progress=False)
    assert capfd.readouterr() == ("", "")
    fetch("mnist", data_dir=tmp_path / "line", mirrors=mirrors)  # stderr is not a terminal here
    out, err = capfd.readouterr()
    size = len(CONTENT[NAMES[0]])
    assert out == ""
    assert err.splitlines()[0] == f"fetching {NAMES[0]} ({size:,} bytes) from {server.removeprefix('http://')}"
    assert len(err.splitlines()) == 4
    fetch("mnist", data_dir=tmp_path / "bar", mirrors=mirrors, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert all(f"{name}: 100%" in err for name in NAMES)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "mnits"}, r"^name='mnits' is not one of 'mnist', 'fashion-mnist'; did you mean 'mnist'\?$"),
        ({"name": "digits"}, r"^name='digits' is not one of 'mnist', 'fashion-mnist'"),
        ({"mirrors": []}, r"^mirrors=\[\] must be a list of at least one base address$"),
        ({"mirrors": "http://a/"}, r"^mirrors='http://a/' must be a list"),
        ({"mirrors": ["file:///etc/"]}, r"^mirrors: 'file:///etc/' is neither an http nor an https address"),
        ({"mirrors": ["http://a/", "ftp://a/"]}, r"^mirrors: 'ftp://a/' is neither"),
        ({"timeout": 0}, r"^timeout=0 must be greater than 0"),
    ],
)
def test_fetch_refuses(tmp_path: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        fetch(**{"name": "mnist", "data_dir": tmp_path, **arguments})
    assert files(tmp_path) == []


def test_fetch_into_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"^data_dir: cannot write to \S+/file/mnist: Not a directory; name another"):
        fetch("mnist", data_dir=tmp_path / "file")


def test_sources_name_the_files_that_load_reads() -> None:
    assert sorted(SOURCES) == ["fashion-mnist", "mnist"]
    for source in SOURCES.values():
        assert [entry.file for entry in source.files] == NAMES
        assert len(source.mirrors) >= 2
        assert source.mirrors[0].startswith("https://")
        assert all(mirror.endswith("/") for mirror in source.mirrors)
        for entry in source.files:
            assert re.fullmatch(r"[0-9a-f]{32}", entry.md5)
            assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
            assert 4_000 < entry.size < 30_000_000
    entries = [entry for source in SOURCES.values() for entry in source.files]
    assert len({entry.md5 for entry in entries}) == len({entry.sha256 for entry in entries}) == len(entries)
