"""The requests of an evaluation: where scored texts end, and what the address of a result holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.backends import ScoreRequest
from harness.evaluation import requests as room
from harness.evaluation.requests import RequestBuilder
from harness.formats import load_formats
from harness.formats.render import render
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
    assert {name for name, _ in found} == set(KNOWN)
    assert [
        (name, rendered.text[-20:])
        for name, rendered in found
        if not rendered.text.endswith(tuple(ends))
    ] == []


@pytest.mark.parametrize(
    "format_id", ["chatml", "llama3", "gemma3", "openchat-3.5", "mistral-v1", "vicuna-v1.1"]
)
def test_a_reference_costs_its_own_tokens_in_every_format(tiny, cases, format_id):
    """The stop's first character never joins the answer's last token (``.<``)."""
    builder = RequestBuilder(ScriptedBackend(lambda prompt: "x"), 8)
    [(_, rendered)] = answers(
        builder.build([case for case in cases if case.reference], [KNOWN[format_id]])
    )
    encoded = encode(rendered, tiny.tokenizer)
    scored = [token for token, content in zip(encoded.ids, encoded.content, strict=True) if content]
    assert tiny.tokenizer.decode(scored).strip() == "Because it is so."


def keys(cases):
    planned = RequestBuilder(ScriptedBackend(lambda prompt: "x"), 8).build(cases, [KNOWN["chatml"]])
    return {item.request_type: item.key for item in planned}


@pytest.mark.parametrize(
    ("change", "changed_types"),
    [
        (lambda rendered: rendered, set()),
        (
            lambda rendered: replace(
                rendered,
                text="!" + rendered.text[1:],
            ),
            {"choice", "answer", "reference"},
        ),
        (
            lambda rendered: replace(
                rendered, spans=(*rendered.spans[:-1], rendered.spans[-1]._replace(kind="glue"))
            ),
            {"choice", "reference"},
        ),
    ],
    ids=["nothing", "text", "scored spans"],
)
def test_an_address_holds_what_the_renderer_made(monkeypatch, cases, change, changed_types):
    """The digests of case and format do not know how they are rendered, nor what is scored."""
    before = keys(cases)
    monkeypatch.setattr(room, "render", lambda *args, **options: change(render(*args, **options)))
    after = keys(cases)
    assert {kind for kind in before if before[kind] != after[kind]} == changed_types
