"""The map of learning rate and epochs, on a page of its own and in a report."""

from __future__ import annotations

import re

import pytest

from harness.report.document import Report
from harness.report.sweep_document import Sweep
from tests.browser.conftest import violations
from tests.report.fixture import make
from tests.report.sweeps import points

pytestmark = pytest.mark.browser


def in_a_report() -> Report:
    return Report.from_dict({**make(formats=3), "sweep": Sweep.from_points(points()).as_dict()})


@pytest.mark.parametrize(
    "made", [Sweep.from_points(points()), in_a_report()], ids=["alone", "in a report"]
)
def test_the_map_and_its_figures_are_shown(page_of, made):
    page = page_of("#sweep", made=made)
    figure = page.locator("figure.map")
    figure.scroll_into_view_if_needed()
    assert figure.locator("svg").is_visible() and figure.get_attribute("role") == "img"
    texts = figure.locator("svg text").all_text_contents()
    assert {"1e-4", "1e-3", "5e-3", "1.71", "epochs", "learning rate"} <= {
        text.strip() for text in texts
    }
    table = page.locator("table.regions")
    assert table.locator("tbody tr").count() == 3
    assert table.locator("tbody tr").last.locator("td").all_inner_texts()[1].split() == [
        "1.74",
        "good",
        "★",
        "picked",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_ink_contrasts_with_the_paper(page_of, scheme):
    """Text outside the boxes takes the page's colour."""
    page = page_of(made=Sweep.from_points(points()), color_scheme=scheme)
    label = page.locator("figure.map svg text", has_text="learning rate").first
    ink, paper = label.evaluate(
        "it => [getComputedStyle(it).fill, getComputedStyle(document.body).backgroundColor]"
    )
    shades = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
    assert abs(shades[0] - shades[1]) > 400


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "made", [Sweep.from_points(points()), in_a_report()], ids=["alone", "in a report"]
)
def test_axe_finds_nothing(page_of, made, scheme):
    assert violations(page_of(made=made, color_scheme=scheme, bypass_csp=True)) == ""


def test_it_fits_a_phone_and_paper(page_of):
    page = page_of(made=Sweep.from_points(points()), viewport={"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert (
        page.locator("figure.map svg").bounding_box()["width"] > 500
    )  # it scrolls instead of shrinking to nothing
    page.emulate_media(media="print")
    assert page.pdf()[:5] == b"%PDF-"


def test_by_keyboard(page_of):
    page = page_of(made=Sweep.from_points(points()))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#sweep-figures"
    page.keyboard.press("Tab")
    page.locator(".scroll").first.focus()
    assert page.evaluate("document.activeElement.className") == "scroll"
