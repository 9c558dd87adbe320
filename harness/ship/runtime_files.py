"""What each runtime needs besides the weights: Modelfile, template, stops, and the command."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from harness.files import write_text
from harness.formats.exchange.exporting import export_format
from harness.formats.exchange.programs.special_tokens import SPELT_BOS, SPELT_EOS
from harness.records import Format
from harness.ship.model_folder import FOLDER, ModelFolder

TEMPLATE_FILE = "chat_template.jinja"
MODELFILE = "Modelfile"
REQUEST = "request.json"
#: The settings of the measurement. Ollama's defaults are temperature 0.8 and repeat_penalty 1.1.
_SETTINGS = "PARAMETER temperature 0\nPARAMETER repeat_penalty 1\n"


def write_llamacpp(folder: Path, model: ModelFolder, files: Sequence[Path]) -> str:
    """Write the template and the settings of a request. Returns the command of the last file.

    The GGUF files hold the same template; llama-server takes this one with --chat-template-file.
    """
    write_text(folder / TEMPLATE_FILE, model.template)
    settings = {"stop": list(model.stops), "temperature": 0}
    write_text(folder / REQUEST, json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
    file = shlex.quote(f"{folder.name}/{files[-1].name}")
    return f"llama-server --model {file} --jinja"


def write_ollama(
    folder: Path, chat_format: Format, model: ModelFolder, gguf: Path, name: str
) -> tuple[str, tuple[str, ...]]:
    """Write a Modelfile for a GGUF file. Returns the command, and what the template loses.

    Raises HarnessError for a format that Ollama's templates cannot express.
    """
    exported = export_format(chat_format, "ollama")
    body = exported.text.partition("\n")[2]  # the first line is for a reader of the export
    body = body.replace(SPELT_EOS, model.eos) if model.eos else body
    body = body.replace(SPELT_BOS, model.bos)
    wanted = [stop for stop in model.stops if f"PARAMETER stop {_quoted(stop)}\n" not in body]
    stops = "".join(f"PARAMETER stop {_quoted(stop)}\n" for stop in wanted)
    text = f"FROM {gguf.as_posix()}\n{body}{stops}{_SETTINGS}"
    write_text(folder / MODELFILE, text)
    lost = tuple(line for line in exported.lost if not line.startswith("EOS is spelt"))
    own = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "model"
    return f"ollama create {own} --file {folder.name}/{MODELFILE}", lost


def _quoted(text: str) -> str:
    """A value of a Modelfile, whose quotation marks know no escapes."""
    mark = '"""' if '"' in text else '"'
    return f"{mark}{text}{mark}"


def vllm_command(name: str) -> str:
    """The command that serves the model folder; its template and stops are in the folder."""
    return f"vllm serve ./{FOLDER} --served-model-name {shlex.quote(name)}"


def hf_command() -> str:
    """The command that talks to the model through transformers."""
    return f"transformers chat ./{FOLDER}"
