"""Read formats from model folders, GGUF files, other programs' files and example conversations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.files import read_json, read_json_object
from harness.formats.exchange.chat_templates import (
    FoundTemplate,
    chosen,
    template_of_folder,
    template_of_gguf,
    template_text,
    tokenizer_facts,
)
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
from harness.formats.kept.kept_probes import template_renderer
from harness.formats.turns import Renderer, Turns

_PRESET = "SillyTavern preset"


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
    found: FoundTemplate | None = None
    """The template with the facts of its tokenizer, where it is a chat template."""
    leaves_bos: bool = False
    """Whether the first BOS is left to the server, so that the text says nothing of it."""
    only_prompts: bool = False
    """Whether ``render`` writes prompts alone, so that ``turns`` were found in those."""


def read_source(
    path: Path, context: Path | None = None, template_name: str | None = None
) -> Source:
    """Read a model folder, tokenizer_config.json, .jinja, .gguf, SillyTavern preset, Modelfile, Go
    template, text-generation-webui template (.yaml) or example.

    ``context`` is the context preset of a SillyTavern preset; ``template_name`` one of a model's
    several templates. Raises HarnessError for a source that cannot be read, has no template, or has
    one that is refused (harness.formats.guard), and for an argument that it has no use for.
    """
    source = _source(path, context, template_name)
    if context and source.kind != _PRESET:
        raise HarnessError(f"--context goes with a {_PRESET}; this is a {source.kind}", str(path))
    if template_name and not source.template:
        raise HarnessError(
            f"--template-name is for a model's chat templates; this is a {source.kind}", str(path)
        )
    return source


def _source(path: Path, context: Path | None, template_name: str | None) -> Source:
    if not path.exists():
        raise HarnessError("no such file or folder", where=str(path))
    if path.is_dir():
        return _template(template_of_folder(path, template_name))
    if path.suffix == ".gguf":
        return _template(template_of_gguf(path, template_name))
    if path.suffix == ".json":
        facts = read_json(path)
        if isinstance(facts, dict) and "chat_template" in facts:
            kind, template = path.name, facts["chat_template"]
            return _template(chosen(template, str(path), kind, facts, template_name))
        return _sillytavern(facts, path, context)
    return _from_text(template_text(path), path, template_name)


def _from_text(text: str, path: Path, template_name: str | None) -> Source:
    """A template or an example by the file's suffix, or else by what is in the text."""
    where = str(path)
    if path.suffix in (".yaml", ".yml"):
        return _webui(text, where)
    if path.suffix in (".jinja", ".jinja2", ".j2") or re.search(r"\{%-?\s*(?:for|if|set)\b", text):
        facts = tokenizer_facts(path.parent)
        return _template(chosen(text, where, "chat template", facts, template_name))
    if is_modelfile(text):
        return _ollama(read_modelfile(text), where, "Modelfile")
    if path.suffix in (".gotmpl", ".tmpl") or is_go_template(text):
        return _ollama(Modelfile(text), where, "Ollama template")
    turns, unseen = read_example(text, where)
    return Source(where, "example conversation", turns=turns, lost=unseen)


def _template(found: FoundTemplate) -> Source:
    others = f"other templates of this model: {', '.join(found.others)} (--template-name)"
    return Source(
        found.where,
        found.kind,
        render=template_renderer(found.text, found.where),
        template=found.text,
        bos_token=found.tokens.get("bos_token", ""),
        eos_token=found.tokens.get("eos_token", ""),
        special_tokens=found.special,
        lost=(others,) if found.others else (),
        found=found,
    )


def _sillytavern(facts: Any, path: Path, context: Path | None) -> Source:
    read = read_preset_file(facts, read_json_object(context) if context else None, str(path))
    return Source(
        str(path),
        _PRESET,
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
        return _template(chosen(facts["instruction_template"], where, kind, {}, None))
    return Source(where, kind, render=old_template_renderer(facts, where), leaves_bos=True)
