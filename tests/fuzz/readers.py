"""Every reader against files changed at random: it returns, or raises an error of the package, in 256 MiB and 2 s.

    python -m tests.fuzz.readers state 10000          mutations drawn from a seed, without any further package
    python -m tests.fuzz.guided state                 guided by coverage, until it is stopped (extra `fuzz`)

Readers are npz, model, state, idx, json, config, costs and vectors. L0REF_SEED changes the mutations.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from l0ref import checkpoint, fit, nn, vectors
from l0ref.archive import write_npz
from l0ref.data import load
from l0ref.deploy.costs import Costs, Line
from l0ref.errors import L0RefError
from tests import test_data_idx as idx
from tests.hostile.corpus import NAMES, index
from tests.hostile.subject import READERS, limited

SECONDS = 2  # of work for each file
WORDS = (b"\0", b"\xff", b"0", b"-1", b"NaN", b"1e999", b"[", b"{", b'"', b"null", b"PK\5\6", b"9" * 40, b"\xff" * 4)


def seed(reader: str, folder: Path) -> Path:
    """Write a sound file for a reader and return the path that is changed."""
    path = folder / NAMES.get(reader, "a")
    if reader == "npz":
        write_npz(path, {"w": np.arange(6.0), "m": np.array([True, False])}, manifest={"k": [1]}, compress=True)
    elif reader == "model":
        net = nn.Model.init([nn.Linear("a", 4, 3), nn.ReLU("b"), nn.Linear("c", 3, 2)], input_shape=(4,), seed=0)
        checkpoint.save(path, net)
    elif reader == "state":
        data = load("digits", flatten=True).train
        net = nn.Model.init([nn.Linear("a", 64, 10)], input_shape=(64,), seed=0)
        fit(net, data, epochs=1, seed=0, batch_size=1200, checkpoint=folder / "states", progress="none")
        shutil.copy(next((folder / "states").glob("step-*.npz")), path)
    elif reader == "idx":
        path.write_bytes(gzip.compress(idx.idx((3, 2, 5)), mtime=0))
    elif reader == "json":
        path.write_bytes(b'{"a": [1, -2.5e3, null, true], "b": {"c": "\\u00e9 text"}}')
    elif reader == "config":
        path.write_bytes(b'epochs = 3\nlr = 1e-3\ncontrols = ["none"]\ncurve = [2, 4.5]\nmethod = "wanda"\n')
    elif reader == "costs":
        lines = {kind: Line((1e-6, 1e-9), (1e-6, 1e-8, 1e-9)) for kind in ("linear", "conv")}
        Costs(lines, 16, 0.1).save(path)
    else:
        path = folder / "linear.json"
        path.write_bytes((Path(vectors.__file__).parent / "v1" / "linear.json").read_bytes())
    return path


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Return `data` with one to four changes: a bit, a word, a piece cut, copied or left out, an end cut off."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at, n = (int(v) for v in rng.integers(0, [len(changed) + 1, 20]))
        kind = int(rng.integers(6))
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            word = WORDS[int(rng.integers(len(WORDS)))]
            changed[at : at + len(word) * int(rng.integers(2))] = word
        elif kind == 2:
            del changed[at : at + n]
        elif kind == 3:
            changed[at:at] = changed[n : 2 * n]
        elif kind == 4:
            changed[at : at + n] = rng.bytes(n)
        elif kind == 5 and rng.random() < 0.1:
            del changed[at:]
    return bytes(changed)


def attempt(reader: str, path: Path, data: bytes) -> None:
    """Let a reader read `data`; whatever it raises that is not the package's own passes."""
    with contextlib.suppress(L0RefError):
        read(reader, path, data)


def read(reader: str, path: Path, data: bytes) -> None:
    """Let a reader read `data`; the index of vectors has the checksum of any."""
    path.write_bytes(data)
    if reader == "vectors":
        path = index(path.parent, cases=4, sha256=hashlib.sha256(data).hexdigest())
    READERS[reader](path)


def run(reader: str, times: int, folder: Path) -> None:
    """Try a reader on so many mutations under limits of memory and time; the bytes that broke it are in the error."""
    path = seed(reader, folder)
    sound, rng = path.read_bytes(), np.random.default_rng(int(os.environ.get("L0REF_SEED", "0")))
    read(reader, path, sound)
    for i in range(times):
        data, start = mutate(sound, rng), time.process_time()
        try:
            with limited():
                attempt(reader, path, data)
            if (took := time.process_time() - start) > SECONDS:
                raise TimeoutError(f"{took:.1f} s")
        except Exception as error:
            raise AssertionError(
                f"{reader}, mutation {i}: {type(error).__name__}: {error}; of {data[:2000]!r}"
            ) from error


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        run(sys.argv[1], int(sys.argv[2]), Path(name))
