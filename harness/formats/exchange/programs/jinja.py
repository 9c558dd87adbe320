"""Jinja for transformers, llama.cpp, text-generation-webui and axolotl."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from harness.formats.exchange.programs.prelude import arguments_as_given, write_prelude
from harness.formats.foreign import foreign_renderer
from harness.formats.turns import Renderer
from harness.records import Format

_GENERATION = re.compile(r"[ \t]*\{%-? *(?:end)?generation *-?%\}\n?")


def write_training_jinja(chat_format: Format) -> str:
    """The template with generation marks, which reads messages as servers get them."""
    return write_prelude(chat_format) + arguments_as_given(chat_format.template)


def write_jinja(chat_format: Format) -> str:
    """The template without generation marks, which llama.cpp does not know."""
    return _GENERATION.sub("", write_training_jinja(chat_format))


def read_jinja(text: str) -> Renderer:
    """Read a template that was written here."""
    return foreign_renderer(text, where="the exported template")


def _block(key: str, text: str, head: str = "") -> str:
    """A YAML block scalar, without the template's last newline."""
    lines = text.rstrip("\n").split("\n")
    return head + f"{key}: |-\n" + "".join(f"  {line}\n" if line else "\n" for line in lines)


def yaml_block_reader(key: str) -> Callable[[str], Renderer]:
    """A function that reads the template in a YAML block scalar."""

    def read(text: str) -> Renderer:
        lines = text.partition(f"{key}: |-\n")[2].split("\n")
        block = []
        for line in lines:
            if line and not line.startswith("  "):
                break
            block.append(line[2:])
        return read_jinja("\n".join(block).rstrip("\n"))

    return read


def write_webui(chat_format: Format) -> str:
    """An instruction template of text-generation-webui."""
    return _block("instruction_template", write_jinja(chat_format))


def write_axolotl(chat_format: Format) -> str:
    """The lines of an axolotl config."""
    head = f"# {chat_format.id}, for axolotl: put this into your config\nchat_template: jinja\n"
    stops = json.dumps(
        [stop for stop in chat_format.stops if stop == stop.strip()], ensure_ascii=False
    )
    dataset = (
        "datasets:\n  - path: your-data.jsonl\n    type: chat_template\n"
        "    field_messages: messages\n    roles_to_train: [assistant]\n    train_on_eos: turn\n"
    )
    tail = f"eot_tokens: {stops}\n" if chat_format.stops and stops != "[]" else ""
    return _block("chat_template_jinja", write_jinja(chat_format), head) + tail + dataset
