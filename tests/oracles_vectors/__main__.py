"""Write the vectors into a folder, that of the package by default."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.oracles_vectors.writer import files

HOME = Path(__file__).resolve().parents[2] / "l0ref" / "vectors" / "v1"


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files():
        (folder / name).write_bytes(data)
        print(f"{len(data):9,d}  {folder / name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HOME)
