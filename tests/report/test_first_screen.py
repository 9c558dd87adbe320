"""What a report says first: verdicts, what to try, links to answers; and its tables by format."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from harness.evaluation.analysis.terminal_lines import verdict_block
from harness.records import Aggregate, Evidence, Verdict
from harness.report.document import Report, SummaryLine
from harness.report.format_table import case_grid, column_metrics, departs, format_rows
from harness.report.overview import overview
from harness.report.page import render_html
from harness.report.sample_document import CaseRow
from harness.report.wording import shared_remedies, worst_first
from harness.report.write import render_markdown
from tests.report.fixture import make, report
from tests.report.test_report import parse

REMEDY = "use own, or train in it: harness train --formats {}"


def judged(*verdicts: tuple[str, str], runs: int = 1, **changed) -> Report:
    """A report whose last run has these (format, word)."""
    table = make(formats=len(verdicts), runs=runs)
    names = [name for name, _ in verdicts]
    renamed = dict(zip((facts["id"] for facts in table["formats"]), names, strict=True))
    text = {
        "formats": [{**one, "id": renamed[one["id"]]} for one in table["formats"]],
        "model": {**table["model"], "native_format": names[0]},
        "samples": [{**one, "format": renamed[one["format"]]} for one in table["samples"]],
        "runs": [
            {
                **run,
                "cells": [{**cell, "format": renamed[cell["format"]]} for cell in run["cells"]],
                "verdicts": [
                    {
                        "format": name,
                        "word": word,
                        "reason": f"why {name}",
                        "remedy": "" if word == "works" else REMEDY.format(name),
                    }
                    for name, word in verdicts
                ],
            }
            for run in table["runs"]
        ],
    }
    for key in ("across", "changes", "budget", "recall", "confidence"):
        text[key] = []
    return Report.from_dict({**table, **text, **changed})


def test_a_remedy_of_several_formats_is_said_once():
    found = [Verdict(name, "broken", "", REMEDY.format(name)) for name in ("a", "b-1")]
    other = Verdict("c", "broken", "", "leave --budget out for a verdict")
    assert shared_remedies([found[0], other, found[1], Verdict("d", "works", "")]) == [
        (("a", "b-1"), "use own, or train in them: harness train --formats a,b-1"),
        (("c",), "leave --budget out for a verdict"),
    ]
    assert shared_remedies(found[:1]) == [(("a",), found[0].remedy)]


def test_words_come_worst_first_with_reasons_remedies_and_links():
    made = judged(("own", "works"), ("fair", "degraded"), ("bad", "broken"), ("odd", "unclear"))
    page = render_html(made)
    assert re.findall(r'<div class="verdict w-(\w+)"', page) == [
        "broken",
        "degraded",
        "unclear",
        "works",
    ]
    assert re.findall(r'<tr id="f-([\w-]+)"', page) == ["bad", "fair", "odd", "own"]
    top = overview(made, {"bad": {"case-1"}})
    [bad] = top["groups"][0]["rows"]
    assert (bad["format"], bad["reason"], bad["link"]) == ("bad", "why bad", "s-bad")
    [tried] = top["groups"][0]["try"]
    assert tried["command"] == "harness train --formats bad" and tried["formats"] == ()
    assert [(chip["word"], chip["count"]) for chip in top["chips"]] == [
        ("broken", 1),
        ("degraded", 1),
        ("unclear", 1),
        ("works", 1),
    ]


def test_the_page_and_markdown_have_the_terminals_order_and_words():
    made = judged(("own", "works"), ("fair", "degraded"), ("bad", "broken"), ("odd", "unclear"))
    verdicts = made.runs[-1].verdicts
    lines = [text for _, text in verdict_block(worst_first(verdicts), {})]
    page, markdown = render_html(made), render_markdown(made)
    places = {"page": [], "markdown": [], "terminal": []}
    for word in ("why bad", "why fair", "why odd"):
        places["page"].append(page.index(word))
        places["markdown"].append(markdown.index(word))
        places["terminal"].append(next(at for at, text in enumerate(lines) if word in text))
    assert all(found == sorted(found) for found in places.values())
    table = [line for line in markdown.splitlines() if line.startswith("| ")][1:]
    assert [line.split(" | ")[0] for line in table] == ["| bad", "| fair", "| odd", "| own"]


def test_a_verdict_leads_to_its_worst_answer():
    made = judged(("own", "works"), ("bad", "broken"))
    evidence = Evidence("on_task", 0.1, 9, worst_case="case-2")
    run = made.runs[-1]
    verdicts = tuple(
        replace(one, evidence=evidence) if one.format == "bad" else one for one in run.verdicts
    )
    page = render_html(replace(made, runs=(replace(run, verdicts=verdicts),)))
    assert page.count('href="#s-bad.case-2"') >= 2 and 'id="s-bad.case-2"' in page
    assert "Worst answer in bad" in page and "says “An answer”" in page


def test_adapter_and_data_are_in_the_header():
    made = judged(("own", "works"), ("bad", "broken"))
    run = replace(
        made.runs[0],
        adapter="runs/mine/adapter",
        trained_on=("data/rows.jsonl",),
        trained_formats=("chatml", "zephyr"),
    )
    settings = {**made.settings, "cases_by_kind": {"answer": 8, "choice": 4}, "case_files": ["c/x"]}
    settings["asked"] = "first look: 9 of 20 questions were asked"
    made = replace(made, runs=(run,), settings=settings)
    head = render_html(made).split("<header>")[1].split("</header>")[0]
    for words in (
        "+ runs/mine/adapter",
        "trained on rows.jsonl in 2 formats",
        "up to 4 choices, 8 answers of x",
        "first look: 9 of 20 questions were asked",
    ):
        assert words in head
    lines = overview(replace(made, runs=(replace(run, adapter=None), run)), {})["adapters"]
    assert lines[0].endswith("no adapter, trained on rows.jsonl in 2 formats")
    assert "runs/mine/adapter" in render_markdown(made)


def test_a_word_that_changed_says_what_it_was():
    made = judged(("own", "works"), ("bad", "broken"), ("fine", "works"), runs=2)
    first, last = made.runs
    was = {"own": "works", "bad": "works", "fine": "broken"}
    verdicts = tuple(replace(one, word=was[one.format]) for one in first.verdicts)
    page = render_html(replace(made, runs=(replace(first, verdicts=verdicts), last)))
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    assert "why bad (was works)" in text and "fine (was broken)" in text
    assert "bad ✓ works → ✗ broken" in text and "fine ✗ broken → ✓ works" in text


def test_only_what_changed_is_listed():
    table = make(formats=3)
    row = table["changes"][0]
    more = {**row, "metric": "stopped", "before": 0.9, "after": 0.4, "low": -0.7, "high": -0.3}
    page = render_html(Report.from_dict({**table, "changes": [row, more]}))
    section = page.split('<section id="changes">')[1].split("</section>")[0]
    assert "▼ −0.50" in section and "choice" not in section
    assert "1 more rate did not change significantly" in section


def test_empty_parts_are_left_out():
    table = make(formats=3)
    nothing = {
        name: []
        for name in ("summary", "spread", "across", "changes", "budget", "recall", "confidence")
    }
    kind = {
        "kind": "closing",
        "rates": {"before": 0.0, "after": 0.0},
        "training": None,
        "lift_over_base": None,
        "lift_over_training": None,
        "worst": "",
    }
    empty = {**nothing, "grid": [], "samples": [], "training": None}
    runs = [{**run, "verdicts": table["runs"][0]["verdicts"]} for run in table["runs"]]
    made = Report.from_dict(
        {**table, **empty, "runs": runs, "phrases": {"kinds": [kind], "against": "", "new": []}}
    )
    page = render_html(made)
    assert re.findall(r'<section id="([\w-]+)"', page) == ["summary", "formats", "settings"]
    links = [at["href"][1:] for tag, at in parse(page).tags if tag == "a" and at["href"] != "#"]
    ids = {at["id"] for _, at in parse(page).tags if "id" in at}
    assert set(links) <= ids


def test_every_link_of_a_whole_page_has_its_place():
    page = render_html(report(formats=9))
    tags = parse(page).tags
    own = ("section", "details", "article", "tr", "div", "h2", "input")  # not those of charts
    ids = [at["id"] for tag, at in tags if "id" in at and tag in own]
    assert len(ids) == len(set(ids))
    links = {at["href"] for tag, at in tags if tag == "a"}
    assert links and all(link[1:] in ids for link in links)


@pytest.mark.parametrize(
    ("metric", "low", "high", "native", "way"),
    [
        ("stopped", 0.2, 0.4, 0.5, "worse"),
        ("stopped", 0.6, 0.8, 0.5, "better"),
        ("stopped", 0.4, 0.6, 0.5, ""),
        ("leak", 0.2, 0.4, 0.1, "worse"),
        ("leak", 0.0, 0.1, 0.3, "better"),
        ("nll", 2.0, 2.2, 1.0, ""),  # of a level nobody can say what is good
        ("stopped", None, None, 0.5, ""),
    ],
)
def test_only_what_departs_from_native_has_a_colour(metric, low, high, native, way):
    cell = Aggregate("a", "seen", metric, 0.3, low, high, 9)
    assert departs(cell, Aggregate("n", "native", metric, native, 0.0, 1.0, 9)) == way
    assert departs(cell, None) == ""


def test_six_columns_at_most_and_those_that_tell_something():
    made = report(formats=4)
    main, others = column_metrics(made)
    assert len(main) == 6 and not set(main) & set(others)
    flat = tuple(
        replace(cell, mean=0.0, low=0.0, high=0.1) if cell.metric == main[0] else cell
        for cell in made.runs[0].cells
    )
    same = replace(made, runs=tuple(replace(run, cells=flat) for run in made.runs))
    assert main[0] not in column_metrics(same)[0] and len(column_metrics(same)[0]) == 6


def test_a_cell_leads_to_the_sample_that_speaks_against_it():
    made = report(formats=2, samples=3)
    [first, *_] = format_rows(made, made.samples)
    main, others = column_metrics(made)
    at = [*main, *others].index("on_task")
    assert first["cells"][at]["link"] == f"s-{first['id']}.case-1"  # cases 0 and 2 are right
    assert format_rows(made, ())[0]["cells"][at]["link"] == ""


def test_the_grid_begins_with_what_only_some_formats_fail():
    made = judged(("own", "works"), ("bad", "broken"), ("fair", "degraded"))
    rows = (
        CaseRow("all-wrong", "answer", "Q?", ("www",)),
        CaseRow("one-fails", "answer", "Q?", ("rwr",)),
        CaseRow("all-right", "choice", "Q?", ("rrr",)),
        CaseRow("two-fail", "answer", "Q?", ("rne",)),
    )
    grid = case_grid(replace(made, grid=rows), {"bad": {"two-fail"}})
    assert grid["formats"] == ["bad", "fair", "own"]
    assert [row["case"] for row in grid["rows"]] == [
        "two-fail",
        "one-fails",
        "all-wrong",
        "all-right",
    ]
    cells = grid["rows"][0]["cells"]
    assert [cell["symbol"] for cell in cells] == ["∞", "∅", "✓"]
    assert [cell["link"] for cell in cells] == ["s-bad.two-fail", "", ""]
    assert case_grid(made.__class__(**{**vars(made), "grid": ()}), {}) is None


def test_a_case_that_changed_shows_both():
    made = judged(("own", "works"), ("bad", "broken"), runs=2)
    grid = case_grid(replace(made, grid=(CaseRow("c", "answer", "Q?", ("rw", "rr")),)), {})
    assert [cell["symbol"] for cell in grid["rows"][0]["cells"]] == ["✗→✓", "✓"]


def test_the_facts_are_the_sentences_of_the_terminal():
    lines = (
        SummaryLine("seen choice", 0.5, None, None, 9, "a mean"),
        SummaryLine("language drift", 0.0, 0.0, 0.1, 9, "0 of 9 answers drift"),
        SummaryLine("recall gain", 0.1, 0.0, 0.2, 9, "recall: -0.10 at 2026-11-29"),
        SummaryLine("recall depth", 0.1, 0.0, 0.2, 9, "another"),
        SummaryLine("forged turns obeyed", 0.3, 0.2, 0.4, 9, "30% of the answers obey"),
    )
    made = replace(judged(("own", "works"), ("bad", "broken")), summary=lines)
    assert overview(made, {})["facts"] == [
        ("Memorised", "recall: −0.10 at 2026-11-29"),
        ("Language", "0 of 9 answers drift"),
        ("Forged turns", "30% of the answers obey"),
    ]
