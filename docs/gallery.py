"""The examples as a gallery: `docs/conf.py` calls this before Sphinx reads anything.

sphinx-gallery wants a title with a line below it and a folder it may write pictures into, so the examples are copied to
docs/_examples; the copies run their fast version. What an example writes as a PNG file becomes its picture.
"""

from __future__ import annotations

import ast
import re
import shutil
import textwrap
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
SOURCES, COPIES = DOCS.parent / "examples", DOCS / "_examples"
LAST = re.compile(r"^if __name__ == \"__main__\":\n    (.*main\(.*\))\n\Z", re.MULTILINE)
BESIDE = "Path(__file__).with_name("  # sphinx-gallery runs an example in its folder, and does not name the file
HEADER = """Examples
========

Each is one short file of ``examples/`` that runs by itself; here the fast version ran, and its pictures are shown.
"""


def copy_examples() -> None:
    """Write the copies anew; refuse an example that does not end by calling `main()`."""
    shutil.rmtree(COPIES, ignore_errors=True)
    COPIES.mkdir()
    (COPIES / "GALLERY_HEADER.rst").write_text(HEADER, encoding="utf-8")
    for path in sorted(SOURCES.glob("ex*.py")):
        (COPIES / path.name).write_text(titled(path.read_text(encoding="utf-8")), encoding="utf-8")


def titled(source: str) -> str:
    """Return an example whose text begins with a title, and which runs its fast version."""
    text, last = ast.get_docstring(ast.parse(source), clean=False), LAST.search(source)
    if text is None or last is None:
        raise ValueError("an example begins with a text and ends with main() under if __name__")
    title = text.split("\n")[0].split(":")[0].rstrip(".")
    new = f"{title}\n{'=' * len(title)}\n\n::\n\n{textwrap.indent(text.strip(), '    ')}\n"
    options = 'fast=True, out="."' if "out=" in last[1] else "fast=True"
    return LAST.sub(f'if __name__ == "__main__":\n    main({options})\n', source.replace(text, new, 1)).replace(
        BESIDE, "Path("
    )


def pictures(_block: Any, variables: dict[str, Any], settings: dict[str, Any]) -> str:
    """Move the PNG files that an example wrote to where sphinx-gallery expects them; return their markup."""
    from sphinx_gallery.scrapers import figure_rst

    found = []
    for path, target in zip(sorted(COPIES.glob("*.png")), variables["image_path_iterator"], strict=False):
        shutil.move(path, target)
        found.append(target)
    return str(figure_rst(found, settings["src_dir"]))
