"""A budget: what is computed, what is estimated, and that a report separates the two."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from harness.errors import HarnessError
from harness.evaluation.analysis.budget_report import budget_report, budget_rows
from harness.evaluation.analysis.build_report import build_report
from harness.evaluation.analysis.format_verdicts import verdicts
from harness.evaluation.analysis.terminal_lines import print_table, print_verdicts
from harness.evaluation.run import evaluate
from harness.evaluation.search.budget import budgeted, pairs_in_budget
from harness.evaluation.search.thompson import read_goals, search
from harness.evaluation.settings import EvalSettings
from harness.evaluation.store.results_file import Store
from harness.formats.grammar.sample import sample
from harness.report import document
from harness.report.json_document import to_json
from harness.report.page import render_html
from harness.report.write import render_markdown
from harness.stats.sampling_design import balanced_sample
from tests.evaluation.conftest import ask
from tests.scripted_backend import ScriptedBackend

FORMATS = sample(30, 3)
CASES = [ask(f"c{n}", f"Question {n}?", choices=["yes", "no"], answer=0) for n in range(40)]
ASKED = [ask(f"a{n}", f"Say word {n}.", checks=[{"contains": "word"}]) for n in range(20)]


def skilled(rendered):
    """Right with a chance that depends on the format and the case, the same every time."""
    at = [f.id for f in FORMATS].index(rendered.format)
    number = int(rendered.text.split("Question ")[1].split("?")[0])
    right = random.Random(f"{rendered.format}/{number}").random() < 0.2 + 0.6 * at / 29 + 0.2 * (
        number % 2
    )
    return -1.0 if ("yes" in rendered.text) == right else -5.0


def go(tmp_path, cases, backend=None, **rest):
    groups = dict.fromkeys([f.id for f in FORMATS], "held-out")
    backend = backend or ScriptedBackend(lambda prompt: "a word</s>", skilled)
    with Store(tmp_path / "r.sqlite") as store:
        return evaluate(
            backend, cases, FORMATS, groups, None, store, EvalSettings(**rest), quiet=True
        )


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.integers(0, 99))
def test_a_sample_is_balanced_both_ways(items, formats, share, seed):
    cells = round(share * items * formats)
    found = balanced_sample(items, formats, cells, np.random.default_rng(seed))
    assert len(set(found)) == cells
    for axis, size in ((0, items), (1, formats)):
        counts = np.bincount([place[axis] for place in found], minlength=size)
        assert counts.max() - counts.min() <= 1


def test_a_sample_is_mixed():
    """Over many seeds, every cell is as likely as any other."""
    hits = np.zeros((6, 9))
    for seed in range(600):
        for place in balanced_sample(6, 9, 18, np.random.default_rng(seed)):
            hits[place] += 1
    assert abs(hits / 600 - 1 / 3).max() < 0.09
    together = sum(
        {(0, 0), (1, 1)} <= set(balanced_sample(6, 9, 18, np.random.default_rng(seed)))
        for seed in range(600)
    )
    assert 0.05 < together / 600 < 0.2


@pytest.mark.parametrize(
    ("text", "cells"),
    [("10%", 120), ("100%", 1200), ("0.01%", 1), ("300", 300), (" 2.5 % ", 30), ("9999", 1200)],
)
def test_sizes_of_a_budget(text, cells):
    assert pairs_in_budget(text, 1200) == cells


@pytest.mark.parametrize("text", ["", "ten", "0", "-3", "0%", "101%", "1.5", "nan", "inf", "10%%"])
def test_invalid_budgets(text):
    with pytest.raises(HarnessError, match="invalid --budget"):
        pairs_in_budget(text, 1200)


def test_only_the_sample_is_computed_and_the_rest_is_estimated(tmp_path):
    backend = ScriptedBackend(lambda prompt: "a word</s>", skilled)
    found = go(tmp_path, CASES, backend, budget="10%")
    assert (
        backend.asked == found.computed == found.budget.pairs == 120 and found.budget.total == 1200
    )
    assert sum(cell.n for cell in found.aggregates if cell.metric == "choice") == 120
    row = next(row for row in budget_rows(found) if row.metric == "choice")
    assert (row.cells, row.items, row.formats) == (120, 40, 30)
    assert all(n == 4 for _, n in row.by_format.values())
    whole = go(tmp_path, CASES)
    means = [whole.aggregate(f.id, "choice").mean for f in FORMATS]
    assert row.mean.low <= np.mean(means) <= row.mean.high
    for q, value in row.quantiles.items():
        assert (
            value.low - 1e-9 <= np.quantile(means, float(q.rstrip("%")) / 100) <= value.high + 1e-9
        ), q
    assert whole.computed == 1200 - 120 and whole.budget is None and budget_report(whole) is None


def test_a_larger_budget_takes_what_is_there(tmp_path):
    first = go(tmp_path, CASES, budget="10%")
    again = go(tmp_path, CASES, budget="10%")
    assert again.computed == 0 and again.aggregates == first.aggregates
    assert {(w.case, w.format) for w in go(tmp_path, CASES, budget="10%", seed=1).requests} != {
        (w.case, w.format) for w in first.requests
    }


def test_each_kind_of_case_has_its_share_and_references_are_left_out(tmp_path):
    cases = [*CASES, *ASKED, ask("r", "Why?", reference="So.")]
    found = go(tmp_path, cases, budget="20%")
    assert len(found.cases) == 60 and found.budget.pairs == 360
    assert {row.metric: row.cells for row in budget_rows(found)} == {
        "choice": 240,
        "on_task": 120,
        "stopped": 120,
        "empty": 120,
        "leak": 120,
    }
    with pytest.raises(HarnessError, match="choices or checks"):
        budgeted([ask("r", "Why?", reference="So.")])


def test_the_report_separates_estimates_from_computed_pairs(tmp_path, capsys):
    found = go(tmp_path, CASES, budget="120")
    assert {found.word for found in verdicts(found)} == {"unclear"}
    fingerprint = {**found.fingerprint, "dtype": "none"}
    report = build_report(
        [found.__class__(**{**found.__dict__, "fingerprint": fingerprint})], model="toy"
    )
    page, text = render_html(report), render_markdown(report)
    assert "120 of 1200 cells computed" in page and "Each format's estimated choice" in page
    assert "estimated from 120 computed cells (10% of 40 cases × 30 formats)" in text.replace(
        "\\", ""
    )
    table = json.loads(to_json(report))
    assert table["budget"][0]["rows"][0]["quantiles"]["50%"]["low"] < 0.7
    Draft202012Validator(
        json.loads(Path(document.__file__).with_name("schema.json").read_text())
    ).validate(table)
    assert not report.across, "formats that met different cases are not compared"
    print_table([found])
    print_verdicts([found], [verdicts(found)])
    assert "estimated from 120 computed cells" in capsys.readouterr().out


def test_a_search_finds_the_best_and_the_worst_within_its_budget(tmp_path):
    backend = ScriptedBackend(lambda prompt: "a word</s>", skilled)
    found = go(tmp_path, CASES, backend, budget="30%", find="best,worst")
    assert backend.asked <= 360 and found.computed == backend.asked == found.budget.pairs
    best, worst = found.budget.found_formats
    ranks = [f.id for f in FORMATS]
    assert ranks.index(best.format) >= 22 and ranks.index(worst.format) <= 7
    assert best.n == worst.n == 20 and best.value > worst.value
    assert best.low <= best.value <= best.high
    text = budget_report(found).text
    assert (
        text[0].startswith(f"best format by choice: {best.format}, ")
        and "cases that were not searched on" in text[0]
    )
    again = ScriptedBackend(lambda prompt: "a word</s>", skilled)
    assert (
        go(tmp_path, CASES, again, budget="30%", find="best,worst").budget == found.budget
        and again.asked == 0
    )
    assert "Found by Thompson sampling" in render_html(build_report([found], model="toy"))


def test_a_search_by_another_measure_leaves_other_cases_alone(tmp_path):
    backend = ScriptedBackend(
        lambda prompt: "a word</s>" if prompt.format == FORMATS[7].id else "no", skilled
    )
    found = go(tmp_path, [*CASES, *ASKED], backend, budget="40%", find="best", find_by="on_task")
    assert len(found.cases) == 20 and found.budget.total == 600 and backend.asked <= 240
    assert (
        found.budget.found_formats[0].format == FORMATS[7].id
        and found.budget.found_formats[0].value == 1.0
    )
    with pytest.raises(HarnessError, match="these cases have no such metric"):
        go(tmp_path, ASKED, budget="10%", find="best", find_by="choice")


@given(st.integers(2, 6), st.integers(4, 12), st.integers(8, 80), st.integers(0, 50))
def test_a_search_never_asks_twice_or_beyond_its_budget(formats, items, cells, seed):
    asked = []

    def compute(places):
        asked.extend(places)
        return {place: float(hash(place) % 3 == 0) for place in places}

    places = [(f"c{i}", f"f{f}") for i in range(items) for f in range(formats)]
    found = search(("best", "worst"), "choice", places, cells, compute, seed)
    same = {one.format for one in found}
    assert len(asked) <= cells and (len(asked) == len(set(asked)) or len(same) == 1)
    assert [one.goal for one in found] == ["best", "worst"]


def test_too_small_a_budget_for_a_search():
    with pytest.raises(HarnessError, match="too small"):
        search(
            ("best", "worst"),
            "choice",
            [("a", "f"), ("b", "f")],
            2,
            lambda places: dict.fromkeys(places, 1.0),
            0,
        )
    with pytest.raises(HarnessError, match="expected best, worst"):
        read_goals("bset")


@pytest.mark.parametrize(("metric", "worst"), [("empty", "f3"), ("leak", "f3"), ("choice", "f0")])
def test_a_search_knows_which_direction_is_better(metric, worst):
    """f3 has a value of 1 in nine of ten cases, f0 in none, the others in half of them."""

    def compute(pairs):
        rates = {"f0": 0, "f3": 9}
        return {
            (case, name): float(int(case[1:]) % 10 < rates.get(name, 5)) for case, name in pairs
        }

    pairs = [(f"c{at}", f"f{number}") for at in range(200) for number in range(4)]
    found = {one.goal: one for one in search(("best", "worst"), metric, pairs, 400, compute, 0)}
    best = "f0" if worst == "f3" else "f3"
    assert (found["best"].format, found["worst"].format) == (best, worst)
    assert found["worst"].value == pytest.approx(0.9 if worst == "f3" else 0.0, abs=0.1)
    assert found["worst"].searched_value == pytest.approx(found["worst"].value, abs=0.2)


@pytest.mark.parametrize(("goal", "expected"), [("best", "f3"), ("worst", "f0")])
def test_a_search_spends_most_on_the_formats_that_it_is_after(goal, expected):
    """Rates of 0, 30, 60 and 90 %, and a budget for a quarter of all pairs.

    A quarter of it is kept for the report, and the rest is spent 32 pairs at a time.
    """
    asked, rounds = Counter(), []

    def compute(pairs):
        rounds.append(len(pairs))
        asked.update(name for _, name in pairs)
        return {(case, name): float(int(case[1:]) % 10 < 3 * int(name[1:])) for case, name in pairs}

    pairs = [(f"c{at}", f"f{number}") for at in range(400) for number in range(4)]
    [found] = search((goal,), "choice", pairs, 400, compute, 0)
    assert asked[expected] > 0.6 * sum(asked.values())
    assert rounds == [*[32] * 9, 12, 100] and found.n == 100
