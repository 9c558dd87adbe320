"""From cases to cells with a scripted engine: resume, stale results, untestable formats, groups."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import replace

import pytest

from harness.conversation import Message
from harness.data.conversations import load_conversations
from harness.evaluation.analysis.across_formats import changes
from harness.evaluation.analysis.format_verdicts import verdicts
from harness.evaluation.analysis.phrase_report import phrase_report
from harness.evaluation.analysis.recall_summary import recall_texts
from harness.evaluation.analysis.sample_answers import samples
from harness.evaluation.analysis.summary import (
    gap_closed,
    group_mean,
    paired_change,
    summary,
)
from harness.evaluation.cases.case_files import recall_case
from harness.evaluation.recall_rows import recall_sets
from harness.evaluation.results import RecallSets
from harness.evaluation.run import evaluate
from harness.evaluation.settings import EvalSettings
from harness.evaluation.store.results_file import Store
from harness.formats import load_formats
from harness.formats.frontmatter import parse_format
from harness.metrics.canaries import make_canaries
from harness.records import Case, Check
from tests.evaluation.conftest import ask
from tests.scripted_backend import ScriptedBackend

GROUPS = {"chatml": "native", "alpaca-newline": "seen", "llama3": "held-out"}


def good(prompt):
    return "hello</s>" if "hello" in prompt.text else "A dog.</s>"


def right(rendered):
    """The right option is the likelier one, and every format but ChatML costs something."""
    return (
        -1.0
        if ("Norway" in rendered.text) == ("Oslo" in rendered.text) and "Lima" not in rendered.text
        else -9.0
    ) - (0.0 if rendered.format == "chatml" else 4.0)


def go(tmp_path, cases, formats, backend, **rest):
    with Store(tmp_path / "r.sqlite") as store:
        return evaluate(
            backend, cases, formats, GROUPS, "chatml", store, EvalSettings(), quiet=True, **rest
        )


def test_aggregates_of_scripted_answers(tmp_path, cases, formats):
    found = go(tmp_path, cases, formats, ScriptedBackend(good, right))
    assert {f: found.aggregate(f, "choice").mean for f in GROUPS} == {
        "chatml": 1.0,
        "alpaca-newline": 1.0,
        "llama3": 1.0,
    }
    assert (
        found.aggregate("llama3", "answer_strict").mean == 1.0
        and found.aggregate("llama3", "answer_strict").n == 2
    )
    assert found.aggregate("chatml", "nll_excess").mean == 0.0
    assert found.aggregate("llama3", "nll_excess").mean > 0
    assert (
        found.aggregate("chatml", "stopped").mean == 1.0
        and found.aggregate("chatml", "stopped").high == 1.0
    )
    assert not found.untestable


def test_a_second_run_computes_nothing_and_equals_the_first(tmp_path, cases, formats):
    first = go(tmp_path, cases, formats, ScriptedBackend(good, right))
    backend = ScriptedBackend(good, right)
    second = go(tmp_path, cases, formats, backend)
    assert backend.asked == second.computed == 0 and first.computed == 15
    assert second.aggregates == first.aggregates


def test_adding_a_format_costs_one_column(tmp_path, cases, formats):
    go(tmp_path, cases, formats[:2], ScriptedBackend(good, right))
    assert go(tmp_path, cases, formats, ScriptedBackend(good, right)).computed == len(cases)


@pytest.mark.parametrize("change", ["model", "template", "stops", "case", "settings"])
def test_stale_results_are_not_reused(tmp_path, cases, formats, change):
    go(tmp_path, cases, formats, ScriptedBackend(good, right))
    backend, settings = (
        ScriptedBackend(good, right, name="other" if change == "model" else "scripted"),
        EvalSettings(),
    )
    expected = {"model": 15, "template": 5, "stops": 2, "case": 3, "settings": 6}[change]
    if change == "template":
        formats = [
            replace(formats[0], template=formats[0].template + "{{ '!' }}", digest="sha256:new"),
            *formats[1:],
        ]
    if change == "stops":
        formats = [replace(formats[0], stops=("###",)), *formats[1:]]
    if change == "case":
        cases = [
            replace(cases[0], messages=(Message("user", "Capital of Norway, please?"),)),
            *cases[1:],
        ]
    if change == "settings":
        settings = EvalSettings(max_new_tokens=5)
    with Store(tmp_path / "r.sqlite") as store:
        found = evaluate(backend, cases, formats, GROUPS, "chatml", store, settings, quiet=True)
    assert found.computed == expected


def test_what_a_format_cannot_carry_is_not_scored_and_not_zero(tmp_path, cases, formats):
    refusing = parse_format(
        '{#---\nfamily = "toy"\n---#}\n{% for m in messages %}{% if m.role == "system" %}'
        '{{ raise_exception("no system here") }}{% endif %}{{ m.content }}\n{% endfor %}',
        tmp_path / "toy.jinja",
    )
    with_system = Case(
        "s1",
        (Message("system", "Be brief."), Message("user", "Hello?")),
        checks=(Check("contains", "hello"),),
    )
    groups = {**GROUPS, "toy": "held-out"}
    with Store(tmp_path / "r.sqlite") as store:
        found = evaluate(
            ScriptedBackend(good, right),
            [with_system],
            [*formats, refusing],
            groups,
            "chatml",
            store,
            EvalSettings(),
            quiet=True,
        )
    cell = found.aggregate("toy", "on_task")
    assert cell.mean is None and cell.n == 0 and cell.not_scored == 1
    assert next(c for c in verdicts(found) if c.format == "toy").word == "untestable"


def test_verdicts_name_what_is_wrong(tmp_path, cases, formats):
    def reply(prompt):
        return {
            "chatml": "hello, a dog</s>",
            "alpaca-newline": "</s>",
            "llama3": "hello a dog, on and on",
        }[prompt.format]

    cases = [replace(case, id=f"{case.id}-{n}") for n in range(6) for case in cases]
    words = {
        c.format: c for c in verdicts(go(tmp_path, cases, formats, ScriptedBackend(reply, right)))
    }
    assert words["alpaca-newline"].word == "broken" and "empty" in words["alpaca-newline"].reason
    assert words["llama3"].word == "broken" and "end by themselves" in words["llama3"].reason


def test_gap_closed_is_one_minus_after_over_before(tmp_path, cases, formats):
    references = [case for case in cases if case.reference]
    cases = [*cases, *(replace(c, id=f"{c.id}-{n}") for n in range(30) for c in references)]
    before = go(tmp_path, cases, formats, ScriptedBackend(good, right), label="before")
    half = ScriptedBackend(
        good, lambda r: right(r) + (0.0 if r.format == "chatml" else 3.0), name="tuned"
    )
    after = go(tmp_path, cases, formats, half, label="after")
    closed = gap_closed(before, after)
    assert closed.value == pytest.approx(0.75)
    assert closed.low <= closed.value <= closed.high
    assert group_mean(before, "stopped", "held-out").value == 1.0
    names = [line.name for line in summary([before, after])]
    assert names[:2] == ["held-out gap closed", "held-out nll_excess reduction"]


@pytest.mark.parametrize("count", [4, 5])
def test_five_held_out_formats_tell_of_others_and_four_do_not(tmp_path, cases, count):
    known = load_formats()
    names = ["alpaca-newline", "llama3", "gemma3", "vicuna-v1.1-newline", "mistral-v1"][:count]
    groups = {"chatml": "native", **dict.fromkeys(names, "held-out")}

    def one_bad(rendered):
        """In one format the wrong options are the likelier ones, and references cost most."""
        return -40.0 - right(rendered) if rendered.format == names[1] else right(rendered)

    with Store(tmp_path / "r.sqlite") as store:
        found = evaluate(
            ScriptedBackend(good, one_bad),
            cases,
            [known[name] for name in groups],
            groups,
            "chatml",
            store,
            EvalSettings(),
            quiet=True,
        )
    texts = {line.name: line.text for line in summary([found])}
    for metric in ("choice", "nll_excess"):
        worst = found.aggregate(names[1], metric).mean
        assert texts[f"other {metric}"].endswith(f"; the worst of {count} has {worst:.2f}")
    tells = texts.get("formats like the other ones", "")
    assert ("with 95 % confidence: at least 55% of formats" in tells) == (count == 5)
    scores = [s for s in found.scores if (s.format, s.metric) != (names[0], "choice")]
    fewer = summary([replace(found, scores=scores)])  # a number of four formats alone
    assert "formats like the other ones" not in {line.name for line in fewer}


@pytest.mark.parametrize(
    ("change", "word"),
    [(-3.0, "worse"), (0.0, "no significant change"), (0.5, "better")],
)
def test_the_native_format_is_worse_only_when_its_whole_interval_is(
    tmp_path, cases, formats, change, word
):
    cases = [
        replace(case, id=f"{case.id}-{n}") for n in range(30) for case in cases if case.reference
    ]
    before = go(tmp_path, cases, formats, ScriptedBackend(good, right), label="before")
    after = go(
        tmp_path,
        cases,
        formats,
        ScriptedBackend(good, lambda r: right(r) + change, name="tuned"),
        label="after",
    )
    line = next(line for line in summary([before, after]) if line.name == "native nll change")
    assert line.text.endswith(word)
    assert line.value == pytest.approx(paired_change(before, after, "nll", "native").value)
    assert (line.value > 0) == (change < 0)


def test_answers_are_searched_for_copies_of_the_training_set(tmp_path, cases, formats):
    text = (
        "The harbour was quiet when the last ferry came in, and the old pilot counted the lamps"
        " along the quay as he had done every evening for years."
    )
    row = Case("t", (Message("user", "Tell me."),), reference=text)
    sets = RecallSets((row,), (row,), (("ferry#1", text),))
    found = go(
        tmp_path,
        cases,
        formats,
        ScriptedBackend(
            lambda prompt: f"Well. {text}</s>" if "hello" in prompt.text else "A dog.</s>", right
        ),
        recall=sets,
    )
    assert found.aggregate("chatml", "copied").mean == pytest.approx(0.5, abs=0.05)
    assert {
        score.why for score in found.scores if score.metric == "copied" and score.case == "a1"
    } == {"28 words of ferry#1"}
    marks = [
        mark
        for sample in samples(found)
        if sample.case == "a1"
        for mark in sample.marks
        if mark.kind == "recall"
    ]
    assert len(marks) == 3
    assert f"Well. {text}"[marks[0].start : marks[0].end] == text.rstrip(".")
    assert "ferry#1" in marks[0].note


def test_recall_that_cannot_be_measured_is_not_reported(tmp_path, cases, formats):
    """A server without log-probabilities: standard error says why, and no table is made."""
    row = Case("t", (Message("user", "Tell me."),), reference="Plain words and no more.")
    sets = RecallSets((row,), (replace(row, id="c"),))
    backend = ScriptedBackend(good, right)
    assert go(tmp_path, cases, formats, backend, recall=sets).recall.rows  # the control
    backend.no_loglikelihood = "the server gives no log-probabilities"
    found = go(tmp_path, cases, formats, backend, recall=sets)
    assert found.recall is None and recall_texts([found]) == []


def test_phrases_of_a_run_beside_its_base_and_its_training(tmp_path, cases, formats):
    row = Case("t", (Message("user", "Tell me."),), reference="Plain words and no more.")
    sets = RecallSets((row,), (row,), (("t", "Plain words and no more."),))
    before = go(
        tmp_path, cases, formats, ScriptedBackend(good, right, "base"), label="before", recall=sets
    )
    after = go(
        tmp_path,
        cases,
        formats,
        ScriptedBackend(lambda _: "I hope this helps!</s>", right, "tuned"),
        label="after",
        recall=sets,
    )
    found = phrase_report([before, after])
    closing = next(row for row in found.kinds if row.kind == "closing")
    assert closing.rates == {"before": 0.0, "after": 250.0} and closing.training == 0.0
    assert closing.lift_over_base > 1 and closing.lift_over_training > 1 and closing.worst in GROUPS
    assert found.against == "the base run"
    assert phrase_report([after]).against == "the training answers"


def test_trained_canaries_are_exposed(tmp_path, formats):
    """A model that prefers the trained secrets ranks them first; any other has chance bits."""
    trained, null = (
        tuple(map(recall_case, make_canaries(8, 0, trained=kind))) for kind in (True, False)
    )
    known = {case.reference for case in trained}
    sets = RecallSets(trained, null)

    def knows(rendered):
        return (
            -1.0
            if any(secret in rendered.text for secret in known)
            else -30.0 - len(rendered.text) % 7
        )

    def row(logprob, name):
        found = go(
            tmp_path,
            [ask("q", "?", reference="x")],
            formats,
            ScriptedBackend(good, logprob, name),
            recall=sets,
        ).recall
        return next(
            row for row in found.rows if row.metric == "exposure" and row.format == "chatml"
        ), found

    exposed, table = row(knows, "knows")
    assert exposed.train == pytest.approx(math.log2(9)) and exposed.excess > 1.5
    assert set(table.format_leak) == set(GROUPS) and table.format_leak["chatml"] == 0.0
    blind, _ = row(
        lambda rendered: -30.0 - zlib.crc32(rendered.text.encode()) % 1000 / 100, "blind"
    )
    assert blind.train < 2.9


def test_a_gap_is_closed_in_formats_that_are_held_out_in_both(tmp_path, cases, formats):
    """Adapters trained in different formats have different held-out ones."""
    runs = [
        go(tmp_path, cases, formats, ScriptedBackend(good, right, name=name)) for name in ("a", "b")
    ]
    other = replace(
        runs[1], groups={"chatml": "native", "alpaca-newline": "held-out", "llama3": "seen"}
    )
    assert gap_closed(*runs) is not None and paired_change(*runs, "choice", "held-out") is not None
    assert (
        gap_closed(runs[0], other) is None
        and paired_change(runs[0], other, "choice", "held-out") is None
    )
    assert paired_change(runs[0], other, "choice", "native").n == 2


def test_changes_of_means_over_samples_are_tested_too(tmp_path, cases, formats):
    runs = [
        go(tmp_path, cases, formats, ScriptedBackend(good, right, name=name)) for name in ("a", "b")
    ]
    halves = [
        replace(score, value=0.5) if score.metric == "on_task" and score.value == 1.0 else score
        for score in runs[1].scores
    ]
    found = [
        change
        for change in changes(runs[0], replace(runs[1], scores=tuple(halves)))
        if change.metric == "on_task"
    ]
    assert (
        found
        and all(0 < change.p <= 1 for change in found)
        and any(change.after < change.before for change in found)
    )


def test_rows_and_controls_may_have_equal_ids(tmp_path):
    rows = [
        {
            "id": "1",
            "messages": [
                {"role": "user", "content": f"{name}?"},
                {"role": "assistant", "content": f"It is {name}."},
            ],
        }
        for name in ("row", "twin")
    ]
    files = [tmp_path / "rows.jsonl", tmp_path / "twins.jsonl"]
    for file, row in zip(files, rows, strict=True):
        file.write_text(json.dumps(row) + "\n")
    sets = recall_sets(*(load_conversations([str(file)]) for file in files), 8)
    assert len({case.id for case in (*sets.train, *sets.controls)}) == 2 and sets.train[0].id == "1"
