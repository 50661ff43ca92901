"""The page of `l0ref report --html` in a real browser: silent, closed, usable by keyboard, narrow, printed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jinja2", reason="needs the extra `web`")

from l0ref.report import find_runs
from l0ref.report.html import page_html
from l0ref.report.page import RunPage, run_page
from tests.browser import browser, watched
from tests.pages import HOSTILE, write_run
from tests.test_page import hostile

__all__ = ["browser"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunPage:
    folder = tmp_path_factory.mktemp("browser") / "run"
    write_run(folder)
    ((path, report),) = find_runs([folder])
    return run_page(path, report, command="l0ref compress --data digits --amount 0.9 --epochs 1", label="first")


@pytest.fixture(scope="module")
def file(run: RunPage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "page.html"
    long = [dataclasses.replace(run, label=f"{'second/with/a/path/that/is/long' * 4}/seed-{n}") for n in range(2)]
    long[1] = dataclasses.replace(long[1], report={**run.report, "seed": 1})
    path.write_text(page_html([run, *long]), "utf-8")
    return path


@pytest.mark.parametrize("width", [1000, 360])
def test_page_is_silent_closed_and_never_wider_than_the_screen(browser: Any, file: Path, width: int) -> None:
    seen = watched(browser, file, width=width)
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width
    assert seen.page.locator("h1").count() == 4
    assert seen.page.locator(".mask image").count() == 6
    assert seen.page.locator("table").first.locator("tbody tr").count() == 2  # the seeds of one configuration are a row
    assert "±" in seen.page.locator("table").first.inner_text()
    assert (seen.messages, seen.requests) == ([], [])
    seen.page.close()


def test_hostile_names_are_shown_and_do_nothing(browser: Any, run: RunPage, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(page_html([hostile(run)]), "utf-8")
    seen = watched(browser, path)
    assert seen.page.evaluate("window.broken") is None
    assert seen.page.locator("h1").inner_text() == HOSTILE
    assert seen.page.locator("figcaption").first.inner_text().startswith(HOSTILE)
    assert (seen.messages, seen.requests) == ([], [])
    seen.page.close()


def test_policy_stops_scripts_and_requests_of_others(browser: Any, file: Path, tmp_path: Path) -> None:
    planted = '</section><script>window.broken = 1</script><img src="http://127.0.0.1:9/x.png">'
    path = tmp_path / "planted.html"
    path.write_text(file.read_text("utf-8").replace("</section>", planted, 1), "utf-8")
    seen = watched(browser, path)
    assert seen.page.evaluate("window.broken") is None
    assert any("Content Security Policy" in text for text in seen.messages)
    seen.page.close()


def test_keyboard_reaches_and_sorts_the_table(browser: Any, file: Path, run: RunPage) -> None:
    page = watched(browser, file).page
    wanted = "document.activeElement.textContent.trim() === 'weights' && document.activeElement.tagName === 'BUTTON'"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(wanted):
            break
    assert page.evaluate(wanted)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    column = "[...document.activeElement.closest('table').tBodies[0].rows].map(row => row.cells[2].textContent)"
    sizes = sorted(int(layer[2][1]) for layer in run.layers)
    page.keyboard.press("Enter")
    assert page.evaluate(column) == [f"{n:,}" for n in sizes]
    page.keyboard.press("Enter")
    assert page.evaluate(column) == [f"{n:,}" for n in sizes[::-1]]
    assert page.locator("th[aria-sort=descending]").count() == 1
    page.locator("table.sortable button").first.click()
    assert (
        page.evaluate("document.querySelector('table.sortable').tBodies[0].rows[0].cells[0].textContent")
        == "fc1.weight"
    )
    page.close()


def test_pointer_and_arrows_name_the_weight_and_its_sign(browser: Any, file: Path, run: RunPage) -> None:
    page = watched(browser, file).page
    words = ("zero", "kept, positive", "kept, negative")
    mask, picture = run.masks[0], page.locator(".mask svg").first
    output = page.locator(".mask output").first
    rows, columns = mask.signs.shape
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    kept = [tuple(map(int, place)) for place in np.argwhere(mask.signs)[::40]]
    for row, column in [*kept, (0, 0), (rows - 1, columns - 1)]:
        page.mouse.move(
            box["x"] + (column + 0.5) * box["width"] / columns, box["y"] + (row + 0.5) * box["height"] / rows
        )
        page.wait_for_function(
            "([o, t]) => o.value.startsWith(t)", arg=[output.element_handle(), f"{mask.name}[{row}, {column}]"]
        )
        assert output.inner_text() == f"{mask.name}[{row}, {column}]: {words[mask.signs[row, column]]}"
    picture.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")  # stays in the last row
    page.wait_for_function("o => o.value.includes(', 62]')", arg=output.element_handle())
    assert output.inner_text() == f"{mask.name}[12, 62]: {words[mask.signs[12, 62]]}"
    page.close()


def test_page_prints(browser: Any, file: Path) -> None:
    page = watched(browser, file).page
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert page.locator(".mask image").first.is_visible()
    content = page.pdf(format="A4")
    assert content.startswith(b"%PDF-")
    assert content.count(b"/Type /Page\n") >= 3
    page.close()
