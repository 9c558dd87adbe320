"""The same question deep in a conversation, and measures by turn and by depth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends.scripted import ScriptedBackend
from harness.errors import HarnessError
from harness.evaluate.cases import load_cases
from harness.evaluate.depth import CHARS_A_TOKEN, deepened, depth_of, depth_rows, filler_of
from harness.evaluate.session import EvalSettings, evaluate
from harness.evaluate.store import Store
from harness.records import Message
from tests.evaluate.conftest import ask

FILLER = filler_of(load_cases(()))
CASE = ask("a1", "Say hello.", checks=[{"contains": "hello"}])


@given(st.integers(20, 4000))
def test_a_case_stands_behind_as_many_tokens_as_asked(tokens):
    made = deepened(CASE, tokens, FILLER)
    assert made.messages[-1] == CASE.messages[-1] and made.checks == CASE.checks and depth_of(made.id) == tokens
    assert [m.role for m in made.messages[:-1]] == ["user", "assistant"] * (len(made.messages) // 2)
    size = sum(len(m.content) for m in made.messages[:-1])
    assert size <= tokens * CHARS_A_TOKEN
    assert size >= tokens * CHARS_A_TOKEN - 60
    assert all(message.content.strip() for message in made.messages)


def test_the_system_prompt_stays_first():
    system = ask("s", "Hello?", checks=[{"contains": "hi"}])
    system = type(system)(**{**{f: getattr(system, f) for f in system.__slots__}, "messages": (Message("system", "Be kind."), *system.messages)})
    made = deepened(system, 300, FILLER)
    assert made.messages[0] == Message("system", "Be kind.") and made.messages[1].role == "user"


@pytest.mark.parametrize(("tokens", "words"), [(0, "cannot be made"), (10**7, "cannot be made")])
def test_impossible_depths(tokens, words):
    with pytest.raises(HarnessError, match=words):
        deepened(CASE, tokens, FILLER)


def test_rows_by_turn_and_by_depth(tmp_path, formats):
    groups = {"chatml": "native", "alpaca-newline": "seen", "llama3": "held-out"}
    second = ask("a2", "Say hello again.", checks=[{"contains": "hello"}])
    second = type(second)(**{**{f: getattr(second, f) for f in second.__slots__}, "messages": (*CASE.messages, Message("assistant", "x"), *second.messages)})
    cases = [CASE, second, deepened(CASE, 500, FILLER)]
    with Store(tmp_path / "r.sqlite") as store:
        backend = ScriptedBackend(lambda prompt: "hello</s>" if len(prompt.text) < 1000 else "boats</s>")
        found = evaluate(backend, cases, formats, groups, "chatml", store, EvalSettings(), quiet=True)
    rows = {(row.by, row.place, row.metric): row for row in depth_rows(found)}
    assert rows["turn", 1, "on_task"].mean == rows["turn", 2, "on_task"].mean == 1.0
    assert rows["turn", 1, "on_task"].n == 1
    assert (rows["depth", 0, "on_task"].mean, rows["depth", 500, "on_task"].mean) == (1.0, 0.0)
    assert rows["depth", 0, "on_task"].n == 2
