"""`python -m l0ref` does what the command `l0ref` does."""

from __future__ import annotations

from l0ref.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
