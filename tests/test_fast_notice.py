"""What is said when kernels are compiled: one line, for l0ref's own kernels only."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numba
import pytest
from numba.core import event

from l0ref.cli import main
from l0ref.fast.machine import policy
from l0ref.fast.machine.notice import Notice, announce_compilation

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
compile_fresh: Callable[[Any], Any] = numba.njit


@pytest.fixture
def notice(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notice]:
    """A listener of its own; that of the process is silent meanwhile."""
    monkeypatch.setattr(policy.NOTICE, "is_given", True)
    listener = announce_compilation()
    yield listener
    event.unregister("numba:compile", listener)


def compiled_in(module: str | None) -> None:
    """Compile something new that says it stands in this module."""

    def double(x: int) -> int:
        return 2 * x

    double.__module__ = module
    assert compile_fresh(double)(3) == 6


@pytest.mark.usefixtures("notice")
def test_the_first_kernel_is_announced_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="l0ref.fast"):
        compiled_in("somebody.elses")
        compiled_in(None)  # as of a function that exec made
        compiled_in("l0ref.faster")
        assert not caplog.records
        compiled_in("l0ref.fast.step.update")
        compiled_in("l0ref.fast.chain.gates")
    said = "l0ref compiles its kernels for this processor: some seconds, once; they are kept on disk"
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [("l0ref.fast", "WARNING", said)]


def test_what_is_compiled_already_is_not_announced(notice: Notice, caplog: pytest.LogCaptureFixture) -> None:
    def double(x: int) -> int:
        return 2 * x

    double.__module__ = "l0ref.fast.step.update"
    function = compile_fresh(double)
    with caplog.at_level(logging.WARNING, logger="l0ref.fast"):
        assert function(3) == 6
        notice.is_given = False
        caplog.clear()
        assert function(4) == 8
    assert not caplog.records


@pytest.mark.parametrize(("flags", "is_heard"), [((), True), (("--quiet",), False)], ids=["as usual", "--quiet"])
def test_quiet_commands_do_not_announce(flags: tuple[str, ...], is_heard: bool) -> None:
    logger = logging.getLogger("l0ref")
    logger.setLevel(logging.NOTSET)
    try:
        assert main(["compress", *flags, "--config", "not there.toml"]) == 2
        assert logger.isEnabledFor(logging.WARNING) == is_heard
    finally:
        logger.setLevel(logging.NOTSET)
