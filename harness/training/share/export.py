"""Make an adapter ready to share: plain peft and transformers load it, with its prompt format."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.conversation import Conversation, Message
from harness.errors import HarnessError, nearest
from harness.files import new_folder, read_json_object
from harness.formats import load_formats
from harness.formats.exchange.exporting import export_format
from harness.formats.guard import render_guarded
from harness.formats.render import render
from harness.models import (
    ADAPTER_FILE,
    BASE_FILE,
    PACKAGED,
    ModelSource,
    load_tokenizer,
    locate,
    quiet,
    read_base,
)
from harness.models.added_tokens import with_tokens
from harness.models.source import PROCESSOR_TEMPLATE
from harness.records import Format
from harness.run_file import (
    ADAPTER_CONFIG,
    RunMetadata,
    base_of,
    find_adapter,
    require_run_metadata,
)
from harness.tokens.encode import bos_text, eos_text, special_texts
from harness.training.share.model_card import CardFacts, write_card
from harness.training.share.processor_files import copy_processor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TURNS = (
    Message("system", "Be brief."),
    Message("user", "One?"),
    Message("assistant", "1"),
    Message("user", "Two?"),
    Message("assistant", "2"),
)


@dataclass(frozen=True, slots=True)
class ExportJob:
    """What to export."""

    source: Path
    out: Path
    format: str
    base: str | None = None
    base_id: str | None = None
    """The base's name for those who load the result."""
    formats_dirs: tuple[str, ...] = ()
    report: Path | None = None
    """A report.json with scores for the model card."""
    license: str = "unknown"
    data_license: str = "unknown"


def export(job: ExportJob) -> Path:
    """Write adapter, tokenizer with its chat template, generation settings and model card.

    transformers loads the result again, and its rendering is compared with ours. Raises
    HarnessError for an unknown adapter, base or format, for a format that no chat template can
    express, and when the texts differ.
    """
    adapter, run = find_adapter(job.source)
    metadata = require_run_metadata(run) if run else None
    chat_format = find_format(job.format, job.formats_dirs, metadata)
    base_name = job.base or base_of(adapter, run, "--base MODEL")
    source = locate(base_name)
    base = read_base(adapter)
    if base and base["digest"] != source.digest:
        trained_on = f"{base['name']} ({base['digest']})"
        raise HarnessError(
            f"this adapter was trained on {trained_on}, not on {source.name} ({source.digest})",
            where=str(adapter),
        )
    tokenizer = load_tokenizer(source)
    if base.get("added_tokens"):
        tokenizer = with_tokens(tokenizer, base["added_tokens"])
    base_id = job.base_id or _shared_name(base_name, source)
    with new_folder(job.out) as partial:
        template = write_tokenizer(tokenizer, chat_format, partial)
        _write_adapter(adapter, base_id, partial)
        copy_processor(source, partial, but=(PROCESSOR_TEMPLATE,))  # the template is the format
        stops = write_generation(tokenizer, chat_format, partial)
        facts = CardFacts(
            job.out.name, base_id, base, metadata, chat_format, stops, job.license, job.data_license
        )
        write_card(partial, facts, run, job.report)
        check_rendering(partial, template, chat_format, tokenizer)
    return job.out


def find_format(name: str, folders: Sequence[str], run: RunMetadata | None) -> Format:
    """The format with this id: a shipped one, or one from these folders (default: the run's).

    Raises HarnessError for an unknown id.
    """
    folders = folders or (run.formats_dirs if run else ())
    known = load_formats(*map(Path, folders))
    if name not in known:
        trained = run.trained_formats if run else ()
        raise HarnessError(f"unknown format {name!r}", hint=nearest(name, trained or known))
    return known[name]


def _shared_name(name: str, source: ModelSource) -> str:
    """A name of the base that is valid elsewhere: a path on this machine is not."""
    if packaged := PACKAGED.get(name.lower()) or PACKAGED.get(source.name.lower()):
        return packaged.hub_id
    return name if source.digest.startswith("hub:") else source.name


def chat_template(chat_format: Format, tokenizer: PreTrainedTokenizerBase) -> str:
    """The format as this tokenizer's chat template, without a BOS if the model never sees one."""
    text = export_format(chat_format, "hf").text
    return text if bos_text(tokenizer) else re.sub(r"\bbos_token\b", "''", text)


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, chat_format: Format, folder: Path) -> str:
    """Write a tokenizer whose chat template is this format. Returns the template."""
    template = chat_template(chat_format, tokenizer)
    original = tokenizer.chat_template
    tokenizer.chat_template = template
    with quiet():
        tokenizer.save_pretrained(folder)
    tokenizer.chat_template = original
    return template


def _write_adapter(adapter: Path, base_id: str, folder: Path) -> None:
    settings = read_json_object(adapter / ADAPTER_CONFIG)
    settings["base_model_name_or_path"] = base_id
    (folder / ADAPTER_CONFIG).write_text(
        json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    weights = adapter / ADAPTER_FILE
    if not weights.is_file():
        raise HarnessError(
            f"no {ADAPTER_FILE}",
            where=str(adapter),
            hint="pickled weights are never loaded: convert them to safetensors",
        )
    for file in (weights, adapter / BASE_FILE):  # plain peft ignores BASE_FILE, which is ours
        if file.is_file():
            shutil.copyfile(file, folder / file.name)


def write_generation(
    tokenizer: PreTrainedTokenizerBase, chat_format: Format, folder: Path
) -> tuple[str, ...]:
    """Write generation_config.json with every id that ends an answer.

    Returns the stops that are plain text and need ``stop_strings``.
    """
    from transformers import GenerationConfig

    known = special_texts(tokenizer)
    single = [text for text in (*chat_format.stop_tokens, *chat_format.stops) if text in known]
    ids = list(
        dict.fromkeys([tokenizer.eos_token_id, *map(tokenizer.convert_tokens_to_ids, single)])
    )
    GenerationConfig(
        eos_token_id=ids, pad_token_id=tokenizer.pad_token_id, do_sample=False
    ).save_pretrained(folder)
    return tuple(stop for stop in chat_format.stops if stop not in known)


def check_rendering(
    folder: Path, template: str, chat_format: Format, original: PreTrainedTokenizerBase
) -> None:
    """Load the tokenizer that was written and compare its rendering with ours.

    Raises HarnessError where they differ.
    """
    from transformers import AutoTokenizer

    with quiet():
        again = AutoTokenizer.from_pretrained(folder)
    if again.chat_template != template:
        raise HarnessError(
            "transformers reads back another chat template than was written", where=str(folder)
        )
    if "strftime_now" in template:  # ours writes a fixed date, theirs the present one
        return
    turns = _TURNS if chat_format.system != "unsupported" else _TURNS[1:]
    for count in range(len(turns) - 3, len(turns) + 1):
        prompt = turns[count - 1].role == "user"
        if turns[count - 1].role == "system":
            continue
        rows = [{"role": message.role, "content": message.content} for message in turns[:count]]
        if not chat_format.trusted:  # transformers would run it without limits
            tokens = {name: str(token) for name, token in again.special_tokens_map.items()}
            render_guarded(template, rows, str(folder), add_generation_prompt=prompt, tokens=tokens)
        theirs = again.apply_chat_template(rows, tokenize=False, add_generation_prompt=prompt)
        ours = render(
            Conversation("check", turns[:count]),
            chat_format,
            add_generation_prompt=prompt,
            bos_token=bos_text(original),
            eos_token=eos_text(original),
        ).text
        if theirs != ours:
            raise HarnessError(
                f"transformers renders {chat_format.id} differently: {theirs!r}, not {ours!r}",
                where=str(folder),
            )
