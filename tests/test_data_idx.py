from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import pickle
import re
import struct
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l0ref.data.idx import MAX_BYTES, checksum, idx_header, read_idx
from l0ref.errors import DataError, DTypeError, ShapeError

MIB = 2**20


def idx(shape: tuple[int, ...], body: bytes | None = None, *, kind: int = 8, axes: int | None = None) -> bytes:
    """An IDX file written by hand, with whatever lies the arguments ask for."""
    header = bytes([0, 0, kind, len(shape) if axes is None else axes]) + b"".join(struct.pack(">I", n) for n in shape)
    return header + (bytes(i % 251 for i in range(math.prod(shape))) if body is None else body)


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(4, dtype=np.uint8))
    return file.getvalue()


GOOD = idx((3, 2, 5))
PACKED = gzip.compress(GOOD, mtime=0)
BAD_CRC = PACKED[:-8] + bytes([PACKED[-8] ^ 1]) + PACKED[-7:]


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 2, 5), (2, 3, 4, 5), (0,), (3, 0, 2), (0, 28, 28), (300, 100, 50)])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_read_idx_gives_the_bytes_in_c_order(tmp_path: Path, shape: tuple[int, ...], pack: type[bytes]) -> None:
    path = tmp_path / "file"
    path.write_bytes(pack(idx(shape)))
    array = read_idx(path)
    assert (array.shape, array.dtype) == (shape, np.uint8)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.tobytes() == bytes(i % 251 for i in range(math.prod(shape)))


def test_read_idx_accepts_gzip_in_several_members_and_zero_padding(tmp_path: Path) -> None:
    path = tmp_path / "members.gz"
    path.write_bytes(gzip.compress(GOOD[:9]) + gzip.compress(GOOD[9:]) + bytes(100))
    assert read_idx(str(path)).shape == (3, 2, 5)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"is not an IDX file: it starts with nothing"),
    "three bytes": (b"\0\0\x08", r"is not an IDX file: it starts with 00 00 08,"),
    "zip": (b"PK\x03\x04" + bytes(50), r"is not an IDX file: it starts with 50 4b 03 04,"),
    "pickle": (pickle.dumps([1, 2, 3]), r"is not an IDX file: it starts with 80 "),
    "npy": (npy(), r"is not an IDX file: it starts with 93 4e 55 4d,"),
    "second byte": (b"\0\1" + GOOD[2:], r"is not an IDX file: it starts with 00 01 08 03"),
    "html": (b"<!DOCTYPE html><title>404</title>", r"is not an IDX file"),
    "signed bytes": (idx((4,), kind=9), r"has IDX element type 0x09, expected 0x08"),
    "floats": (idx((4,), bytes(16), kind=0x0D), r"has IDX element type 0x0d, expected 0x08"),
    "no axes": (idx((), b""), r"has an IDX header with 0 axes, expected 1 to 4"),
    "five axes": (idx((1, 1, 1, 1, 1)), r"has an IDX header with 5 axes, expected 1 to 4"),
    "255 axes": (idx((1,) * 255), r"has an IDX header with 255 axes"),
    "axes cut off": (idx((3, 2), b"")[:-1], r"is truncated: 7 bytes of axis sizes found, expected 8"),
    "axes missing": (idx((), b"", axes=4), r"is truncated: 0 bytes of axis sizes found, expected 16"),
    "largest axes": (idx((2**32 - 1,) * 4, b""), r"claims the shape \(4294967295, .*more than the 67,108,864 bytes"),
    "wraps to 0 in 64 bits": (idx((2**16,) * 4, b""), r"claims the shape \(65536, 65536, 65536, 65536\), more"),
    "wraps to 0 in 32 bits": (idx((2**16,) * 2, b""), r"claims the shape \(65536, 65536\), more"),
    "zero axis among huge ones": (idx((2**32 - 1,) * 3 + (0,), b""), r"claims the shape \(4294967295, .*more than"),
    "64 MiB": (idx((MAX_BYTES,), bytes(100)), r"claims 67,108,864 bytes .*too small to hold them"),
    "one byte short": (GOOD[:-1], r"claims 30 bytes \(shape \(3, 2, 5\)\) but is too small to hold them: truncated\?$"),
    "one byte long": (GOOD + b"\0", r"is too long: bytes follow the 30 its header \(shape \(3, 2, 5\)\) promises$"),
    "zero size, one byte": (idx((0, 9), b"x"), r"is too long"),
    "gzip, 64 MiB": (gzip.compress(idx((MAX_BYTES,), b"")), r"claims 67,108,864 bytes .*too small to hold them"),
    "gzip, one byte short": (
        gzip.compress(GOOD[:-1]),
        r"is truncated: its header \(shape \(3, 2, 5\)\) promises 30 bytes, found 29$",
    ),
    "gzip, one byte long": (gzip.compress(GOOD + b"\0"), r"is too long: bytes follow the 30"),
    "gzip, member follows": (PACKED + gzip.compress(b"x"), r"is too long"),
    "gzip, garbage follows": (PACKED + b"garbage", r"is a damaged gzip file \(Not a gzipped file"),
    "gzip, cut in the stream": (PACKED[:20], r"is a damaged gzip file \(Compressed file ended"),
    "gzip, cut in the trailer": (PACKED[:-1], r"is a damaged gzip file \(Compressed file ended"),
    "gzip, wrong CRC": (BAD_CRC, r"is a damaged gzip file \(CRC check failed"),
    "gzip, only the magic": (b"\x1f\x8b", r"is a damaged gzip file"),
    "gzip, other method": (b"\x1f\x8b\x07" + bytes(20), r"is a damaged gzip file \(Unknown compression method"),
    "gzip, broken blocks": (PACKED[:10] + b"\xff" * 20, r"is a damaged gzip file \(Error -3"),
    "gzip in gzip": (gzip.compress(PACKED), r"is not an IDX file: it starts with 1f 8b"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_read_idx_refuses_a_hostile_file_cheaply(tmp_path: Path, case: str) -> None:
    content, said = HOSTILE[case]
    path = tmp_path / "hostile"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=rf"^{re.escape(str(path))} {said}"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_read_idx_stops_a_gzip_bomb_at_the_promised_size(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    packer = zlib.compressobj(9, wbits=31)
    parts = [packer.compress(idx((10,), b""))] + [packer.compress(bytes(MIB)) for _ in range(64)]
    path.write_bytes(b"".join(parts) + packer.flush())
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"bomb\.gz is too long: bytes follow the 10 its header"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_read_idx_limit_is_an_option(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(GOOD)
    assert read_idx(path, max_bytes=30).size == 30
    with pytest.raises(DataError, match=r"claims the shape \(3, 2, 5\), more than the 29 bytes allowed$"):
        read_idx(path, max_bytes=29)


def test_read_idx_never_unpickles(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    path = tmp_path / "trap"
    for content in (pickle.dumps(Trap()), gzip.compress(pickle.dumps(Trap())), idx((4,), pickle.dumps(Trap()))):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"trap is "):
            read_idx(path)
    assert not (tmp_path / "sprung").exists()


def test_read_idx_refuses_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent cannot be read: No such file or directory$"):
        read_idx(tmp_path / "absent")
    with pytest.raises(DataError, match=r" is not a regular file; name the IDX file itself$"):
        read_idx(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(DataError, match=r"pipe is not a regular file"):
            read_idx(tmp_path / "pipe")


def naive_parse(data: bytes) -> tuple[tuple[int, ...], bytes] | None:
    """The format in five lines: shape and elements, or None if the file is wrong."""
    if len(data) < 4 or data[:3] != b"\0\0\x08" or not 1 <= data[3] <= 4 or len(data) < 4 + 4 * data[3]:
        return None
    shape = tuple(int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3]))
    body = data[4 + 4 * data[3] :]
    return (shape, body) if len(body) == math.prod(shape) else None


def naive_unpack(data: bytes) -> bytes | None:
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error):
        return None


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from([GOOD, PACKED, idx((0,)), idx((2, 2)), gzip.compress(idx((40, 40)))])))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["set", "flip", "insert", "delete", "cut"])):
            case "set":
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "flip":
                data[at : at + 1] = bytes(b ^ (1 << draw(st.integers(0, 7))) for b in data[at : at + 1])
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=5))
            case "delete":
                del data[at : at + draw(st.integers(1, 4))]
            case "cut":
                del data[at:]
    return bytes(data)


@given(data=mutated())
def test_read_idx_agrees_with_a_naive_parser_on_mutated_files(data: bytes) -> None:
    unpacked = naive_unpack(data)
    expected = None if unpacked is None else naive_parse(unpacked)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutant"
        path.write_bytes(data)
        if expected is None:
            with pytest.raises(DataError, match=rf"^{re.escape(str(path))} "):
                read_idx(path)
        else:
            array = read_idx(path)
            assert expected == (array.shape, array.tobytes())


def test_idx_header_matches_the_files_of_mnist() -> None:
    assert idx_header((60000, 28, 28)).hex(" ", 4) == "00000803 0000ea60 0000001c 0000001c"
    for shape in [(), (1,) * 5, (2**32,)]:
        with pytest.raises(ShapeError, match=r"^shape=\(.*\) does not fit an IDX file"):
            idx_header(shape)


def test_checksum_is_that_of_the_plain_files_in_order(tmp_path: Path) -> None:
    other = idx((4,))
    for name, content in (("a", GOOD), ("a.gz", PACKED), ("b", other)):
        (tmp_path / name).write_bytes(content)
    a, packed, b = (read_idx(tmp_path / name) for name in ("a", "a.gz", "b"))
    assert checksum(a) == checksum(packed) == hashlib.sha256(GOOD).hexdigest()
    assert checksum(a, b) == hashlib.sha256(GOOD + other).hexdigest()
    assert checksum(np.asfortranarray(a), b) == checksum(a, b)
    assert len({checksum(a, b), checksum(b, a), checksum(a), checksum(a.reshape(2, 3, 5)), checksum(a.ravel())}) == 5
    with pytest.raises(DTypeError, match=r"^array has dtype float64, expected uint8"):
        checksum(np.zeros(3))
