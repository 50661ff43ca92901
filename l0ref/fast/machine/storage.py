"""Storage of compiled kernels: files of Numba's cache, checked before their machine code is run.

A file ends with the SHA-256 of the bytes before it. One that is damaged, cut short or without that ending counts as
absent, and the kernel is compiled again. A folder that cannot be written, a full disk included, is not an error:
kernels are compiled and not kept, and one line in the log of "l0ref.fast" says so.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numba.core.caching import IndexDataCacheFile

logger = logging.getLogger("l0ref.fast")
DIGEST = hashlib.sha256().digest_size
NO_FOLDER = "no locator available"  # Numba's message if it finds no writable folder

_is_told = False


class CheckedFiles(IndexDataCacheFile):
    """The index of one function's cache and the files it names, each with its checksum at the end.

    Numba reads what it wrote and ignores what follows, so the checksum does not disturb it.
    """

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[io.BytesIO]:
        with super()._open_for_write(filepath) as file:
            content = io.BytesIO()
            yield content
            file.write(content.getvalue() + hashlib.sha256(content.getvalue()).digest())

    def _load_index(self) -> dict[Any, str]:
        files: Any = super()
        return files._load_index() if is_sound(self._index_path) else {}

    def _load_data(self, name: str) -> Any:
        files: Any = super()
        return files._load_data(name) if is_sound(files._data_path(name)) else None


def has_folder() -> bool:
    """Whether there is a folder for kernels; without a home directory Numba would create "~" in the current folder."""
    named = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    return bool(named) or os.path.expanduser("~") != "~" or os.access(Path(__file__).parents[1], os.W_OK)


def is_sound(path: str) -> bool:
    """Whether a file is there, can be read, and ends with the checksum of the bytes before it."""
    try:
        content = Path(path).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]


def keep_checked(compiled: Any, stamp: Any) -> None:
    """Let a dispatcher use checked files, stale if `stamp` differs; if they cannot be written, kernels are not kept."""
    cache: Any = getattr(compiled, "_cache", None)
    if cache is None:  # nothing is compiled
        return
    if not hasattr(cache, "_cache_file"):
        tell_not_kept("neither the package's folder nor the user's cache can be written")
        return
    files: Any = CheckedFiles
    cache._cache_file = files(cache._cache_path, cache._impl.filename_base, stamp)
    save = cache.save_overload

    def save_if_possible(signature: Any, data: Any) -> None:
        try:
            save(signature, data)
        except OSError as error:
            tell_not_kept(str(error))

    cache.save_overload = save_if_possible


def is_keeping() -> bool:
    """Whether every kernel so far could be kept on disk."""
    return not _is_told


def tell_not_kept(reason: str) -> None:
    """Log once that kernels are not kept, the reason and the remedy."""
    global _is_told
    if not _is_told:
        _is_told = True
        logger.warning(
            "l0ref cannot keep its compiled kernels (%s), so every process compiles them again; "
            "set NUMBA_CACHE_DIR to a folder with space that can be written",
            reason,
        )
