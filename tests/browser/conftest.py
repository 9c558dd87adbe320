"""Debian's Chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.report.comparison import Comparison
from harness.report.comparison_page import render_comparison
from harness.report.page import render_html
from harness.report.sweep_document import Sweep
from harness.report.sweep_map import render_sweep
from tests.report.fixture import report

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]


def pytest_addoption(parser) -> None:
    group = parser.getgroup("pictures of the docs")
    group.addoption(
        "--screenshots",
        metavar="FOLDER",
        help="write the pictures that the docs show to this folder",
    )
    group.addoption(
        "--report",
        metavar="FILE",
        help="with --screenshots: the picture of this report.html alone, as report.png",
    )


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    from playwright.sync_api import sync_playwright

    if not Path(CHROMIUM).exists():
        pytest.fail("Chromium is missing: apt-get install chromium, or set CHROMIUM to its path")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


def html_of(made) -> str:
    """The page of a report, a sweep or a comparison."""
    return {Sweep: render_sweep, Comparison: render_comparison}.get(type(made), render_html)(made)


@pytest.fixture
def page_of(chromium, tmp_path) -> Iterator[Callable]:
    """Opens a document in a new tab. Console messages and requests to the network fail the test."""
    contexts, messages = [], []

    def open_page(fragment: str = "", made=None, file: Path | None = None, **options):
        if file is None:
            file = tmp_path / "report.html"
            file.write_text(html_of(made or report(formats=12)), encoding="utf-8")
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(("file:", "data:")) else messages.append(request.url)
            ),
        )
        page.goto(file.resolve().as_uri() + fragment)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert messages == []


def violations(page) -> str:
    """What axe finds with everything unfolded; empty for a page without a violation."""
    from axe_playwright_python.sync_playwright import Axe

    for details in page.locator("details").all():
        details.evaluate("it => { it.open = true }")
    found = Axe().run(page)
    return found.generate_report() if found.response["violations"] else ""
