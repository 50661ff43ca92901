"""Print line N of the first fenced sh block of README.md: 1 sets up and runs the main job, 2 the tests."""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def readme_line(text: str, number: int) -> str:
    """Return line `number` (from 1) of the first fenced block of `text`, which must be two lines of sh."""
    fence = re.search(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    if fence is None or fence[1] != "sh" or len(fence[2].splitlines()) != 2:
        raise SystemExit("README.md does not open with a fenced sh block of two lines")
    return fence[2].splitlines()[number - 1]


if __name__ == "__main__":
    print(readme_line(README.read_text(encoding="utf-8"), int(sys.argv[1])))
