"""A reader against bytes that atheris chooses by the branches they reach, until it is stopped (extra `fuzz`).

python -m tests.fuzz.guided state -max_total_time=60       state, or another reader; the rest is libFuzzer's
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    import atheris

    with atheris.instrument_imports(include=["l0ref.archive", "l0ref.checkpoint", "l0ref.data", "l0ref.vectors"]):
        from tests.fuzz.readers import attempt, seed

    with tempfile.TemporaryDirectory() as name:
        reader, path = sys.argv[1], seed(sys.argv[1], Path(name))
        (Path(name) / "corpus").mkdir()
        shutil.copy(path, Path(name) / "corpus")
        atheris.Setup([sys.argv[0], *sys.argv[2:], f"{name}/corpus"], lambda data: attempt(reader, path, data))
        atheris.Fuzz()
