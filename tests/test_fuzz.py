"""Every reader on files changed at random bytes: a few here, ten thousand for each among the slow tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from l0ref.errors import L0RefError
from tests.fuzz import readers

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory are those of Linux")
NAMES = ("npz", "model", "state", "idx", "json", "config", "costs", "vectors")


@pytest.mark.parametrize("reader", NAMES)
def test_mutations(reader: str, tmp_path: Path) -> None:
    readers.run(reader, 30, tmp_path)
    assert any(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("reader", NAMES)
def test_ten_thousand_mutations(reader: str, tmp_path: Path) -> None:
    readers.run(reader, 10_000, tmp_path)
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize("fault", ["memory", "time"])
def test_a_reader_over_its_limits_is_not_let_pass(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(path: Path) -> None:
        if path.read_bytes() != sound:
            if fault == "memory":
                bytearray(2**29)
            monkeypatch.setattr(readers, "SECONDS", 0)

    sound = readers.seed("json", tmp_path).read_bytes()
    monkeypatch.setitem(readers.READERS, "json", greedy)
    with pytest.raises(AssertionError, match=r"^json, mutation \d: (MemoryError|TimeoutError): .*; of b'"):
        readers.run("json", 3, tmp_path)


def test_another_error_is_not_let_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fragile(path: Path) -> None:
        if path.read_bytes()[0:1] != b"{":
            raise KeyError("planted")
        raise L0RefError("refused")

    path = readers.seed("json", tmp_path)
    monkeypatch.setitem(readers.READERS, "json", fragile)
    readers.attempt("json", path, b"{")
    with pytest.raises(KeyError, match=r"planted"):
        readers.attempt("json", path, b"x")
