"""An Ollama on loopback, which answers as its source says: a prompt gets its template unless raw."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from harness.backends import GenerateRequest, ModelSpec
from harness.backends.by_name import backend_for, open_backend
from harness.backends.ollama_server import host
from harness.backends.openai import NO_LOGPROBS, OpenAIBackend
from harness.backends.sampling import Sampling
from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.errors import HarnessError
from harness.formats import load_formats
from harness.formats.render import render

FORMATS = load_formats()
TEMPLATE = "<|user|>{}<|assistant|>"


class Ollama(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.models = {"tiny:latest": "sha256:11", "tiny:7b": "sha256:22"}
        self.window = 2000
        self.seen = []
        self.prompts = []
        self.broken = 0

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        if self.path == "/api/version":
            self.reply(200, {"version": "0.9.9"})
        elif self.path == "/api/tags":
            models = [{"name": name, "digest": d} for name, d in self.server.models.items()]
            self.reply(200, {"models": models})
        else:
            self.reply(404, {"error": "not found"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, body))
        if self.path == "/api/generate":
            raw = body.get("raw", False)
            prompt = body["prompt"] if raw else TEMPLATE.format(body["prompt"])
        elif self.path == "/v1/completions":
            prompt = TEMPLATE.format(body["prompt"])
        else:
            prompt = TEMPLATE.format(body["messages"][-1]["content"])
        self.server.prompts.append(prompt)
        if self.server.broken:
            self.server.broken -= 1
            self.reply(200, ["no object"])
        elif len(prompt) > self.server.window and body.get("truncate") is False:
            self.reply(400, {"error": "the input length exceeds the context length"})
        elif self.path == "/api/generate":
            self.reply(200, {"response": "Oslo<|im_end|>x", "done": True, "done_reason": "length"})
        elif self.path == "/v1/completions":
            self.reply(200, {"choices": [{"text": "Oslo", "finish_reason": "stop"}]})
        else:
            message = {"role": "assistant", "content": "Oslo"}
            self.reply(200, {"choices": [{"message": message, "finish_reason": "stop"}]})

    def reply(self, status, table):
        body = json.dumps(table).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def ollama(monkeypatch):
    server = Ollama()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OLLAMA_HOST", server.address)
    yield server
    server.shutdown()
    server.server_close()


def request(key="a", question="What is the capital?", **more):
    prompt = render(
        Conversation("c", (Message("user", question),)),
        FORMATS["chatml"],
        add_generation_prompt=True,
    )
    return GenerateRequest(key, prompt, 8, **more)


def opened(name="ollama/tiny", **options):
    return open_backend("auto", ModelSpec(name), options)


def answers(backend, requests):
    return dict(pair for batch in backend.generate(requests) for pair in batch)


def test_our_text_reaches_the_model_as_it_is(ollama):
    asked = request()
    answer = answers(opened(), [asked])["a"]
    assert ollama.prompts == [asked.prompt.text] and "<|im_start|>user" in asked.prompt.text
    assert (answer.text, answer.finish, answer.stop) == ("Oslo", "stop", "<|im_end|>")


def test_the_address_of_an_ollama_means_the_same(ollama):
    """The control: what ``/v1/completions`` makes of the prompt."""
    backend = OpenAIBackend(f"http://{ollama.address}/v1", "tiny")
    asked = request()
    answers(backend, [asked])
    assert ollama.prompts == [asked.prompt.text]
    assert backend.fingerprint["backend"] == "ollama-generate"
    assert backend.no_loglikelihood == NO_LOGPROBS
    backend._complete(asked)
    assert ollama.prompts[1] == TEMPLATE.format(asked.prompt.text)


def test_the_settings_of_a_modelfile_are_overridden(ollama):
    drawn = request("b", sampling=Sampling(0.7, 0.9, 40, seed=2**40 + 3))
    answers(opened(concurrency=1), [request(), drawn])
    (_, greedy), (_, sampled) = ollama.seen
    assert greedy["model"] == "tiny" and greedy["think"] is greedy["truncate"] is False
    assert greedy["options"] == {
        **{"num_predict": 8, "stop": ["<|im_end|>"], "temperature": 0.0, "top_p": 1.0, "top_k": 0},
        **{"seed": 0, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0},
        **{"presence_penalty": 0.0, "frequency_penalty": 0.0},
    }
    assert {key: sampled["options"][key] for key in ("temperature", "top_p", "top_k", "seed")} == {
        **{"temperature": 0.7, "top_p": 0.9, "top_k": 40, "seed": (2**40 + 3) % 2**31}
    }


def test_a_prompt_beyond_the_context_is_left_out(ollama):
    found = answers(opened(), [request("a"), request("b", "long " * 1000)])
    assert set(found) == {"a"}


def test_a_malformed_answer_is_asked_for_again(ollama, monkeypatch):
    monkeypatch.setattr("harness.backends.server_calls.time.sleep", lambda seconds: None)
    ollama.broken = 2
    assert answers(opened(concurrency=1), [request()])["a"].text == "Oslo"
    ollama.broken = 99
    with pytest.raises(HarnessError, match="malformed answer: no JSON object"):
        answers(opened(concurrency=1), [request()])


def test_chat_is_ollamas_own_template(ollama):
    from dataclasses import replace

    backend = opened(chat=True)
    answers(backend, [replace(request(), messages=(Message("user", "Hi"),))])
    assert ollama.prompts == [TEMPLATE.format("Hi")]
    assert backend.applies_template and backend.fingerprint["backend"] == "openai-chat"


def test_another_model_behind_a_name_is_another_engine(ollama):
    before = opened().fingerprint
    assert (
        opened("ollama/tiny:latest").fingerprint["model"].partition("#")[2]
        == (before["model"].partition("#")[2])
    )
    ollama.models["tiny:latest"] = "sha256:33"
    assert opened().fingerprint != before


def test_a_model_that_is_not_there(ollama):
    with pytest.raises(HarnessError, match="Ollama has no model 'tini'") as error:
        opened("ollama/tini")
    assert "ollama pull tini" in str(error.value) and "did you mean tiny" in str(error.value)


def test_no_ollama_is_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("harness.backends.server_facts.time.sleep", lambda seconds: None)
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    assert main(["eval", "ollama/tiny", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "no Ollama runs there" in error and "http://127.0.0.1:9" in error
    assert "ollama serve" in error and "Traceback" not in error


def test_the_command_evaluates_a_model_of_ollama(ollama, tmp_path, capsys):
    cases = tmp_path / "cases.jsonl"
    row = {"id": "a", "messages": [{"role": "user", "content": "Capital of Norway?"}]}
    cases.write_text(json.dumps({**row, "checks": [{"contains": "Oslo"}]}) + "\n")
    args = ["eval", "ollama/tiny", "--formats", "chatml,llama3", "--cases", str(cases), "--json"]
    assert main([*args, "--out", str(tmp_path / "out")]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "ollama/tiny"
    assert {path for path, _ in ollama.seen} == {"/api/generate"}
    assert main([*args, "--chat", "--out", str(tmp_path / "chat")]) == 0
    assert {path for path, _ in ollama.seen} == {"/api/generate", "/v1/chat/completions"}


def test_the_name_chooses_the_engine():
    assert backend_for(ModelSpec("ollama/llama3.2")) == "ollama"
    assert backend_for(ModelSpec("other/llama3.2")) == "local"


@pytest.mark.parametrize(
    ("setting", "address"),
    [
        ("", "http://localhost:11434"),
        ("0.0.0.0", "http://localhost:11434"),
        ("0.0.0.0:8080", "http://localhost:8080"),
        (":8080", "http://localhost:8080"),
        ("example.org", "http://example.org:11434"),
        ("http://example.org", "http://example.org:80"),
        ("https://example.org/ollama/", "https://example.org:443/ollama"),
        ("[::1]:99", "http://[::1]:99"),
        ("[::]", "http://localhost:11434"),
        ("example.org:port", "http://example.org:11434"),
    ],
)
def test_the_setting_is_read_as_ollama_reads_it(setting, address):
    assert host(setting) == address
