"""The command starts anywhere: without home, with any MPLBACKEND, and with nothing loaded that it does not need yet."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import Any

import pytest

from l0ref import data
from l0ref.__main__ import main as start
from l0ref.cli import build_parser, main
from l0ref.cli.signals import EndSignals
from l0ref.deploy.costs import costs_file, known_costs
from l0ref.errors import ConfigError, DataError

STRANGE = "module://matplotlib_inline.backend_inline"
LIGHT = {"numpy", "tqdm"}  # what the command line may load before it knows what to do


def python(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_line_loads_nothing_heavy() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[^\w-]", name)[0].replace("-", "_") for name in wanted} | {"llvmlite", "PIL", "certifi"}
    assert {"numba", "matplotlib", "torch", "scipy", "pytest"} <= names
    code = (
        f"import sys; from l0ref.cli import build_parser; build_parser(); print({names} & set(sys.modules) - {LIGHT})"
    )
    assert python("-c", code) == "set()\n"


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_no_backend_of_matplotlib_is_asked_for(flag: str) -> None:
    assert "l0ref" in python("-m", "l0ref", flag, MPLBACKEND=STRANGE)


def test_figures_need_no_backend() -> None:
    code = (
        "from l0ref.report.figures import load_matplotlib; load_matplotlib()\n"
        "from l0ref.report.figures.style import new_figure, png; print(png(new_figure(1.0))[:4])\n"
        "import os; print(os.environ['MPLBACKEND'])\n"
        "import matplotlib; print(matplotlib.get_backend(auto_select=False))\n"
    )
    assert python("-c", code, MPLBACKEND=STRANGE).splitlines()[:2] == [r"b'\x89PNG'", STRANGE]
    assert python("-c", code, MPLBACKEND="svg").splitlines()[1:] == ["svg", "svg"]


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No HOME, and a user whom the system does not know."""

    def unknown(_: int) -> None:
        raise KeyError("uid not found")

    for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "L0REF_COSTS", "L0REF_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    pwd = pytest.importorskip("pwd", reason="this system has no table of users")
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("homeless")
def test_no_home_is_needed_where_no_file_of_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="home"):
        Path.home()  # the fixture does what it says
    build_parser()
    assert main(["calibrate", "--help"]) == 0
    assert "L0REF_COSTS" in capsys.readouterr().out
    assert known_costs() is None
    assert data.load("digits").name == "digits"
    with pytest.raises(ConfigError, match=r"^no home folder is known for the cost model; set L0REF_COSTS to a"):
        costs_file()
    with pytest.raises(DataError, match=r"^no data_dir and no L0REF_DATA_DIR, and a home folder that is not known; na"):
        data.load("mnist")
    with pytest.raises(DataError, match=r"^data_dir='~/x' is in a home folder that is not known; name the folder of"):
        data.load("mnist", data_dir="~/x")
    monkeypatch.setenv("L0REF_COSTS", str(tmp_path / "costs.json"))
    monkeypatch.setenv("L0REF_DATA_DIR", str(tmp_path))
    assert costs_file() == tmp_path / "costs.json"
    with pytest.raises(DataError, match="is missing"):
        data.load("mnist")


def test_ctrl_c_while_the_command_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("l0ref.cli.main", stop)
    monkeypatch.setattr(sys, "argv", ["l0ref", "compress"])
    assert start() == 130
    assert capsys.readouterr().err == "l0ref: interrupted\n"
    monkeypatch.setattr(sys, "argv", ["l0ref", "--debug", "compress"])
    with pytest.raises(KeyboardInterrupt):
        start()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_ends_a_command_like_ctrl_c(
    name: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    number = getattr(signal, name)
    before = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    outside = signal.signal(number, before)  # a suite in the background, or under nohup, ignores some of them

    def wait(_: Any) -> int:
        os.kill(os.getpid(), number)
        threading.Event().wait(10)  # the signal comes at once
        return 0

    monkeypatch.setattr("l0ref.cli.report.run", wait)
    assert main(["report", "x"]) == code
    said = "interrupted" if name == "SIGINT" else f"ended by {name}"
    assert capsys.readouterr().err == f"l0ref report: {said}\n"
    assert signal.signal(number, outside) == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_an_ignored_signal_stays_ignored_and_other_threads_change_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with EndSignals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
    found: list[Any] = []

    def run() -> None:
        with EndSignals():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no pseudo-terminals")
def test_a_terminal_that_hung_up_takes_nothing_with_it(tmp_path: Path) -> None:
    """What a command still writes when its terminal is gone goes nowhere, instead of failing."""
    code = (
        "import sys\nfrom l0ref.cli import main\nimport l0ref.cli.report\n"
        "def wait(_):\n"
        "    try:\n"
        "        sys.stdout.write('ready\\n'); sys.stdout.flush(); sys.stdin.read(); import time; time.sleep(10)\n"
        "    finally:\n"
        "        sys.stderr.write('saving\\n'); open(sys.argv[1], 'w').write('saved')\n"
        "l0ref.cli.report.run = wait\n"
        "sys.exit(main(['report', 'x']))\n"
    )
    here, there = os.openpty()
    saved = tmp_path / "saved"
    command = [sys.executable, "-c", code, str(saved)]
    outside = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which a suite under nohup ignores, and children inherit
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=there, stderr=there)
    signal.signal(signal.SIGHUP, outside)
    try:
        assert os.read(here, 5) == b"ready"
        os.close(there)
        os.close(here)  # the terminal is closed
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=30) == 129
    finally:
        process.kill()
    assert saved.read_text() == "saved"
