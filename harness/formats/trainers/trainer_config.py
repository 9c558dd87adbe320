"""Read a configuration of TRL, axolotl or unsloth: the settings that decide what is trained.

Sources: SFTConfig as JSON or YAML (also within other keys), axolotl's YAML, and the calls in a
Python script or notebook (``trainer_script``). Nothing of it is run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from harness.errors import HarnessError
from harness.files import read_text
from harness.formats.trainers.axolotl import AxolotlSettings, axolotl_mask
from harness.formats.trainers.trainer_file import (
    AXOLOTL_TEMPLATES,
    beside,
    read_trainer_file,
)
from harness.formats.trainers.trainer_mask import ChatTemplate, Row, TrainerMask
from harness.formats.trainers.trl import TrlSettings, trl_mask
from harness.formats.trainers.unsloth import UnslothSettings, unsloth_mask

TrainerName = Literal["trl", "axolotl", "unsloth"]
Settings = TrlSettings | AxolotlSettings | UnslothSettings


@dataclass(frozen=True)
class TrainerConfig:
    """The part of a configuration that says what is trained.

    ``template`` is the Jinja source that it names, "" for the tokenizer's own. ``format_id`` is the
    format of ours that equals a template which the trainer ships.
    """

    trainer: TrainerName
    settings: Settings
    model: str = ""
    data: tuple[str, ...] = ()
    template: str = ""
    format_id: str = ""
    eos_token: str = ""
    bos_token: str = ""
    notes: tuple[str, ...] = ()

    def mask(self, template: ChatTemplate, row: Row) -> TrainerMask:
        """What the trainer trains of a row."""
        template = replace(
            template,
            eos_token=self.eos_token or template.eos_token,
            bos_token=self.bos_token or template.bos_token,
        )
        if isinstance(self.settings, TrlSettings):
            return trl_mask(template, row, self.settings)
        if isinstance(self.settings, AxolotlSettings):
            return axolotl_mask(template, row, self.settings)
        return unsloth_mask(template, row, self.settings)


def read_trainer_config(trainer: TrainerName, path: Path) -> TrainerConfig:
    """Read a configuration. Raises HarnessError for a file that is not one of this trainer's."""
    found, unknown = read_trainer_file(path)
    read, kind = {
        "trl": (_trl, TrlSettings),
        "axolotl": (_axolotl, AxolotlSettings),
        "unsloth": (_unsloth, UnslothSettings),
    }[trainer]
    fields = {field.name for field in dataclasses.fields(kind)}
    notes = [
        f"{name} is computed in the script, so its default is taken"
        for name in dict.fromkeys(unknown)
        if name in fields
    ]
    config = read(found, path)
    return replace(config, notes=(*config.notes, *notes))


def _flat(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """All keys with values, nested ones too; an outer key wins."""
    for entry in value.values():
        if isinstance(entry, Mapping):
            yield from _flat(entry)
    yield from value.items()


def _known(kind: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values of a record's fields, tuples for lists. Raises HarnessError for a wrong type."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name not in values or values[field.name] is None:
            continue
        value = values[field.name]
        name = str(field.type)
        if name.startswith("tuple") and isinstance(value, str):
            value = (value,)
        if name.startswith("tuple") and isinstance(value, list):
            value = tuple(map(str, value))
        for word, wanted in (("bool", bool), ("int", int), ("str", str), ("Mapping", Mapping)):
            if name.startswith(word) and not isinstance(value, wanted):
                raise HarnessError(f"{field.name} = {value!r}: expected {word}", where=where)
        found[field.name] = value
    return found


def _lengths(values: dict[str, Any]) -> None:
    for older in ("max_seq_length", "max_seq_len"):
        if older in values and "max_length" not in values:
            values["max_length"] = values[older]


def _trl(found: dict[str, Any], path: Path) -> TrainerConfig:
    values = dict(_flat(found))
    _lengths(values)
    settings = TrlSettings(**_known(TrlSettings, values, str(path)))
    if "max_length" in values:
        settings = replace(settings, max_length=values["max_length"])
    template, notes = "", []
    named = values.get("chat_template_path")
    if named:
        file = beside(path, str(named))
        if file.is_file() and file.suffix in (".jinja", ".j2"):
            template = read_text(file, "chat template")
        else:
            notes.append(f"chat_template_path = {named}: name that model with --model")
    return TrainerConfig(
        "trl",
        settings,
        _first(values, "model_name_or_path", "model_name", "model"),
        _data(values, path),
        template,
        notes=tuple(notes),
    )


def _unsloth(found: dict[str, Any], path: Path) -> TrainerConfig:
    values = dict(_flat(found))
    _lengths(values)
    called = "calls" not in found or "train_on_responses_only" in found["calls"]
    known = {
        "train_on_responses_only": called,
        **{key: value for key, value in values.items() if not isinstance(value, Mapping)},
    }
    settings = UnslothSettings(**_known(UnslothSettings, known, str(path)))
    notes = () if called else ("the script never calls train_on_responses_only",)
    model = _first(values, "model_name", "model_name_or_path", "model")
    return TrainerConfig("unsloth", settings, model, _data(values, path), notes=notes)


def _axolotl(found: dict[str, Any], path: Path) -> TrainerConfig:
    sets = found.get("datasets")
    if not isinstance(sets, list) or not sets:
        raise HarnessError("no list of datasets", where=str(path))
    chats = [
        each for each in sets if isinstance(each, dict) and each.get("type") == "chat_template"
    ]
    if not chats:
        raise HarnessError(
            "no data set of type chat_template: only these are checked", where=str(path)
        )
    chosen = dict(chats[0])
    mapping = dict(chosen.get("message_property_mappings") or {})
    for ours, theirs in (("role", "message_field_role"), ("content", "message_field_content")):
        if chosen.get(theirs):
            mapping.setdefault(ours, chosen[theirs])
    if mapping:
        mapping = {"role": "role", "content": "content", **mapping}
    values = {**found, **chosen, "message_property_mappings": mapping}
    settings = AxolotlSettings(**_known(AxolotlSettings, values, str(path)))
    name = str(chosen.get("chat_template") or found.get("chat_template") or "tokenizer_default")
    source = chosen.get("chat_template_jinja") or found.get("chat_template_jinja") or ""
    notes = []
    if len(sets) > 1:
        notes.append(f"{len(sets)} data sets: the settings of {chosen.get('path')} are shown")
    if not source and name not in ("tokenizer_default", "jinja", *AXOLOTL_TEMPLATES):
        raise HarnessError(
            f"chat_template = {name}: this template of axolotl's is not here",
            where=str(path),
            hint="name the format that equals it: --format",
        )
    if not source and name in AXOLOTL_TEMPLATES:
        notes.append(
            f"axolotl's template {name} is taken to be our format {AXOLOTL_TEMPLATES[name]}"
        )
    special = found.get("special_tokens") or {}
    return TrainerConfig(
        "axolotl",
        settings,
        str(found.get("base_model") or ""),
        (str(beside(path, str(chosen["path"]))),) if chosen.get("path") else (),
        _template_text(str(source), path),
        "" if source else AXOLOTL_TEMPLATES.get(name, ""),
        str(special.get("eos_token") or ""),
        str(special.get("bos_token") or ""),
        tuple(notes),
    )


def _template_text(source: str, path: Path) -> str:
    """The template itself, or the file that is named."""
    file = beside(path, source) if source and "\n" not in source and len(source) < 200 else None
    return read_text(file, "chat template") if file and file.is_file() else source


def _first(values: Mapping[str, Any], *keys: str) -> str:
    return next((str(values[key]) for key in keys if isinstance(values.get(key), str)), "")


def _data(values: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    files = values.get("data_files")
    named = files if isinstance(files, list) else [files or values.get("dataset_name")]
    return tuple(str(beside(path, name)) for name in named if isinstance(name, str))
