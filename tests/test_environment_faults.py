"""What surrounds a run goes wrong: gradients of NaN, clocks that jump, folders that close, no place for kernels."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import l0ref
from l0ref import optim
from l0ref.checkpoint import load_state
from l0ref.checkpoint.folder import states
from l0ref.cli import main
from l0ref.errors import Diverged
from l0ref.fast.chain import Chain
from l0ref.training import steps
from tests.ended import ROOT, Commands, permissions_bind
from tests.test_masks_hold import OPTIMIZERS
from tests.test_resume import Stop, begun, gone_on, stopped_at, summary
from tests.test_training_state import LAYERS, PENALTY, PLAIN, RECIPES, Recipe

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="capabilities and clocks of Linux")
RECIPE = RECIPES["momentum, best"]
JOB = ["--epochs", "2", "--finetune-epochs", "1", "--controls", "no", "--quiet", "--no-figures"]


# --- NaN in a gradient ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_nan_in_a_gradient_ends_training_and_the_last_good_state_goes_on(
    optimizer: optim.Optimizer, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One entry, once, in the last step of the second epoch; no prox and no mask hides it."""
    recipe = Recipe(3, penalty=PENALTY, batch_size=7, optimizer=optimizer)

    def spoilt(kind: Any, name: str) -> Any:
        whole, calls = getattr(kind, name), [0]

        def wrapper(*args: Any, **options: Any) -> Any:
            found = whole(*args, **options)
            calls[0] += 1
            if calls[0] == 8:
                grads = args[2] if name == "gradient" else found.grads
                grads["fc2.weight"][0, 0] = np.nan
            return found

        return wrapper

    with l0ref.backend(backend):
        unbroken = summary(begun(None, recipe, PLAIN))
        said = r"^train, epoch 2, batch 4: fc\d.weight holds NaN or infinite entries; the last good state is kept"
        with monkeypatch.context() as patch:
            for kind, name in ((Chain, "gradient"), (steps, "loss_and_gradient")):
                patch.setattr(kind, name, spoilt(kind, name))
            with pytest.raises(Diverged, match=said) as error:
                begun(tmp_path, recipe, PLAIN, every=0.0)
        assert all(np.isfinite(p).all() for p in error.value.model.params.values())
        assert load_state(states(tmp_path)[-1]).state.step == 7
        assert gone_on(tmp_path) == unbroken


# --- clocks that jump -------------------------------------------------------------------------------------------------


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every clock leaps by years at every look: to and fro, and the one that times states backwards."""
    rng, year = np.random.default_rng(int(os.environ.get("L0REF_SEED", "0"))), 3.15e7
    for name in ("time", "perf_counter"):
        clock = getattr(time, name)
        monkeypatch.setattr(time, name, lambda clock=clock: clock() + float(rng.uniform(-40, 40)) * year)
    looks = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: 1e9 - next(looks) * year)
    yield
    monkeypatch.undo()


@pytest.mark.usefixtures("jumping")
@pytest.mark.parametrize("every", [1, 5.0])
def test_a_clock_that_jumps_changes_no_bit_and_states_are_kept(every: float, tmp_path: Path) -> None:
    unbroken = summary(begun(None, RECIPE, LAYERS))
    with pytest.raises(Stop):
        begun(tmp_path, RECIPE, LAYERS, every=every, last=10)
    last = states(tmp_path)
    for path, when in zip(last, (2e9, 0), strict=True):  # the older file is the newer one by its time
        os.utime(path, (when, when))
    assert load_state(last[-1]).state.step == (8 if every == 1 else 9)
    with pytest.raises(Stop):
        gone_on(tmp_path, after_step=stopped_at(11), checkpoint_every=every)
    assert gone_on(tmp_path) == unbroken


# --- folders that close -----------------------------------------------------------------------------------------------


def opened(folder: Path) -> None:
    for path, _, _ in os.walk(folder):
        os.chmod(path, 0o755)


def test_a_folder_turned_read_only(tmp_path: Path) -> None:
    """In the middle of a run; permissions hold for root as well here."""
    out, often = tmp_path / "out", ["--checkpoint-every", "1epochs", "--out"]
    assert main(["compress", *JOB, "--out", str(tmp_path / "unbroken")]) == 0
    with Commands() as run:
        ended = run("compress", *JOB, *often, str(out), states=2, closes=str(out))
    opened(out)
    refused = f"{out / 'dense.npz'} cannot be opened: Permission denied; allow it, or choose another folder"
    assert ended == (1, f"l0ref compress: {refused}; l0ref compress --resume {out} continues the run\n")
    assert main(["compress", "--resume", str(out), "--quiet", "--no-figures"]) == 0
    for name in ("model.npz", "dense.npz", "compact.npz"):
        assert (out / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == [".l0ref.json"]


# --- no place for kernels ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(l0ref.autodiff.op.DEFAULT_BACKEND == "numpy", reason="nothing is compiled")
@pytest.mark.parametrize("job", ["a product", pytest.param("compress", marks=pytest.mark.slow)])
def test_home_and_the_cache_of_kernels_are_not_writable(job: str, tmp_path: Path) -> None:
    closed, out = tmp_path / "closed", tmp_path / "out"
    shutil.copytree(ROOT / "l0ref", closed / "l0ref", ignore=shutil.ignore_patterns("__pycache__"))
    (closed / "home").mkdir()
    for path, _, _ in os.walk(closed):
        os.chmod(path, 0o555)
    home = str(closed / "home")
    given = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "MPLCONFIGDIR")}
    given |= {"HOME": home, "NUMBA_CACHE_DIR": home, "PYTHONPATH": str(closed)}
    command = [
        sys.executable,
        "-m",
        "l0ref",
        "compress",
        *(flag for flag in JOB if flag != "--quiet"),
        "--out",
        str(out),
    ]
    if job == "a product":
        code = "import numpy as np; from l0ref import Tensor, ops; print(ops.relu(Tensor(np.ones((300, 300)))).shape)"
        command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env=given, cwd=closed, preexec_fn=permissions_bind, capture_output=True, text=True, check=False
    )
    opened(closed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("(300, 300)\n" if job == "a product" else f"results in {out}\n")
    assert done.stderr.count("l0ref cannot keep its compiled kernels (neither the package's folder nor the user's") == 1
    assert not list(closed.rglob("*.nb?"))


def test_every_promise_names_tests_that_are_there() -> None:
    commands = re.findall(r"`pytest ([^`]*)`", (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8"))
    assert len(commands) > 20
    for command in commands:
        files, _, chosen = command.partition(" -k ")
        names = [
            n for f in files.split() for n in re.findall(r"def (test_\w+)", (ROOT / f).read_text(encoding="utf-8"))
        ]
        for word in chosen.strip('"').split(" or "):
            assert any(word in name for name in names), f"{command}: {word}"
