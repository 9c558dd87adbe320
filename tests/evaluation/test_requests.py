"""What the planner asks for: prompts to be answered, and texts that end where the answer's words end."""

from __future__ import annotations

import pytest

from harness.backends import ScoreRequest
from harness.evaluation.requests import RequestBuilder
from harness.formats import load_formats
from harness.tokens.encode import encode
from tests.scripted_backend import ScriptedBackend

KNOWN = load_formats()


def answers(requests):
    return [
        (item.format, rendered)
        for item in requests
        if isinstance(item.request, ScoreRequest)
        for rendered in item.request.answers
    ]


def test_a_scored_text_ends_with_the_words_of_its_answer(cases):
    requests = RequestBuilder(ScriptedBackend(lambda prompt: "x"), 8).build(
        cases, list(KNOWN.values())
    )
    ends = {"Oslo", "Rome", "Lima", "Because it is so."}
    found = answers(requests)
    assert {format for format, _ in found} == set(KNOWN)
    assert [
        (format, rendered.text[-20:])
        for format, rendered in found
        if not rendered.text.endswith(tuple(ends))
    ] == []


@pytest.mark.parametrize(
    "id", ["chatml", "llama3", "gemma3", "openchat-3.5", "mistral-v1", "vicuna-v1.1"]
)
def test_a_reference_costs_its_own_tokens_in_every_format(tiny, cases, id):
    """The stop's first character must not join the answer's last token (``.<``), or a format would be charged for its stop."""
    builder = RequestBuilder(ScriptedBackend(lambda prompt: "x"), 8)
    [(_, rendered)] = answers(
        builder.build([case for case in cases if case.reference], [KNOWN[id]])
    )
    encoded = encode(rendered, tiny.tokenizer)
    scored = [token for token, content in zip(encoded.ids, encoded.content, strict=True) if content]
    assert tiny.tokenizer.decode(scored).strip() == "Because it is so."
