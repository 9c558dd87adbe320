"""Where formats from elsewhere are read: model folders, GGUF files, SillyTavern presets, an example conversation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.extras import require
from harness.formats.exchange.example import read_example
from harness.formats.exchange.programs.sillytavern import preset_renderer
from harness.formats.foreign import foreign_renderer
from harness.formats.guard import LONGEST_TEMPLATE, refuse_harmful
from harness.formats.turns import Renderer, Turns


@dataclass(frozen=True)
class Source:
    """A format as it is elsewhere. ``render`` writes it, or ``turns`` are its pieces where only an example is there."""

    where: str
    kind: str
    render: Renderer | None = None
    turns: Turns | None = None
    template: str = ""
    """The Jinja source, where there is one."""
    bos_token: str = ""
    eos_token: str = ""
    special_tokens: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    lost: tuple[str, ...] = field(default=())
    """What reading it has already left behind, a sentence each."""


def read_source(path: Path, context: Path | None = None) -> Source:
    """Read a model folder, tokenizer_config.json, .jinja, .gguf, SillyTavern preset (with its context preset) or example text.

    Raises HarnessError for what cannot be read, holds no template, or holds one that is refused (harness.formats.guard).
    """
    if not path.exists():
        raise HarnessError("no such file or folder", where=str(path))
    if path.is_dir():
        return _model_folder(path)
    if path.suffix == ".gguf":
        return _gguf(path)
    text = _text(path)
    if path.suffix in (".jinja", ".jinja2", ".j2"):
        return _jinja(text, str(path), "chat template", _neighbour(path))
    if path.suffix == ".json":
        try:
            facts = json.loads(text)
        except json.JSONDecodeError as error:
            raise HarnessError(f"not JSON: {error.msg}", where=f"{path}:{error.lineno}") from None
        if isinstance(facts, dict) and "chat_template" in facts:
            return _jinja(
                _default_template(facts["chat_template"], str(path)),
                str(path),
                "tokenizer_config.json",
                facts,
            )
        return _sillytavern(facts, path, context)
    turns, shown_not = read_example(text, str(path))
    return Source(str(path), "example conversation", turns=turns, lost=shown_not)


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"cannot read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise HarnessError(f"not UTF-8 at byte {error.start}", where=str(path)) from None
    if len(text) > 20 * LONGEST_TEMPLATE:
        raise HarnessError(f"{len(text)} characters are no prompt format", where=str(path))
    return text


def _neighbour(path: Path) -> dict[str, Any]:
    file = path.parent / "tokenizer_config.json"
    return dict(json.loads(_text(file))) if file.is_file() else {}


def _model_folder(folder: Path) -> Source:
    config = folder / "tokenizer_config.json"
    facts = json.loads(_text(config)) if config.is_file() else {}
    file = folder / "chat_template.jinja"
    if file.is_file():
        return _jinja(_text(file), str(file), "model folder", facts)
    if facts.get("chat_template"):
        return _jinja(
            _default_template(facts["chat_template"], str(config)),
            str(config),
            "model folder",
            facts,
        )
    ggufs = sorted(folder.glob("*.gguf"))
    if ggufs:
        return _gguf(ggufs[0])
    raise HarnessError(
        "the folder has no chat template",
        where=str(folder),
        hint="it needs chat_template.jinja, or a chat_template in tokenizer_config.json",
    )


def _default_template(found: Any, where: str) -> str:
    if isinstance(found, list):
        named = {row.get("name"): row.get("template") for row in found if isinstance(row, dict)}
        found = named.get("default") or next(iter(named.values()), None)
    if not isinstance(found, str):
        raise HarnessError(
            "chat_template is neither text nor a list of named templates", where=where
        )
    return found


def _jinja(template: str, where: str, kind: str, facts: Mapping[str, Any]) -> Source:
    refuse_harmful({where: template})
    tokens = [
        _token(row)
        for row in (facts.get("added_tokens_decoder") or {}).values()
        if row.get("special")
    ]
    return Source(
        where,
        kind,
        render=foreign_renderer(template, where=where),
        template=template,
        bos_token=_token(facts.get("bos_token")),
        eos_token=_token(facts.get("eos_token")),
        special_tokens=tuple(token for token in tokens if token),
    )


def _token(found: Any) -> str:
    return str(found.get("content", "")) if isinstance(found, dict) else str(found or "")


def _gguf(path: Path) -> Source:
    require("gguf", "reading a GGUF file", str(path))
    from gguf import GGUFReader

    try:
        fields = GGUFReader(path).fields
    except (OSError, ValueError) as error:
        raise HarnessError(f"not a GGUF file: {error}", where=str(path)) from None
    template = fields.get("tokenizer.chat_template")
    if template is None:
        raise HarnessError("the file's metadata holds no chat template", where=str(path))
    tokens = fields.get("tokenizer.ggml.tokens")
    kinds = (
        fields["tokenizer.ggml.token_type"].contents()
        if "tokenizer.ggml.token_type" in fields
        else []
    )

    def token(name: str) -> str:
        found = fields.get(f"tokenizer.ggml.{name}_token_id")
        return (
            str(tokens.contents(int(found.contents())))
            if tokens is not None and found is not None
            else ""
        )

    control = [
        index for index, kind in enumerate(kinds) if kind == 3
    ]  # 3: CONTROL in gguf's TokenType
    special = tuple(str(tokens.contents(index)) for index in control) if tokens is not None else ()
    facts = {
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "added_tokens_decoder": {text: {"content": text, "special": True} for text in special},
    }
    return _jinja(str(template.contents()), str(path), "GGUF metadata", facts)


def _sillytavern(facts: Any, path: Path, context: Path | None) -> Source:
    """A preset is written as SillyTavern's instruct-mode.js writes a chat, without names."""
    if isinstance(facts, dict) and isinstance(
        facts.get("instruct"), dict
    ):  # a master export holds both
        story = facts.get("context") or {}
        facts = facts["instruct"]
    else:
        story = json.loads(_text(context)) if context else {}
    if not isinstance(facts, dict) or "input_sequence" not in facts:
        raise HarnessError(
            "neither a tokenizer_config.json nor a SillyTavern instruct preset",
            where=str(path),
            hint="a preset has an input_sequence",
        )
    lost = [
        f"{key} ({facts[key]!r}) stands only at one place of a chat; every turn is written alike here"
        for key in ("last_input_sequence", "first_output_sequence", "last_output_sequence")
        if facts.get(key) and facts[key] != facts.get(key.partition("_")[2])
    ]
    if facts.get("names_behavior") == "always":
        lost.append("the preset writes speakers' names before the words; without names here")
    stops = tuple(line for line in str(facts.get("stop_sequence") or "").split("\n") if line)
    return Source(
        str(path),
        "SillyTavern preset",
        render=preset_renderer(facts, story),
        stops=stops,
        lost=tuple(lost),
    )
