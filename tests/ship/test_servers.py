"""Running servers: sound ones raise nothing, and each of their traps is found by its name."""

from __future__ import annotations

import json

import pytest

from harness.cli.main import main
from harness.errors import HarnessError
from harness.ship.checks.runtime_checks import check_server
from harness.ship.checks.server_pages import ServerPages
from harness.training.share.export import chat_template
from tests.ship.artefacts import FORMATS, kinds, tokenizer_of, trained_in, write_modelfile
from tests.ship.fake_servers import LlamaServer, Ollama, Sglang, Vllm, Webui, running

pytestmark = pytest.mark.local

SOUND = [
    *(f"{server} {artefact}" for server in ("llamacpp", "vllm", "sglang") for artefact in (
        "chatml bytes", "qwen3 bytes", "gemma3 marks", "llama3 bos", "llama2-chat spaces",
    )),
    *("ollama chatml bytes", "ollama gemma3 marks", "webui chatml bytes", "webui vicuna-v1.1 bytes"),
]  # fmt: skip
SERVERS = {"llamacpp": LlamaServer, "vllm": Vllm, "sglang": Sglang, "webui": Webui}


def served(tmp_path, artefact, *, tokenizer=None, template=None, **settings):
    server, format_id, kind = artefact.split()
    tokenizer = tokenizer or tokenizer_of(kind)
    if server == "ollama":
        file = write_modelfile(tmp_path / "Modelfile", format_id, kind)
        text = file.read_text()
        return running(Ollama(tokenizer, template(text) if template else text, **settings))
    ours = chat_template(FORMATS[format_id], tokenizer_of(kind))
    ours = template(ours) if template else ours
    return running(SERVERS[server](tokenizer, ours, **settings))


@pytest.mark.parametrize("artefact", SOUND)
def test_a_sound_server(tmp_path, artefact):
    name, format_id, kind = artefact.split()
    with served(tmp_path, artefact) as server:
        checks = check_server(ServerPages(f"{server.url}/v1"), trained_in(format_id, kind))
    assert kinds(checks) == set(), [str(one) for check in checks for one in check.findings]
    states = {check.check: check.state for check in checks}
    assert {check.runtime for check in checks} == {name}
    assert states["texts"] == "equal" and states["ids"] in ("equal", "not checked")
    assert (states["ids"] == "equal") == (name != "ollama")
    if name in ("llamacpp", "vllm", "sglang"):
        assert states["completions"] == "equal"


TRAPS = {
    "a template override": (
        "vllm chatml bytes",
        {"template": lambda ours: "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}"
                                  "{% endfor %}assistant:"},
        "other-template",
    ),
    "another version of the template": (
        "vllm chatml bytes",
        {"template": lambda ours: ours.replace("<|im_end|>\\n", "<|im_end|>\\n\\n")},
        "spacing",
    ),
    "BOS twice": ("vllm llama3 bos", {"adds_bos": True}, "double-bos"),
    "a short context": ("vllm chatml bytes", {"context": 64}, "context-too-short"),
    "control tokens as text": ("llamacpp chatml bytes", {"parse": False}, "special-as-text"),
    "a default penalty": (
        "llamacpp chatml bytes",
        {"params": {"repeat_penalty": 1.1}},
        "repeat-penalty",
    ),
    "llama.cpp's context": ("llamacpp chatml bytes", {"context": 64}, "context-too-short"),
    "thoughts switched on": (
        "llamacpp smollm3 bytes",
        {"template": lambda ours: "{% set enable_thinking = false %}" + ours},
        "other-switch",
    ),
    "a default system prompt": (
        "sglang chatml bytes",
        {"template": lambda ours: "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\n"
                                  "You are a helpful assistant.<|im_end|>\n' }}{% endif %}" + ours},
        "injected-system",
    ),
    "SGLang's context": ("sglang chatml bytes", {"context": 64}, "context-too-short"),
    "another model's tokenizer": (
        "sglang chatml bytes",
        {"tokenizer": "spaces"},
        "other-tokenizer",
    ),
    "SYSTEM of a Modelfile": (
        "ollama chatml bytes",
        {"template": lambda text: text + 'SYSTEM "You are a pirate and answer briefly."\n'},
        "injected-system",
    ),
    "another instruction template": (
        "webui chatml bytes",
        {"template": lambda ours: ours.replace("<|im_start|>assistant", "<|im_start|>bot")},
        "role-renamed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_of_a_server(tmp_path, trap):
    artefact, settings, kind = TRAPS[trap]
    _, format_id, tokenizer = artefact.split()
    if "tokenizer" in settings:
        settings = {**settings, "tokenizer": tokenizer_of(settings["tokenizer"])}
    with served(tmp_path, artefact, **settings) as server:
        checks = check_server(ServerPages(server.url), trained_in(format_id, tokenizer))
    assert kinds(checks) == {kind}, [str(one) for check in checks for one in check.findings]


def test_what_an_older_server_does_not_say_is_not_checked(tmp_path):
    with served(tmp_path, "sglang chatml bytes", old=True) as server:
        texts, ids, *_ = check_server(ServerPages(server.url), trained_in("chatml"))
    assert texts.state == ids.state == "not checked" and "0.5.13" in texts.reason
    with served(tmp_path, "ollama chatml bytes", old=True) as server:
        texts, ids, *_ = check_server(ServerPages(server.url), trained_in("chatml"))
    assert texts.state == "not checked" and "0.11.5" in texts.reason


def test_tools_that_ollama_refuses_are_counted(tmp_path):
    with served(tmp_path, "ollama qwen2.5 bytes") as server:
        texts, *_ = check_server(ServerPages(server.url), trained_in("qwen2.5"))
    assert texts.state == "equal" and "left out: 3 with tools" in texts.reason


def test_an_echo_is_described(tmp_path):
    """Both servers have offsets that are wrong; what comes before the prompt is named."""
    reasons = {}
    for name in ("vllm", "sglang", "llamacpp"):
        with served(tmp_path, f"{name} llama3 bos") as server:
            *_, completions = check_server(ServerPages(server.url), trained_in("llama3", "bos"))
        reasons[name] = completions.reason
    assert "'<|endoftext|>' comes before the prompt" in reasons["vllm"]
    assert "text_offset is −1" in reasons["sglang"] and "−1" not in reasons["vllm"]
    assert "no log-probabilities of a prompt" in reasons["llamacpp"]


def test_a_bos_that_completions_lack(tmp_path):
    """The template writes a BOS and the tokenizer adds none: only texts lack it."""
    with served(tmp_path, "vllm llama3 marks") as server:
        server.tokenizer = tokenizer_of("marks")
        server.template = chat_template(FORMATS["llama3"], tokenizer_of("bos"))
        *found, completions = check_server(ServerPages(server.url), trained_in("llama3", "bos"))
    assert kinds(found) == set() and kinds([completions]) == {"missing-bos"}


def test_ollama_is_not_to_cut_a_prompt(tmp_path):
    with served(tmp_path, "ollama chatml bytes") as server:
        check_server(ServerPages(server.url), trained_in("chatml"))
    asked = [body for path, body in server.asked if path == "/api/chat"]
    assert asked and all(body["truncate"] is body["stream"] is False for body in asked)


def test_a_model_that_the_server_does_not_have(tmp_path):
    with (
        served(tmp_path, "vllm chatml bytes") as server,
        pytest.raises(HarnessError, match="no model 'tunde'"),
    ):
        check_server(ServerPages(server.url), trained_in("chatml"), "tunde")


def test_a_server_that_says_nothing_of_itself():
    class Silent(Vllm):
        def get(self, path):
            return None

    with (
        running(Silent(tokenizer_of("bytes"), "")) as server,
        pytest.raises(HarnessError, match="does not report which program"),
    ):
        check_server(ServerPages(server.url), trained_in("chatml"))


def test_the_server_is_asked_for_what_was_trained(tmp_path):
    """Switches of the template and tools go with each request, arguments as JSON texts."""
    with served(tmp_path, "vllm qwen3 bytes") as server:
        check_server(ServerPages(server.url), trained_in("qwen3"))
    bodies = [body for path, body in server.asked if "messages" in body]
    assert all(body["add_generation_prompt"] and body["model"] == "tuned" for body in bodies)
    calls = [
        row["tool_calls"] for body in bodies for row in body["messages"] if "tool_calls" in row
    ]
    assert calls and all(isinstance(one[0]["function"]["arguments"], str) for one in calls)
    assert any("tools" in body for body in bodies)


def test_the_command_checks_a_running_server(tmp_path, tiny_model, capsys):
    args = ["ship", str(tiny_model), "--format", "chatml"]
    with served(tmp_path, "vllm chatml bytes") as server:
        assert main([*args, "--server", f"{server.url}/v1"]) == 0
    shown = capsys.readouterr().out
    assert "EQUAL        vllm, texts: 8 prompts of standard shapes" in shown
    assert "NOT CHECKED  vllm, stops" in shown
    with served(tmp_path, "vllm chatml bytes", context=64) as server:
        assert main([*args, "--server", server.url, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["checks"]
    states = [one["state"] for one in found]
    assert states == ["equal", "equal", "not checked", "differs", "equal"]


def test_a_server_that_is_not_there(tiny_model, capsys, monkeypatch):
    monkeypatch.setattr("harness.ship.checks.server_pages.TRIES", 1)
    args = ["ship", str(tiny_model), "--format", "chatml", "--server", "http://127.0.0.1:9"]
    assert main(args) == 2
    assert "the server cannot be reached" in capsys.readouterr().err
    assert main([*args, "--out", "x"]) == 2
    assert "--out and --server exclude each other" in capsys.readouterr().err
