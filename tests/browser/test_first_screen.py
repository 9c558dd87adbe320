"""What the report's first screen must show at 1400 and 390 px, and where its links lead."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from harness.report.document import Report
from tests.browser.examples import example_report
from tests.browser.test_page import expect
from tests.report.fixture import make

pytestmark = pytest.mark.browser

SIZES = {"desk": {"width": 1400, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(params=list(SIZES))
def first_screen(page_of, request):
    return page_of(made=example_report(), viewport=SIZES[request.param])


def in_view(page, locator) -> bool:
    box = locator.bounding_box()
    size = page.viewport_size
    return bool(
        box
        and box["x"] >= 0
        and box["y"] >= 0
        and box["x"] + box["width"] <= size["width"]
        and box["y"] + box["height"] <= size["height"]
    )


def test_what_is_broken_and_what_to_do_is_seen_without_scrolling(first_screen):
    page, made = first_screen, example_report()
    bad = [one for one in made.runs[-1].verdicts if one.word in ("broken", "degraded")]
    assert len(bad) >= 4 and {one.word for one in bad} == {"broken", "degraded"}
    for one in bad:
        row = page.locator(f".verdict.w-{one.word} .row", has_text=one.format).first
        assert in_view(page, row) and one.reason in row.inner_text()
        assert in_view(page, row.get_by_role("link", name="worst answer"))
    for word in ("broken", "degraded"):
        tried = page.locator(f".verdict.w-{word} .try")
        assert in_view(page, tried.first) and "harness train" in tried.first.inner_text()
    assert all(in_view(page, chip) for chip in page.locator(".chips a").all())


@pytest.mark.parametrize("size", list(SIZES))
def test_what_to_do_is_seen_where_many_formats_are_broken(page_of, size):
    """On a phone it comes before a long list, and below a short one."""
    made = example_report()
    reason = "worse than smollm2: 62% of the answers end by themselves against 98% of them"
    broken = tuple(
        replace(one, word="broken", reason=reason, remedy=f"train: harness train --formats {name}")
        for one in made.runs[-1].verdicts
        for name in [one.format]
    )
    run = replace(made.runs[-1], verdicts=broken)
    page = page_of(made=replace(made, runs=(run,)), viewport=SIZES[size])
    tried = page.locator(".verdict.w-broken .try").first
    assert in_view(page, tried) and "harness train --formats" in tried.inner_text()
    assert in_view(page, page.locator(".verdict.w-broken .row").first)


@pytest.mark.parametrize("size", list(SIZES))
def test_nothing_is_wider_than_the_screen(page_of, size):
    page = page_of(viewport=SIZES[size])
    page.locator("#all-metrics").check()
    for details in page.locator("details").all():
        details.evaluate("it => { it.open = true }")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_the_header_names_adapter_and_data(first_screen):
    head = first_screen.locator("header").inner_text()
    assert "adapter runs/example/adapter" in head and "trained on rows.jsonl in 4 formats" in head
    assert "before: no adapter" in head


def test_a_verdict_and_a_number_lead_to_their_samples(page_of):
    page = page_of(made=example_report(), viewport=SIZES["desk"])
    row = page.locator(".verdict .row", has_text="llama3").first
    row.get_by_role("link", name="worst answer").click()
    target = page.locator("article:target")
    expect()(target).to_be_visible()
    assert target.get_attribute("id").startswith("s-llama3.")
    assert "✗" in target.locator("h3").inner_text() and target.get_by_text("expected:").is_visible()
    page.locator("tr[data-id=chatml] td a").first.click()
    expect()(page).to_have_url(re.compile("#s-chatml"))
    expect()(page.locator("details#s-chatml")).to_have_attribute("open", "")
    page.locator(".chips a").first.click()
    assert page.locator(":target").get_attribute("class").startswith("verdict")


def test_six_columns_and_the_rest_on_demand(page_of):
    page = page_of(viewport=SIZES["desk"])
    heads = page.locator("table.heat thead th[data-metric]")
    seen = [each for each in heads.all() if each.is_visible()]
    assert len(seen) == 6 and heads.count() > 20
    table = page.locator("table.heat")
    assert table.bounding_box()["width"] <= 1300  # all six are seen without scrolling
    page.locator("#all-metrics").check()
    assert all(each.is_visible() for each in heads.all())
    assert "metrics=all" in page.url
    page.locator("#all-metrics").uncheck()
    assert len([each for each in heads.all() if each.is_visible()]) == 6
    assert page_of("#view?metrics=all").locator("#all-metrics").is_checked()


def test_an_interval_is_read_without_a_pointer(page_of):
    page = page_of(made=example_report(), viewport=SIZES["desk"])
    cell = page.locator("tr[data-id=llama3] td").first
    assert re.search(r"\.\d\d → \.\d\d.*\n\.\d\d–\.\d\d", cell.inner_text())
    strip = cell.locator(".strip").bounding_box()
    assert strip["width"] > 50 and strip["height"] >= 8


def test_a_sign_and_not_colour_alone_says_what_departs(page_of):
    page = page_of(made=example_report(), forced_colors="active")
    worse = page.locator("table.heat td.worse").all_inner_texts()
    assert worse and all("▼" in text for text in worse)
    failed = page.locator("table.grid td.worse").all_inner_texts()
    assert failed and not {"✓", "–"} & {text.strip()[-1] for text in failed}


def test_the_grid_has_a_row_for_each_case_and_leads_to_answers(page_of):
    page = page_of(made=example_report(), viewport=SIZES["desk"])
    grid = page.locator("table.grid")
    assert grid.locator("tbody tr").count() == len(example_report().grid)
    counts = [int(text) for text in grid.locator("tbody td:last-child").all_inner_texts()]
    assert counts[0] > 0
    grid.locator("tbody td a").first.click()
    expect()(page.locator("article:target")).to_be_visible()


def test_options_of_a_choice_say_which_was_picked_and_which_is_right(page_of):
    page = page_of("#s-llama3", made=example_report())
    options = page.locator("details#s-llama3 .options").first.inner_text()
    assert "picked" in options and "right" in options and "nats" in options


def test_no_section_is_empty(page_of):
    for made in (None, example_report(), Report.from_dict(bare())):
        page = page_of(made=made)
        for section in page.locator("main section").all():
            text = section.inner_text().strip().splitlines()
            assert len(text) > 1, section.get_attribute("id")
        for link in page.locator("nav a").all():
            assert page.locator(link.get_attribute("href")).count() == 1


def bare() -> dict:
    """A report with nothing but what each has."""
    table = make(formats=2, runs=1)
    empty = ("summary", "spread", "across", "changes", "budget", "recall", "confidence", "samples")
    return {**table, **{name: [] for name in empty}, "grid": [], "training": None}
