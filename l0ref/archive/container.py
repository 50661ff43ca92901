"""The one kind of zip file this package writes, and a reader that accepts no other.

    local header, packed bytes      for every member, from the first byte of the file, without gaps
    central directory               one entry per member, in the same order
    end record                      the last 22 bytes

A member is stored (method 0) or deflated (method 8). There are no extra fields, comments, flags,
64-bit extensions or encryption, and every date is 1980-01-01, so equal content gives equal bytes.
The reader encodes every header again and compares, so no byte of a header is left unchecked: entries
that overlap, data before or between them, or a local header that contradicts the directory are
refused. Any zip program opens such a file.

Ref  PKWARE, APPNOTE.TXT - .ZIP File Format Specification, sections 4.3.7, 4.3.12, 4.3.16
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import BinaryIO, NamedTuple

from l0ref.archive.strict_json import OpenFile
from l0ref.errors import ArgumentError, CheckpointError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*\.npy")
MAX_NAME = 200
MAX_MEMBERS = 4096
MAX_DEFLATE_RATIO = 1032  # deflate expands at most 2 bits into 258 bytes
MAX_ZIP = 2**32 - 1
STORED, DEFLATED = 0, 8

# version needed, flags, method, time, date, crc, packed size, size, length of the name, of the extra field
COMMON = "HHHHHIIIHH"
LOCAL = struct.Struct("<4s" + COMMON)
# signature, version made by, COMMON, length of the comment, disk, internal and external attributes, start
CENTRAL = struct.Struct("<4sH" + COMMON + "HHHII")
# signature, disk, disk of the directory, entries on the disk, entries, directory size, its start, comment length
END = struct.Struct("<4sHHHHIIH")
Bytes = bytes | OpenFile
VERSION, DATE = 20, (1 << 5) | 1


class Member(NamedTuple):
    """One directory entry. `start` is where its local header begins."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    start: int

    @property
    def data_start(self) -> int:
        """Where its packed bytes begin."""
        return self.start + LOCAL.size + len(self.name)

    @property
    def end(self) -> int:
        """The first byte after its packed bytes."""
        return self.data_start + self.packed

    def _common(self) -> tuple[int, ...]:
        return VERSION, 0, self.method, 0, DATE, self.crc, self.packed, self.size, len(self.name), 0

    def local_header(self) -> bytes:
        """Encode the header that precedes the packed bytes."""
        return LOCAL.pack(b"PK\3\4", *self._common()) + self.name.encode("ascii")

    def central_entry(self) -> bytes:
        """Encode the entry of the central directory."""
        return CENTRAL.pack(b"PK\1\2", VERSION, *self._common(), 0, 0, 0, 0, self.start) + self.name.encode("ascii")


def write_member(file: BinaryIO, name: str, chunks: list[bytes | memoryview], *, compress: bool) -> Member:
    """Append one member, the bytes of `chunks`, to `file`: deflated if `compress` is set and makes it smaller."""
    body, method, crc = chunks, STORED, 0
    for chunk in chunks:
        crc = zlib.crc32(chunk, crc)
    size = sum(len(chunk) for chunk in chunks)
    if compress:
        packed = _deflate(chunks)
        if len(packed) < size:
            body, method = [packed], DEFLATED
    member = Member(name, method, crc, sum(len(chunk) for chunk in body), size, file.tell())
    if member.end > MAX_ZIP:
        raise ArgumentError(f"member {name!r} ends beyond 4 GiB, the limit of the format; use several files")
    file.write(member.local_header())
    for chunk in body:
        file.write(chunk)
    return member


def write_directory(file: BinaryIO, members: list[Member]) -> None:
    """Append the central directory and the end record."""
    start, entries = file.tell(), b"".join(member.central_entry() for member in members)
    if start + len(entries) > MAX_ZIP:
        raise ArgumentError("members end beyond 4 GiB, the limit of the format; use several files")
    file.write(entries)
    file.write(END.pack(b"PK\5\6", 0, 0, len(members), len(members), len(entries), start, 0))


def read_directory(data: Bytes, *, max_bytes: int) -> list[Member]:
    """Return the members of the zip file `data` after checking every header; nothing is unpacked yet.

    max_bytes  cap on the sum of the unpacked sizes
    """
    end = data[max(len(data) - END.size, 0) : len(data)]
    if len(end) < END.size or end[:4] != b"PK\5\6":
        raise CheckpointError("no zip end record in the last 22 bytes: the file is truncated or of another kind")
    _, disk, first_disk, here, entries, size, start, comment = END.unpack(end)
    if (disk, first_disk, here, comment) != (0, 0, entries, 0) or start + size + END.size != len(data):
        raise CheckpointError("the zip end record does not fit the file")
    if entries > MAX_MEMBERS:
        raise CheckpointError(f"{entries} members, more than {MAX_MEMBERS}")
    members, position = [], start
    for _ in range(entries):
        member = _read_entry(data, position, start + size)
        members.append(member)
        position += CENTRAL.size + len(member.name)
    if position != start + size:
        raise CheckpointError("the zip directory is longer than its entries")
    _check_layout(data, members, start)
    _check_sizes(members, max_bytes)
    return members


class MemberReader:
    """Unpack one member piece by piece: never more than was requested, and not a byte beyond its size."""

    def __init__(self, data: Bytes, member: Member) -> None:
        self.member, self.left, self._crc = member, member.size, 0
        self._data, self._position, self._inflater = data, member.data_start, None
        if member.method == DEFLATED:
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            self._rest: bytes | memoryview = data[member.data_start : member.end]

    def read(self, n: int) -> bytes:
        """Return exactly `n` bytes."""
        if n > self.left:
            raise self.error(f"holds {self.left} more bytes where {n} are needed")
        piece = self._take(n)
        if len(piece) != n:
            raise self.error(f"ends {n - len(piece)} bytes early")
        self._crc = zlib.crc32(piece, self._crc)
        self.left -= n
        return piece

    def finish(self) -> None:
        """Check that nothing is left over and that the checksum is the declared one."""
        clean = self._inflater is None or (not self._take(1) and self._inflater.eof and not self._inflater.unused_data)
        if self.left or not clean:
            raise self.error("holds more data than it declares")
        if self._crc != self.member.crc:
            raise self.error("has another CRC-32 than it declares: it is damaged")

    def error(self, what: str) -> CheckpointError:
        """Return the exception that says `what` about this member."""
        return CheckpointError(f"member {self.member.name!r} {what}")

    def _take(self, n: int) -> bytes:
        if n == 0:  # to zlib, a limit of 0 means no limit
            return b""
        if self._inflater is None:
            start, self._position = self._position, min(self._position + n, self.member.end)
            return self._data[start : self._position]
        try:
            piece = self._inflater.decompress(self._rest, n)
        except zlib.error as error:
            raise self.error(f"cannot be inflated ({error})") from None
        self._rest = memoryview(self._inflater.unconsumed_tail)
        return piece


def _deflate(chunks: list[bytes | memoryview]) -> bytes:
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"".join([*(deflater.compress(chunk) for chunk in chunks), deflater.flush()])


def _read_entry(data: Bytes, position: int, limit: int) -> Member:
    if position + CENTRAL.size > limit:
        raise CheckpointError("the zip directory is shorter than its entries")
    fields = CENTRAL.unpack(data[position : position + CENTRAL.size])
    flags, method, crc, packed, size, name_length, start = *fields[3:5], *fields[7:11], fields[-1]
    raw = data[position + CENTRAL.size : min(position + CENTRAL.size + name_length, limit)]
    name = raw[: MAX_NAME + 1].decode("ascii", errors="replace")
    if name_length > MAX_NAME or not NAME.fullmatch(name):
        raise CheckpointError(f"member {name!r} has a name that is not letters, digits, '_' and '.', ending in .npy")
    if flags & 1:
        raise CheckpointError(f"member {name!r} is encrypted")
    if method not in (STORED, DEFLATED):
        raise CheckpointError(f"member {name!r} is packed by method {method}, neither stored nor deflated")
    member = Member(name, method, crc, packed, size, start)
    if member.central_entry() != data[position : position + CENTRAL.size + name_length]:
        raise CheckpointError(f"member {name!r} has a directory entry this package does not write")
    return member


def _check_layout(data: Bytes, members: list[Member], directory: int) -> None:
    """Refuse members with gaps or overlaps between them, or a local header that differs from the entry."""
    position, seen = 0, set()
    for member in members:
        if member.name in seen:
            raise CheckpointError(f"member {member.name!r} occurs twice in the file")
        seen.add(member.name)
        if member.start != position or member.end > directory:
            raise CheckpointError(f"member {member.name!r} overlaps another or leaves a gap")
        if data[member.start : member.data_start] != member.local_header():
            raise CheckpointError(f"member {member.name!r} has a local header that contradicts the directory")
        position = member.end
    if position != directory:
        raise CheckpointError("bytes between the last member and the directory belong to no member")


def _check_sizes(members: list[Member], max_bytes: int) -> None:
    """Refuse declared sizes that are impossible, or together more than `max_bytes`."""
    for member in members:
        most = member.packed * (MAX_DEFLATE_RATIO if member.method == DEFLATED else 1)
        if member.size > most or (member.method == STORED and member.size != member.packed):
            raise CheckpointError(f"member {member.name!r} declares {member.size} bytes, packed in {member.packed}")
    total = sum(member.size for member in members)
    if total > max_bytes:
        raise CheckpointError(f"the members declare {total} bytes, above max_bytes={max_bytes}")
