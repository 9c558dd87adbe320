"""Texts that a server tokenises itself, and its echoes, without a network."""

from __future__ import annotations

import pytest

from harness.conversation import Conversation, Message
from harness.ship.checks.completions import check_completions
from harness.ship.checks.server_runtime import LLAMA, OLLAMA, SGLANG, VLLM, WEBUI, ServedModel
from harness.ship.checks.trained_texts import trained_texts
from tests.ship.artefacts import FORMATS, kinds, tokenizer_of, trained_in
from tests.ship.fake_servers import Pages

pytestmark = pytest.mark.local
ANSWER = Message("assistant", "Hello")


def completed(kind, answers, format_id="chatml", artefact="bytes"):
    pages, trained = Pages(answers=answers), trained_in(format_id, artefact)
    return check_completions(pages, ServedModel(kind, "tuned"), trained, "there"), pages, trained


@pytest.mark.parametrize("kind", [WEBUI, OLLAMA])
def test_a_program_that_tokenises_no_text_is_not_asked(kind):
    checked, pages, _ = completed(kind, {"/tokenize": {"tokens": [1]}})
    assert (checked.state, pages.asked) == ("not checked", [])
    assert checked.reason == "it cannot tokenise a text without a template"


def test_a_server_that_does_not_tokenise_is_not_checked():
    checked, *_ = completed(VLLM, {"/tokenize": {"error": "no"}})
    assert (checked.state, checked.reason) == (
        "not checked",
        "the server did not tokenise the text",
    )


@pytest.mark.parametrize(
    ("kind", "key", "options"),
    [
        (LLAMA, "content", {"add_special": True, "parse_special": True}),
        (VLLM, "prompt", {"model": "tuned", "add_special_tokens": True}),
        (SGLANG, "prompt", {"model": "tuned", "add_special_tokens": True}),
    ],
)
def test_texts_are_sent_without_the_bos_that_was_trained(kind, key, options):
    trained = trained_in("llama3", "bos")
    ids = iter([list(prompt.ids) for prompt in trained.prompts])
    checked, pages, _ = completed(
        kind, {"/tokenize": lambda _: {"tokens": next(ids)}}, "llama3", "bos"
    )
    assert checked.state == "equal" and checked.reason.startswith(f"{len(trained.prompts)} prompts")
    bodies = [body for path, body in pages.asked if path == "/tokenize"]
    texts = [prompt.rendered.text.removeprefix("<|endoftext|>") for prompt in trained.prompts]
    assert bodies == [{key: text, **options} for text in texts]


def test_twenty_prompts_are_sent_of_those_there_are():
    rows = [Conversation(f"row {at}", (Message("user", "Hi"), ANSWER)) for at in range(21)]
    trained = trained_texts(FORMATS["chatml"], tokenizer_of("bytes"), rows)
    pages = Pages(answers={"/tokenize": {"tokens": list(trained.prompts[0].ids)}})
    checked = check_completions(pages, ServedModel(VLLM, "tuned"), trained, "there")
    assert [path for path, _ in pages.asked].count("/tokenize") == 20
    assert checked.state == "equal" and checked.reason.startswith("20 prompts as texts; ")


def test_other_ids_are_found():
    checked, _, trained = completed(VLLM, {"/tokenize": {"tokens": [7, 8, 9]}})
    assert kinds([checked]) == {"other-tokenizer"}
    [found] = checked.findings
    assert found.where == trained.prompts[0].where and "sent [7, 8, 9]" in found.message


def echo(page):
    answers = {"/tokenize": {"tokens": [7]}, "/v1/completions": page}
    checked, pages, _ = completed(VLLM, answers)
    asked = {"model": "tuned", "prompt": "One two three.", "max_tokens": 1, "temperature": 0}
    assert pages.asked[-1] == ("/v1/completions", {**asked, "echo": True, "logprobs": 1})
    return checked.reason.partition(" prompts as texts; ")[2]


NONE = "it gives no log-probabilities of a prompt"


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"choices": []},
        {"choices": {"0": 1}},
        {"choices": ["x"]},
        {"choices": [{"logprobs": None}]},
        {"choices": [{"logprobs": {"tokens": ["One two three."]}}]},
        {"choices": [{"logprobs": {"token_logprobs": [None]}}]},
    ],
)
def test_an_answer_without_log_probabilities(page):
    assert echo(page) == NONE


def scored(*tokens, offsets=None):
    values = [None, *[-1.0] * (len(tokens) - 1)]
    logprobs = {"tokens": list(tokens), "token_logprobs": values, "text_offset": offsets}
    return {"choices": [{"logprobs": logprobs}, "other"]}


def test_what_an_echo_has():
    words = ("One", " two", " three.", "!")
    assert echo(scored(*words)) == "log-probabilities by echo of 3 tokens"
    assert echo(scored(*words, offsets=[0, 3, 7, 14])) == "log-probabilities by echo of 3 tokens"
    assert echo(scored(*words, offsets=["x", 3, -1, 14])) == (
        "log-probabilities by echo of 3 tokens, its text_offset is −1 and is not used"
    )
    assert echo(scored("<s>", *words)) == (
        "log-probabilities by echo of 4 tokens, '<s>' comes before the prompt and is left out"
    )
    lost = "its echo does not contain the prompt, so nothing can be scored"
    assert echo(scored("One", " 2", " three.")) == lost
