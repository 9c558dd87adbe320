"""Where formats from elsewhere are read: model folders, GGUF files, SillyTavern presets, an example conversation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.formats.foreign import foreign_renderer
from harness.formats.guard import LONGEST_TEMPLATE, refuse_harmful
from harness.formats.turns import BOS, EOS, Renderer, Turns
from harness.records import Message

#: How BOS and EOS are spelt in texts that people paste.
BOS_TEXTS = ("<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>", "<BOS_TOKEN>", "<BOS>")
EOS_TEXTS = ("</s>", "<|endoftext|>", "<eos>", "<|eos|>", "<EOS>")
_PLACES = ("SYS", "U1", "A1", "U2", "A2")


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
            return _jinja(_default_template(facts["chat_template"], str(path)), str(path), "tokenizer_config.json", facts)
        return _sillytavern(facts, path, context)
    return _example(text, path)


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
        return _jinja(_default_template(facts["chat_template"], str(config)), str(config), "model folder", facts)
    ggufs = sorted(folder.glob("*.gguf"))
    if ggufs:
        return _gguf(ggufs[0])
    raise HarnessError("the folder has no chat template", where=str(folder), hint="it needs chat_template.jinja, or a chat_template in tokenizer_config.json")


def _default_template(found: Any, where: str) -> str:
    if isinstance(found, list):
        named = {row.get("name"): row.get("template") for row in found if isinstance(row, dict)}
        found = named.get("default") or next(iter(named.values()), None)
    if not isinstance(found, str):
        raise HarnessError("chat_template is neither text nor a list of named templates", where=where)
    return found


def _jinja(template: str, where: str, kind: str, facts: Mapping[str, Any]) -> Source:
    refuse_harmful({where: template})
    tokens = [_token(row) for row in (facts.get("added_tokens_decoder") or {}).values() if row.get("special")]
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
    try:
        from gguf import GGUFReader
    except ImportError:
        raise HarnessError("reading a GGUF file needs the package gguf", where=str(path), hint='pip install "formatproof[gguf]"') from None
    try:
        fields = GGUFReader(path).fields
    except (OSError, ValueError) as error:
        raise HarnessError(f"not a GGUF file: {error}", where=str(path)) from None
    template = fields.get("tokenizer.chat_template")
    if template is None:
        raise HarnessError("the file's metadata holds no chat template", where=str(path))
    tokens = fields.get("tokenizer.ggml.tokens")
    kinds = fields["tokenizer.ggml.token_type"].contents() if "tokenizer.ggml.token_type" in fields else []

    def token(name: str) -> str:
        found = fields.get(f"tokenizer.ggml.{name}_token_id")
        return str(tokens.contents(int(found.contents()))) if tokens is not None and found is not None else ""

    control = [index for index, kind in enumerate(kinds) if kind == 3]  # 3: CONTROL in gguf's TokenType
    special = tuple(str(tokens.contents(index)) for index in control) if tokens is not None else ()
    facts = {"bos_token": token("bos"), "eos_token": token("eos"), "added_tokens_decoder": {text: {"content": text, "special": True} for text in special}}
    return _jinja(str(template.contents()), str(path), "GGUF metadata", facts)


def _sillytavern(facts: Any, path: Path, context: Path | None) -> Source:
    """A preset is written as SillyTavern's instruct-mode.js writes a chat, without names."""
    if isinstance(facts, dict) and isinstance(facts.get("instruct"), dict):  # a master export holds both
        story = facts.get("context") or {}
        facts = facts["instruct"]
    else:
        story = json.loads(_text(context)) if context else {}
    if not isinstance(facts, dict) or "input_sequence" not in facts:
        raise HarnessError("neither a tokenizer_config.json nor a SillyTavern instruct preset", where=str(path), hint="a preset has an input_sequence")
    lost = [
        f"{key} ({facts[key]!r}) stands only at one place of a chat; every turn is written alike here"
        for key in ("last_input_sequence", "first_output_sequence", "last_output_sequence")
        if facts.get(key) and facts[key] != facts.get(key.partition("_")[2])
    ]
    if facts.get("names_behavior") == "always":
        lost.append("the preset writes speakers' names before the words; without names here")
    stops = tuple(line for line in str(facts.get("stop_sequence") or "").split("\n") if line)
    return Source(str(path), "SillyTavern preset", render=preset_renderer(facts, story), stops=stops, lost=tuple(lost))


def preset_renderer(preset: Mapping[str, Any], story: Mapping[str, Any]) -> Renderer:
    """A preset as a function from messages to text. The system prompt is the story string's, or the preset's own block."""
    separator = "\n" if preset.get("wrap") else ""

    def sequence(name: str) -> str:
        return _unspelt(str(preset.get(name) or ""))

    def turn(role: str, words: str, first: bool = False) -> str:
        opens = (first and sequence(f"first_{role}_sequence")) or sequence(f"{role}_sequence")
        closes = sequence(f"{role}_suffix") or separator
        return (opens + separator if opens else "") + words + closes

    def system(words: str) -> str:
        if story.get("story_string"):
            text = _story(str(story["story_string"]), words)
            opens, closes = sequence("story_string_prefix"), sequence("story_string_suffix")
            return (opens + separator if opens else "") + text + (separator + closes if closes else "")
        for opens, closes in (("story_string_prefix", "story_string_suffix"), ("system_sequence_prefix", "system_sequence_suffix")):
            if sequence(opens) or sequence(closes):
                return sequence(opens) + separator + words + separator + sequence(closes)
        if sequence("system_sequence"):
            return turn("system", words)
        return words + "\n"

    def render(messages: Sequence[Message], add_generation_prompt: bool) -> str | None:
        parts = []
        for index, message in enumerate(messages):
            if message.role == "system":
                if index:
                    return None
                parts.append(system(message.content))
            elif message.role == "user":
                parts.append(turn("input", message.content, first=not any(earlier.role == "user" for earlier in messages[:index])))
            else:
                parts.append(turn("output", message.content))
        opens = sequence("output_sequence")
        return "".join(parts) + (opens + separator if add_generation_prompt and opens else "")

    return render


def _story(story: str, words: str) -> str:
    """SillyTavern's story string with a system prompt alone: conditional parts for what is not there go, {{trim}} eats newlines."""
    story = re.sub(r"\{\{#if system\}\}(.*?)\{\{/if\}\}", lambda found: found[1], story, flags=re.DOTALL)
    story = re.sub(r"\{\{#if [^}]*\}\}.*?\{\{/if\}\}", "", story, flags=re.DOTALL)
    story = re.sub(r"(?:\r?\n)*\{\{trim\}\}(?:\r?\n)*", "", story)
    before, found, after = story.partition("{{system}}")
    return _unspelt(before) + words + _unspelt(re.sub(r"\{\{[^{}]*\}\}", "", after)) if found else words + "\n"


def _unspelt(text: str) -> str:
    """BOS and EOS as the two characters that stand for them."""
    for spelt, mark in (*((text, BOS) for text in BOS_TEXTS), *((text, EOS) for text in EOS_TEXTS)):
        text = text.replace(spelt, mark)
    return text


def _example(text: str, path: Path) -> Source:
    """One exchange and a half with SYS, U1, A1, U2 (and A2) in the places of the words."""
    text = _unspelt(text)
    pieces: dict[str, str] = {}
    rest = text
    for place in _PLACES:
        if place not in rest and place in ("SYS", "A2"):
            continue
        found = re.search(rf"(?<![A-Za-z0-9]){place}(?![A-Za-z0-9])", rest)
        if found is None:
            raise HarnessError(
                f"no {place} in the example, or not in its place", where=str(path), hint="write a conversation with SYS, U1, A1, U2 in the places of the words"
            )
        pieces[place], rest = rest[: found.start()], rest[found.end() :]
    ask, between = pieces["A1"], pieces["U2"]
    opening = BOS if text.startswith(BOS) else ""
    if "SYS" in pieces:
        user_open = _common_end(pieces["U1"], between) or _common_end(pieces["SYS"].removeprefix(opening), between)
        begin = ""
    else:
        begin = pieces["U1"]
        user_open = _common_end(begin.removeprefix(opening), between)
    if user_open == between:  # a system prompt ends as an answer does: the mark is what a question ends with too
        user_open = between[len(_first_mark(between, ask)) :]
    if "SYS" in pieces:
        user_open = user_open.lstrip("\n")  # an empty line between turns ends the one before
        begin = opening + user_open
    end = between[: len(between) - len(user_open)]
    generation = pieces.get("A2", rest)
    if generation.rstrip() != ask.rstrip():
        raise HarnessError(f"what stands behind U2 ({generation!r}) is not what stands between U1 and A1 ({ask!r})", where=str(path))
    opened = ask.rstrip(" ")
    user_close = end if end and opened.startswith(end) else opened[: len(opened) - len(opened.lstrip("\n "))]
    stop = end.rstrip(" \n")
    lost = ["an example shows nothing of what happens to outer white space, to an empty system prompt or to other roles"]
    lost += [] if "SYS" in pieces else ["the example has no SYS: a system prompt is refused"]
    turns = Turns(
        begin,
        user_open,
        user_close,
        opened[len(user_close) :],
        ask[len(opened) :],
        stop,
        end[len(stop) :],
        system_open=pieces.get("SYS"),
        system_close=pieces["U1"] if "SYS" in pieces else None,
    )
    return Source(str(path), "example conversation", turns=turns, lost=tuple(lost))


def _first_mark(one: str, other: str) -> str:
    """The first tag, with the white space behind it, that both begin with."""
    found = re.match(rf"\s*(?:{EOS}|<[^<>]*>|\[[^\[\]]*\])\s*", one[: _same(one, other)])
    return found[0] if found else ""


def _common_end(one: str, other: str) -> str:
    """The longest text that both end with."""
    return one[len(one) - _same(one[::-1], other[::-1]) :]


def _same(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
