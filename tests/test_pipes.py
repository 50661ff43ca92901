"""Commands whose reader has gone: no word on standard error, files written, the exit code that of the work."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from l0ref.cli import main
from l0ref.pipes import Tolerant, tolerant


@pytest.fixture
def closed() -> Iterator[TextIO]:
    """A stream into a pipe whose reading end is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", encoding="utf-8", buffering=1)
    yield stream
    stream.close()  # fails if anything is left that cannot be flushed


def test_the_pipe_of_the_fixture_is_broken() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"text")
    os.close(writer)


@pytest.mark.parametrize("text", ["short", "long line\n" * 100_000])
def test_what_a_closed_pipe_does_not_take_is_dropped(closed: TextIO, text: str) -> None:
    stream = Tolerant(closed)
    assert stream.write(text) == len(text)
    assert stream.write(text) == len(text)
    stream.flush()


def test_other_streams_are_as_they_were() -> None:
    plain = io.StringIO()
    stream = Tolerant(plain)
    assert stream.write("ab") == 2
    stream.flush()
    assert (plain.getvalue(), stream.isatty()) == ("ab", False)

    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        Tolerant(Full()).write("ab")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_both_streams_are_tolerant_and_restored(stream: str, closed: TextIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, stream, closed)
    with tolerant():
        getattr(sys, stream).write("a\n" * 10_000)
    assert getattr(sys, stream) is closed


def test_a_stream_that_is_closed_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["vectors", "list"]) == 0
    assert sys.stdout is None


@pytest.mark.parametrize("arguments", [["--help"], ["vectors", "list"], ["bench", "--list"], ["report", "{folder}"]])
def test_every_command_survives(
    arguments: list[str],
    closed: TextIO,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    report = {"schema_version": 1, "seed": 0, "stages": [{"name": "dense"}]}
    (tmp_path / "report.json").write_text(json.dumps(report))
    monkeypatch.setattr(sys, "stdout", closed)
    assert main([argument.format(folder=tmp_path) for argument in arguments]) == 0
    assert capfd.readouterr().err == ""


def test_files_are_written_and_the_exit_code_is_that_of_the_work(
    closed: TextIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrong_layer.py").write_text(
        "class Adapter:\n    def keep_mask(self, scores, amount, scope):\n        return {}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdout", closed)
    assert main(["vectors", "run", "--adapter", "wrong_layer", "--set", "keep_mask", "--json", "v.json"]) == 1
    assert json.loads(Path("v.json").read_text())["ok"] is False
    del sys.modules["wrong_layer"]


def test_the_process_ends_with_0_and_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "l0ref", "vectors", "list"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
