"""`l0ref sweep --scheduler`: a Dask cluster of processes, workers and schedulers that are killed, other networks."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from l0ref.cli import main
from l0ref.errors import ConfigError, L0RefError
from l0ref.experiment import engine
from l0ref.experiment.engine import completed

distributed = pytest.importorskip("distributed", reason="needs the extra sweep")

ROOT = Path(__file__).resolve().parents[1]
JOB = "epochs = 2\nfinetune-epochs = 1\ncontrols = []\namount = 0.5\nbatch_size = 256\n"
SLOW_JOB = JOB.replace("epochs = 2", "epochs = 60", 1)  # long enough to be killed within
GRID = ["--grid", "alpha=1e-4,4e-4", "--quiet", "--no-figures", "--checkpoint-every", "1epochs"]
ARRAYS = ("model.npz", "dense.npz", "masks.npz", "compact.npz")
QUIETLY: dict[str, Any] = {"dashboard_address": "127.0.0.1:0", "silence_logs": 50}
GIVEN = os.environ | {"PYTHONPATH": os.fspath(ROOT)}


def job(folder: Path, text: str = JOB) -> str:
    (folder / "job.toml").write_text(text, encoding="utf-8")
    return str(folder / "job.toml")


def bits(folder: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(folder)): p.read_bytes() for name in ARRAYS for p in folder.rglob(f"seed-*/{name}")}
    assert len(found) % len(ARRAYS) == 0
    return found


def until(holds: Callable[[], Any], *, seconds: float = 120) -> None:
    """Wait for what other processes do."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a scheduler with two worker processes of this machine."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **QUIETLY) as made:
        yield str(made.scheduler_address)


# jobs of the engine


def double(x: int) -> int:
    return 2 * x


def process_and_threads(_: int) -> tuple[int, int, str]:
    import numba

    return os.getpid(), numba.get_num_threads(), os.environ["OPENBLAS_NUM_THREADS"]


def killed_once(marker: str) -> str:
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return marker


def fails(x: int) -> int:
    if x == 3:
        raise L0RefError(f"x={x} must not be 3")
    return x


def test_a_cluster_does_every_job_once_with_one_thread_in_other_processes(cluster: str, tmp_path: Path) -> None:
    assert sorted(completed(double, range(7), scheduler=cluster, shared=tmp_path)) == [(i, 2 * i) for i in range(7)]
    assert list(completed(double, [], scheduler=cluster)) == []
    found = [result for _, result in completed(process_and_threads, range(8), scheduler=cluster)]
    assert os.getpid() not in {pid for pid, *_ in found}
    assert {(threads, blas) for _, threads, blas in found} == {(1, "1")}
    with pytest.raises(L0RefError, match="x=3 must not be 3"):
        list(completed(fails, range(7), scheduler=cluster))


def test_a_cluster_that_cannot_work_is_refused(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "SECONDS", 1)
    for address, told in (
        ("tcp://127.0.0.1:1", r"scheduler='tcp://127.0.0.1:1' does not answer: .*; start one with dask scheduler"),
        ("nope://x", r"scheduler='nope://x' does not answer"),
        ("tcp://127.0.0.1:x", r"scheduler='tcp://127.0.0.1:x' does not answer"),
    ):
        with pytest.raises(ConfigError, match=told):
            list(completed(double, [1], scheduler=address))
    missing = tmp_path / "missing"
    with pytest.raises(ConfigError, match=r"tcp://\S+ does not see .*missing; give a folder that all machines share"):
        list(completed(double, [1], scheduler=cluster, shared=missing))
    with monkeypatch.context() as patched:
        patched.setattr(engine, "__version__", "0.0")
        with pytest.raises(ConfigError, match=r"tcp://\S+ has l0ref \S+, not 0.0; install the same release"):
            list(completed(double, [1], scheduler=cluster))
    with monkeypatch.context() as patched:
        patched.setattr(distributed.Client, "nthreads", lambda self: dict.fromkeys(self.scheduler_info()["workers"], 3))
        with pytest.raises(ConfigError, match=r"tcp://\S+ has 3 threads; start it with --nthreads 1"):
            list(completed(double, [1], scheduler=cluster))


@pytest.mark.slow
def test_a_scheduler_without_workers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    alone = scheduler_at("127.0.0.1", port)
    try:
        until(lambda: is_open(port))
        monkeypatch.setattr(engine, "SECONDS", 2)
        with pytest.raises(ConfigError, match="has no workers; start some with dask worker --nthreads 1"):
            list(completed(double, [1], scheduler=f"tcp://127.0.0.1:{port}"))
    finally:
        ended(alone)


def test_what_a_killed_worker_did_is_done_by_another(cluster: str, tmp_path: Path) -> None:
    markers = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert sorted(completed(killed_once, markers, scheduler=cluster)) == list(enumerate(markers))


def test_a_cluster_gives_the_bits_of_one_process(cluster: str, tmp_path: Path) -> None:
    for name, where in (("here", []), ("there", ["--scheduler", cluster])):
        assert main(["sweep", job(tmp_path), *GRID, *where, "--out", str(tmp_path / name)]) == 0
    assert bits(tmp_path / "there") == bits(tmp_path / "here")
    assert len(bits(tmp_path / "here")) == 2 * len(ARRAYS)
    index = [(tmp_path / name / "sweep.json").read_bytes() for name in ("here", "there")]
    assert index[0] == index[1]


# processes started by hand


def started(*words: str, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    """A process in a group of its own."""
    command = [*before, sys.executable, "-m", *words]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=GIVEN, cwd=ROOT, start_new_session=True, **quiet)


def ended(*processes: subprocess.Popen[bytes]) -> None:
    """Kill processes and what they have started."""
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def scheduler_at(host: str, port: int) -> subprocess.Popen[bytes]:
    return started("distributed.cli.dask_scheduler", "--host", host, "--port", str(port), "--no-dashboard")


def worker_of(address: str, *before: str) -> subprocess.Popen[bytes]:
    words = ("distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard")
    return started(*words, before=before)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_a_lost_scheduler_is_told_and_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SECONDS", 60)  # for workers on a busy machine
    port, out = free_port(), tmp_path / "out"
    address = f"tcp://127.0.0.1:{port}"
    arguments = ["sweep", job(tmp_path, SLOW_JOB), *GRID, "--seeds", "3", "--out", str(out), "--scheduler", address]
    first = [scheduler_at("127.0.0.1", port), worker_of(address)]
    killer = threading.Thread(
        target=lambda: (until(lambda: list(out.rglob("report.json"))), ended(first[0])), daemon=True
    )
    killer.start()
    try:
        assert main(arguments) == 1
    finally:
        killer.join()
        ended(*first)
    told = capsys.readouterr().err
    assert re.search(rf"scheduler='{address}' was lost; start it and run the same command again: it continues", told)
    finished = {path: path.stat().st_mtime_ns for path in out.rglob("masks.npz")}
    assert 0 < len(finished) < 6
    second = [scheduler_at("127.0.0.1", port), worker_of(address)]
    try:
        assert main(arguments) == 0
    finally:
        ended(*second)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    here = [*arguments[:-4], "--out", str(tmp_path / "here")]
    assert main(here) == 0
    assert bits(out) == bits(tmp_path / "here")


# two networks

NETWORK = "10.213.77"


def has_namespaces() -> bool:
    """Whether this process may make network namespaces: Linux, iproute2, and the rights of root."""
    if shutil.which("ip") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    name = f"l0ref-probe-{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return False
    made = subprocess.run(
        ["ip", "link", "add", f"l0p{os.getpid() % 10**6}", "type", "bridge"], capture_output=True, check=False
    )
    if made.returncode == 0:
        subprocess.run(["ip", "link", "del", f"l0p{os.getpid() % 10**6}"], check=True)
    subprocess.run(["ip", "netns", "del", name], check=True)
    return made.returncode == 0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def namespaces() -> Iterator[tuple[str, list[str]]]:
    """A bridge with an address of this machine, and two namespaces that reach nothing else."""
    number = os.getpid() % 10**6
    bridge, names = f"l0b{number}", [f"l0ref-{number}-{i}" for i in (1, 2)]
    ip("link", "add", bridge, "type", "bridge")
    try:
        ip("addr", "add", f"{NETWORK}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for i, name in enumerate(names, 1):
            ip("netns", "add", name)
            inner, outer = f"l0i{number}{i}", f"l0o{number}{i}"
            ip("link", "add", outer, "type", "veth", "peer", "name", inner)
            ip("link", "set", outer, "master", bridge, "up")
            ip("link", "set", inner, "netns", name)
            for words in (
                ("addr", "add", f"{NETWORK}.{i + 1}/24", "dev", inner),
                ("link", "set", inner, "up"),
                ("link", "set", "lo", "up"),
            ):
                ip("-n", name, *words)
        yield f"{NETWORK}.1", names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", bridge], check=False, capture_output=True)


if has_namespaces():  # not collected elsewhere, as nothing could make it run there

    @pytest.mark.slow
    def test_workers_in_two_networks_one_of_which_is_killed(namespaces: tuple[str, list[str]], tmp_path: Path) -> None:
        """The client is a process of its own: connections of the tests themselves stay on loopback."""
        host, names = namespaces
        port, out = free_port(), tmp_path / "out"
        address = f"tcp://{host}:{port}"
        workers = [worker_of(address, "ip", "netns", "exec", name) for name in names]
        others = [scheduler_at(host, port)]
        arguments = ["sweep", job(tmp_path, SLOW_JOB), *GRID, "--seeds", "2"]
        try:
            others.append(started("l0ref", *arguments, "--out", str(out), "--scheduler", address))
            until(lambda: len({p.parents[3] for p in out.rglob("step-*.npz")}) == 2)  # both workers are at it
            ended(workers[0])
            assert others[1].wait(300) == 0
        finally:
            ended(*workers, *others)
        assert main([*arguments, "--out", str(tmp_path / "here")]) == 0
        assert bits(out) == bits(tmp_path / "here")
        assert len(bits(out)) == 4 * len(ARRAYS)
