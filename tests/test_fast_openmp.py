"""How long a waiting thread spins: set for Numba's OpenMP, and for nobody else's."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from l0ref.fast.machine.policy import SPINS

CODE = (
    "import os, l0ref.fast.machine.policy; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"
)
OURS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def has_openmp() -> bool:
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return False
    return True


def run(**settings: str) -> tuple[str, str]:
    """What stands in the environment after the import, and what OpenMP says of itself when it is loaded."""
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    environment = {**clean, "OMP_DISPLAY_ENV": "verbose", **settings}
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr


def test_the_environment_is_as_it_was() -> None:
    assert run()[0] == "None None"
    assert run(GOMP_SPINCOUNT="77")[0] == "77 None"
    assert run(OMP_WAIT_POLICY="active")[0] == "None active"


@pytest.mark.skipif(not has_openmp(), reason="this system has no libgomp")
def test_openmp_has_read_the_setting() -> None:
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in run()[1]


@pytest.mark.parametrize("name", OURS)
def test_who_sets_it_has_the_say(name: str) -> None:
    assert (
        "GOMP_SPINCOUNT = '1000'" not in run(**{name: {"GOMP_SPINCOUNT": "77", "OMP_WAIT_POLICY": "passive"}[name]})[1]
    )
