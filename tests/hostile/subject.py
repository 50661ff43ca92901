"""Reads every hostile file in one process under a limit of memory, and reports how each ended.

python -m tests.hostile.subject FOLDER     FOLDER/NUMBER/in holds each file; the report is JSON on stdout
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from l0ref import checkpoint, nn, vectors
from l0ref.archive import read_json, read_npz, write_npz
from l0ref.archive.folder import claim
from l0ref.checkpoint.folder import held
from l0ref.cli import main
from l0ref.cli.build import build_job
from l0ref.cli.config import read_config
from l0ref.cli.settings import resolve
from l0ref.data.idx import read_idx
from l0ref.deploy.costs import Costs
from l0ref.errors import L0RefError
from l0ref.interop.onnx_read import from_onnx
from l0ref.interop.safetensors import load_safetensors
from tests.hostile.corpus import CASES

ROOM, SECONDS = 256 * 2**20, 20  # the wall clock ends only what waits for ever; CPU seconds are reported
RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class", "exec", "compile")
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")


def command(*arguments: str) -> None:
    """Run a command; its sentence becomes the error."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(arguments)
    if code:
        assert (code, err.getvalue().count("\n")) == (2, 1), (code, err.getvalue()[-2000:])
        raise L0RefError(err.getvalue())


def all_vectors(folder: Path) -> None:
    for name in vectors.names(folder):
        vectors.load(name, folder)


def new_result(folder: Path) -> None:
    with claim(folder, names=["model.npz"], overwrite=True) as place:
        (place.build / "model.npz").write_bytes(b"new")
        place.publish()


def configured(path: Path) -> None:
    settings = resolve(read_config(str(path)))
    build_job(settings)
    settings.load()


def newest_state(folder: Path) -> None:
    with held(folder, every=1):
        pass


READERS: dict[str, Callable[[Path], Any]] = {
    "npz": read_npz,
    "model": checkpoint.load,
    "state": checkpoint.load_state,
    "idx": read_idx,
    "json": read_json,
    "config": configured,
    "costs": Costs.load,
    "report": lambda path: command("report", str(path)),
    "vectors": all_vectors,
    "folder": new_result,
    "states": newest_state,
    "onnx": from_onnx,
    "safetensors": load_safetensors,
}


class Watch:
    """Notes code that is run and files that are changed outside of a folder."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in RUNS:
            self.seen.append(f"{event} {str(arguments)[:200]}")
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (event in CHANGES or writes) and isinstance(arguments[0], str | os.PathLike):  # not what is open already
            path = os.fspath(arguments[0])
            if not os.path.abspath(path).startswith(self.folder):
                self.seen.append(f"{event} {path}")


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Allow `ROOM` bytes more than are mapped now, and `SECONDS`."""

    def late(*_: object) -> None:
        raise TimeoutError("it waits")

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ROOM, before[1]))
    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, before)


def outcome(reader: str, path: Path) -> tuple[str, str]:
    """Return the exception's kind and text: "own" for one of the package, "none" if there was none."""
    try:
        READERS[reader](path)
    except L0RefError as error:
        return "own", str(error)
    except BaseException as error:
        return type(error).__name__, str(error)[:500]
    return "none", ""


def report(root: Path) -> dict[str, Any]:
    """Read all and return what happened."""
    warnings.simplefilter("ignore")
    good = root / "good"
    good.mkdir()
    write_npz(good / "a.npz", {}, manifest={})
    checkpoint.save(good / "b.npz", nn.digits_mlp(seed=0))
    checkpoint.load(good / "b.npz")  # imports what a reader needs, before imports count as code that is run
    for reader in READERS:
        outcome(reader, good / "b.npz")
    outcome("report", good)
    outcome("config", good / "nothing")
    resolve({}).load()
    watch, found = Watch(), {}
    for number, (name, case) in enumerate(CASES.items()):
        folder = root / str(number) / "in"
        folder.mkdir(parents=True)
        (folder.parent / "victim").write_text("kept")
        os.chdir(root)
        path = case.make(folder)
        os.chdir(folder.parent)
        watch.folder, watch.seen, start = str(folder), [], time.process_time()
        with limited():
            kind, said = outcome(case.reader, path)
        watch.folder, seconds = None, time.process_time() - start
        changed = [w for w in folder.parent.iterdir() if w.name not in ("in", "victim", "elsewhere")]
        kept = (folder.parent / "victim").read_text() == "kept"
        if (other := folder.parent / "elsewhere").exists():
            kept = kept and (other / "model.npz").read_bytes() == b"kept"
        found[name] = {"kind": kind, "said": said[:2000], "length": len(said), "seconds": seconds,
                       "seen": watch.seen, "kept": kept and not changed}  # fmt: skip
        for file in folder.rglob("*"):  # holes are cheap, the rest is not
            if file.is_file() and not file.is_symlink():
                file.unlink()
    return found


if __name__ == "__main__":
    json.dump(report(Path(sys.argv[1])), sys.stdout)
