"""A result folder: claimed by one process, built in a hidden folder, and replaced as a whole when it is complete.

    .l0ref.json    marker of a folder that holds a result: whether it is complete, and which files belong to it
    .l0ref.lock    held while a process writes here
    .l0ref.new/    the files that this process builds
    unfinished/    the files of a process that ended early, if the folder already holds an earlier result

Files that the marker does not name are not l0ref's: they are never replaced and never removed. A process that is killed
leaves `.l0ref.new`; the next one that claims the folder treats it as the killed one would have after an interruption.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from l0ref.archive.atomic import sync_directory, write_atomic
from l0ref.archive.lock import locked
from l0ref.archive.strict_json import json_bytes, read_json
from l0ref.errors import ConfigError, DataError, L0RefError

KIND, VERSION = "l0ref result", 1
MARKER, LOCK, NEW, UNFINISHED = ".l0ref.json", ".l0ref.lock", ".l0ref.new", "unfinished"
REPORT = "report.json"  # identifies results of earlier releases, which have no marker
FILE = re.compile(r"(?:\w[\w.-]*/)*\w[\w.-]*", re.ASCII)  # no way out of the folder, nothing hidden
WORTH = ".npz"  # if a job that ends early has such a file, all its files are kept


@dataclass(frozen=True)
class Marker:
    """The content of a folder: a complete or an unfinished result, in these files."""

    is_complete: bool
    files: tuple[str, ...]


class Claim:
    """A folder claimed by this process. Files are written into `build`; `publish` makes them the folder's result."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.build = folder, folder / NEW
        self.is_published = False
        self.build.mkdir()

    def publish(self) -> None:
        """Replace the earlier result, if there was one, by the files in `build`; remove unfinished results."""
        if strange := _strange(self.folder, _files(self.build)):
            raise ConfigError(
                f"{str(self.folder / strange)!r} was created by another program meanwhile and not replaced; "
                f"the result is in {self.leave()}"
            )
        _mark(self.build, is_complete=True)
        _move_in(self.folder)
        self.is_published = True
        for aside in self.folder.glob(f"{UNFINISHED}*"):
            discard(aside)

    def leave(self) -> Path | None:
        """End early: keep the built files if arrays are among them, but replace no result; return their folder."""
        try:
            return _settle(self.folder)
        except OSError:  # such as a full disk or a folder made read-only: the next claim finds the built files
            return None


@contextmanager
def claim(
    folder: Path, *, names: Collection[str], overwrite: bool = False, fresh: bool = False, name: str = "out"
) -> Iterator[Claim]:
    """Claim `folder` for a result, or refuse it; no file of it changes before the result is published.

    names      files that the result may have: a folder with such a file that l0ref did not write is refused
    overwrite  replace an earlier result, complete or not
    fresh      make a new folder, with a number at the end of its name if that name is taken
    name       name of the argument that gave the folder; messages begin with it

    A job that ends without `publish` ends with `Claim.leave`.
    """
    told = f"{name}={os.fspath(folder)!r}"
    with _made(folder, fresh=fresh, told=told) as here, locked(here / LOCK, name=told):
        _settle(here)
        _check_free(here, names, overwrite=overwrite, told=told)
        place = Claim(here)
        try:
            yield place
        except OSError as error:
            if error.filename is not None:  # name the file by its final path
                error.filename = os.fspath(error.filename).replace(f"{os.sep}{NEW}{os.sep}", os.sep)
            raise
        finally:
            place.leave()


def marker_of(folder: Path) -> Marker | None:
    """Return the marker of a folder, None if there is none."""
    path = folder / MARKER
    if not path.is_file():
        return None
    found = read_json(path)
    try:
        files = tuple(found["files"])
        if (found["kind"], found["version"]) != (KIND, VERSION) or not all(map(FILE.fullmatch, files)):
            raise KeyError("kind, version or files")
        return Marker(bool(found["is_complete"]), files)
    except (LookupError, TypeError) as error:
        raise DataError(f"{str(path)!r} is not a marker of a result: {error} is wrong; move the folder away") from None


def adopt(folder: Path, names: Collection[str]) -> Marker | None:
    """Return the marker of a folder; a result of an earlier release, known by its report, gets one with `names`."""
    if marker_of(folder) is None and _is_report(folder / REPORT):
        _mark(folder, is_complete=True, files=[name for name in names if (folder / name).is_file()])
    return marker_of(folder)


def discard(folder: Path) -> None:
    """Remove the result of a folder, and the folder if it is then empty; without a marker remove nothing."""
    found = None if folder.is_symlink() else marker_of(folder)
    if found is not None:
        for name in (*found.files, MARKER):
            _remove(folder, name)
        with suppress(OSError):
            folder.rmdir()


def _check_free(folder: Path, names: Collection[str], *, overwrite: bool, told: str) -> None:
    """Refuse a folder with a result, unless it is to be replaced, or with other files of these names."""
    if not overwrite and (_is_report(folder / REPORT) or marker_of(folder) is not None):
        old = marker_of(folder)
        what = "a result already" if old is None or old.is_complete else "the files of an interrupted job"
        raise ConfigError(f"{told} holds {what}; choose another folder or pass --overwrite")
    adopt(folder, names)
    if strange := _strange(folder, names):
        raise ConfigError(f"{told} holds {strange}, which l0ref did not write there; move it or choose another folder")


def _settle(folder: Path) -> Path | None:
    """Move files being built into the folder: a complete result, or an unfinished one with arrays; aside if taken."""
    build = folder / NEW
    if build.is_symlink():
        raise ConfigError(f"{str(build)!r} is a link, which l0ref did not make; remove it or choose another folder")
    if not build.is_dir():
        return None
    for litter in build.glob(".*.tmp"):  # left by a process that was killed while it wrote
        litter.unlink()
    state, files = marker_of(build), _files(build)
    if state is None and not any(name.endswith(WORTH) for name in files):
        shutil.rmtree(build)
        return None
    if state is None:
        _mark(build, is_complete=False)
    if state is not None and state.is_complete:  # it was being moved in
        _move_in(folder)
        return folder
    if marker_of(folder) is None and not _is_report(folder / REPORT) and _strange(folder, files) is None:
        _move_in(folder)
        return folder
    aside = next(path for path in _numbered(folder / UNFINISHED) if not path.exists())
    os.replace(build, aside)
    return aside


def _move_in(folder: Path) -> None:
    """Replace the files of the earlier result, one by one and the marker last; may be repeated after a kill."""
    build = folder / NEW
    new, old = marker_of(build), marker_of(folder)
    assert new is not None
    for name in set(old.files if old else ()) - set(new.files):
        _remove(folder, name)
    for name in new.files:
        _check_inside(folder, name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (build / name).exists():
            os.replace(build / name, folder / name)
    os.replace(build / MARKER, folder / MARKER)
    sync_directory(folder)
    shutil.rmtree(build)


def _remove(folder: Path, name: str) -> None:
    """Remove a file of a folder; refuse to if its subfolder is a link."""
    _check_inside(folder, name)
    (folder / name).unlink(missing_ok=True)


def _check_inside(folder: Path, name: str) -> None:
    """Refuse a file of a subfolder that is a link to somewhere else."""
    for parent in (folder / name).parents:
        if parent == folder:
            return
        if parent.is_symlink():
            raise ConfigError(f"{str(parent)!r} is a link, which l0ref did not make; remove it")


def _mark(folder: Path, *, is_complete: bool, files: Collection[str] | None = None) -> None:
    found = {"kind": KIND, "version": VERSION, "is_complete": is_complete}
    write_atomic(folder / MARKER, json_bytes(found | {"files": sorted(_files(folder) if files is None else files)}))


def _files(folder: Path) -> list[str]:
    """The files of a folder that are not hidden, relative to it."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if FILE.fullmatch(name))


def _strange(folder: Path, names: Collection[str]) -> str | None:
    """The first of these files that is in the folder and not part of its result."""
    old = marker_of(folder)
    own = old.files if old is not None else ()
    return next((name for name in names if name not in own and os.path.lexists(folder / name)), None)


def _is_report(path: Path) -> bool:
    """Whether this is the report of a result, and not another file of that name."""
    if not path.is_file():
        return False
    try:
        found = read_json(path)
    except L0RefError:
        return False
    return isinstance(found, dict) and {"schema_version", "config", "stages"} <= set(found)


def _numbered(path: Path) -> Iterator[Path]:
    """Yield a path, then the path with -2, -3, ... at the end of its name."""
    yield path
    yield from (path.with_name(f"{path.name}-{n}") for n in itertools.count(2))


@contextmanager
def _made(folder: Path, *, fresh: bool, told: str) -> Iterator[Path]:
    """Make a folder; at the end remove the folders that were made and are still empty."""
    missing = [path for path in folder.parents if not os.path.exists(path)]
    for path in _numbered(folder):
        try:
            path.mkdir(parents=True)
            missing.insert(0, path)
            break
        except FileExistsError:
            if not fresh and path.is_dir():
                break
            if not fresh:
                raise ConfigError(f"{told} is a file; choose another folder") from None
        except OSError as error:
            raise ConfigError(f"{told} cannot be created: {error.strerror}; choose another folder") from None
    try:
        yield path
    finally:
        with suppress(OSError):
            for path in missing:
                path.rmdir()
