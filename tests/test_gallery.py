"""docs/gallery.py: every example gets a title, its text, and the call of its fast version; nothing else changes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from docs import gallery

EXAMPLES = sorted(gallery.SOURCES.glob("ex*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_copies_differ_in_their_text_and_their_last_line_only(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    before, after = ast.parse(source), ast.parse(gallery.titled(source))
    title, line, *_ = (ast.get_docstring(after) or "").split("\n")
    assert (ast.get_docstring(before) or "").startswith(title)
    assert line == "=" * len(title)
    assert ast.unparse(after.body[-1]).startswith("if __name__ == '__main__':\n    main(fast=True")
    kept = [ast.unparse(node).replace("Path(__file__).with_name(", "Path(") for node in before.body[1:-1]]
    assert [ast.unparse(node) for node in after.body[1:-1]] == kept


def test_an_example_without_a_call_of_main_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^an example begins with a text and ends with main\(\) under if __name__$"):
        gallery.titled('"""One."""\n\nprint(1)\n')


def test_pictures_are_moved_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scrapers = pytest.importorskip("sphinx_gallery.scrapers", reason="needs the extra `docs`")
    monkeypatch.setattr(gallery, "COPIES", tmp_path)
    for name in ("b.png", "a.png"):
        (tmp_path / name).write_bytes(name.encode())
    paths = scrapers.ImagePathIterator(str(tmp_path / "image{}.png"))
    text = gallery.pictures(None, {"image_path_iterator": paths}, {"src_dir": str(tmp_path)})
    assert text.index("image1.png") < text.index("image2.png")
    assert [(tmp_path / f"image{i}.png").read_bytes() for i in (1, 2)] == [b"a.png", b"b.png"]
    assert not (tmp_path / "a.png").exists()
