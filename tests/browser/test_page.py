"""The report in Chromium: with and without scripts, by keyboard, on a phone, on paper."""

from __future__ import annotations

import re

import pytest

from harness.report.document import Report
from tests.browser.conftest import violations
from tests.report.fixture import make, report
from tests.report.test_report import HOSTILE

pytestmark = pytest.mark.browser


def expect():
    """Playwright's assertion that waits, without the page's own ``eval``, which it forbids."""
    from playwright.sync_api import expect as waits

    return waits


def shown(page) -> list[str]:
    """The formats in the table, in the order in which they are seen."""
    return [
        row.get_attribute("data-id")
        for row in page.locator("table.heat tbody tr[data-id]").all()
        if row.is_visible()
    ]


def test_filtering_by_name_group_and_status(page_of):
    page = page_of()
    assert len(shown(page)) == 12 and page.locator("form.tools output").inner_text() == "12 formats"
    page.get_by_label("Format", exact=True).fill("format-1")
    assert shown(page) == ["format-10", "format-11"]
    assert page.locator("form.tools output").inner_text() == "2 of 12 formats"
    page.get_by_role("button", name="Show all").click()
    page.get_by_label("Group").select_option("native")
    assert shown(page) == ["format-00"]
    page.get_by_role("button", name="Show all").click()
    page.get_by_label("Verdict").select_option("broken")
    statuses = [
        row.get_attribute("data-status")
        for row in page.locator("table.heat tbody tr[data-id]").all()
        if row.is_visible()
    ]
    assert statuses and set(statuses) == {"broken"}


def test_sorting_and_back_to_worst_first(page_of):
    page = page_of()
    first = shown(page)
    button = page.locator("th[data-metric=stopped] button")
    for way, reverse in (("ascending", False), ("descending", True)):
        button.click()
        assert page.locator("th[data-metric=stopped]").get_attribute("aria-sort") == way
        column = page.locator("table.heat thead th").evaluate_all(
            "cells => cells.findIndex(cell => cell.dataset.metric === 'stopped')"
        )
        values = [
            float(row.locator("> *").nth(column).get_attribute("data-value"))
            for row in page.locator("tr[data-id]").all()
        ]
        assert values == sorted(values, reverse=reverse) and len(values) == 12
    page.get_by_role("button", name="Show all").click()
    expect()(page).to_have_url(re.compile("#formats$"))
    assert shown(page) == first


def test_what_was_not_scored_is_sorted_last(page_of):
    table = make(formats=12)
    for run in table["runs"]:
        for cell in run["cells"]:
            if cell["format"] == "format-03" and cell["metric"] == "leak":
                cell.update(mean=None, low=None, high=None, n=0)
    page = page_of(made=Report.from_dict(table))
    page.locator("#all-metrics").check()
    for _ in range(2):
        page.locator("th[data-metric=leak] button").click()
        assert shown(page)[-1] == "format-03"


def test_a_view_has_an_address(page_of):
    page = page_of("#view?q=format-0&group=seen&sort=choice.down")
    assert all(name.startswith("format-0") for name in shown(page)) and len(shown(page)) == 5
    assert page.locator("th[data-metric=choice]").get_attribute("aria-sort") == "descending"
    assert page.get_by_label("Group").input_value() == "seen"
    page.get_by_label("Format", exact=True).fill("format-01")
    assert page.evaluate("location.hash") == "#view?q=format-01&group=seen&sort=choice.down"
    page.get_by_role("button", name="Show all").click()
    expect()(page).to_have_url(re.compile("#formats$"))
    assert len(shown(page)) == 12


def test_a_click_on_a_format_opens_its_samples(page_of):
    page = page_of()
    details = page.locator("details#s-format-03")
    assert not details.evaluate("it => it.open")
    page.locator("tr[data-id=format-03] th a").click()
    expect()(details).to_have_attribute("open", "")
    assert details.locator("mark.m-leak").first.is_visible()
    assert page_of("#s-format-05").locator("details#s-format-05").evaluate("it => it.open")


def test_a_sample_has_an_address(page_of):
    page = page_of("#s-format-05.case-2")
    assert page.locator("details#s-format-05").evaluate("it => it.open")
    assert page.locator("article:target h3").inner_text() == "✓ case-2 answer"


def test_everything_is_there_without_scripts(page_of):
    page = page_of(java_script_enabled=False)
    assert page.locator("form.tools").is_hidden()
    assert len(shown(page)) == 12
    page.locator("#all-metrics").check()
    assert page.locator("th[data-metric=hazard]").is_visible()
    page.get_by_label("Only what failed").check()
    page.locator("details#s-format-02 summary").click()
    assert page.locator("details#s-format-02 article").all_inner_texts()
    visible = [each.is_visible() for each in page.locator("details#s-format-02 article").all()]
    assert visible == [True, True, False, False]  # failures first, and nothing else


def test_hostile_answers_do_nothing(page_of):
    page = page_of(made=report(formats=3, answer=HOSTILE))
    assert page.locator("img").count() == 0 and page.locator("script").count() == 1
    page.locator("details#s-format-00 summary").click()
    assert "onerror=alert(1)" in page.locator("details#s-format-00 pre").nth(1).inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(page_of, scheme):
    page = page_of(viewport={"width": 360, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.locator("table.heat").is_visible()


def test_by_keyboard(page_of):
    page = page_of()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.locator("th[data-metric=choice] button").focus()
    page.keyboard.press("Enter")
    assert page.locator("th[data-metric=choice]").get_attribute("aria-sort") == "ascending"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page_of, scheme):
    assert violations(page_of(color_scheme=scheme, bypass_csp=True)) == ""


def test_on_paper(page_of):
    """Printed, the table is whole: nothing of it is cut off by its scrolling frame."""
    page = page_of()
    page.emulate_media(media="print")
    assert (
        page.locator(".scroll").first.evaluate("it => getComputedStyle(it).overflow") == "visible"
    )
    assert page.pdf()[:5] == b"%PDF-"
