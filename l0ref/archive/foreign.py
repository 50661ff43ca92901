"""Arrays from a .npz file of another program, such as `np.savez`: sizes are checked first, nothing is unpickled.

`np.load(allow_pickle=False)` allocates what a header claims. Here a member's header is compared with the size that the
zip directory declares for it, that size with the packed bytes, and the sum with a cap; then exactly so much is read.
"""

from __future__ import annotations

import math
import os
import stat
import zipfile
import zlib
from pathlib import Path

import numpy as np

from l0ref.archive.container import MAX_DEFLATE_RATIO, MAX_MEMBERS
from l0ref.errors import DataError
from l0ref.validate import Array

MAX_BYTES = 2**32  # of all members together
MAX_HEADER = 4096
KINDS = "fiubUS"  # numbers, booleans and text; no objects, no structures
VERSIONS = ((1, 0), (2, 0))


def read_foreign_npz(path: str | os.PathLike[str], *, max_bytes: int = MAX_BYTES) -> dict[str, Array]:
    """Return the arrays of a .npz file of any writer by name; raise DataError for any other file.

    max_bytes  cap on the size of the file and on the sum of the sizes it declares
    """
    path = Path(path)
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode) or info.st_size > max_bytes:
            raise DataError(f"{path} is not a regular file of at most {max_bytes:,} bytes; name the .npz file itself")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check(path, members, max_bytes)
            return {member.filename.removesuffix(".npy"): _read(path, archive, member) for member in members}
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; check the path") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path} is not a sound .npz file ({error}); write it with np.savez") from None


def _check(path: Path, members: list[zipfile.ZipInfo], max_bytes: int) -> None:
    """Refuse members that no honest file has, before anything is unpacked."""
    names = [member.filename for member in members]
    if len(names) > MAX_MEMBERS or len(set(names)) < len(names):
        raise DataError(f"{path} has {len(names)} members, or two of one name; write it with np.savez")
    for member in members:
        if not member.filename.endswith(".npy"):
            raise DataError(f"{path} has the member {member.filename!r:.60}, not an array; write it with np.savez")
        if member.file_size > MAX_DEFLATE_RATIO * member.compress_size:
            raise DataError(
                f"{path}: {member.filename!r:.60} declares {member.file_size:,} bytes, packed in "
                f"{member.compress_size:,}, which no deflate reaches; restore the file from a copy you trust"
            )
    if (total := sum(member.file_size for member in members)) > max_bytes:
        raise DataError(f"{path} declares {total:,} bytes of arrays, the limit is {max_bytes:,}; split the data")


def _read(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    where = f"{path}: array {member.filename.removesuffix('.npy')!r:.60}"
    with archive.open(member) as file:
        try:
            version = np.lib.format.read_magic(file)
            if version not in VERSIONS:
                raise ValueError(f"version {version}")
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = header(file, max_header_size=MAX_HEADER)
        except ValueError as error:
            raise DataError(f"{where} has no sound .npy header ({error}); write it with np.savez") from None
        if dtype.kind not in KINDS or dtype.itemsize == 0:
            raise DataError(f"{where} has dtype {dtype}, which is neither numbers nor text; convert it with astype()")
        wanted, left = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if wanted != left or math.prod(max(size, 1) for size in shape) * dtype.itemsize > np.iinfo(np.intp).max:
            raise DataError(f"{where} declares shape {shape} of {dtype}, but holds {left:,} bytes; write it again")
        body = file.read(wanted)
        if len(body) != wanted or file.read(1):  # the read to the end checks the CRC
            raise DataError(f"{where} does not hold the {wanted:,} bytes it declares; write it again")
    flat = np.frombuffer(body, dtype)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
