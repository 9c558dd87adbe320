"""An OpenAI-compatible server that is slow, busy, dying or without log-probabilities: a small one, on loopback."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("openai")

from harness.backends import GenerateRequest, ScoreRequest
from harness.backends.openai import NO_LOGPROBS, OpenAIBackend
from harness.errors import HarnessError
from harness.evaluate.confidence import confidence_report
from harness.evaluate.session import EvalSettings, evaluate
from harness.evaluate.store import Store
from harness.formats import load_formats
from harness.records import Conversation, Message
from harness.render import render
from tests.evaluate.conftest import ask

FORMATS = load_formats()


class Server(ThreadingHTTPServer):
    """Answers "echo of" the last line; its faults are set by the test."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[int] = []
        self.echoes = False
        self.seen: list[dict] = []
        self.lock = threading.Lock()
        self.dies_after: int | None = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.reply(404, {"error": "no"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append(body)
            dead = self.server.dies_after is not None and len(self.server.seen) > self.server.dies_after
            fault = self.server.faults.pop(0) if self.server.faults else 0
        if dead:
            self.connection.close()
            return
        if fault:
            self.reply(fault, {"error": {"message": f"fault {fault}"}}, {"retry-after-ms": "5"})
            return
        if "messages" in body:
            content = f"heard {len(body['messages'])}"
            self.reply(200, {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}]})  # fmt: skip
            return
        choice = {"index": 0, "text": f"Oslo, {len(body['prompt'])}", "finish_reason": "stop", "logprobs": None}
        if body.get("echo"):
            if not self.server.echoes:
                self.reply(400, {"error": {"message": "echo is not supported"}})
                return
            words = [word + " " for word in body["prompt"].split(" ")]
            words[-1] = words[-1][:-1]
            offsets = [sum(map(len, words[:at])) for at in range(len(words))]
            values = [None] + [-0.25 if "Oslo" in word else -2.0 for word in words[1:]]
            choice = {"index": 0, "text": body["prompt"] + "!", "finish_reason": "length", "logprobs": {"tokens": [*words, "!"], "token_logprobs": [*values, -1.0], "text_offset": [*offsets, len(body["prompt"])], "top_logprobs": None}}  # fmt: skip
        self.reply(200, {"id": "x", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]})

    def reply(self, status, table, headers=()):
        data = json.dumps(table).encode()
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server():
    found = Server()
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()


def prompts(n, id="chatml"):
    made = [Conversation("c", (Message("user", f"Question {at}?"),)) for at in range(n)]
    return [GenerateRequest(str(at), render(c, FORMATS[id], add_generation_prompt=True), 8, messages=c.messages) for at, c in enumerate(made)]


def answers(backend, requests):
    return dict(pair for batch in backend.generate(requests) for pair in batch)


def test_our_text_is_sent_as_it_is(server):
    requests = prompts(20)
    found = answers(OpenAIBackend(server.url, "m", concurrency=4), requests)
    assert {key: answer.text for key, answer in found.items()} == {r.key: f"Oslo, {len(r.prompt.text)}" for r in requests}
    assert Counter(body["prompt"] for body in server.seen) == Counter(r.prompt.text for r in requests)
    assert all(body["temperature"] == 0 and body["max_tokens"] == 8 and body["stop"] == ["<|im_end|>"] for body in server.seen)


def test_a_busy_server_is_asked_again(server):
    server.faults = [429, 500, 503, 429]
    assert len(answers(OpenAIBackend(server.url, "m", concurrency=2), prompts(6))) == 6
    assert len(server.seen) == 10


def test_a_refusal_is_told_in_one_line(server):
    server.faults = [401]
    with pytest.raises(HarnessError, match=r"answers 401.*fault 401"):
        answers(OpenAIBackend(server.url, "m", concurrency=1), prompts(1))
    with pytest.raises(HarnessError, match="no address"):
        OpenAIBackend("localhost:8080", "m")


def test_a_server_that_dies_leaves_what_it_answered(server):
    server.dies_after = 5
    kept = {}
    with pytest.raises(HarnessError, match="cannot be reached"):
        for batch in OpenAIBackend(server.url, "m", concurrency=1, retries=0).generate(prompts(9)):
            kept.update(batch)
    assert len(kept) == 5


def test_no_log_probabilities_is_not_scored_and_never_zero(server, tmp_path):
    cases = [
        ask("c1", "Capital of Norway?", choices=["Oslo", "Rome"], answer=0),
        ask("c2", "Capital of Italy?", choices=["Oslo", "Rome"], answer=1),
        ask("a1", "Say Oslo.", checks=[{"contains": "oslo"}]),
        ask("r1", "Why?", reference="Because it is so."),
    ]
    formats = FORMATS.select(["chatml", "alpaca-newline", "llama3"])
    backend = OpenAIBackend(server.url, "m")
    assert backend.unscorable == NO_LOGPROBS
    groups = {"chatml": "native", "alpaca-newline": "seen", "llama3": "held-out"}
    with Store(tmp_path / "r.sqlite") as store:
        found = evaluate(backend, cases, formats, groups, "chatml", store, EvalSettings(), quiet=True)
    choice = found.cell("chatml", "choice")
    assert choice.mean is None and choice.not_scored == 2
    assert {score.why for score in found.scores if score.metric in ("choice", "nll")} == {NO_LOGPROBS}
    assert found.cell("chatml", "stopped").mean == 1.0
    assert confidence_report(found) == {"run": "evaluate"}


def test_log_probabilities_of_an_echo(server):
    server.echoes = True
    backend = OpenAIBackend(server.url, "m")
    assert backend.unscorable == ""
    said = [render(Conversation("c", (Message("user", "Capital?"), Message("assistant", a))), FORMATS["plain-qa"]) for a in ("It is Oslo now", "Rome")]
    [[(_, scorings)]] = list(backend.score([ScoreRequest("k", tuple(said))]))
    assert [(s.tokens, s.logprob) for s in scorings] == [(4, -6.25), (1, -2.0)]
    assert scorings[0].token_logprobs == (-2.0, -2.0, -0.25, -2.0)


def test_chat_sends_messages(server):
    backend = OpenAIBackend(server.url, "m", chat=True)
    found = answers(backend, prompts(2))
    assert {answer.text for answer in found.values()} == {"heard 1"}
    assert sorted(body["messages"][0]["content"] for body in server.seen) == ["Question 0?", "Question 1?"]
    assert "chat endpoint" in backend.unscorable
    assert backend.fingerprint["backend"] != OpenAIBackend(server.url, "m").fingerprint["backend"]


def test_a_stop_that_the_server_lets_pass_is_cut(server):
    request = prompts(1, "plain-qa")[0]
    cut = replace(request, prompt=replace(request.prompt, stops=("a", "b", "c", "d", "slo,")))
    assert answers(OpenAIBackend(server.url, "m"), [cut])["0"].text == "O"
    assert len(server.seen[0]["stop"]) == 4
