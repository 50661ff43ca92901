"""Draw the floors and rooms of the package from its imports: `python docs/floors.py` writes docs/figures/floors.svg.

A room is a folder or a file directly under l0ref/. Its floor stands in the table that tests/house.py holds all imports
to; within a floor it stands above the rooms it imports from. Only arrows that are not implied by others are drawn.
`tests/test_reading.py` fails when the figure differs from the imports of today.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIGURE = ROOT / "docs" / "figures" / "floors.svg"
WIDTH, HEIGHT, GAP, STEP, MARGIN = 104, 26, 56, 24, 70  # pixels: box, gaps between boxes and rows, space for labels
FRONT = {"__init__", "__main__"}  # the front door names everything

Rooms = Mapping[str, set[str]]  # a room and those it imports from


def rooms(package: Path) -> dict[str, set[str]]:
    """Return the rooms of a package and what each imports from, imports within functions included."""
    found: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).with_suffix("").parts[0]
        if room not in FRONT:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found.setdefault(room, set()).update(_imported(tree, package.name) - {room})
    return {room: used & found.keys() for room, used in found.items()}


def _imported(tree: ast.AST, package: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith(f"{package}.")}


def reach(used: Rooms) -> dict[str, set[str]]:
    """Return all rooms below each room, and the room itself where files of two rooms import each other's."""
    below = {room: set(others) for room, others in used.items()}
    for middle in used:
        for room in used:
            if middle in below[room]:
                below[room] |= below[middle]
    return below


def rows(used: Rooms, floors: Mapping[str, int]) -> list[tuple[int, list[str]]]:
    """Return (floor, rooms) from the top down; within a floor a room stands above those it imports from.

    Rooms that import from each other stand side by side.
    """
    below = reach(used)
    together = {room: {room} | {other for other in below[room] if room in below[other]} for room in used}

    def level(room: str) -> tuple[int, int]:
        under = set().union(*(used[one] for one in together[room])) - together[room]
        here = [level(other)[1] for other in under if floors[other] == floors[room]]
        return floors[room], 1 + max(here, default=-1)

    levels = {room: level(room) for room in used}
    return [
        (key[0], sorted(room for room, own in levels.items() if own == key))
        for key in sorted(set(levels.values()), reverse=True)
    ]


def svg(used: Rooms, floors: Mapping[str, int], core: Collection[str]) -> str:
    """Return the figure: a box for each room, blue on the core path, and a line to each one it imports from."""
    table, below = rows(used, floors), reach(used)
    width = 2 * MARGIN + max(len(row) for _, row in table) * (WIDTH + GAP)
    place = {
        room: ((width - len(row) * (WIDTH + GAP)) // 2 + i * (WIDTH + GAP), STEP + number * (HEIGHT + STEP))
        for number, (_, row) in enumerate(table)
        for i, room in enumerate(row)
    }
    height = STEP + len(table) * (HEIGHT + STEP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, (floor, _) in enumerate(table):
        if number == 0 or table[number - 1][0] != floor:
            y = STEP // 2 + number * (HEIGHT + STEP)
            parts.append(f'<line x1="0" y1="{y}" x2="{width}" y2="{y}" stroke="#d5dde5" stroke-dasharray="4 4"/>')
            parts.append(f'<text x="6" y="{y + 28}" fill="#556677">floor {floor}</text>')
    for room in sorted(used):
        implied = set().union(*(below[other] - {other} for other in used[room] if room not in below[other]))
        for other in sorted(used[room] - implied):
            (x, y), (to_x, to_y) = place[room], place[other]
            down = HEIGHT if to_y > y else HEIGHT // 2
            ends = f'x1="{x + WIDTH // 2}" y1="{y + down}" x2="{to_x + WIDTH // 2}" y2="{to_y + HEIGHT - down}"'
            parts.append(f'<line {ends} stroke="#7d8fa3" stroke-opacity="0.6"/>')
    for room, (x, y) in sorted(place.items()):
        fill = "#dcebff" if room in core else "#f3f3f3"
        parts.append(f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="4" fill="{fill}" stroke="#556677"/>')
        parts.append(f'<text x="{x + WIDTH // 2}" y="{y + 17}" text-anchor="middle">{room}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from tests.house import CORE, FLOORS

    FIGURE.write_text(svg(rooms(ROOT / "l0ref"), FLOORS, CORE), encoding="utf-8")
