"""Answers of servers that are no prompt: refusals, errors, other names, and pages for people."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace

import pytest

from harness.backends import server_calls
from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.ship.checks.runtime_checks import check_server
from harness.ship.checks.server_pages import ServerPages
from harness.ship.checks.server_runtime import LLAMA, served_model
from harness.ship.checks.trained_texts import trained_texts
from harness.training.share.export import chat_template
from tests.ship.artefacts import FORMATS, kinds, tokenizer_of, trained_in, write_modelfile
from tests.ship.fake_servers import LlamaServer, Ollama, Refused, Sglang, Vllm, running

pytestmark = pytest.mark.local


class Answers(Vllm):
    """It answers every POST with the same status."""

    def post(self, path, body):
        self.settings["asked"] = self.settings.get("asked", 0) + 1
        raise Refused(self.settings["status"], self.settings.get("message", "no"))


def answering(status, **settings):
    return running(Answers(tokenizer_of("bytes"), "", status=status, **settings))


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_template_that_raises_is_a_refusal_and_is_asked_once(status):
    with answering(status) as server:
        assert ServerPages(server.url).post("/tokenize", {}) == {"error": "no"}
        assert server.settings["asked"] == 1


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_page_that_is_missing_is_empty(status):
    with answering(status) as server:
        assert ServerPages(server.url).post("/tokenize", {}) == {}


@pytest.mark.parametrize("status", [401, 403, 429, 502, 503])
def test_a_key_or_a_load_is_no_fault_of_the_template(status):
    with answering(status) as server:
        with pytest.raises(HarnessError, match=f"the server answers {status}: no"):
            ServerPages(server.url).post("/tokenize", {})
        texts, ids, *_, completions = check_server(ServerPages(server.url), trained_in("chatml"))
    assert texts.state == ids.state == completions.state == "not checked"
    assert f"answers {status}" in texts.reason and texts.reason == completions.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": {"message": "no  system\nprompt"}}, "no system prompt"),
        ({"error": "no system prompt"}, "no system prompt"),
        ({"object": "error", "message": "no system prompt"}, "no system prompt"),
        ({"detail": "no system prompt"}, "{'detail': 'no system prompt'}"),
        ({"error": {"message": "x" * 400}}, "x" * 300),
        ([], "Error code: 400"),
    ],
)
def test_the_reason_of_a_refusal_is_one_line(body, reason):
    class Refusing(Vllm):
        def post(self, path, _):
            refusal = Refused(400, "")
            refusal.body = body
            raise refusal

    with running(Refusing(tokenizer_of("bytes"), "")) as server:
        pages = ServerPages(f"{server.url}/v1/")
        assert pages.post("/tokenize", {}) == {"error": reason}
        assert pages.url == f"{server.url}/v1"


def test_the_server_gets_the_key_and_no_page_the_password():
    with answering(400) as server:
        assert ServerPages(server.url, api_key="hidden").post("/tokenize", {}) == {"error": "no"}
        assert server.keys == ["Bearer hidden"]
        address = server.url.replace("//", "//ana:secret@")
        assert ServerPages(address).url == server.url


def test_an_error_is_no_fact_and_is_asked_for_once():
    with running(Llama(tokenizer_of("bytes"), "", props=500)) as server:
        assert ServerPages(server.url).get("/props") == {}
    with answering(503) as server:
        with pytest.raises(HarnessError, match="503"):
            ServerPages(server.url).post("/tokenize", {})
        assert server.settings["asked"] == 1, "the client repeats nothing"


def test_a_refusal_without_a_reason_is_a_refusal():
    with answering(400, message="") as server:
        texts, *_ = check_server(ServerPages(server.url), trained_in("chatml"))
    assert kinds([texts]) == {"refused"}


def test_ids_of_other_texts_are_not_compared():
    with running(Vllm(tokenizer_of("bytes"), "{{ messages[0].content }} ->")) as server:
        texts, ids, *_ = check_server(ServerPages(server.url), trained_in("chatml"))
    assert kinds([texts]) == {"other-template"}
    assert (ids.state, ids.reason) == ("not checked", "no text is equal, or its ids are not known")


def test_todays_date_in_a_row_is_left_as_it_is():
    """The template writes no date, so none is taken for the trained one."""
    tokenizer, chatml = tokenizer_of("bytes"), FORMATS["chatml"]
    turns = (Message("user", f"Is it {datetime.now():%Y-%m-%d}?"), Message("assistant", "Yes."))
    trained = trained_texts(chatml, tokenizer, [Conversation("rows.jsonl:1", turns)])
    with running(Vllm(tokenizer, chat_template(chatml, tokenizer))) as server:
        texts, ids, *_ = check_server(ServerPages(server.url), trained)
    assert texts.state == ids.state == "equal", texts


def test_a_server_that_cannot_be_reached_is_asked_three_times(monkeypatch):
    """It may be starting. The pauses are half a second each."""
    slept = []
    monkeypatch.setattr(server_calls, "time", SimpleNamespace(sleep=slept.append))
    with pytest.raises(HarnessError, match="cannot be reached") as found:
        ServerPages("http://127.0.0.1:9").get("/props")
    assert slept == [0.5, 0.5] and "start the server" in str(found.value)


class Llama(LlamaServer):
    """``props`` and the answer of /apply-template as they are given."""

    def get(self, path):
        given = self.settings["props"] if path == "/props" else None
        if isinstance(given, int):
            raise Refused(given, "it raises")
        return given

    def post(self, path, body):
        return {"text": "x"} if path == "/apply-template" else super().post(path, body)


def test_a_server_is_llama_cpp_by_its_settings_only():
    """A page for people, an error or another program's /props are not llama.cpp's."""
    for props in ([], {}, {"status": "ok"}, {"default_generation_settings": None}, 500):
        with (
            running(Llama(tokenizer_of("bytes"), "", props=props)) as server,
            pytest.raises(HarnessError, match="does not report which program"),
        ):
            served_model(ServerPages(server.url))
    settings = {"n_ctx": "much", "params": None}
    with running(
        Llama(tokenizer_of("bytes"), "", props={"default_generation_settings": settings})
    ) as server:
        pages = ServerPages(server.url)
        served = served_model(pages)
        texts, *_ = check_server(pages, trained_in("chatml"))
    assert (served.kind, served.context, served.sampling) == (LLAMA, None, ())
    assert texts.state == "not checked" and "does not return the text" in texts.reason


def test_ids_that_no_page_turns_into_text():
    class Closed(Vllm):
        def post(self, path, body):
            return {"tokens": "x"} if path == "/detokenize" else super().post(path, body)

    with running(Closed(tokenizer_of("bytes"), "{{ messages[0].content }}")) as server:
        texts, *_ = check_server(ServerPages(server.url), trained_in("chatml"))
    assert texts.state == "not checked" and "vllm does not return the text" in texts.reason


def test_the_context_of_sglang_is_in_either_page():
    class Listed(Sglang):
        def get(self, path):
            if path == "/v1/models":
                return {"data": [{"id": "tuned", "max_model_len": 777}]}
            return super().get(path)

    with running(Listed(tokenizer_of("bytes"), "", context=None)) as server:
        assert served_model(ServerPages(server.url)).context == 777
    with running(Listed(tokenizer_of("bytes"), "", context=512)) as server:
        assert served_model(ServerPages(server.url)).context == 512


class Tagged(Ollama):
    """It lists its model as ``tuned:latest``, and has the facts of its file."""

    def get(self, path):
        if path == "/v1/models":
            return {"data": [{"id": "tuned:latest"}, {"id": "other:7b"}]}
        return super().get(path)

    def post(self, path, body):
        answer = super().post(path, {**body, "model": body["model"].partition(":")[0]})
        if path == "/api/show" and "model_info" in self.settings:
            answer["model_info"] = self.settings["model_info"]
        return answer


def ollama(tmp_path, format_id, kind="bytes", plant=lambda text: text, **settings):
    text = plant(write_modelfile(tmp_path / "Modelfile", format_id, kind).read_text())
    return running(Tagged(tokenizer_of(kind), text, **settings))


def test_a_model_of_ollama_by_its_name_with_and_without_a_tag(tmp_path):
    with ollama(tmp_path, "chatml") as server:
        for name in ("tuned", "tuned:latest"):
            checks = check_server(ServerPages(server.url), trained_in("chatml"), name)
            assert kinds(checks) == set(), checks
        asked = {body["model"] for path, body in server.asked if path == "/api/chat"}
        assert asked == {"tuned:latest"}
        with pytest.raises(HarnessError, match="no model 'other'"):
            check_server(ServerPages(server.url), trained_in("chatml"), "other")


def without_stops(text):
    return "".join(one for one in text.splitlines(True) if not one.startswith("PARAMETER stop"))


def test_ends_that_only_the_file_of_an_ollama_knows(tmp_path):
    """Its tables of tokens are null unless they are asked for; the numbers are there."""
    trained = trained_in("chatml")
    with ollama(tmp_path, "chatml", plant=without_stops) as server:
        _, _, stops, _ = check_server(ServerPages(server.url), trained)
    assert stops.state == "not checked" and "the EOS of its GGUF file is unknown" in stops.reason
    for eos, found in ((trained.tokenizer.eos_token_id, set()), (0, {"missing-stop"})):
        info = {"tokenizer.ggml.eos_token_id": eos, "tokenizer.ggml.tokens": None}
        with ollama(tmp_path, "chatml", plant=without_stops, model_info=info) as server:
            _, _, stops, _ = check_server(ServerPages(server.url), trained)
        assert kinds([stops]) == found and "metadata" in stops.reason


def with_two_bos(text):
    bos = tokenizer_of("bos").bos_token
    return text.replace("{{- range", f'{{{{- "{bos * 2}" }}}}{{{{- range', 1)


def test_bos_that_the_file_of_an_ollama_adds(tmp_path):
    """Ollama's text has none, and its tokenizer puts one before it if the file says so."""
    trained = trained_in("llama3", "bos")
    for adds, found in ((True, set()), (False, {"missing-bos"})):
        info = {"tokenizer.ggml.add_bos_token": adds}
        with ollama(tmp_path, "llama3", "bos", model_info=info) as server:
            texts, *_ = check_server(ServerPages(server.url), trained)
        assert kinds([texts]) == found, texts
    with ollama(tmp_path, "llama3", "bos", plant=with_two_bos) as server:
        texts, *_ = check_server(ServerPages(server.url), trained)
    assert kinds([texts]) == {"double-bos"}, texts
    with ollama(tmp_path, "llama3", "bos") as server:
        texts, *_ = check_server(ServerPages(server.url), trained)
    assert texts.state == "equal" and "it is not known whether a BOS comes first" in texts.reason


def test_messages_are_in_the_words_of_ollamas_own_api(tmp_path):
    """Its contents are texts, its arguments objects, and a result has the name of its tool."""
    trained = trained_in("llama-nemotron-nano", "marks", rows=False)
    thought = [prompt for prompt in trained.prompts if "thoughts" in prompt.conversation.place]
    assert thought
    with ollama(tmp_path, "chatml") as server:
        check_server(ServerPages(server.url), trained)
        check_server(ServerPages(server.url), trained_in("qwen2.5"))
        check_server(ServerPages(server.url), trained_in("smollm3"))
    rows = [row for path, body in server.asked if path == "/api/chat" for row in body["messages"]]
    assert all(isinstance(row["content"], str) and "reasoning_content" not in row for row in rows)
    assert "7 times 13 is 91." in [row.get("thinking") for row in rows]
    calls = [call["function"] for row in rows for call in row.get("tool_calls", ())]
    assert {"name": "tide_table", "arguments": {"place": "Faro", "days": 2}} in calls
    results = [row for row in rows if row["role"] == "tool"]
    assert results and all(row["tool_name"] == "tide_table" for row in results)
    assert not any("name" in row for row in results)
