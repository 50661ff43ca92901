"""A lock between processes: the operating system releases it when its process ends, in whatever way."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from l0ref.errors import ConfigError

UNKNOWN = (errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)  # from a file system without locks, where nothing is protected


class InUse(ConfigError):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, *, name: str) -> Iterator[None]:
    """Hold the lock file `path` in this context, or raise InUse with the id of the holder; messages begin with `name`.

    The file is removed at the end. A file left by a killed process is taken over.
    """
    try:
        handle = _taken(path, name)
    except OSError as error:
        raise ConfigError(f"{name} cannot be written: {error.strerror}; choose another") from None
    if handle is None:
        raise InUse(f"{name} is in use by process {_holder(path)}; wait until it ends or choose another")
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        _unlock(handle)
        os.close(handle)


def _taken(path: Path, name: str) -> int | None:
    """The open lock file, or None if another process holds it; retried if its last holder removed it in between."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:  # not a file of ours, or a hard link to another
                raise ConfigError(f"{name} has a lock {path.name!r} that l0ref did not make; remove it")
            if not _lock(handle):
                os.close(handle)
                return None
            if os.fstat(handle).st_ino == path.stat().st_ino:
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode("ascii"))
                return handle
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _holder(path: Path) -> str:
    """The id of the process that holds the lock, from the lock file."""
    try:
        return path.read_bytes()[:20].decode("ascii", errors="replace").strip() or "unknown"
    except OSError:
        return "unknown"


def _lock(handle: int) -> bool:
    if sys.platform == "win32":
        import msvcrt

        with suppress(OSError):
            os.lseek(handle, 2**30, os.SEEK_SET)  # beyond the text, which others may read
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
            return True
        return False
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
    return True


def _unlock(handle: int) -> None:
    """Release the lock, also for processes that were forked meanwhile."""
    if sys.platform != "win32":
        import fcntl

        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)
