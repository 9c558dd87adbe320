"""The local engine against plain transformers, one sequence at a time, in float32."""

from __future__ import annotations

import pytest
import torch

from harness.backends import GenerateRequest, ScoreRequest
from harness.backends.local.backend import TransformersBackend
from harness.conversation import Conversation, Message
from harness.formats import load_formats
from harness.formats.render import render
from harness.tokens.encode import encode, prompt_ids
from harness.tokens.vocabulary import off_script_ids
from tests.device import chosen_device

FORMATS = load_formats()
QUESTIONS = [
    "What is the capital?",
    "fox",
    "the quick brown fox jumps over the lazy dog, and then the dog jumps over the fox again",
]
OPTIONS = ["Oslo", "the lazy dog", "Paris is it", "x"]


def answered(format_id, question, answer, backend):
    conversation = Conversation("c", (Message("user", question), Message("assistant", answer)))
    return render(
        conversation, FORMATS[format_id], bos_token=backend.bos_token, eos_token=backend.eos_token
    )


def asked(format_id, question, backend):
    return render(
        Conversation("c", (Message("user", question),)),
        FORMATS[format_id],
        add_generation_prompt=True,
        bos_token=backend.bos_token,
        eos_token=backend.eos_token,
    )


def plain_logprobs(loaded, rendered):
    encoded = encode(rendered, loaded.tokenizer)
    with torch.no_grad():
        logits = torch.log_softmax(
            loaded.model(torch.tensor([encoded.ids], device=chosen_device())).logits[0].float(), -1
        )
    return [
        logits[i - 1, token].item()
        for i, (token, content) in enumerate(zip(encoded.ids, encoded.content, strict=True))
        if content
    ]


@pytest.mark.parametrize("budget", [60, 100_000])
def test_log_probabilities_equal_a_plain_forward_pass(tiny, budget):
    backend = TransformersBackend(tiny, budget=budget)
    requests = [
        ScoreRequest(
            f"{format_id}|{q}",
            tuple(answered(format_id, q, o, backend) for o in OPTIONS[: 1 + n % 4]),
        )
        for format_id in FORMATS
        for n, q in enumerate(QUESTIONS)
    ]
    found = dict(pair for batch in backend.score(requests) for pair in batch)
    assert set(found) == {request.key for request in requests}
    for request in requests:
        for scoring, rendered in zip(found[request.key], request.answers, strict=True):
            expected = plain_logprobs(tiny, rendered)
            assert scoring.tokens == len(expected)
            assert list(scoring.token_logprobs) == pytest.approx(expected, abs=1e-4)


def plain_masses(loaded, ids, language):
    """Off-script probability before each id but the first, from a plain forward pass."""
    off = list(off_script_ids(loaded.tokenizer, language))
    with torch.no_grad():
        return (
            torch.softmax(
                loaded.model(torch.tensor([ids], device=chosen_device())).logits[0].float(), -1
            )[:, off]
            .sum(-1)
            .tolist()[:-1]
        )


@pytest.mark.parametrize("budget", [60, 100_000])
def test_what_other_scripts_have_equals_a_plain_softmax(tiny, budget):
    """Along a reference and along the model's own answer, in batches of two languages."""
    backend = TransformersBackend(tiny, budget=budget)
    languages = ("en", "ru", "")
    scores = [
        ScoreRequest(
            f"{format_id}|{n}", (answered(format_id, q, OPTIONS[n], backend),), languages[n]
        )
        for format_id in ("chatml", "alpaca-newline", "llama3")
        for n, q in enumerate(QUESTIONS)
    ]
    found = dict(pair for batch in backend.score(scores) for pair in batch)
    for request in scores:
        encoded = encode(request.answers[0], tiny.tokenizer)
        masses = plain_masses(tiny, encoded.ids, request.language or "en")
        wanted = (
            [masses[at - 1] for at, content in enumerate(encoded.content) if content]
            if request.language
            else []
        )
        assert list(found[request.key][0].off_script) == pytest.approx(wanted, abs=1e-4)
    asks = [
        GenerateRequest(f"{format_id}|{n}", asked(format_id, q, backend), 12, language=languages[n])
        for format_id in ("chatml", "alpaca-newline")
        for n, q in enumerate(QUESTIONS)
    ]
    answers = dict(pair for batch in backend.generate(asks) for pair in batch)
    for request in asks:
        ids = prompt_ids(request.prompt, tiny.tokenizer)
        own = answers[request.key]
        wanted = (
            plain_masses(tiny, [*ids, *own.token_ids], request.language)[len(ids) - 1 :]
            if request.language
            else []
        )
        assert list(own.off_script) == pytest.approx(wanted, abs=1e-4)
        assert not request.language or sum(own.off_script) > 0


@pytest.mark.parametrize("budget", [100, 100_000])
def test_answers_equal_generate_row_by_row(tiny, budget):
    backend = TransformersBackend(tiny, budget=budget)
    requests = [
        GenerateRequest(f"{format_id}|{q}", asked(format_id, q, backend), 12)
        for format_id in FORMATS
        for q in QUESTIONS
    ]
    found = dict(pair for batch in backend.generate(requests) for pair in batch)
    for request in requests:
        ids = torch.tensor([prompt_ids(request.prompt, tiny.tokenizer)], device=chosen_device())
        out = tiny.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False
        )[0, ids.shape[1] :].tolist()
        answer = found[request.key]
        got = list(answer.token_ids)
        assert out[: len(got)] == got
        assert answer.finish == "stop" or len(got) == 12


def test_a_textual_stop_ends_an_answer_across_tokens(tiny):
    """What the model says first becomes the stop; the answer then ends before it."""
    backend = TransformersBackend(tiny)
    prompt = asked("chatml", "fox", backend)
    [[(_, free)]] = list(backend.generate([GenerateRequest("k", prompt, 12)]))
    text = tiny.tokenizer.decode(free.token_ids[2:5])
    stopped = type(prompt)(prompt.text, prompt.spans, (text,), prompt.format)
    [[(_, answer)]] = list(backend.generate([GenerateRequest("k", stopped, 12)]))
    assert answer.finish == "stop" and answer.stop == text
    assert answer.text == free.text[: free.text.index(text)]


def test_a_given_prefix_is_continued_and_does_not_come_back(tiny):
    backend = TransformersBackend(tiny)
    prompt = asked("chatml", "fox", backend)
    [[(_, free)]] = list(backend.generate([GenerateRequest("k", prompt, 6, prefix="the lazy")]))
    ids = torch.tensor(
        [prompt_ids(prompt, tiny.tokenizer) + tiny.tokenizer("the lazy").input_ids],
        device=chosen_device(),
    )
    out = tiny.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False
    )[0, ids.shape[1] :].tolist()
    assert out[: len(free.token_ids)] == list(free.token_ids)


def test_the_fingerprint_names_all_that_decides_the_numbers(tiny):
    fingerprint = TransformersBackend(tiny).fingerprint
    assert (
        fingerprint["model"].startswith("sha256:")
        and fingerprint["dtype"] == "float32"
        and "transformers-" in fingerprint["backend"]
    )


def test_what_does_not_fit_into_the_window_is_left_out(tiny, monkeypatch):
    backend = TransformersBackend(tiny)
    short, long = (asked("chatml", "fox " * n, backend) for n in (1, 400))
    monkeypatch.setattr(
        tiny.model.config, "max_position_embeddings", len(prompt_ids(short, tiny.tokenizer)) + 3
    )
    requests = [GenerateRequest("short", short, 50), GenerateRequest("long", long, 50)]
    [(key, answer)] = [pair for batch in backend.generate(requests) for pair in batch]
    assert key == "short" and len(answer.token_ids) <= 3
    fits, does_not = (
        answered("chatml", "fox", words, backend) for words in ("x", "over the lazy dog " * 40)
    )
    scored = [
        pair
        for batch in backend.score([ScoreRequest("a", (fits,)), ScoreRequest("b", (does_not,))])
        for pair in batch
    ]
    assert [key for key, _ in scored] == ["a"]
