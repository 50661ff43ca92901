"""IDX files, the format of MNIST: read with every bound checked, so that a hostile file cannot exhaust memory.

    byte 0, 1     0 0
    byte 2        element type; 0x08 = unsigned byte, the only one accepted
    byte 3        number of axes, 1 to 4
    then          one big-endian uint32 for each axis: its size
    then          the elements in C order, and nothing after them

Plain or gzip, told apart by the first two bytes and not by the name. Nothing is ever unpickled.

Ref  http://yann.lecun.com/exdb/mnist/ ("The IDX file format"); RFC 1952 (gzip)
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import stat
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from l0ref.errors import DataError, DTypeError, ShapeError

MAX_AXES = 4
MAX_BYTES = 2**26  # 64 MiB of elements: MNIST has 45 MiB
DEFLATE_RATIO = 1032  # no deflate stream expands further (258 bytes from 2 bits), so no honest header claims more
CHUNK = 2**20

Readable = BinaryIO | gzip.GzipFile


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes, plain or gzip, into a fresh C-contiguous uint8 array.

    The header is compared with the size of the file before memory for the elements is allocated, and a
    gzip stream is read at most one byte past the size that the header declares. Raises `DataError`
    with the name of the file, the expected and the found values.
    """
    path = Path(path)
    try:
        size = _regular_size(path)
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                return _read(file, path, room=size, max_bytes=max_bytes)
            with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
                return _read(unpacked, path, room=DEFLATE_RATIO * size, max_bytes=max_bytes)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); fetch it again") from None
    except MemoryError:
        raise DataError(f"{path} needs more memory than there is; pass a smaller max_bytes") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def idx_header(shape: tuple[int, ...]) -> bytes:
    """The 4 + 4 * axes bytes in front of the elements of a uint8 array of this shape.

    >>> idx_header((60000,)).hex()
    '000008010000ea60'
    """
    if not 1 <= len(shape) <= MAX_AXES or any(n >= 2**32 for n in shape):
        raise ShapeError(f"shape={shape} does not fit an IDX file: 1 to {MAX_AXES} axes, each below 2**32")
    return struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)


def checksum(*arrays: NDArray[np.uint8]) -> str:
    """SHA-256 over the decoded bytes of IDX files, header and elements, one file after the other.

    Computed from the arrays, so it is the same for a plain file and for gzip files of it packed with any
    settings. For one array it equals `sha256sum` of the plain file.
    """
    digest = hashlib.sha256()
    for array in arrays:
        if array.dtype != np.uint8:
            raise DTypeError(f"array has dtype {array.dtype}, expected uint8: the checksum is over the bytes of a file")
        digest.update(idx_header(array.shape))
        digest.update(np.ascontiguousarray(array).reshape(-1).data)
    return digest.hexdigest()


def _regular_size(path: Path) -> int:
    """Size of a regular file in bytes; a folder, a pipe or a device is refused before it is opened."""
    info = path.stat()
    if not stat.S_ISREG(info.st_mode):
        raise DataError(f"{path} is not a regular file; name the IDX file itself")
    return info.st_size


def _read(file: Readable, path: Path, *, room: int, max_bytes: int) -> NDArray[np.uint8]:
    """Read header and elements; `room` is the largest number of bytes `file` can hold."""
    shape = _read_shape(file, path)
    # Python integers, so four axes of 2**32 do not wrap around; and an axis of size 0 does not excuse the others.
    if math.prod(max(n, 1) for n in shape) > max_bytes:
        raise DataError(f"{path} claims the shape {shape}, more than the {max_bytes:,} bytes allowed")
    wanted = math.prod(shape)
    if wanted + 4 + 4 * len(shape) > room:
        raise DataError(f"{path} claims {wanted:,} bytes (shape {shape}) but is too small to hold them: truncated?")
    array = np.empty(shape, dtype=np.uint8)
    found = _fill(file, array.reshape(-1).data)
    if found < wanted:
        raise DataError(f"{path} is truncated: its header (shape {shape}) promises {wanted:,} bytes, found {found:,}")
    if file.read(1):
        raise DataError(f"{path} is too long: bytes follow the {wanted:,} its header (shape {shape}) promises")
    return array


def _read_shape(file: Readable, path: Path) -> tuple[int, ...]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(f"{path} is not an IDX file: it starts with {magic.hex(' ') or 'nothing'}, not with 00 00 08")
    kind, axes = magic[2], magic[3]
    if kind != 8:
        raise DataError(f"{path} has IDX element type 0x{kind:02x}, expected 0x08 (unsigned byte)")
    if not 1 <= axes <= MAX_AXES:
        raise DataError(f"{path} has an IDX header with {axes} axes, expected 1 to {MAX_AXES}")
    sizes = file.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise DataError(f"{path} is truncated: {len(sizes)} bytes of axis sizes found, expected {4 * axes}")
    return struct.unpack(f">{axes}I", sizes)


def _fill(file: Readable, target: memoryview) -> int:
    """Read into `target` until it is full or the file ends; return the number of bytes read."""
    done = 0
    while done < len(target):
        chunk = file.read(min(CHUNK, len(target) - done))
        if not chunk:
            break
        target[done : done + len(chunk)] = chunk
        done += len(chunk)
    return done
