"""A chromium that is installed already, driven by Playwright; tests of pages share it.

browser   fixture: the browser, skipped with a reason where there is none
watched   a page of the browser that records console messages, errors and requests in its lists
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Watched:
    """A page, and what happened on it that should not."""

    page: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `web`")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no chromium on this machine; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path)
        yield found
        found.close()


def watched(browser: Any, file: Path, *, width: int = 1000) -> Watched:
    """Open a file; what the console says, uncaught errors and every request but that for the file are recorded."""
    found = Watched(browser.new_page(viewport={"width": width, "height": 800}))
    found.page.on("console", lambda message: found.messages.append(message.text))
    found.page.on("pageerror", lambda error: found.messages.append(str(error)))
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.goto(file.as_uri())
    found.requests = [url for url in found.requests if url != file.as_uri() and not url.startswith("data:")]
    return found
