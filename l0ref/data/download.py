"""`fetch`: download a data set from the first mirror that serves the right bytes.

A file appears under its name only after size, MD5 and SHA-256 agree: it is written to a temporary file
in the same folder, checked, synced to disk and then renamed. The bytes from a broken connection stay in
`.NAME.part`, and the next mirror or call continues after them (HTTP Range); if the complete file then has
another checksum, it is fetched again from the beginning. Only http and https are used, also after a redirect,
and never more than one byte past the known size is read.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib import request
from urllib.error import HTTPError
from urllib.parse import urlsplit

from l0ref.data.folders import data_folder
from l0ref.data.sources import SOURCES, Resource
from l0ref.errors import ArgumentError, DataError, DownloadError
from l0ref.validate import choose, positive

CHUNK = 2**16


class _Refused(Exception):
    """One mirror did not give the file; the message says why, and the next mirror is tried."""


class _Spoiled(_Refused):
    """The bytes received are not those of the file."""


def fetch(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    mirrors: Sequence[str] | None = None,
    progress: bool | None = None,
    timeout: float = 30.0,
) -> list[Path]:
    """Fetch "mnist" or "fashion-mnist" into `data_dir/name` and return the paths of its four files.

    A file that is there with the right checksums is kept; every other one is fetched. The checksums are
    MD5, as published by the distributors, and SHA-256 (`l0ref.data.sources` says where each comes from).
    `data_dir` defaults as in `load`; `mirrors` replaces the base addresses; `timeout` is in seconds, for
    connecting and for each read. `progress`: True draws a bar on stderr, False is silent, None draws a bar
    if stderr is a terminal and writes one plain line for each file otherwise.
    Raises `DownloadError`, which lists the failure of each mirror, or `DataError` if the folder cannot be written to.
    """
    source = SOURCES[choose("name", name, SOURCES)]
    bases = _checked(source.mirrors if mirrors is None else mirrors)
    positive("timeout", timeout)
    folder = data_folder(data_dir) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for resource in source.files:
            _fetch_file(resource, folder, bases, progress=progress, timeout=timeout)
    except OSError as error:
        raise DataError(f"data_dir: cannot write to {folder}: {error.strerror or error}; name another folder") from None
    return [folder / resource.file for resource in source.files]


def _checked(mirrors: Sequence[str]) -> list[str]:
    if isinstance(mirrors, str) or not mirrors:
        raise ArgumentError(f"mirrors={mirrors!r} must be a list of at least one base address")
    for mirror in mirrors:
        if urlsplit(mirror).scheme not in ("http", "https"):
            raise ArgumentError(f"mirrors: {mirror!r} is neither an http nor an https address; only these are used")
    return [mirror.rstrip("/") + "/" for mirror in mirrors]


def _fetch_file(
    resource: Resource, folder: Path, mirrors: Sequence[str], *, progress: bool | None, timeout: float
) -> None:
    """Fetch one file into `folder` unless it is there already; try the mirrors in order."""
    target = folder / resource.file
    if _is_valid(target, resource):
        return
    failures = []
    for mirror in mirrors:
        for _ in range(2):
            try:
                with _temporary(target) as (part, is_continued):
                    _download(mirror + resource.file, resource, part, progress=progress, timeout=timeout)
                    os.replace(part, target)
                return
            except _Refused as refusal:
                if isinstance(refusal, _Spoiled) and is_continued:
                    continue  # perhaps because of the bytes kept from before: once more from the beginning
                failures.append(f"{mirror} {refusal}")
                break
    raise DownloadError(
        f"{resource.file} could not be fetched: {'; '.join(failures)}; "
        f"check the network and try again, or put the file into {folder} yourself"
    )


def _is_valid(path: Path, resource: Resource) -> bool:
    """Whether a regular file of the right size and with the right checksums is there."""
    if not path.is_file() or path.stat().st_size != resource.size:
        return False
    content = path.read_bytes()
    return _wrong_checksum(resource, hashlib.md5(content, usedforsecurity=False), hashlib.sha256(content)) is None


def _download(url: str, resource: Resource, part: Path, *, progress: bool | None, timeout: float) -> None:
    """Append the bytes of `url` that `part` does not have yet, check size and checksums, and sync it to disk."""
    with part.open("a+b") as file, _reporter(resource, url, progress) as report:
        for position, chunk in _chunks(url, resource.size, timeout, start=file.tell()):
            if position == 0:
                file.truncate(0)
            file.write(chunk)
            report(len(chunk))
        file.seek(0)
        content = file.read()
        wrong = _wrong_checksum(resource, hashlib.md5(content, usedforsecurity=False), hashlib.sha256(content))
        if wrong:
            raise _Spoiled(wrong)
        file.flush()
        os.fsync(file.fileno())


def _wrong_checksum(resource: Resource, md5: Any, sha256: Any) -> str | None:
    for kind, found, expected in (("MD5", md5, resource.md5), ("SHA-256", sha256, resource.sha256)):
        if found.hexdigest() != expected:
            return f"served a file with {kind} {found.hexdigest()}, expected {expected}"
    return None


def _chunks(url: str, size: int, timeout: float, *, start: int) -> Iterator[tuple[int, bytes]]:
    """Yield (position, bytes) of `url` up to `size`; every fault of network or server is raised as `_Refused`.

    They begin at `start`, or at 0 if the server does not support ranges.
    """
    headers, found = {"User-Agent": "l0ref"} | ({"Range": f"bytes={start}-"} if start else {}), 0
    try:
        with _opener().open(request.Request(url, headers=headers), timeout=timeout) as response:
            if response.status == 206:
                found, told = start, str(response.headers.get("Content-Range"))
                if told != f"bytes {start}-{size - 1}/{size}":
                    raise _Spoiled(f"continues with {told[:60]!r}, expected 'bytes {start}-{size - 1}/{size}'")
            offered = response.headers.get("Content-Length")
            if offered is not None and offered != str(size - found):
                raise _Refused(f"offers {offered} bytes, expected {size - found}")
            while found <= size:
                chunk = response.read1(min(CHUNK, size + 1 - found))
                if not chunk:
                    break
                if found + len(chunk) > size:
                    raise _Spoiled(f"sends more than the expected {size} bytes")
                yield found, chunk
                found += len(chunk)
    except HTTPError as error:
        error.close()
        kind = _Spoiled if error.code == 416 else _Refused  # 416: the file ends before `start`
        raise kind(f"answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:  # URLError and time-outs are OSErrors
        raise _Refused(f"failed: {getattr(error, 'reason', None) or error or type(error).__name__}") from None
    if found < size:
        raise _Refused(f"stopped after {found} of {size} bytes")


def _opener() -> request.OpenerDirector:
    """An opener for http and https alone: the default one would follow a redirect to ftp."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.UnknownHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPRedirectHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


@contextmanager
def _temporary(target: Path) -> Iterator[tuple[Path, bool]]:
    """Yield a temporary path for this process alone, holding the bytes an earlier one left, and whether it left any.

    The bytes left by a broken connection or Ctrl-C are kept for the next download; nothing else is.
    """
    part, kept = (
        target.with_name(f".{target.name}.{secrets.token_hex(4)}.part"),
        target.with_name(f".{target.name}.part"),
    )
    with suppress(FileNotFoundError):
        kept.rename(part)
    if part.is_symlink() or (part.exists() and not part.is_file()):
        part.unlink()
    try:
        yield part, part.exists()
    except (_Refused, KeyboardInterrupt) as stop:
        if not isinstance(stop, _Spoiled) and part.exists() and part.stat().st_size:
            os.replace(part, kept)
        raise
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _reporter(resource: Resource, url: str, progress: bool | None) -> Iterator[Any]:
    """A function that takes the number of bytes just received: a bar, a plain line, or nothing."""
    if progress or (progress is None and sys.stderr.isatty()):
        from tqdm import tqdm

        with tqdm(total=resource.size, unit="B", unit_scale=True, desc=resource.file) as bar:
            yield bar.update
        return
    if progress is None:
        sys.stderr.write(f"fetching {resource.file} ({resource.size:,} bytes) from {urlsplit(url).netloc}\n")
    yield lambda _: None
