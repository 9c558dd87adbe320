"""The comparison's document and page: pure, worst first, small, and safe from model text."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from harness.cli.main import main
from harness.errors import HarnessError
from harness.report import document
from harness.report.comparison import Comparison, Difference
from harness.report.comparison_page import (
    OUTCOME_SYMBOLS,
    comparison_verdict,
    outcome_of,
    render_comparison,
)
from harness.report.json_document import read_table, to_json
from harness.report.write import write_comparison
from tests.report.compared import cell, comparison, make_comparison
from tests.report.test_report import HOSTILE, assert_only_text, parse


def with_cells(*cells) -> Comparison:
    names = dict.fromkeys(found["format"] for found in cells)
    return Comparison.from_dict(
        {
            **make_comparison(formats=1),
            "formats": [{"id": name, "group": "seen"} for name in names],
            "cells": list(cells),
        }
    )


def test_the_document_keeps_to_its_schema_and_survives_a_round_trip(tmp_path):
    schema = json.loads(Path(document.__file__).with_name("schema.json").read_text())
    validator = Draft202012Validator({"$ref": "#/$defs/Comparison", "$defs": schema["$defs"]})
    first = comparison(answer=HOSTILE)
    write_comparison(first, tmp_path / "page.html")
    table = json.loads((tmp_path / "page.json").read_text())
    validator.validate(table)
    again = Comparison.from_dict(read_table(tmp_path / "page.json", "a comparison"))
    assert again == first and to_json(again) == to_json(first)
    assert set(schema["$defs"]["Comparison"]["properties"]) == {f.name for f in fields(Comparison)}
    table["cells"][0]["delta"] = "much"
    with pytest.raises(ValidationError, match="much"):
        validator.validate(table)


def test_the_command_writes_the_page_again_from_its_json(tmp_path, capsys):
    first, again = tmp_path / "first", tmp_path / "again"
    write_comparison(comparison(), first / "page.html")
    assert main(["report", str(first / "page.json"), "--out", str(again)]) == 0
    assert (again / "page.html").read_bytes() == (first / "page.html").read_bytes()


@given(st.floats(-0.5, 0.5), st.floats(0.001, 0.3))
def test_a_cell_is_worse_or_better_only_when_its_interval_leaves_out_zero(delta, half):
    opposite = {"better": "worse", "worse": "better", "same": "same"}
    found = Difference(**cell("a", "stopped", delta, half, outcome="passed"))
    outcome = outcome_of(found)
    assert (outcome == "same") == (found.low <= 0 <= found.high)
    assert outcome_of(replace(found, metric="leak")) == opposite[outcome]  # more is a loss
    assert outcome_of(replace(found, low=-found.high, high=-found.low)) == opposite[outcome]
    assert outcome_of(replace(found, low=None, high=None)) == "same"


def test_formats_are_listed_worst_first_and_means_apart():
    cells = [
        ("fine", "stopped", 0.0),
        ("slightly", "stopped", -0.08),
        ("lost", "leak", 0.4),
        ("gained", "stopped", 0.3),
        ("worst", "stopped", -0.9),
    ]
    page = render_comparison(with_cells(*(cell(*given) for given in cells)))
    assert re.findall(r'<tr id="f-(\w+)"', page) == [
        "worst",
        "lost",
        "slightly",
        "fine",
        "gained",
    ]


def test_a_sign_and_a_word_accompany_the_colour():
    page = render_comparison(
        with_cells(
            cell("a", "stopped", -0.3),
            cell("b", "leak", -0.3),
            cell("c", "stopped", 0.0),
            cell("d", "stopped", -0.08),
        )
    )
    shown = re.findall(
        r'<span class="d(?: (\w+))?"[^>]*><b>([^<]+)</b> (.)<i>([^<]+)</i>'
        r'(?:<i class="w-\w+">(\w+)</i>)?',
        page,
    )
    assert sorted(shown) == [
        ("", "+.00", "=", "−.05 to +.05", ""),
        ("better", "−.30", "▲", "−.35 to −.25", "improved"),
        ("worse", "−.08", "▽", "−.13 to −.03", "worse"),
        ("worse", "−.30", "▼", "−.35 to −.25", "failed"),
    ]


def test_rows_and_columns_without_a_change_are_shown_on_demand():
    cells = [
        cell("lost", "stopped", -0.3),
        cell("lost", "leak", 0.0),
        cell("same", "stopped", 0.0),
        cell("same", "leak", 0.0),
    ]
    page = render_comparison(with_cells(*cells))
    assert re.findall(r'<tr id="f-(\w+)" class="quiet"', page) == ["same"]
    assert re.findall(r'data-metric="(\w+)"[^>]*class="quiet"', page) == ["leak"]
    assert "Also the 1 format and 1 metric without a change" in page
    listed = page.split('<section id="changed">')[1].split("</section>")[0]
    assert "lost" in listed and "same" not in listed and "leak" not in listed
    unchanged = render_comparison(with_cells(*cells[2:]))
    assert "quiet" not in unchanged.split("<body>")[1].split("<script>")[0]
    assert 'id="changed"' not in unchanged


def test_verdicts_that_changed_come_first_and_the_runs_are_named():
    table = make_comparison(formats=3)
    words = (["broken", "works"], ["works", "degraded"], ["works", "works"])
    for facts, pair in zip(table["formats"], words, strict=True):
        facts["words"] = pair
    page = render_comparison(Comparison.from_dict(table))
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    assert "format-01 ✓ works → △ degraded format-00 ✗ broken → ✓ works" in text
    assert "format-02 ✓" not in text
    assert "before: one (Toy)" in text and "after: two (Toy)" in text


def test_what_cannot_be_compared_has_no_difference():
    stale = cell(
        "a", "stopped", -0.3, outcome="stale", why="the template of a changed", low=None, high=None
    )
    new = {
        **cell("b", "stopped", 0.0, outcome="new", before=None, low=None, high=None),
        "delta": None,
    }
    found = with_cells(stale, new, cell("c", "stopped", 0.0))
    page = render_comparison(found)
    assert "the template of a changed" in page and "−.30" not in page
    assert comparison_verdict(found).endswith(
        "of 3 cells (one metric in one format), none lost more than the tolerance, none gained more; "
        "1 cannot be compared."
    )


def test_a_cell_leads_to_the_samples_of_its_worst_case():
    page = render_comparison(comparison(formats=2, samples=2))
    links = {
        attributes["href"]
        for tag, attributes in parse(page).tags
        if tag == "a" and "#s-" in str(attributes.get("href"))
    }
    ids = {attributes["id"] for _, attributes in parse(page).tags if "id" in attributes}
    assert "#s-format-00.case-1" in links and all(link[1:] in ids for link in links)
    assert 'href="#s-' not in render_comparison(
        Comparison.from_dict({**make_comparison(), "samples": [], "note": "No samples: none."})
    )


def test_the_metrics_that_changed_are_listed_above_both_answers():
    table = make_comparison(formats=1, samples=1)
    before, after = table["samples"]
    before["scores"], after["scores"] = (
        {"on_task": 1.0, "leak": 0.0, "empty": None},
        {"on_task": 0.0, "leak": 0.0, "empty": 1.0},
    )
    after["prompt"] = [["<other>", "header"]]
    page = render_comparison(Comparison.from_dict(table))
    assert '<span class="worse">▼ on_task 1 → 0</span></p>' in page
    assert page.count('<pre class="prompt">') == 2  # the prompts differ, so both are shown


def test_hostile_answers_are_text():
    assert_only_text(render_comparison(comparison(answer=HOSTILE)))


@given(st.text(max_size=60))
@settings(max_examples=40, deadline=None)
def test_any_text_leaves_the_page_whole(text):
    table = make_comparison(formats=2, metrics=2, samples=1, answer=text)
    table["cells"][0].update(worst_case=text, why=text)
    table["after"]["label"] = table["title"] = text
    tags = parse(render_comparison(Comparison.from_dict(table)))
    assert sum(tag == "h1" for tag, _ in tags.tags) == 1
    assert (
        "img" not in {tag for tag, _ in tags.tags}
        and [tag for tag, _ in tags.tags].count("script") == 1
    )


def test_sixty_formats_fifteen_metrics_and_two_hundred_pairs_stay_under_a_megabyte():
    page = render_comparison(
        comparison(formats=60, metrics=15, samples=4, answer="some words " * 30)
    )
    assert len(page.encode()) < 1_000_000
    longest = render_comparison(
        comparison(formats=60, metrics=15, samples=4, answer="a" * 1_000_000)
    )
    assert len(longest.encode()) < 1_000_000 and "more characters" in longest


def test_nothing_is_fetched():
    page = render_comparison(comparison())
    assert "default-src 'none'" in page
    addresses = [
        value
        for _, attributes in parse(page).tags
        for name, value in attributes.items()
        if name in ("src", "href", "action") and value
    ]
    assert addresses and all(address.startswith("#") for address in addresses)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "not a comparison"),
        ('{"schema": "other/2"}', "is not harness-comparison/1"),
        ('{"schema": "harness-comparison/1"}', "title: missing"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, text, message):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(HarnessError, match=message):
        Comparison.from_dict(read_table(tmp_path / "c.json", "a comparison"))


def test_every_outcome_has_its_own_symbol_but_those_that_cannot_be_compared():
    assert len(set(OUTCOME_SYMBOLS.values())) == len(OUTCOME_SYMBOLS) - 1
    assert OUTCOME_SYMBOLS["missing"] == OUTCOME_SYMBOLS["stale"]
