"""Processes that are forked, and threads that share a pool which serves one at a time."""

from __future__ import annotations

import os
import subprocess
import sys

import numba
import pytest

pytestmark = [
    pytest.mark.kernels,
    pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="there are no threads"),
]

NETWORK = """
import multiprocessing, threading
import numpy as np
from l0ref import nn, fit
from l0ref.data import Dataset

net = nn.lenet_300_100(seed=0)
x = np.random.default_rng(0).random((256, 1, 28, 28), dtype=np.float32)
data = Dataset(x, np.arange(256) % 10, 10, "noise")

def work(_=None):
    trained, _ = fit(net, data, epochs=1, seed=0, batch_size=128, progress="none")
    return net.logits(x).tobytes(), trained.params["fc1.weight"].tobytes()
"""
FORK = """
if __name__ == "__main__":
    here = work()
    from numba.np.ufunc import parallel
    assert parallel._is_initialized and parallel.threading_layer() == LAYER, parallel.threading_layer()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        there = pool.map_async(work, range(2)).get(timeout=120)
    assert there == [here, here] and work() == here
    print("equal")
"""
THREADS = """
here = net.logits(x)
from numba.np.ufunc import parallel
assert parallel.threading_layer() == "workqueue"
found = []
def run():
    for _ in range(20):
        found.append(np.array_equal(net.logits(x), here))
threads = [threading.Thread(target=run) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert found == [True] * 80
print("equal")
"""


def run(code: str, layer: str) -> str:
    environment = {**os.environ, "NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", NETWORK + code.replace("LAYER", repr(layer))], env=environment, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_a_forked_process_computes_the_same_on_one_thread(layer: str) -> None:
    assert run(FORK, layer) == "equal\n"


def test_threads_take_turns_where_the_pool_serves_one() -> None:
    assert run(THREADS, "workqueue") == "equal\n"
