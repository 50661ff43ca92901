"""Kernels whose files cannot be written, or are damaged: they are compiled again, and nothing stops."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import pytest
from numba.core import caching

from l0ref.fast.machine import storage
from l0ref.fast.machine.policy import kernel

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")


def double(x: int) -> int:
    return 2 * x


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, and nothing said yet."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(storage, "_is_told", False)


def hits() -> int:
    """Compile and run the kernel as a new process would; return whether it was found in the cache."""
    compiled = kernel(double)
    assert compiled(3) == 6
    return sum(compiled.stats.cache_hits.values())


def test_a_kernel_is_kept() -> None:
    assert [hits(), hits()] == [0, 1]


def flipped(content: bytes) -> bytes:
    return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize(
    "damage",
    [flipped, lambda c: c[:-1], lambda c: c[: len(c) // 2], lambda _: b"", lambda _: b"\0" * 100, lambda c: c + b"x"],
    ids=["bit", "byte", "half", "empty", "zeros", "longer"],
)
def test_a_damaged_file_counts_as_absent(tmp_path: Path, kind: str, damage: Callable[[bytes], bytes]) -> None:
    hits()
    (path,) = tmp_path.rglob(f"*.{kind}")
    path.write_bytes(damage(path.read_bytes()))
    assert [hits(), hits()] == [0, 1]


def test_a_file_that_cannot_be_read_counts_as_absent(tmp_path: Path) -> None:
    hits()
    (path,) = tmp_path.rglob("*.nbc")
    path.unlink()
    path.mkdir()
    assert hits() == 0


def test_a_full_disk_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Full:
        def write(self, _: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextmanager
    def full(*_: Any) -> Any:
        yield Full()

    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", full)
    with caplog.at_level(logging.WARNING, logger="l0ref.fast"):
        assert [hits(), hits()] == [0, 0]
    (said,) = caplog.messages
    assert said.startswith("l0ref cannot keep its compiled kernels ([Errno 28] No space left on device), so every proc")
    assert said.endswith("; set NUMBA_CACHE_DIR to a folder with space that can be written")
    assert not list(tmp_path.rglob("*.nb?"))


def test_no_folder_stops_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    assert storage.is_keeping()
    with caplog.at_level(logging.WARNING, logger="l0ref.fast"):
        assert [hits(), hits()] == [0, 0]
    (said,) = caplog.messages
    assert said.startswith(
        "l0ref cannot keep its compiled kernels (neither the package's folder nor the user's cache can"
    )
    assert not storage.is_keeping()


def test_another_error_of_the_compiler_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(caching, "FunctionCache", fail)
    monkeypatch.setattr("numba.core.dispatcher.FunctionCache", fail)
    with pytest.raises(RuntimeError, match="something else"):
        kernel(double)


def test_no_home_is_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba would keep kernels in a folder called "~"."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.chdir(tmp_path)
    assert hits() == 0
    assert not storage.is_keeping()
    assert os.listdir(tmp_path) == []
