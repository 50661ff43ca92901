"""`import`: the time a fresh Python process takes to import a library."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

from l0ref.bench.work import OURS, Contender, Plan, Suite, Work

IMPORTS = {
    OURS: "import l0ref",
    "torch": "import torch",
    "autograd": "import autograd, autograd.numpy",
    "mygrad": "import mygrad",
    "limits": "import numpy",
}
READY = {
    OURS: "import l0ref; l0ref.nn.lenet_300_100(seed=0); l0ref.fit, l0ref.optim.Adam(), l0ref.Penalty()",
    "torch": "from torch import nn, optim; net = nn.Sequential(nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), "
    "nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)); optim.Adam(net.parameters())",
}
NAMES = {"limits": "numpy"}


def works(plan: Plan) -> Iterator[Work]:
    """The whole process, from start to end, with byte code on disk; "Python alone" is a process that does nothing.

    `import l0ref` loads names on first use, so the second work is the fairer one: it imports everything that training
    needs and creates a network and its optimiser.
    """
    for name, codes in (("import", IMPORTS), ("import, LeNet-300-100 and Adam ready", READY)):
        chosen = {key: code for key, code in codes.items() if key in (OURS, *plan.peers)}
        contenders = [Contender(NAMES.get(key, key), Process(code).run) for key, code in chosen.items()]
        alone = Contender("Python alone", Process("pass").run)
        yield Work(name, [*contenders, alone], unit="process", units=1, pinned=False)


class Process:
    """A fresh Python that runs a line of code."""

    def __init__(self, code: str) -> None:
        self.code = code
        # Byte code is kept, as in an ordinary installation; the first, untimed run writes it.
        self.environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def run(self, times: int) -> None:
        """Run it `times` times, one after another; a process that fails raises CalledProcessError."""
        for _ in range(times):
            subprocess.run([sys.executable, "-c", self.code], env=self.environment, check=True)


SUITES = (Suite("import", "a fresh process that imports a library, and one that is ready to train", works),)
