"""An OpenAI-compatible server on loopback: slow, busy, dying, without log-probabilities."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from harness.backends import GenerateRequest, ScoreRequest
from harness.backends.openai import NO_LOGPROBS, OpenAIBackend
from harness.conversation import Conversation, Message, ParsedAnswer, Tool, ToolCall
from harness.errors import HarnessError
from harness.evaluation.analysis.confidence import confidence_report
from harness.evaluation.run import evaluate
from harness.evaluation.settings import EvalSettings
from harness.evaluation.store.results_file import Store
from harness.formats import load_formats
from harness.formats.render import render
from harness.report.document import Confidence
from tests.evaluation.conftest import ask
from tests.patience import HANG_S

FORMATS = load_formats()


class Server(ThreadingHTTPServer):
    """Answers "Oslo" and the length of the prompt, after a pause. The test sets its faults.

    The first ``mute`` requests get no answer. The first ``together`` requests wait for each other.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[int] = []
        self.wait, self.complaint = {"retry-after-ms": "5"}, "fault"
        self.echoes = False
        self.seen: list[dict] = []
        self.lock = threading.Lock()
        self.dies_after: int | None = None
        self.mute = 0
        self.pause = 0.0
        self.together: threading.Barrier | None = None
        self.over = threading.Event()
        self.running = self.most_running = self.asked = 0
        self.window = 100_000
        self.pages: dict[str, dict] = {}
        self.loading = 0
        self.style = "openai"

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        if self.server.loading:
            self.server.loading -= 1
            self.reply(503, {"error": {"message": "Loading model"}})
        elif self.path in self.server.pages:
            self.reply(200, self.server.pages[self.path])
        else:
            self.reply(404, {"error": "no"})

    def do_POST(self):
        with self.server.lock:
            self.server.running += 1
            self.server.most_running = max(self.server.most_running, self.server.running)
            self.server.asked += 1
            mute, together = self.server.asked <= self.server.mute, self.server.together
            alone = together is None or self.server.asked > together.parties
            fault = self.server.faults.pop(0) if self.server.faults else 0
        if mute:
            self.server.over.wait(HANG_S)
        if not alone:
            together.wait(HANG_S)
        if not fault:
            time.sleep(self.server.pause)
        with self.server.lock:
            self.server.running -= (
                1  # before it answers: at the answer the client sends the next request
            )
        with suppress(OSError):  # the client has gone
            self.answer(fault)

    def answer(self, fault):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append(body)
            dead = (
                self.server.dies_after is not None
                and len(self.server.seen) > self.server.dies_after
            )
        if dead:
            self.connection.close()
            return
        if fault:
            self.reply(
                fault,
                {"error": {"message": f"{self.server.complaint} {fault}"}},
                {} if self.server.style == "silent" else self.server.wait,
            )
            return
        if len(body.get("prompt", "")) > self.server.window:
            self.reply(
                400, {"error": {"message": "the request exceeds the available context size"}}
            )
            return
        if "messages" in body:
            content = f"heard {len(body['messages'])}"
            message = {"role": "assistant", "content": content}
            facts = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            if body.get("tools"):  # it calls the first
                function = {"name": body["tools"][0]["function"]["name"], "arguments": "{}"}
                calls = [{"id": "c", "type": "function", "function": function}]
                message |= {"content": None, "reasoning_content": "hm", "tool_calls": calls}
                choice["finish_reason"] = "tool_calls"
            self.reply(200, {**facts, "choices": [choice]})
            return
        choice = {
            "index": 0,
            "text": f"Oslo, {len(body['prompt'])}",
            "finish_reason": "stop",
            "logprobs": None,
        }
        if body.get("echo"):
            if not self.server.echoes:
                self.reply(400, {"error": {"message": "echo is not supported"}})
                return
            words = [word + " " for word in body["prompt"].split(" ")]
            words[-1] = words[-1][:-1]
            offsets = [sum(map(len, words[:at])) for at in range(len(words))]
            values = [None] + [-0.25 if "Oslo" in word else -2.0 for word in words[1:]]
            tokens, values, offsets = (
                [*words, "!"],
                [*values, -1.0],
                [*offsets, len(body["prompt"])],
            )
            if self.server.style == "vllm":  # BOS first, and counted in the offsets
                tokens, values, offsets = (
                    ["<s>", *tokens],
                    [None, -7.0, *values[1:]],
                    [0, *(3 + at for at in offsets)],
                )
            if self.server.style == "sglang":
                offsets = [-1] * len(tokens)
            if self.server.style == "pieces" and "one two" not in body["prompt"]:
                tokens = [token.replace("o", "\ufffd") for token in tokens]
            logprobs = {"tokens": tokens, "token_logprobs": values, "text_offset": offsets}
            choice = {
                "index": 0,
                "text": body["prompt"] + "!",
                "finish_reason": "length",
                "logprobs": {**logprobs, "top_logprobs": None},
            }
        self.reply(
            200,
            {
                "id": "x",
                "object": "text_completion",
                "created": 0,
                "model": "m",
                "choices": [choice],
            },
        )

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
    thread = threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield found
    found.over.set()
    found.shutdown()
    found.server_close()


def prompts(n, format_id="chatml"):
    made = [Conversation("c", (Message("user", f"Question {at}?"),)) for at in range(n)]
    return [
        GenerateRequest(
            str(at),
            render(c, FORMATS[format_id], add_generation_prompt=True),
            8,
            messages=c.messages,
        )
        for at, c in enumerate(made)
    ]


def answers(backend, requests):
    return dict(pair for batch in backend.generate(requests) for pair in batch)


def test_our_text_is_sent_as_it_is(server):
    requests = prompts(20)
    found = answers(OpenAIBackend(server.url, "m", concurrency=4), requests)
    assert {key: answer.text for key, answer in found.items()} == {
        r.key: f"Oslo, {len(r.prompt.text)}" for r in requests
    }
    assert Counter(body["prompt"] for body in server.seen) == Counter(
        r.prompt.text for r in requests
    )
    assert all(
        body["temperature"] == 0 and body["max_tokens"] == 8 and body["stop"] == ["<|im_end|>"]
        for body in server.seen
    )


def test_a_busy_server_is_asked_again(server):
    server.faults = [429, 500, 503, 429]
    assert len(answers(OpenAIBackend(server.url, "m", concurrency=2), prompts(6))) == 6
    assert len(server.seen) == 10


@pytest.fixture
def pauses(monkeypatch):
    """What the client and we would sleep for before we ask again: noted, and not slept."""
    slept = []
    clock = SimpleNamespace(**{**vars(time), "sleep": slept.append})
    monkeypatch.setattr("openai._base_client.time", clock)
    monkeypatch.setattr("harness.backends.server_calls.time", clock)
    monkeypatch.setattr("harness.backends.server_facts.time", clock)
    return slept


def test_the_pauses_grow(server, pauses):
    server.style, server.faults = "silent", [503, 500, 429]
    assert len(answers(OpenAIBackend(server.url, "m"), prompts(1))) == 1
    first, second, third = pauses
    assert 0.3 < first < second < third


def test_a_server_that_is_too_slow_is_asked_again(server):
    """Four times at least: on a stalled machine others are late too."""
    server.mute = 2
    assert len(answers(OpenAIBackend(server.url, "m", timeout=0.5), prompts(2))) == 2
    assert server.asked >= 4


def test_a_slow_server_is_given_up_after_the_retries(server, pauses):
    server.mute = 2
    with pytest.raises(HarnessError, match="cannot be reached") as caught:
        answers(OpenAIBackend(server.url, "m", timeout=0.1, retries=1), prompts(1))
    assert caught.value.hint == "start the server, or correct its address" and len(pauses) == 1


@pytest.mark.parametrize(
    ("fault", "first"),
    [
        ("gone", "start the server, or correct its address"),
        ("broken", "look at the server's log, and start the same command again"),
        ("busy", "look at the server's log, and start the same command again"),
        ("too many", "look at the server's log, and start the same command again"),
        ("nonsense", "give the address of an OpenAI-compatible server"),
    ],
)
@pytest.mark.parametrize("answered", [0, 1])
def test_only_a_run_with_answers_is_said_to_keep_them(server, pauses, fault, first, answered):
    backend = OpenAIBackend(server.url, "m", concurrency=1, retries=0)
    assert len(answers(backend, prompts(answered))) == answered
    if fault == "gone":
        server.dies_after = answered
    else:
        server.faults = [{"broken": 500, "busy": 503, "too many": 429, "nonsense": 200}[fault]]
    with pytest.raises(HarnessError) as caught:
        answers(backend, prompts(2)[1:])
    assert caught.value.hint.startswith("what was answered is kept" if answered else first)


@pytest.mark.parametrize(
    ("wait", "says"),
    [
        ("7", "; it asks to wait 7 s"),
        ("1" * 30, f"; it asks to wait {'1' * 20} s"),
        ("Wed, 21 Oct 2026 07:28:00 GMT", ""),
    ],
)
def test_how_long_a_server_asks_to_wait(server, wait, says):
    server.faults, server.wait = [429], {"retry-after": wait}
    with pytest.raises(HarnessError) as caught:
        answers(OpenAIBackend(server.url, "m", retries=0), prompts(1))
    assert str(caught.value).partition(" — ")[0].endswith(f"fault 429{says}")


def test_another_refusal_that_names_a_context_is_no_prompt_that_is_too_long(server):
    server.faults, server.complaint = [404], "no such model in this context"
    with pytest.raises(HarnessError, match="the server answers 404"):
        answers(OpenAIBackend(server.url, "m", retries=0), prompts(1))


def test_a_mistake_is_not_repeated(server):
    server.faults = [400]
    with pytest.raises(HarnessError, match="answers 400"):
        answers(OpenAIBackend(server.url, "m"), prompts(1))
    assert len(server.seen) == 1


@pytest.mark.parametrize("most", [1, 5])
def test_no_more_requests_at_a_time_than_asked_for(server, most):
    server.together, server.pause = threading.Barrier(most), 0.01
    assert len(answers(OpenAIBackend(server.url, "m", concurrency=most), prompts(25))) == 25
    assert server.most_running == most


def test_a_run_that_broke_goes_on_where_it_stopped(server, tmp_path):
    cases = [ask(f"a{n}", f"Say {n}.", checks=[{"contains": "oslo"}]) for n in range(12)]
    formats = FORMATS.select(["chatml", "llama3"])
    groups = {"chatml": "native", "llama3": "held-out"}

    def go(name):
        backend = OpenAIBackend(server.url, "m", concurrency=3, retries=0)
        with Store(tmp_path / name) as store:
            return evaluate(
                backend, cases, formats, groups, "chatml", store, EvalSettings(), quiet=True
            )

    whole = go("whole.sqlite")
    echoes = sum("echo" in body for body in server.seen)
    server.seen.clear()
    server.dies_after = 10
    with pytest.raises(HarnessError, match="cannot be reached"):
        go("broken.sqlite")
    server.dies_after, answered = None, 10 - echoes
    server.seen.clear()
    rest = go("broken.sqlite")
    assert rest.computed == 24 - answered == len(server.seen) - echoes, (
        "only what was missing is asked"
    )
    assert rest.aggregates == whole.aggregates


def test_what_the_server_still_answers_after_a_failure_is_kept(server):
    server.faults, server.together, server.pause = [400], threading.Barrier(3), 0.2
    kept = {}
    with pytest.raises(HarnessError, match="answers 400"):
        for batch in OpenAIBackend(server.url, "m", concurrency=3).generate(prompts(20)):
            kept |= dict(batch)
    assert len(kept) == len(server.seen) - 1 >= 2, "two were with the server when the first failed"
    assert len(server.seen) < 20, "and nothing new is asked"


def test_a_server_that_loads_its_model_is_waited_for(server, pauses):
    server.pages["/props"] = {"eos_token": "</s>", "model_path": "m.gguf"}
    server.loading = 2
    backend = OpenAIBackend(server.url, "m")
    assert backend.eos_token == "</s>" and backend.facts.props["model_path"] == "m.gguf"
    assert pauses == [1.0, 1.0]


def test_a_server_that_is_not_there_is_reported_soon(pauses):
    with pytest.raises(HarnessError, match="cannot be reached"):
        OpenAIBackend("http://127.0.0.1:9/v1", "m").facts.identity  # noqa: B018
    assert pauses == [0.5, 0.5]


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        (
            "/props",
            {"model_path": "a.gguf", "build_info": "b1"},
            {"model_path": "a.gguf", "build_info": "b2"},
        ),
        ("/version", {"version": "0.9"}, {"version": "0.10"}),
        ("/get_model_info", {"model_path": "a"}, {"model_path": "b"}),
        (
            "/v1/models",
            {"data": [{"id": "m", "created": 1, "root": "a"}]},
            {"data": [{"id": "m", "created": 2, "root": "b"}]},
        ),
    ],
)
def test_another_model_or_build_behind_the_address_is_another_engine(server, path, before, after):
    stamps = []
    for page in (before, before, after):
        server.pages[path] = page
        stamps.append(json.dumps(OpenAIBackend(server.url, "m").fingerprint))
    assert stamps[0] == stamps[1] != stamps[2]


def test_when_a_model_was_loaded_is_no_part_of_it(server):
    server.pages["/v1/models"] = {"data": [{"id": "m", "created": 1}]}
    before = OpenAIBackend(server.url, "m").fingerprint
    server.pages["/v1/models"] = {"data": [{"id": "m", "created": 2}]}
    assert OpenAIBackend(server.url, "m").fingerprint == before


def test_a_prompt_beyond_the_servers_context_is_left_out(server, tmp_path, capsys):
    server.window = 200
    cases = [
        ask("short", "Say Oslo.", checks=[{"contains": "oslo"}]),
        ask("long", "word " * 100, checks=[{"contains": "oslo"}]),
    ]
    with Store(tmp_path / "r.sqlite") as store:
        found = evaluate(
            OpenAIBackend(server.url, "m"),
            cases,
            FORMATS.select(["chatml"]),
            {"chatml": "native"},
            "chatml",
            store,
            EvalSettings(),
        )
    assert (
        found.aggregate("chatml", "on_task").n == 1
        and found.aggregate("chatml", "on_task").not_scored == 1
    )
    assert "left out 1 cells, which are not scored" in capsys.readouterr().err


def test_a_refusal_is_one_line(server):
    server.faults = [401]
    with pytest.raises(HarnessError, match=r"answers 401.*fault 401"):
        answers(OpenAIBackend(server.url, "m", concurrency=1), prompts(1))
    with pytest.raises(HarnessError, match="is not the address of a server"):
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
    assert backend.no_loglikelihood == NO_LOGPROBS
    groups = {"chatml": "native", "alpaca-newline": "seen", "llama3": "held-out"}
    with Store(tmp_path / "r.sqlite") as store:
        found = evaluate(
            backend, cases, formats, groups, "chatml", store, EvalSettings(), quiet=True
        )
    choice = found.aggregate("chatml", "choice")
    assert choice.mean is None and choice.not_scored == 2
    assert {score.why for score in found.scores if score.metric in ("choice", "nll")} == {
        NO_LOGPROBS
    }
    assert found.aggregate("chatml", "stopped").mean == 1.0
    assert confidence_report(found) == Confidence("evaluate")


@pytest.mark.parametrize("style", ["openai", "vllm", "sglang"])
def test_log_probabilities_of_an_echo(server, style):
    """As in their sources: vLLM's offsets count the BOS it puts before, SGLang gives −1."""
    server.echoes, server.style = True, style
    backend = OpenAIBackend(server.url, "m")
    assert backend.no_loglikelihood == ""
    said = [
        render(
            Conversation("c", (Message("user", "Capital?"), Message("assistant", a))),
            FORMATS["plain-qa"],
        )
        for a in ("It is Oslo now", "Rome")
    ]
    [[(_, scorings)]] = list(backend.score([ScoreRequest("k", tuple(said))]))
    assert [(s.tokens, s.logprob) for s in scorings] == [(4, -6.25), (1, -2.0)]
    assert scorings[0].token_logprobs == (-2.0, -2.0, -0.25, -2.0)


def test_tokens_that_cannot_be_aligned_are_not_scored_and_never_zero(server, tmp_path):
    server.echoes, server.style = True, "pieces"
    cases = [
        ask("c1", "Capital of Norway?", choices=["Oslo", "Rome"], answer=0),
        ask("r1", "Why?", reference="Because."),
    ]
    backend = OpenAIBackend(server.url, "m")
    assert backend.no_loglikelihood == ""
    with Store(tmp_path / "r.sqlite") as store:
        found = evaluate(
            backend,
            cases,
            FORMATS.select(["plain-qa"]),
            {"plain-qa": "native"},
            "plain-qa",
            store,
            EvalSettings(),
            quiet=True,
        )
    assert (
        found.aggregate("plain-qa", "choice").mean is None
        and found.aggregate("plain-qa", "choice").not_scored == 1
    )


def test_chat_sends_messages(server):
    backend = OpenAIBackend(server.url, "m", chat=True)
    found = answers(backend, prompts(2))
    assert {answer.text for answer in found.values()} == {"heard 1"}
    assert sorted(body["messages"][0]["content"] for body in server.seen) == [
        "Question 0?",
        "Question 1?",
    ]
    assert "chat endpoint" in backend.no_loglikelihood
    assert backend.fingerprint["backend"] != OpenAIBackend(server.url, "m").fingerprint["backend"]


def test_chat_sends_tools_and_reads_thought_and_calls(server):
    tool = Tool('{"type": "function", "function": {"name": "weigh"}}')
    backend = OpenAIBackend(server.url, "m", chat=True)
    [answer] = answers(backend, [replace(prompts(1)[0], tools=(tool,))]).values()
    assert server.seen[0]["tools"] == [tool.as_object()]
    assert answer.parsed == ParsedAnswer("", "hm", (ToolCall("weigh", "{}"),))
    assert (answer.text, answer.finish) == ("", "stop")


def test_a_stop_that_the_server_lets_pass_is_cut(server):
    request = prompts(1, "plain-qa")[0]
    cut = replace(request, prompt=replace(request.prompt, stops=("a", "b", "c", "d", "slo,")))
    assert answers(OpenAIBackend(server.url, "m"), [cut])["0"].text == "O"
    assert len(server.seen[0]["stop"]) == 4


@pytest.mark.parametrize("status", [401, 403, 404, 429])
def test_a_server_that_refuses_us_is_not_one_without_log_probabilities(server, status):
    server.faults = [status] * 9
    with pytest.raises(HarnessError, match=f"answers {status}"):
        assert OpenAIBackend(server.url, "m", retries=0).no_loglikelihood


@pytest.mark.parametrize("status", [400, 405, 422, 501])
def test_a_server_that_knows_no_echo_gives_none(server, status):
    server.faults = [status] * 9
    assert OpenAIBackend(server.url, "m", retries=0).no_loglikelihood == NO_LOGPROBS


def test_chat_sends_the_switches_of_the_template(server):
    request = replace(prompts(1)[0], variables={"enable_thinking": False})
    answers(OpenAIBackend(server.url, "m", chat=True), [request])
    assert server.seen[0]["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize("status", [400, 422])
def test_a_chat_server_without_tools_leaves_their_cases_unscored(server, status):
    tool = Tool('{"type": "function", "function": {"name": "weigh"}}')
    backend = OpenAIBackend(server.url, "m", chat=True, retries=0)
    server.faults = [status]
    [found] = answers(backend, [replace(prompts(1)[0], tools=(tool,))]).values()
    assert found.why.startswith("the server takes no tools: the server answers")
    server.faults = [status]
    with pytest.raises(HarnessError, match=f"answers {status}"):
        answers(backend, prompts(1))
