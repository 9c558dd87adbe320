"""The comparison of two runs as a person uses it."""

from __future__ import annotations

import re

import pytest

from harness.report.comparison import Comparison
from tests.browser.conftest import violations
from tests.browser.examples import example_comparison
from tests.browser.test_page import shown
from tests.report.compared import comparison, make_comparison
from tests.report.test_report import HOSTILE

pytestmark = pytest.mark.browser


def test_filtering_and_sorting(page_of):
    page = page_of(made=comparison(formats=12))
    first = shown(page)
    assert len(first) == 12 and page.locator("form.tools output").inner_text() == "12 formats"
    assert not page.locator("#all-metrics").count()  # each format and metric has a change
    page.get_by_label("Group").select_option("seen")
    assert set(shown(page)) == {f"format-{at:02}" for at in range(1, 6)}
    page.get_by_label("Has cells").select_option("improved")
    rows = [row for row in page.locator("table.heat tbody tr[data-id]").all() if row.is_visible()]
    assert rows and all("improved" in row.locator(".status").inner_text() for row in rows)
    page.get_by_role("button", name="Show all").click()
    page.locator("th[data-metric=stopped] button").click()
    column = page.locator("table.heat thead th").evaluate_all(
        "cells => cells.findIndex(cell => cell.dataset.metric === 'stopped')"
    )
    gains = [
        float(row.locator("> *").nth(column).get_attribute("data-value"))
        for row in page.locator("tr[data-id]").all()
    ]
    assert (
        gains == sorted(gains)
        and "held-out formats" in page.locator("tbody[data-fixed] th[scope=row]").inner_text()
    )
    assert page.evaluate("location.hash") == "#view?sort=stopped"


def test_a_click_on_a_cell_opens_both_answers_side_by_side(page_of):
    page = page_of(made=comparison(formats=3))
    details = page.locator("details#s-format-02")
    assert not details.evaluate("it => it.open")
    page.locator("tr[data-id=format-02] td a").first.click()
    page.wait_for_function("document.querySelector('details#s-format-02').open")
    article = page.locator("article:target")
    assert "case-1" in article.locator("h3").inner_text()  # the cell's worst case
    left, right = (box.bounding_box() for box in article.locator(".answers > div").all())
    assert left["y"] == right["y"] and left["x"] < right["x"]
    assert article.locator("h4").all_inner_texts() == [
        "one: ✗ stopped at </s>",
        "two: ✗ stopped at </s>",
    ]
    assert article.locator("pre.prompt .k-header").inner_text() == "<user>"
    assert article.locator("mark.m-leak").count() == 2


def test_a_view_has_an_address(page_of):
    page = page_of(
        "#view?q=format-0&group=held-out&status=failed&sort=stopped.down",
        made=comparison(formats=12),
    )
    assert page.locator("th[data-metric=stopped]").get_attribute("aria-sort") == "descending"
    assert page.get_by_label("Has cells").input_value() == "failed"
    assert shown(page) and set(shown(page)) <= {f"format-{at:02}" for at in range(6, 10)}


def test_everything_is_there_without_scripts(page_of):
    page = page_of(made=comparison(formats=4), java_script_enabled=False)
    assert page.locator("form.tools").is_hidden() and len(shown(page)) == 4
    page.locator("tr[data-id=format-01] td a").first.click()
    assert page.locator(
        "details#s-format-01 pre"
    ).first.is_visible()  # the browser itself opens what an address lies in


def test_every_cell_says_without_colour_what_it_came_to(page_of):
    page = page_of(made=comparison(formats=6), forced_colors="active")
    cells = page.locator("table.heat .d").all_inner_texts()
    assert len(cells) == 7 * 10 and all(
        re.match(r"[+−]\.\d\d [▼▽=△▲]\n[+−]\.\d\d to [+−]\.\d\d", text) for text in cells
    )


@pytest.mark.parametrize(
    "answer", [HOSTILE, "\u202eab" * 50 + "a" * 1_000_000], ids=["markup", "a megabyte"]
)
def test_hostile_answers_do_nothing(page_of, answer):
    table = make_comparison(formats=2, answer=answer)
    table["cells"][0].update(why=HOSTILE, worst_case=HOSTILE)
    table["after"]["label"] = HOSTILE
    page = page_of(made=Comparison.from_dict(table))
    assert (
        page.locator("img").count() == 0
        and page.locator("script").count() == 1
        and page.locator("style").count() == 1
    )
    page.locator("details#s-format-00 summary").click()
    text = page.locator("details#s-format-00 .answers pre").first.inner_text()
    assert (
        ("onerror=alert(1)" in text or "more characters" in text)
        and "⟨U+202E⟩" in text
        and len(text) < 3000
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(page_of, scheme):
    page = page_of(made=comparison(), viewport={"width": 360, "height": 740}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    first = page.locator("details").first
    first.locator("summary").click()
    one, two = (
        box.bounding_box() for box in first.locator("article").first.locator(".answers > div").all()
    )
    assert one["y"] < two["y"]  # one below the other where there is no room


def test_by_keyboard(page_of):
    page = page_of(made=comparison())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#differences"
    page.locator("tr[data-id] td a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('details[open]').length === 1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page_of, scheme):
    assert violations(page_of(made=comparison(), color_scheme=scheme, bypass_csp=True)) == ""


def test_on_paper(page_of):
    page = page_of(made=comparison())
    page.emulate_media(media="print")
    assert (
        page.locator(".scroll").first.evaluate("it => getComputedStyle(it).overflow") == "visible"
    )
    assert page.pdf()[:5] == b"%PDF-"


def test_what_did_not_change_is_shown_on_demand_or_when_asked_for(page_of, tmp_path):
    page = page_of(made=example_comparison(tmp_path))
    assert "llama3" in shown(page) and "smollm2" not in shown(page)
    page.get_by_label("Format", exact=True).fill("smollm2")
    assert shown(page) == ["smollm2"]
    page.get_by_role("button", name="Show all").click()
    page.wait_for_url("**#formats")
    assert "smollm2" not in shown(page)
    page.locator("#all-metrics").check()
    assert len(shown(page)) == 10 and page.locator("th[data-metric=nll_excess]").is_visible()


def test_the_change_is_seen_without_scrolling(page_of, tmp_path):
    for size in ({"width": 1400, "height": 900}, {"width": 390, "height": 844}):
        page = page_of(made=example_comparison(tmp_path / str(size["width"])), viewport=size)
        changed = page.locator("#changed li").first.bounding_box()
        lost = page.locator("#changed tbody tr").first.bounding_box()
        assert max(box["y"] + box["height"] for box in (changed, lost)) <= size["height"]
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
