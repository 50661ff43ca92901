"""Count again with every checker, and write what follows: counts.json and docs/faults.md. Takes some minutes."""

from __future__ import annotations

from tests.faults.count import count, write
from tests.faults.table import PAGE, page


def main() -> None:
    counts = count()
    write(counts)
    PAGE.write_text(page(counts), encoding="utf-8")
    print(f"{sum(kind['planted'] for kind in counts['kinds'].values()):,} faults; wrote {PAGE}")


if __name__ == "__main__":
    main()
