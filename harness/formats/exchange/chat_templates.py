"""Find the chat templates of a model: in its folder, its processor's files or its GGUF file.

A model may have several named ones. ``default`` is used unless another is requested, and the others
are listed, so that none is ignored silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.files import read_json_object, read_text
from harness.formats.exchange.gguf_opening import (
    adds_bos,
    control_tokens,
    gguf_fields,
    gguf_tokens,
    vocabulary,
)
from harness.formats.guard import LONGEST_TEMPLATE

_KEY = "tokenizer.chat_template"


@dataclass(frozen=True)
class FoundTemplate:
    """One template and the facts of its tokenizer."""

    text: str
    where: str
    kind: str
    tokens: Mapping[str, str] = field(default_factory=dict)
    """Special tokens by name: bos_token, eos_token, pad_token, …"""
    special: tuple[str, ...] = ()
    """The texts of all special tokens."""
    others: tuple[str, ...] = ()
    """Names of the model's other templates."""
    vocabulary: frozenset[str] = frozenset()
    """For a GGUF file: all tokens."""
    adds_bos: bool | None = None
    """For a GGUF file: whether the tokenizer adds BOS."""


def template_of_folder(folder: Path, name: str | None) -> FoundTemplate:
    """The template of a model's folder.

    The first of chat_template.jinja, tokenizer_config.json, chat_template.json and
    processor_config.json that has one; named ones are also in additional_chat_templates. Raises
    HarnessError where there is none, or none of this name.
    """
    if not folder.exists():
        raise HarnessError(
            "no such file or folder",
            where=str(folder),
            hint="give a template, a model folder, a .gguf file, a preset or ollama/NAME",
        )
    facts = tokenizer_facts(folder)
    for file, found in _candidates(folder, facts):
        templates = {**_by_name(found, str(file)), **_additional(folder)}
        return chosen(templates, str(file), "model folder", facts, name)
    if ggufs := sorted(folder.glob("*.gguf")):
        return template_of_gguf(ggufs[0], name)
    raise HarnessError(
        "the folder has no chat template",
        where=str(folder),
        hint="it needs chat_template.jinja, or a chat_template in tokenizer_config.json",
    )


def _candidates(folder: Path, facts: Mapping[str, Any]) -> list[tuple[Path, Any]]:
    found: list[tuple[Path, Any]] = []
    file = folder / "chat_template.jinja"
    if file.is_file():
        found.append((file, template_text(file)))
    if facts.get("chat_template"):
        found.append((folder / "tokenizer_config.json", facts["chat_template"]))
    for processor in ("chat_template.json", "processor_config.json"):
        path = folder / processor
        template = read_json_object(path).get("chat_template") if path.is_file() else None
        if template:
            found.append((path, template))
    return found


def _additional(folder: Path) -> dict[str, str]:
    files = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    return {file.stem: template_text(file) for file in files}


def template_text(path: Path) -> str:
    """A file's text. Raises HarnessError if it is far too long."""
    text = read_text(path).removeprefix("\ufeff")
    if len(text) > 20 * LONGEST_TEMPLATE:
        raise HarnessError(f"too long for a format: {len(text)} characters", where=str(path))
    return text


def tokenizer_facts(folder: Path) -> dict[str, Any]:
    """The folder's tokenizer_config.json; empty without one."""
    path = folder / "tokenizer_config.json"
    return read_json_object(path) if path.is_file() else {}


def chosen(
    template: Any, where: str, kind: str, facts: Mapping[str, Any], name: str | None
) -> FoundTemplate:
    """The template of this name, or the default one, with the tokens of a tokenizer_config.json.

    ``template`` is a text, an object of named texts or a list of {"name", "template"}.
    """
    templates = _by_name(template, where)
    picked = name or ("default" if "default" in templates else next(iter(templates)))
    if picked not in templates:
        raise HarnessError(
            f"no chat template is named {picked!r}",
            where=where,
            hint=f"known: {', '.join(templates)}",
        )
    added = facts.get("added_tokens_decoder")
    rows = added.values() if isinstance(added, dict) else ()
    special = [_token(row) for row in rows if isinstance(row, dict) and row.get("special")]
    tokens = {key: _token(value) for key, value in facts.items() if key.endswith("_token")}
    return FoundTemplate(
        templates[picked].removeprefix("\ufeff"),
        where,
        kind,
        {key: text for key, text in tokens.items() if text},
        tuple(filter(None, special)),
        tuple(other for other in templates if other != picked),
    )


def _by_name(template: Any, where: str) -> dict[str, str]:
    if isinstance(template, str):
        return {"default": template}
    if isinstance(template, list):
        rows = [row for row in template if isinstance(row, dict)]
        template = {row.get("name"): row.get("template") for row in rows}
    named = (
        {str(key): text for key, text in template.items() if isinstance(text, str)}
        if isinstance(template, dict)
        else {}
    )
    if not named:
        raise HarnessError("chat_template is neither text nor named templates", where=where)
    return named


def _token(entry: Any) -> str:
    if isinstance(entry, dict):
        entry = entry.get("content")
    return entry if isinstance(entry, str) else ""


def template_of_gguf(path: Path, name: str | None) -> FoundTemplate:
    """The template in a GGUF file's metadata, with the tokens that it knows."""
    fields = gguf_fields(path)
    templates = {
        key.removeprefix(_KEY).removeprefix(".") or "default": str(value)
        for key, value in fields.items()
        if key == _KEY or key.startswith(f"{_KEY}.")
    }
    if not templates:
        raise HarnessError("the file's metadata holds no chat template", where=str(path))
    return replace(
        chosen(templates, str(path), "GGUF metadata", {}, name),
        tokens=gguf_tokens(fields),
        special=control_tokens(fields),
        vocabulary=frozenset(vocabulary(fields)),
        adds_bos=adds_bos(fields),
    )


def gguf_findings(found: FoundTemplate, stops: tuple[str, ...], *, writes_bos: bool) -> list[str]:
    """Metadata of a GGUF file that breaks serving, one sentence each.

    ``stops`` end an answer in its template; ``writes_bos`` says whether the template writes BOS.
    """
    findings = []
    marks = [stop for stop in stops if stop in found.vocabulary]
    eos, bos = found.tokens.get("eos_token", ""), found.tokens.get("bos_token", "")
    if marks and eos and eos not in marks:
        findings.append(
            f"EOS {eos} is not the mark {marks[0]} that ends turns: a program that stops only at "
            "EOS does not stop there."
        )
    if found.adds_bos and writes_bos:
        findings.append(
            f"add_bos_token is set and the template writes {bos} too: a text may begin with two "
            "BOS tokens."
        )
    findings += [
        f"{mark} is not a control token in this file (its type is not CONTROL): it may be "
        "tokenised as plain text, and a user can forge it."
        for mark in marks
        if mark not in found.special
    ]
    return findings
