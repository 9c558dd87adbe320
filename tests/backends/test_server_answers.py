"""Malformed answers of a server: one line, nothing stored, and the next run computes the rest."""

from __future__ import annotations

import contextlib
import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.backends import server_calls
from harness.backends.openai import OpenAIBackend
from harness.backends.server_answers import (
    MalformedError,
    read_choice,
    read_logprobs,
    read_text,
    without_credentials,
)
from harness.cli.main import main
from harness.errors import HarnessError
from harness.evaluation.execute import execute, read_results
from harness.evaluation.requests import RequestBuilder
from harness.evaluation.store.results_file import Store
from harness.formats import load_formats
from tests.evaluation.conftest import ask

FORMATS = load_formats().select(["chatml"])
CASES = [
    ask("c1", "Capital?", choices=["Oslo", "Rome"], answer=0),
    ask("a1", "Say hello.", checks=[{"contains": "hello"}]),
]


def healthy(request):
    """What a server with echo and log-probabilities answers."""
    choice = {"index": 0, "text": "hello", "finish_reason": "stop", "logprobs": None}
    if request.get("echo"):
        tokens = [*request["prompt"], "!"]
        values = [None] + [-0.5] * (len(tokens) - 1)
        choice["logprobs"] = {"tokens": tokens, "token_logprobs": values}
    return json.dumps({"choices": [choice]})


def changed(**changes):
    """The healthy answer with parts of its choice changed."""

    def answer(request):
        page = json.loads(healthy(request))
        page["choices"][0].update(changes)
        return json.dumps(page)

    return answer


def with_values(value):
    """The healthy echo with this in the place of a log-probability."""

    def answer(request):
        page = json.loads(healthy(request))
        if logprobs := page["choices"][0]["logprobs"]:
            logprobs["token_logprobs"][-2] = value
        return json.dumps(page)

    return answer


class Liar(ThreadingHTTPServer):
    """Answers every request with what ``answer`` makes of it, the first ``good`` ones healthily."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = healthy
        self.good = 0
        self.asked = 0
        self.status, self.headers = 200, {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.send_error(404)

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1
        well = self.server.asked <= self.server.good
        text = healthy(request) if well else self.server.answer(request)
        if isinstance(text, Endless):
            return self.without_end()
        data = text if isinstance(text, bytes) else text.encode()
        self.send_response(200 if well else self.server.status)
        for name, value in ({} if well else self.server.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data) + isinstance(text, BreaksOff)))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def without_end(self):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        with contextlib.suppress(OSError):  # the client has had enough
            while True:
                self.wfile.write(b" " * 65536)


class BreaksOff(str):
    """An answer whose last byte never comes."""


class Endless:
    """An answer without an end."""


@pytest.fixture
def server(monkeypatch):
    pauses = [0.0 for _ in server_calls._MALFORMED_PAUSES]
    monkeypatch.setattr(server_calls, "_MALFORMED_PAUSES", pauses)
    monkeypatch.setattr(server_calls, "_MOST_BYTES", 20 * 2**20)
    found = Liar()
    threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def evaluate(server, store):
    """Compute both cases. The probe for log-probabilities is healthy."""
    backend = OpenAIBackend(server.url, "m", retries=2, concurrency=1)
    requests = RequestBuilder(backend, 8).build(CASES, FORMATS)
    return requests, execute(requests, backend, store, quiet=True)


MALFORMED = {
    "cut JSON": (lambda _: '{"choices": [{"te', "no JSON"),
    "HTML": (lambda _: "<html><body>502 Bad Gateway</body></html>", "no JSON: '<html>"),
    "nothing": (lambda _: "", "no JSON: nothing"),
    "not UTF-8": (lambda _: b"\xff\xfe\x00", "no JSON"),
    "deep": (lambda _: "[" * 100_000, "no JSON"),
    "a list": (lambda _: "[]", "no choices"),
    "no choices": (lambda _: '{"error": "odd"}', "no choices"),
    "empty choices": (lambda _: '{"choices": []}', "no choices"),
    "null choices": (lambda _: '{"choices": null}', "no choices"),
    "a null choice": (lambda _: '{"choices": [null]}', "no choices"),
    "null text": (changed(text=None), "text is null"),
    "a list as text": (changed(text=["hello"]), "text is a list"),
    "10 MB": (changed(text="word " * 2_000_000), "10000000 characters for at most 8 tokens"),
    "breaks off": (lambda _: BreaksOff('{"choices": [{"text": "hel'), "it breaks off"),
    "no end": (lambda _: Endless(), "no end after"),
    "logprobs as text": (changed(logprobs="none"), "logprobs is a text"),
    "a value as text": (with_values("-0.5"), "a log-probability is a text"),
    "a value as true": (with_values(True), "a log-probability is true or false"),
    "a huge number": (with_values(10**400), "is above 0"),
    "+5": (with_values(5), "a log-probability of 5 is above 0"),
    "values as text": (
        changed(logprobs={"tokens": ["a"], "token_logprobs": "x"}),
        "token_logprobs",
    ),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_answer_is_one_line_and_never_stored(server, tmp_path, fault):
    answer, message = MALFORMED[fault]
    server.answer, server.good = answer, 1
    path = tmp_path / "r.sqlite"
    with Store(path) as store, pytest.raises(HarnessError) as caught:
        evaluate(server, store)
    assert "malformed answer" in caught.value.message and message in caught.value.message
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    # the control: the same against a healthy server
    server.answer = healthy
    with Store(path) as store:
        requests, computed = evaluate(server, store)
        found = read_results(requests, store)
        assert len(requests) == 2 and len(found.answers) == len(found.scorings) == 1
        assert computed >= 1


@pytest.mark.parametrize(("bad", "fine"), [(2, True), (3, False)])
def test_a_malformed_answer_is_asked_for_twice_more(server, tmp_path, bad, fine):
    """A proxy that starts: to one request come bad answers, then good ones."""
    answers = iter(["<html>"] * bad)
    server.answer = lambda request: (
        (None if request.get("echo") else next(answers, None)) or healthy(request)
    )
    with Store(tmp_path / "r.sqlite") as store:
        if fine:
            assert evaluate(server, store)[1] == 2
        else:
            with pytest.raises(HarnessError, match="malformed answer"):
                evaluate(server, store)


def test_an_answer_that_takes_too_long_is_malformed(server, tmp_path, monkeypatch):
    """The answer of all other tests, with no time left after its first byte."""
    monkeypatch.setattr(server_calls, "_LONGEST_ANSWER_S", 0.0)
    with Store(tmp_path / "r.sqlite") as store, pytest.raises(HarnessError, match="no end after"):
        evaluate(server, store)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_not_scored(server, tmp_path, value):
    server.answer, server.good = with_values(value), 1
    with Store(tmp_path / "r.sqlite") as store:
        requests, computed = evaluate(server, store)
        found = read_results(requests, store)
    assert computed == 1 and len(found.answers) == 1 and not found.scorings
    assert list(found.unscored) == [("c1", "chatml")]
    assert "log-probability is" in found.unscored["c1", "chatml"]


def test_a_server_that_asks_for_patience_is_not_taken_for_a_wrong_key(server, tmp_path):
    server.good, server.status, server.headers = 1, 429, {"Retry-After": "3000"}
    with Store(tmp_path / "r.sqlite") as store, pytest.raises(HarnessError) as caught:
        evaluate(server, store)
    assert "429" in caught.value.message and "wait 3000 s" in caught.value.message
    assert "key" not in caught.value.hint


def test_half_a_character_is_replaced_so_that_every_file_can_hold_it(server, tmp_path):
    server.answer = changed(text="a\ud800b")
    with Store(tmp_path / "r.sqlite") as store:
        requests, _ = evaluate(server, store)
        [answer] = read_results(requests, store).answers.values()
    assert answer.text == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize(("extra", "fine"), [(0, True), (1, False)])
def test_a_text_may_have_as_many_characters_as_long_tokens_have(extra, fine):
    """256 for each of the 8 tokens asked for, and for the one that ends them."""
    choice = {"text": "x" * (256 * 9 + extra)}
    if fine:
        assert read_text(choice, 8, chat=False)[0] == choice["text"]
    else:
        with pytest.raises(MalformedError, match="2305 characters for at most 8 tokens"):
            read_text(choice, 8, chat=False)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -(10**400)])
def test_a_number_beyond_all_bounds_is_passed_on_as_not_finite(value):
    [(_, found)] = read_logprobs({"logprobs": {"tokens": ["a"], "token_logprobs": [value]}})
    assert not math.isfinite(found)


@pytest.mark.parametrize(("value", "fine"), [(0.0, True), (0.0009, True), (0.0011, False)])
def test_a_log_probability_is_at_most_0_but_for_rounding(value, fine):
    choice = {"logprobs": {"tokens": ["a"], "token_logprobs": [value]}}
    if fine:
        assert read_logprobs(choice) == [("a", value)]
    else:
        with pytest.raises(MalformedError, match="above 0"):
            read_logprobs(choice)


# passwords


def test_a_password_is_sent_and_shown_nowhere(server, tmp_path, capsys):
    url = server.url.replace("http://", "http://user:S3cret@")
    out = tmp_path / "ev"
    command = ["eval", "m", "--endpoint", url, "--formats", "chatml", "--limit", "1"]
    assert main([*command, "--out", str(out)]) == 0
    files = [file for file in out.rglob("*") if file.is_file()]
    assert len(files) > 3
    for file in files:
        assert b"S3cret" not in file.read_bytes(), file
    shown = capsys.readouterr()
    assert "S3cret" not in shown.out + shown.err
    server.answer = lambda _: "<html>"
    assert main([*command, "--out", str(tmp_path / "other"), "--retries", "0"]) == 2
    assert main(["eval", "m", "--endpoint", "ftp://user:S3cret@h/v1"]) == 2
    assert main(["eval", "m", "--endpoint", "user:S3cret@h/v1"]) == 2
    assert main(["eval", "m", "--endpoint", "http://user:S3cret@[/v1"]) == 2
    shown = capsys.readouterr()
    assert "S3cret" not in shown.out + shown.err and "127.0.0.1" in shown.err


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://u:p@h:80/v1", "http://h:80/v1"),
        ("https://u:p@q@h/v1", "https://h/v1"),
        ("u:p@h/v1", "h/v1"),
        ("http://h/v1/a@b", "http://h/v1/a@b"),
        ("http://h/v1", "http://h/v1"),
    ],
)
def test_credentials_are_taken_out_of_an_address(url, shown):
    assert without_credentials(url) == shown


# anything at all

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=6,
)
choices = st.dictionaries(
    st.sampled_from(["text", "message", "logprobs", "finish_reason"]),
    json_values | st.fixed_dictionaries({"tokens": json_values, "token_logprobs": json_values}),
)


@given(
    st.text() | json_values.map(json.dumps) | choices.map(lambda c: json.dumps({"choices": [c]}))
)
def test_any_answer_is_read_or_malformed(body):
    try:
        choice = read_choice(body)
        text, finish = read_text(choice, 8, chat="message" in choice)
        logprobs = read_logprobs(choice)
    except MalformedError as error:
        assert str(error) and len(str(error)) < 200
        return
    text.encode()
    assert finish in ("stop", "length", "error")
    for token, value in logprobs or ():
        assert isinstance(token, str)
        assert value is None or value <= 1e-3 or not math.isfinite(value)
