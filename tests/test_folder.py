"""Result folders and locks: who may write where, what is replaced and when, and what a job that ends early leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from l0ref.archive import lock
from l0ref.archive.folder import LOCK, MARKER, NEW, adopt, claim, discard, marker_of
from l0ref.archive.lock import locked
from l0ref.errors import ConfigError, DataError

NAMES = ("report.json", "model.npz", "masks.png", "partial.npz", "summary.json")


def visible(folder: Path) -> dict[str, str]:
    found = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {p.relative_to(folder).as_posix(): p.read_text() for p in found}


def write(folder: Path, text: str, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def result(folder: Path, text: str, *names: str, overwrite: bool = False) -> None:
    with claim(folder, names=NAMES, overwrite=overwrite) as place:
        write(place.build, text, *names)
        place.publish()


def test_a_result_is_built_out_of_sight_and_published_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with claim(out, names=NAMES) as place:
        write(place.build, "new", "report.json", "model.npz", "more/x.csv")
        assert visible(out) == {f"{NEW}/{name}": "new" for name in ("report.json", "model.npz", "more/x.csv")}
        place.publish()
    assert visible(out) == dict.fromkeys(("report.json", "model.npz", "more/x.csv"), "new")
    assert sorted(p.name for p in out.iterdir()) == [MARKER, "model.npz", "more", "report.json"]
    marker = marker_of(out)
    assert marker is not None
    assert marker.is_complete
    assert set(marker.files) == {"report.json", "model.npz", "more/x.csv"}


def test_a_result_is_replaced_only_when_asked_and_only_at_the_end(tmp_path: Path) -> None:
    result(tmp_path, "old", "report.json", "model.npz", "masks.png")
    write(tmp_path, "mine", "notes.txt")
    with pytest.raises(
        ConfigError, match=r"^out='.*' holds a result already; choose another folder or pass --overwrite"
    ):
        result(tmp_path, "new", "report.json")
    with claim(tmp_path, names=NAMES, overwrite=True) as place:
        write(place.build, "new", "report.json", "model.npz")
        before = {k: v for k, v in visible(tmp_path).items() if not k.startswith(NEW)}
        assert before == {**dict.fromkeys(("report.json", "model.npz", "masks.png"), "old"), "notes.txt": "mine"}
        place.publish()
    assert visible(tmp_path) == {"report.json": "new", "model.npz": "new", "notes.txt": "mine"}


@pytest.mark.parametrize("name", ["model.npz", "report.json"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_of_other_people_are_refused(tmp_path: Path, name: str, overwrite: bool) -> None:
    write(tmp_path, "{}", name)
    with pytest.raises(
        ConfigError, match=rf"^out='.*' holds {name}, which l0ref did not write there; move it or choos"
    ):
        result(tmp_path, "new", "report.json", overwrite=overwrite)
    assert visible(tmp_path) == {name: "{}"}
    assert os.listdir(tmp_path) == [name]


def test_a_result_below_gives_no_right_to_what_is_above(tmp_path: Path) -> None:
    result(tmp_path / "sub", "theirs", "report.json")
    write(tmp_path, "mine", "summary.json")
    with pytest.raises(ConfigError, match=r"holds summary\.json, which l0ref did not write there"):
        result(tmp_path, "new", "report.json", overwrite=True)
    assert visible(tmp_path) == {"sub/report.json": "theirs", "summary.json": "mine"}


def test_a_file_that_somebody_puts_there_meanwhile_is_kept(tmp_path: Path) -> None:
    with claim(tmp_path, names=NAMES) as place:
        write(place.build, "new", "report.json", "model.npz")
        write(tmp_path, "mine", "model.npz")
        with pytest.raises(
            ConfigError, match=r"model\.npz' was created by another program meanwhile .* the result is in .*unf"
        ):
            place.publish()
    assert visible(tmp_path) == {"model.npz": "mine", "unfinished/report.json": "new", "unfinished/model.npz": "new"}


def stopped(folder: Path, text: str, *names: str, overwrite: bool = False) -> Path | None:
    """What `leave` says of a job that is interrupted after it has written these files."""
    with claim(folder, names=NAMES, overwrite=overwrite) as place:
        write(place.build, text, *names)
        return place.leave()


def test_a_job_that_ends_early_leaves_its_arrays(tmp_path: Path) -> None:
    out = tmp_path / "x"
    assert stopped(out, "lost", "report.json") is None
    assert not out.exists()
    assert stopped(out, "kept", "partial.npz", "config.json") == out
    assert visible(out) == {"partial.npz": "kept", "config.json": "kept"}
    with pytest.raises(
        ConfigError, match=r"holds the files of an interrupted job; choose another folder or pass --overwr"
    ):
        result(out, "new", "report.json")
    assert stopped(out, "second", "partial.npz", overwrite=True) == out / "unfinished"
    assert visible(out) == {"partial.npz": "kept", "config.json": "kept", "unfinished/partial.npz": "second"}
    assert stopped(out, "third", "model.npz", overwrite=True) == out / "unfinished-2"
    result(out, "new", "report.json", overwrite=True)
    assert visible(out) == {"report.json": "new"}
    assert stopped(out, "fourth", "partial.npz", overwrite=True) == out / "unfinished"
    assert visible(out) == {"report.json": "new", "unfinished/partial.npz": "fourth"}
    marker = marker_of(out / "unfinished")
    assert marker is not None
    assert not marker.is_complete


def test_an_error_passes_and_leaves_the_same(tmp_path: Path) -> None:
    def fill() -> None:
        with claim(tmp_path / "x", names=NAMES) as place:
            write(place.build, "kept", "partial.npz")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place.build / "model.npz"))

    with pytest.raises(OSError, match=r"No space left on device: '.*/x/model\.npz'$") as caught:
        fill()
    assert caught.value.filename == str(tmp_path / "x" / "model.npz")  # as the user knows it
    assert visible(tmp_path) == {"x/partial.npz": "kept"}


@pytest.mark.parametrize("cut", range(6))
@pytest.mark.parametrize("old", [False, True])
def test_a_killed_replacement_is_completed_by_the_next_one(
    tmp_path: Path, cut: int, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of steps after which the process dies: old and new never mix for longer than that."""
    if old:
        result(tmp_path, "old", "report.json", "masks.png")
    steps = [0]

    def dying(function):  # type: ignore[no-untyped-def]
        def step(*arguments, **options):  # type: ignore[no-untyped-def]
            if steps[0] == cut:
                raise MemoryError("killed here")
            steps[0] += 1
            return function(*arguments, **options)

        return step

    new = ("report.json", "model.npz")

    def replace() -> None:
        with claim(tmp_path, names=NAMES, overwrite=True) as place:
            monkeypatch.setattr(place, "leave", lambda: None)  # a process that is killed does not tidy up
            write(place.build, "new", *new)
            with monkeypatch.context() as patch:
                patch.setattr(os, "replace", dying(os.replace))
                patch.setattr(Path, "unlink", dying(Path.unlink))
                place.publish()

    with suppress(MemoryError):
        replace()
    marked = cut > 0  # else it died before the new result was marked as complete
    with pytest.raises(ConfigError, match="a result already" if marked or old else "the files of an interrupted job"):
        result(tmp_path, "third", "report.json")
    kept = {f"unfinished/{name}": "new" for name in new} | dict.fromkeys(("report.json", "masks.png"), "old")
    assert visible(tmp_path) == (kept if old and not marked else dict.fromkeys(new, "new"))


def test_what_a_killed_job_left_is_found(tmp_path: Path) -> None:
    write_killed(tmp_path, "report.json")
    result(tmp_path / "x", "new", "report.json")  # nothing was worth keeping
    assert visible(tmp_path) == {"x/report.json": "new"}
    write_killed(tmp_path, "partial.npz")
    with pytest.raises(ConfigError, match="holds a result already"):
        result(tmp_path / "x", "third", "report.json")
    assert visible(tmp_path) == {"x/report.json": "new", "x/unfinished/partial.npz": "killed"}


def test_what_a_killed_write_left_is_no_part_of_a_result(tmp_path: Path) -> None:
    out = tmp_path / "x"
    result(out, "old", "report.json")
    (out / NEW).mkdir()
    write(out / NEW, "killed", "partial.npz", ".model.npz.12.ab.tmp")
    result(out, "new", "report.json", overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == [MARKER, "report.json"]


def write_killed(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "x" / NEW
    folder.mkdir(parents=True)
    write(folder, "killed", name)


def test_results_of_earlier_releases_are_known_by_their_report(tmp_path: Path) -> None:
    report = json.dumps({"schema_version": 1, "config": {}, "stages": []})
    write(tmp_path, report, "report.json")
    write(tmp_path, "old", "model.npz", "notes.txt")
    with pytest.raises(ConfigError, match="holds a result already"):
        result(tmp_path, "new", "report.json")
    assert marker_of(tmp_path) is None
    result(tmp_path, "new", "report.json", overwrite=True)
    assert visible(tmp_path) == {"report.json": "new", "notes.txt": "old"}


def test_discard(tmp_path: Path) -> None:
    result(tmp_path / "x", "mine", "report.json")
    write(tmp_path / "y", "theirs", "report.json")
    adopt(tmp_path / "y", NAMES)
    for name in "xyz":
        discard(tmp_path / name)
    assert visible(tmp_path) == {"y/report.json": "theirs"}
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "text",
    ['{"kind": "l0ref result", "version": 1, "is_complete": true, "files": ["../victim"]}',
     '{"kind": "l0ref result", "version": 1, "is_complete": true, "files": ["/victim"]}',
     '{"kind": "l0ref result", "version": 1, "is_complete": true, "files": ["a/../../victim"]}',
     '{"kind": "l0ref result", "version": 1, "is_complete": true, "files": [3]}',
     '{"kind": "l0ref result", "version": 2, "is_complete": true, "files": []}', "[]", "{}"],
)  # fmt: skip
def test_a_hostile_marker_reaches_nothing_outside(tmp_path: Path, text: str) -> None:
    write(tmp_path, "kept", "victim")
    write(tmp_path / "x", text, MARKER)
    with pytest.raises(
        DataError, match=r"\.l0ref\.json' is not a marker of a result: .* is wrong; move the folder away"
    ):
        result(tmp_path / "x", "new", "report.json", overwrite=True)
    assert visible(tmp_path) == {"victim": "kept"}


# ---- locks


def test_a_second_process_is_told_who_is_there(tmp_path: Path) -> None:
    with claim(tmp_path, names=NAMES):
        with pytest.raises(ConfigError, match=rf"^out='.*' is in use by process {os.getpid()}; wait until it ends or"):
            result(tmp_path, "second", "report.json", overwrite=True)
        code = (
            "import sys; from pathlib import Path; from l0ref.archive.folder import claim\n"
            f"with claim(Path({str(tmp_path)!r}), names=(), overwrite=True): pass\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert f"is in use by process {os.getpid()}" in done.stderr
    result(tmp_path, "after", "report.json")


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from l0ref.archive.folder import claim\n"
        f"with claim(Path({str(tmp_path)!r}), names=()) as place:\n"
        "    (place.build / 'partial.npz').write_text('killed'); os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert (tmp_path / LOCK).exists()
    with pytest.raises(ConfigError, match=r"holds the files of an interrupted job"):
        result(tmp_path, "new", "report.json")
    assert sorted(os.listdir(tmp_path)) == [MARKER, "partial.npz"]


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    """Many threads at one lock, which is removed and made anew all the time: never two of them inside."""
    inside, most, taken = [0], [0], [0] * 4

    def work(number: int) -> None:
        while taken[number] < 50:
            try:
                with locked(tmp_path / LOCK, name="x"):
                    inside[0] += 1
                    time.sleep(1e-4)  # so that another thread runs meanwhile
                    most[0] = max(most[0], inside[0])
                    taken[number] += 1
                    inside[0] -= 1
            except ConfigError:
                time.sleep(1e-5)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert most[0] == 1
    assert taken == [50] * 4  # each of them gets in, however the others are scheduled
    assert os.listdir(tmp_path) == []


def test_a_lock_file_removed_between_opening_and_locking_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, take, calls = tmp_path / LOCK, lock._lock, []

    def late(handle: int) -> bool:
        calls.append(handle)
        if len(calls) == 1:  # its last holder has removed the file, and somebody else has made a new one
            path.unlink()
            path.write_text("0")
        return take(handle)

    monkeypatch.setattr(lock, "_lock", late)
    with locked(path, name="x"), pytest.raises(ConfigError, match=r"^x is in use by process"), locked(path, name="x"):
        pass
    assert len(calls) == 3


def test_fresh_folders_never_meet(tmp_path: Path) -> None:
    with claim(tmp_path / "run", names=NAMES, fresh=True) as a, claim(tmp_path / "run", names=NAMES, fresh=True) as b:
        assert [a.folder.name, b.folder.name] == ["run", "run-2"]
        for place in (a, b):
            write(place.build, place.folder.name, "report.json")
            place.publish()
    assert visible(tmp_path) == {"run/report.json": "run", "run-2/report.json": "run-2"}


def test_a_folder_that_cannot_be_made_or_written(tmp_path: Path) -> None:
    write(tmp_path, "", "file")
    for path, said in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "x", "cannot be created: Not a directory"),
    ):
        with pytest.raises(ConfigError, match=rf"^out='.*' {said}; choose another folder$"):
            result(path, "new", "report.json")
    if os.geteuid():  # root may write anywhere
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(ConfigError, match=r"closed' cannot be written: Permission denied; choose another$"):
            result(tmp_path / "closed", "new", "report.json")
    shutil.rmtree(tmp_path, ignore_errors=True)
