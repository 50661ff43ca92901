"""Replace a file as a whole: a reader finds the old content or the new one, never a part."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO


def write_atomic(path: str | os.PathLike[str], content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write `content` to `path`: bytes, or a function that writes to the open binary file it is given.

    The bytes go to `.<name>.<process id>.<random>.tmp` in the same directory and reach the disk (fsync)
    before that file takes the place of `path` and the directory is synced. If anything fails, a full
    disk or Ctrl-C included, the temporary file is removed, the old file stays and the error is raised;
    only an error in the last step, syncing the directory, occurs after the new file is in place. A
    killed process or a power cut leaves the old file or the new one, and perhaps the temporary one.

    The new file's permissions follow the umask. If `path` is a symbolic link, the link is replaced,
    not the file it names.
    """
    target = Path(path)
    target.parent.stat()  # the error for a missing folder names the folder, not the temporary file in it
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = str(target)  # not the temporary file; a full disk names none
            del error.filename2  # the message would show a None
        raise
    sync_directory(target.parent)


def sync_directory(directory: Path) -> None:
    """Make the new name durable; do nothing on systems and file systems that cannot sync a directory."""
    if os.name != "posix":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
