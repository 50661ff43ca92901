"""`python -m l0ref` and the command `l0ref`: one BLAS thread, then the command line.

Matrix products this small gain little from a second thread, and become a hundred times slower where
another program occupies the second core: BLAS threads spin while they wait. One thread also makes a
result independent of the number of cores. OPENBLAS_NUM_THREADS and the like take precedence if set.
"""

from __future__ import annotations

import os
import sys

THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def main() -> int:
    """Choose the number of BLAS threads, which NumPy reads when it is imported, and run the command."""
    for name in THREADS:
        os.environ.setdefault(name, "1")
    try:
        from l0ref.cli import main as run

        return run()
    except KeyboardInterrupt:  # in the first moments, before a command runs
        if "--debug" in sys.argv:
            raise
        sys.stderr.write("l0ref: interrupted\n")
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
