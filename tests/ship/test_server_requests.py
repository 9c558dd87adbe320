"""What servers are asked, and what is made of their answers, without a network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.errors import HarnessError
from harness.ship.checks.server_runtime import (
    LLAMA,
    OLLAMA,
    SGLANG,
    VLLM,
    WEBUI,
    ServedModel,
    ServerRuntime,
    served_model,
    token_ids,
)
from tests.ship.artefacts import trained_in
from tests.ship.fake_servers import Pages

pytestmark = pytest.mark.local
MODELS = {"data": ["x", {"id": "first", "max_model_len": 100}, {"id": "second:latest"}]}


def served(model="", **facts):
    names = {"models": "/v1/models", "webui": "/v1/internal/model/info", "ollama": "/api/version"}
    return served_model(
        Pages({names.get(key, f"/{key}"): page for key, page in facts.items()}), model
    )


def test_llama_cpp_is_known_by_its_settings():
    params = {"temperature": 0.8, "top_k": 40, "samplers": ["top_k"]}
    props = {"default_generation_settings": {"n_ctx": 2048, "params": params}}
    found = served("mine", props=props, version={"version": "1"})
    assert found == ServedModel(LLAMA, "mine", 2048, (("temperature", 0.8), ("top_k", 40)))


@pytest.mark.parametrize(("given", "context"), [(1, 1), (0, None), (-1, None), ("8", None)])
def test_a_context_is_a_number_above_0(given, context):
    assert served(props={"default_generation_settings": {"n_ctx": given}}).context == context


def test_each_program_is_known_by_a_page_of_its_own():
    """SGLang's and the webui's are asked for first: others may have /version too."""
    rest = {"models": MODELS, "version": {"version": "1"}, "ollama": {"version": "1"}}
    assert served(**rest, model_info={"x": 1}, webui={"x": 1}).kind == SGLANG
    assert served(**rest, get_model_info={"x": 1}).kind == SGLANG
    assert served(**rest, webui={"x": 1}) == ServedModel(WEBUI, "first")
    assert served(**rest) == ServedModel(VLLM, "first", 100)
    assert served(models=MODELS, ollama={"version": "1"}) == ServedModel(OLLAMA, "first")
    with pytest.raises(HarnessError, match="does not report which program") as found:
        served(models=MODELS)
    assert found.value.where == "http://server" and "llama-server, vLLM" in found.value.hint


def test_the_context_of_sglang_is_that_of_the_running_server():
    known = {"models": MODELS, "model_info": {"x": 1}}
    assert served(**known).context == 100
    assert served(**known, server_info={"context_length": 50}).context == 50
    assert served(**known, get_server_info={"context_length": 60}).context == 60


def test_a_model_is_found_by_its_name():
    vllm = {"version": {"version": "1"}}
    assert served("second", models=MODELS, **vllm).model == "second:latest"
    assert served("first", models=MODELS, **vllm).context == 100
    assert served("any", models={"data": 1}, **vllm) == ServedModel(VLLM, "any")
    assert served("any", models={"data": []}, **vllm).model == "any", "it lists none"
    with pytest.raises(HarnessError, match="no model 'third'") as found:
        served("third", models=MODELS, **vllm)
    assert (found.value.where, found.value.hint) == ("http://server", "first, second:latest")


@pytest.mark.parametrize(
    ("value", "ids"),
    [([1, 2], (1, 2)), ([], ()), ([1, "2"], None), ("12", None), (None, None), ({"0": 1}, None)],
)
def test_ids_are_a_list_of_whole_numbers(value, ids):
    assert token_ids(value) == ids


def runtime(kind, answers, format_id="qwen3"):
    pages, trained = Pages(answers=answers), trained_in(format_id)
    return ServerRuntime(pages, ServedModel(kind, "tuned"), trained), pages, trained


def test_names_and_clock():
    found = {kind: runtime(kind, {})[0] for kind in (LLAMA, VLLM, SGLANG, WEBUI)}
    names = {kind: one.name for kind, one in found.items()}
    assert names == {LLAMA: "llamacpp", VLLM: "vllm", SGLANG: "sglang", WEBUI: "webui"}
    assert found[VLLM].how == "as the running vllm says"
    assert not any(one.frozen or one.no_ids for one in found.values())


def test_llama_cpp_is_asked_for_the_text_and_its_tokens():
    answers = {"/apply-template": {"prompt": "text"}, "/tokenize": {"tokens": [4, 5]}}
    one, pages, _ = runtime(LLAMA, answers)
    sent = next(one.send())
    assert (sent.text, sent.ids, sent.refused) == ("text", (4, 5), "")
    (_, asked), (_, tokenised) = pages.asked
    assert set(asked) == {"messages", "chat_template_kwargs"}
    assert tokenised == {"content": "text", "add_special": True, "parse_special": True}


def test_the_webui_is_asked_for_the_text_and_its_tokens():
    answers = {"/v1/internal/chat-prompt": {"prompt": "text"}, "/v1/internal/encode": {"tokens": 1}}
    one, pages, trained = runtime(WEBUI, answers)
    sent = next(one.send())
    assert (sent.text, sent.ids) == ("text", None), "its ids are not known"
    (_, asked), (_, encoded) = pages.asked
    rows = [{"role": "user", "content": trained.prompts[0].conversation.messages[0].content}]
    assert asked == {"messages": rows, "mode": "instruct"} and encoded == {"text": "text"}


def test_equal_ids_are_equal_texts_and_nothing_else_is_asked():
    one, pages, trained = runtime(VLLM, {"/tokenize": {"tokens": []}})
    prompt = trained.prompts[0]
    pages.answers["/tokenize"] = {"tokens": list(prompt.ids)}
    sent = next(one.send())
    assert (sent.text, sent.ids) == (prompt.rendered.text, prompt.ids)
    [(path, body)] = pages.asked
    assert path == "/tokenize" and set(body) == {"model", "messages", "add_generation_prompt"}
    assert body["model"] == "tuned" and body["add_generation_prompt"] is True


def test_switches_are_sent_where_there_are_some():
    one, pages, trained = runtime(VLLM, {"/tokenize": {"error": "x"}})
    off = replace(trained.chat_format, variables={"enable_thinking": False})
    one.trained = replace(trained, chat_format=off)
    next(one.send())
    [(_, body)] = pages.asked
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def tokenised(ids, text_ids):
    """An answer to /tokenize for messages, and another for a text."""
    return lambda body: {"tokens": list(text_ids if "prompt" in body else ids)}


def test_a_text_that_has_the_same_ids_apart_from_bos_is_the_trained_one():
    """The text is tokenised without BOS: decoded ids need not restore it."""
    one, pages, trained = runtime(VLLM, {"/tokenize": tokenised((0, 8, 9), (8, 9))})
    sent = next(one.send())
    assert (sent.text, sent.ids) == (trained.prompts[0].rendered.text, (0, 8, 9))
    asked = {"prompt": trained.prompts[0].rendered.text, "add_special_tokens": False}
    assert pages.asked[1:] == [("/tokenize", {"model": "tuned", **asked})]


@pytest.mark.parametrize("key", ["prompt", "text"])
@pytest.mark.parametrize("made", [(8, 7), "none"])
def test_other_ids_are_turned_into_text_by_the_server(key, made):
    answers = {"/tokenize": tokenised((0, 8, 9), made), "/detokenize": {key: "another text"}}
    one, pages, _ = runtime(VLLM, answers)
    sent = next(one.send())
    assert (sent.text, sent.ids) == ("another text", (0, 8, 9))
    body = {"model": "tuned", "tokens": [0, 8, 9], "skip_special_tokens": False}
    assert pages.asked[-1] == ("/detokenize", body)


def test_sglang_is_asked_for_one_greedy_token():
    one, pages, trained = runtime(SGLANG, {})
    ids = list(trained.prompts[0].ids)
    pages.answers["/v1/chat/completions"] = {"choices": [{"prompt_token_ids": ids}, "other"]}
    assert next(one.send()).ids == tuple(ids)
    [(_, body)] = pages.asked
    assert set(body) == {
        "model",
        "messages",
        "max_tokens",
        "temperature",
        "return_prompt_token_ids",
    }
    assert (body["max_tokens"], body["temperature"], body["return_prompt_token_ids"]) == (
        1,
        0,
        True,
    )


@pytest.mark.parametrize("kind", [LLAMA, VLLM, SGLANG, WEBUI])
def test_a_refusal_has_its_reason_and_a_missing_page_its_name(kind):
    one, pages, _ = runtime(kind, {})
    with pytest.raises(HarnessError, match="the server has no page /") as found:
        next(one.send())
    assert found.value.where == "http://server"
    path = pages.asked[0][0]
    pages.answers = {path: {"error": "no system"}}
    assert next(one.send()).refused == "no system"


@pytest.mark.parametrize(
    ("kind", "what", "hint"),
    [
        (LLAMA, "text", "update it"),
        (VLLM, "ids", "update it"),
        (SGLANG, "ids", "update it to 0.5.13 or later"),
        (WEBUI, "text", "update it"),
    ],
)
@pytest.mark.parametrize("answer", [{"x": 1}, {"prompt": 1, "tokens": "x", "choices": []}])
def test_a_server_that_does_not_say_what_it_sends(kind, what, hint, answer):
    one, pages, _ = runtime(kind, {})
    pages.post = lambda path, body: answer
    with pytest.raises(HarnessError, match=f"this {kind} does not return the {what}") as found:
        next(one.send())
    assert found.value.hint == hint and found.value.where == "http://server"
