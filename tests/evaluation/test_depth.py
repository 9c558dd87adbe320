"""Metrics by turn, depth and place, each beside the cases that it is compared with."""

from __future__ import annotations

from dataclasses import replace

from harness.conversation import Message
from harness.evaluation.analysis.depth import depth_rows
from harness.evaluation.cases.case_files import load_cases
from harness.evaluation.cases.variants import at_depth, at_position, at_turn, filler_from
from harness.evaluation.run import evaluate
from harness.evaluation.settings import EvalSettings
from harness.evaluation.store.results_file import Store
from tests.evaluation.conftest import ask
from tests.scripted_backend import ScriptedBackend

FILLER = filler_from(load_cases(()))
CASE = ask("a1", "Say hello.", checks=[{"contains": "hello"}])
SECOND = replace(
    ask("a2", "x", checks=[{"contains": "hello"}]),
    messages=(*CASE.messages, Message("assistant", "x"), Message("user", "Say hello again.")),
)
GROUPS = {"chatml": "native", "alpaca-newline": "seen", "llama3": "held-out"}


def rows(tmp_path, cases, formats, reply):
    with Store(tmp_path / "r.sqlite") as store:
        found = evaluate(
            ScriptedBackend(reply),
            cases,
            formats,
            GROUPS,
            "chatml",
            store,
            EvalSettings(),
            quiet=True,
        )
    return {(row.by, row.place, row.metric): row for row in depth_rows(found)}


def test_rows_by_turn_and_by_depth(tmp_path, formats):
    cases = [CASE, SECOND, at_depth(CASE, 500, FILLER)]
    found = rows(
        tmp_path,
        cases,
        formats,
        lambda prompt: "hello</s>" if len(prompt.text) < 1000 else "boats</s>",
    )
    assert found["turn", 1, "on_task"].mean == found["turn", 2, "on_task"].mean == 1.0
    assert found["turn", 1, "on_task"].n == 1
    assert (found["depth", 0, "on_task"].mean, found["depth", 500, "on_task"].mean) == (1.0, 0.0)
    assert found["depth", 0, "on_task"].n == 2


def test_rows_of_the_same_cases_asked_later(tmp_path, formats):
    """A model forgets after six questions: a2 is compared with a2, and a1 has no variant."""
    cases = [CASE, SECOND, at_turn(SECOND, 4, FILLER), at_turn(SECOND, 9, FILLER)]
    marks = {
        "chatml": "<|im_start|>user",
        "alpaca-newline": "### Instruction:",
        "llama3": "user<|end_header_id|>",
    }
    found = rows(
        tmp_path,
        cases,
        formats,
        lambda prompt: "hello</s>" if prompt.text.count(marks[prompt.format]) < 6 else "boats</s>",
    )
    assert [
        (place, row.mean, row.n)
        for (by, place, metric), row in found.items()
        if (by, metric) == ("asked as turn", "on_task")
    ] == [
        (2, 1.0, 1),
        (4, 1.0, 1),
        (9, 0.0, 1),
    ]
    assert {place for by, place, _ in found if by == "turn"} == {1, 2}


def test_rows_by_the_place_of_the_facts(tmp_path, formats):
    """A model that reads the end of its prompt alone."""
    facts = replace(
        SECOND,
        messages=(
            Message("user", "My dog is Rollo."),
            Message("assistant", "Good."),
            Message("user", "What is my dog called?"),
        ),
    )
    facts = replace(facts, checks=ask("x", "?", checks=[{"contains": "rollo"}]).checks)
    cases = [facts, *(at_position(facts, 800, at, FILLER) for at in (0, 50, 100))]
    found = rows(
        tmp_path,
        cases,
        formats,
        lambda prompt: "Rollo.</s>" if "Rollo" in prompt.text[-500:] else "Rex.</s>",
    )
    assert [found["facts at % of 800", at, "on_task"].mean for at in (0, 50, 100)] == [
        0.0,
        0.0,
        1.0,
    ]
    assert ("depth", 800, "on_task") not in found
