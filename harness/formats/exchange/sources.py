"""Read formats from model folders, GGUF files, other programs' files and example conversations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.extras import require
from harness.files import read_json, read_json_object, read_text
from harness.formats.exchange.example import read_example
from harness.formats.exchange.programs.ollama_reading import (
    Modelfile,
    is_go_template,
    is_modelfile,
    ollama_renderer,
    read_modelfile,
    turns_of_prompts,
)
from harness.formats.exchange.programs.preset_template import Written
from harness.formats.exchange.programs.sillytavern import read_preset_file
from harness.formats.exchange.programs.webui import old_template_renderer, read_yaml_texts
from harness.formats.foreign import foreign_renderer
from harness.formats.guard import LONGEST_TEMPLATE
from harness.formats.turns import Renderer, Turns


@dataclass(frozen=True)
class Source:
    """A format from elsewhere: ``render`` writes it, or ``turns`` are the pieces of an example.

    ``written`` is our template of it, where its reader knows one.
    """

    where: str
    kind: str
    render: Renderer | None = None
    turns: Turns | None = None
    written: Written | None = None
    template: str = ""
    """The Jinja source, if there is one."""
    bos_token: str = ""
    eos_token: str = ""
    special_tokens: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    """One sentence for each thing that was lost in reading."""
    leaves_bos: bool = False
    """Whether the first BOS is left to the server, so that the text says nothing of it."""
    only_prompts: bool = False
    """Whether ``render`` writes prompts alone, so that ``turns`` were found in those."""


def read_source(path: Path, context: Path | None = None) -> Source:
    """Read a model folder, tokenizer_config.json, .jinja, .gguf, SillyTavern preset, Modelfile, Go
    template, text-generation-webui template (.yaml) or example.

    ``context`` is the context preset of a SillyTavern preset. Raises HarnessError for a source that
    cannot be read, has no template, or has one that is refused (harness.formats.guard).
    """
    if not path.exists():
        raise HarnessError("no such file or folder", where=str(path))
    if path.is_dir():
        return _model_folder(path)
    if path.suffix == ".gguf":
        return _gguf(path)
    if path.suffix == ".json":
        facts = read_json(path)
        if isinstance(facts, dict) and "chat_template" in facts:
            template = _default_template(facts["chat_template"], str(path))
            return _jinja(template, str(path), "tokenizer_config.json", facts)
        return _sillytavern(facts, path, context)
    return _from_text(_text(path), path)


def _from_text(text: str, path: Path) -> Source:
    """A template or an example by the file's suffix, or else by what is in the text."""
    where = str(path)
    if path.suffix in (".yaml", ".yml"):
        return _webui(text, where)
    if path.suffix in (".jinja", ".jinja2", ".j2") or re.search(r"\{%-?\s*(?:for|if|set)\b", text):
        return _jinja(text, where, "chat template", _config_of(path.parent))
    if is_modelfile(text):
        return _ollama(read_modelfile(text), where, "Modelfile")
    if path.suffix in (".gotmpl", ".tmpl") or is_go_template(text):
        return _ollama(Modelfile(text), where, "Ollama template")
    turns, unseen = read_example(text, where)
    return Source(where, "example conversation", turns=turns, lost=unseen)


def _text(path: Path) -> str:
    text = read_text(path)
    if len(text) > 20 * LONGEST_TEMPLATE:
        raise HarnessError(f"too long for a format: {len(text)} characters", where=str(path))
    return text


def _config_of(folder: Path) -> dict[str, Any]:
    """The folder's tokenizer_config.json; empty without one."""
    path = folder / "tokenizer_config.json"
    return read_json_object(path) if path.is_file() else {}


def _model_folder(folder: Path) -> Source:
    config, file = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    facts = _config_of(folder)
    if file.is_file():
        return _jinja(_text(file), str(file), "model folder", facts)
    if facts.get("chat_template"):
        template = _default_template(facts["chat_template"], str(config))
        return _jinja(template, str(config), "model folder", facts)
    processor = folder / "chat_template.json"  # of a multimodal model
    if processor.is_file():
        template = _default_template(
            read_json_object(processor).get("chat_template"), str(processor)
        )
        return _jinja(template, str(processor), "model folder", facts)
    if ggufs := sorted(folder.glob("*.gguf")):
        return _gguf(ggufs[0])
    raise HarnessError(
        "the folder has no chat template",
        where=str(folder),
        hint="it needs chat_template.jinja, or a chat_template in tokenizer_config.json",
    )


def _default_template(template: Any, where: str) -> str:
    if isinstance(template, list):
        named = {row.get("name"): row.get("template") for row in template if isinstance(row, dict)}
        template = named.get("default") or next(iter(named.values()), None)
    if not isinstance(template, str):
        raise HarnessError(
            "chat_template is neither text nor a list of named templates", where=where
        )
    return template


def _jinja(template: str, where: str, kind: str, facts: Mapping[str, Any]) -> Source:
    added = facts.get("added_tokens_decoder")
    rows = added.values() if isinstance(added, dict) else ()
    tokens = [_token(row) for row in rows if isinstance(row, dict) and row.get("special")]
    return Source(
        where,
        kind,
        render=foreign_renderer(template, where=where),
        template=template,
        bos_token=_token(facts.get("bos_token")),
        eos_token=_token(facts.get("eos_token")),
        special_tokens=tuple(token for token in tokens if token),
    )


def _token(entry: Any) -> str:
    return str(entry.get("content", "")) if isinstance(entry, dict) else str(entry or "")


def _gguf(path: Path) -> Source:
    require("gguf", "reading a GGUF file", str(path))
    try:
        template, facts = _gguf_facts(path)
    except Exception as error:  # for a damaged file the reader raises anything
        reason = str(error) or type(error).__name__
        raise HarnessError(f"not a GGUF file, or damaged: {reason}", where=str(path)) from None
    if template is None:
        raise HarnessError("the file's metadata holds no chat template", where=str(path))
    return _jinja(template, str(path), "GGUF metadata", facts)


def _gguf_facts(path: Path) -> tuple[str | None, dict[str, Any]]:
    """The template in a file's metadata, and its tokens as tokenizer_config.json names them."""
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    template = fields.get("tokenizer.chat_template")
    tokens = fields.get("tokenizer.ggml.tokens")
    kinds = fields.get("tokenizer.ggml.token_type")

    def token(name: str) -> str:
        token_id = fields.get(f"tokenizer.ggml.{name}_token_id")
        if tokens is None or token_id is None:
            return ""
        return str(tokens.contents(int(token_id.contents())))

    control = [
        index
        for index, kind in enumerate([] if kinds is None else kinds.contents())
        if kind == 3  # TokenType.CONTROL
    ]
    special = tuple(str(tokens.contents(index)) for index in control) if tokens is not None else ()
    facts = {
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "added_tokens_decoder": {text: {"content": text, "special": True} for text in special},
    }
    return None if template is None else str(template.contents()), facts


def _sillytavern(facts: Any, path: Path, context: Path | None) -> Source:
    read = read_preset_file(facts, read_json_object(context) if context else None, str(path))
    return Source(
        str(path),
        "SillyTavern preset",
        render=read.render,
        written=read.written,
        lost=read.lost,
        leaves_bos=True,
    )


def _ollama(modelfile: Modelfile, where: str, kind: str) -> Source:
    try:
        render = ollama_renderer(modelfile.template, modelfile.system)
        turns = turns_of_prompts(render)
    except HarnessError as error:
        raise HarnessError(
            f"this template cannot be read: {error.message}", where=where, hint=error.hint
        ) from None
    has_tools = re.search(r"\.(?:Tools|ToolCalls)\b", modelfile.template)
    thinks = re.search(r"\.(?:Thinking|Think)\b", modelfile.template)
    return Source(
        where,
        kind,
        render=render,
        turns=turns,
        stops=modelfile.stops,
        lost=(
            *modelfile.lost,
            "Ollama joins messages of one role that follow each other; here each is a turn",
            *("tools and their calls: the pieces here have none",) * bool(has_tools),
            *("thoughts: the template is read with thinking off",) * bool(thinks),
        ),
        leaves_bos=True,
        only_prompts=True,
    )


def _webui(text: str, where: str) -> Source:
    """An instruction template of text-generation-webui."""
    kind, facts = "text-generation-webui template", read_yaml_texts(text, where)
    if "instruction_template" in facts:
        return _jinja(facts["instruction_template"], where, kind, {})
    return Source(where, kind, render=old_template_renderer(facts, where), leaves_bos=True)
