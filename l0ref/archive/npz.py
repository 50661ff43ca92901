"""Arrays and a manifest in one .npz file that `np.load(path, allow_pickle=False)` reads too.

    manifest.npy    uint8: JSON {"format": "l0ref npz", "version": 1, "manifest": {...},
                                 "arrays": {name: {"shape": [...], "dtype": "<f4", "sha256": "..."}}}
    <name>.npy      one per array, little endian, C order; the SHA-256 is that of its bytes

Reading trusts nothing. Sizes are compared before anything is allocated, nothing in the file is ever
unpickled or evaluated, and there is no second, more tolerant reader.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from l0ref.archive.atomic import write_atomic
from l0ref.archive.container import (
    MAX_MEMBERS,
    MAX_NAME,
    MAX_ZIP,
    NAME,
    Bytes,
    Member,
    MemberReader,
    read_directory,
    write_directory,
    write_member,
)
from l0ref.archive.strict_json import MAX_JSON, json_bytes, opened, parse_json
from l0ref.errors import ArgumentError, CheckpointError, DTypeError
from l0ref.validate import Array, count

FORMAT, VERSION = "l0ref npz", 1
MANIFEST = "manifest"
DTYPES = {"<f4": 4, "<f8": 8, "<u2": 2, "<i4": 4, "<i8": 8, "|u1": 1, "|b1": 1}
MAX_HEADER = 4096
MAX_UNPACKED = 2**26  # by default the most bytes to which a smaller file is unpacked
MAX_DIMS = 64
MAGIC = b"\x93NUMPY\x01\x00"
HEADER = re.compile(
    r"\{'descr': '([<|][a-z]\d)', 'fortran_order': False, 'shape': \(((?:\d{1,18}, ?)*\d{0,18})\), \} *\n"
)


class Header(NamedTuple):
    """What the header of a .npy member declares."""

    dtype: str
    shape: tuple[int, ...]


def write_npz(
    path: str | os.PathLike[str],
    arrays: Mapping[str, Array],
    *,
    manifest: Mapping[str, Any],
    compress: bool = False,
    allow_nonfinite: bool = False,
) -> None:
    """Write `arrays` and the JSON value `manifest` to `path`, atomically; the same values give the same bytes.

    arrays           float32, float64, uint8, uint16, int32, int64 or bool, of any memory order; names of ASCII letters,
                     digits, "_" and "." such as "fc1.weight"; "manifest" is taken
    manifest         whatever JSON can hold; `read_npz` returns it
    compress         deflate members that get smaller by it, unless all together exceed `MAX_UNPACKED` bytes, the most
                     to which a reader unpacks by default. The bytes then depend on the zlib release as well
    allow_nonfinite  write NaN and infinities; `read_npz` refuses such a file unless it is given this option too
    """
    ready = {name: _writable(name, array, allow_nonfinite=allow_nonfinite) for name, array in arrays.items()}
    if len(ready) >= MAX_MEMBERS:
        raise ArgumentError(
            f"arrays has {len(ready)} entries, the limit is {MAX_MEMBERS - 1}; split them over several files"
        )
    document = {"format": FORMAT, "version": VERSION, "manifest": dict(manifest)}
    text = json_bytes({**document, "arrays": {name: _record(array) for name, array in ready.items()}})
    if len(text) > MAX_JSON:
        raise ArgumentError(
            f"manifest takes {len(text)} bytes as JSON, the limit is {MAX_JSON}; store numbers as arrays"
        )
    content = {MANIFEST: np.frombuffer(text, dtype=np.uint8), **ready}
    unpacked = sum(array.nbytes + 256 for array in content.values())  # with a generous allowance for each header
    compress = compress and unpacked <= MAX_UNPACKED

    def write(file: BinaryIO) -> None:
        members = [
            write_member(file, f"{name}.npy", [_npy_header(array), _bytes_of(array)], compress=compress)
            for name, array in content.items()
        ]
        write_directory(file, members)

    write_atomic(path, write)


def read_npz(
    path: str | os.PathLike[str], *, max_bytes: int | None = None, allow_nonfinite: bool = False
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays and the manifest of a file that `write_npz` wrote; raise CheckpointError for any other.

    max_bytes        cap on the size of the file, and on the sum of all sizes declared in it; memory stays
                     below about three times this. By default the format's 4 GiB for the file, and for the sum the
                     larger of its size and `MAX_UNPACKED`: every file of `write_npz` can be read
    allow_nonfinite  accept NaN and infinities

    The arrays are fresh and writable. Files of `np.savez` have no manifest and are refused.
    """
    name = f"path={os.fspath(path)!r}"
    with opened(path, name=name, max_bytes=MAX_ZIP if max_bytes is None else count("max_bytes", max_bytes)) as data:
        max_bytes = max(len(data), MAX_UNPACKED) if max_bytes is None else max_bytes
        _refuse_other_archives(data[: 30 + MAX_NAME], name)
        try:
            members = read_directory(data, max_bytes=max_bytes)
            if not members or members[0].name != f"{MANIFEST}.npy":
                raise CheckpointError("the first member is not 'manifest.npy'")
            document = _read_manifest(data, members[0])
            arrays = {member.name.removesuffix(".npy"): _read_array(data, member) for member in members[1:]}
            _cross_check(arrays, document["arrays"], allow_nonfinite=allow_nonfinite)
        except CheckpointError as error:
            raise CheckpointError(f"{name}: {error}; restore the file from a copy you trust") from None
        return arrays, document["manifest"]


def _refuse_other_archives(data: bytes, name: str) -> None:
    """Refuse a file of `np.savez`, recognised by the extra field of its first member, with a message of its own."""
    length, extra = (int.from_bytes(data[i : i + 2], "little") for i in (26, 28))
    first = data[30 : 30 + min(length, MAX_NAME)].decode("ascii", errors="replace")
    if data[:4] == b"PK\3\4" and extra and first.endswith(".npy"):
        raise CheckpointError(
            f"{name} begins with {first!r} as np.savez writes it, without a manifest; write models with "
            "checkpoint.save, arrays with write_npz"
        )


def _writable(name: str, array: Array, *, allow_nonfinite: bool) -> Array:
    """The array in C order and little endian; 0-d stays 0-d."""
    if not isinstance(name, str) or not NAME.fullmatch(f"{name}.npy") or len(name) + 4 > MAX_NAME or name == MANIFEST:
        rule = f"up to {MAX_NAME - 4} letters, digits, '_' and '.'; 'manifest' is taken"
        raise ArgumentError(f"arrays has the name {name!r}; a name consists of {rule}")
    found = np.asarray(array)
    little = found.dtype.newbyteorder("<")
    if little.str not in DTYPES:
        known = "float32, float64, uint8, uint16, int32, int64 or bool"
        raise DTypeError(f"arrays[{name!r}] has dtype {found.dtype}, expected {known}; convert it with astype()")
    if not allow_nonfinite and not np.isfinite(found).all():
        raise ArgumentError(f"arrays[{name!r}] has NaN or infinite entries; repair them or pass allow_nonfinite=True")
    return np.asarray(found, dtype=little, order="C")


def _bytes_of(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _record(array: Array) -> dict[str, Any]:
    digest = hashlib.sha256(_bytes_of(array)).hexdigest()
    return {"shape": list(array.shape), "dtype": array.dtype.str, "sha256": digest}


def _npy_header(array: Array) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    return stream.getvalue()


def _read_manifest(data: Bytes, member: Member) -> dict[str, Any]:
    if member.size > MAX_JSON + MAX_HEADER:
        raise CheckpointError(f"member {member.name!r} has {member.size} bytes of JSON, the limit is {MAX_JSON}")
    text = _read_array(data, member)
    if text.dtype != np.uint8 or text.ndim != 1:
        raise CheckpointError(f"member {member.name!r} is not a row of bytes")
    if text.size > MAX_JSON:
        raise CheckpointError(f"member {member.name!r} has {text.size} bytes of JSON, the limit is {MAX_JSON}")
    try:
        document = parse_json(text.tobytes())
    except ValueError as error:
        raise CheckpointError(f"member {member.name!r} is not strict JSON: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointError(f"member {member.name!r} is not a manifest of the format {FORMAT!r}")
    if document.get("version") != VERSION:
        raise CheckpointError(
            f"the file has version {document.get('version')!r:.40}, this release reads version {VERSION}"
        )
    parts = {key: type(part) for key, part in document.items()}
    if parts != {"format": str, "version": int, "manifest": dict, "arrays": dict}:
        raise CheckpointError(f"member {member.name!r} lacks a part of the manifest or has one too many")
    return document


def _read_array(data: Bytes, member: Member) -> Array:
    """Check the header against the declared size, then unpack exactly that much."""
    reader = MemberReader(data, member)
    header = _read_header(reader)
    expected = math.prod(header.shape) * DTYPES[header.dtype]
    reach = math.prod(max(size, 1) for size in header.shape)  # NumPy refuses an overflow of this even beside a 0
    if expected != reader.left or reach * DTYPES[header.dtype] > np.iinfo(np.intp).max:
        raise reader.error(f"declares shape {header.shape} of {header.dtype}, but holds {reader.left} bytes")
    body = reader.read(expected)
    reader.finish()
    if header.dtype == "|b1" and body.strip(b"\0\1"):
        raise reader.error("holds a bool that is neither 0 nor 1")
    dtype = np.dtype(header.dtype)
    return np.frombuffer(body, dtype).reshape(header.shape).astype(dtype.newbyteorder("="))


def _read_header(reader: MemberReader) -> Header:
    """Read the header by a pattern that only plain dtypes and shapes fit; nothing is evaluated."""
    if reader.read(len(MAGIC)) != MAGIC:
        raise reader.error("is not a .npy file of version 1.0")
    length = int.from_bytes(reader.read(2), "little")
    if length > MAX_HEADER:
        raise reader.error(f"has a header of {length} bytes, the limit is {MAX_HEADER}")
    text = reader.read(length).decode("latin-1")
    match = HEADER.fullmatch(text)
    if match is None or match[1] not in DTYPES:
        raise reader.error(f"has a header outside the format: {text[:100]!r}")
    shape = tuple(int(size) for size in match[2].split(",") if size.strip())
    if len(shape) > MAX_DIMS:
        raise reader.error(f"has {len(shape)} axes, the limit is {MAX_DIMS}")
    return Header(match[1], shape)


def _cross_check(arrays: Mapping[str, Array], records: Mapping[str, Any], *, allow_nonfinite: bool) -> None:
    """Refuse a manifest that does not list exactly these arrays, with their shapes, dtypes and SHA-256."""
    strange = set(arrays) ^ set(records)
    if strange:
        raise CheckpointError(
            f"member {min(strange)[:MAX_NAME] + '.npy'!r} is in the file or in the manifest, but not in both"
        )
    for name, array in arrays.items():
        if records[name] != _record(np.asarray(array, dtype=array.dtype.newbyteorder("<"))):
            raise CheckpointError(f"member {name + '.npy'!r} differs from the shape, dtype or SHA-256 in the manifest")
        if not allow_nonfinite and not np.isfinite(array).all():
            raise CheckpointError(
                f"member {name + '.npy'!r} has NaN or infinite entries; allow_nonfinite=True accepts them"
            )
