"""Whatever a row holds, it is read or refused with a reason, and a row that is read is stable."""

from __future__ import annotations

import copy
import json
import os

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.conversation import Conversation
from harness.data.chat_marks import ChatMarks
from harness.data.conversations import as_row, parse_conversation
from harness.data.entries.content_parts import parse_parts
from harness.data.entries.speakers import SPEAKERS
from harness.data.refusals import RefusedRow, is_empty, unlearnable
from harness.data.schemas import detect
from harness.data.tool_use import ThoughtsAndCalls, tool_findings
from tests.data.test_tool_rows import ROWS

EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "200"))

MARKS = ChatMarks(())
_TEXTS = st.sampled_from(
    (
        *(
            "",
            " ",
            "a",
            "7",
            "[]",
            "{}",
            "null",
            '{"name": "f"}',
            '{"name": "f", "arguments": "1"}',
        ),
        *("<think>t</think>a", "t</think>\na", "<think>", '<tool_call>{"name": "f"}</tool_call>'),
        *("<tool_response>r</tool_response>", '<tools>\n{"name": "f"}\n</tools>', "\ud83d", "x\ny"),
    )
)
_NAMES = st.sampled_from(
    (
        *("role", "from", "content", "value", "name", "train", "weight", "loss", "channel", "type"),
        *("reasoning_content", "thinking", "tool_calls", "function_call", "tool_call_id", "tools"),
        *("recipient", "function", "arguments", "id", "text", "tool_use_id", "input", "refusal"),
        *("parameters", "properties", "required", "enum", "anyOf", "items", "input_schema"),
    )
)
_WORDS = st.sampled_from(
    (
        *(*SPEAKERS, "analysis", "commentary", "final", "functions.f", "all", "text", "thinking"),
        *("tool_use", "tool_result", "image_url", "string", "integer", "object"),
    )
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.just(float("nan")) | _TEXTS | _WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=6,
)


def _places(value, at=()):
    """The path of every value inside a row."""
    yield at
    steps = value.items() if isinstance(value, dict) else ()
    steps = enumerate(value) if isinstance(value, list) else steps
    for step, inner in steps:
        yield from _places(inner, (*at, step))


@st.composite
def _damaged_rows(draw):
    """A sound row in any spelling with up to three of its values replaced, removed or doubled."""
    row = copy.deepcopy(ROWS[draw(st.sampled_from(sorted(ROWS)))])
    for _ in range(draw(st.integers(0, 3))):
        if not (places := [place for place in _places(row) if place]):
            break
        *way, last = draw(st.sampled_from(places))
        inner = row
        for step in way:
            inner = inner[step]
        change = draw(st.sampled_from(("replace", "remove", "double", "add")))
        if change == "remove":
            del inner[last]
        elif change == "double" and isinstance(inner, list):
            inner.insert(last, copy.deepcopy(inner[last]))
        elif change == "add" and isinstance(inner, dict):
            inner[draw(_NAMES)] = draw(_VALUES)
        else:
            inner[last] = draw(_VALUES)
    return row


_ROWS = _damaged_rows() | st.builds(
    lambda row, rest: {**rest, **row},
    st.one_of(
        st.fixed_dictionaries({"prompt": _VALUES, "completion": _VALUES}),
        st.fixed_dictionaries({"instruction": _VALUES, "output": _VALUES}),
        st.fixed_dictionaries({"instruction": _TEXTS, "output": _VALUES, "history": _VALUES}),
        st.fixed_dictionaries({"text": _VALUES}),
    ),
    st.dictionaries(st.sampled_from(("id", "tags", "images", "label", "system", "x")), _VALUES),
)


@settings(max_examples=EXAMPLES)
@given(_ROWS)
def test_any_row_is_read_or_refused(row):
    schema = detect({key: value for key, value in row.items() if value is not None})
    if schema is None:
        return
    try:
        conversation = parse_conversation(row, "f:1", schema=schema)
    except RefusedRow as error:
        assert error.reason and len(str(error).splitlines()) == 1
        assert len(str(error)) < 700 and str(error).startswith("f:1: ")
        return
    _is_sound(conversation)
    again = json.loads(json.dumps(as_row(conversation)))
    read = parse_conversation(again, "f:1", schema=detect(again))
    assert (read.messages, read.tools) == (conversation.messages, conversation.tools)


def _is_sound(conversation: Conversation) -> None:
    """The checks of a set run over it, whatever it says."""
    unlearnable(conversation)
    assert list(map(is_empty, conversation.messages))
    for kind, sentence in (*tool_findings(conversation), *MARKS.findings(conversation)):
        assert kind and "\n" not in sentence
    list(ThoughtsAndCalls.of([conversation]).lines())


@given(st.lists(_VALUES, max_size=4))
def test_any_content_in_parts_is_read_or_refused(parts):
    try:
        found = parse_parts(parts, "f:1")
    except RefusedRow as error:
        assert str(error).startswith("f:1")
        return
    assert all(isinstance(text, str) for text in (*found.texts, *found.thoughts))
