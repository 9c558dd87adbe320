"""An adapter made ready to share: plain peft and transformers load it and prompt it in the format it was trained in."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, nearest
from harness.files import fresh_folder
from harness.formats import load_formats
from harness.formats.exchange.exporting import export_format
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
from harness.records import Conversation, Format, Message
from harness.run_file import RUN_FILE
from harness.tokens.encode import bos_text, eos_text, special_texts
from harness.training.share.model_card import CardFacts, write_card

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: The hub's name of the packaged model.
_PACKAGED_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
_TURNS = (
    Message("system", "Be brief."),
    Message("user", "One?"),
    Message("assistant", "1"),
    Message("user", "Two?"),
    Message("assistant", "2"),
)


@dataclass(frozen=True, slots=True)
class ExportJob:
    """What to export. ``base_id`` is the base's name for those who load the result; ``report`` a report.json with scores."""

    source: Path
    out: Path
    format: str
    base: str | None = None
    base_id: str | None = None
    formats_dirs: tuple[str, ...] = ()
    report: Path | None = None
    license: str = "unknown"
    data_license: str = "unknown"


def export(job: ExportJob) -> Path:
    """Write adapter, tokenizer with the format as its chat template, generation settings and model card.

    What was written is loaded again by transformers and compared with our rendering. Raises HarnessError for an
    unknown adapter, base or format, for a format that no chat template can say, and when the texts differ.
    """
    adapter, run = find_adapter(job.source)
    noted = json.loads((run / RUN_FILE).read_text(encoding="utf-8")) if run else {}
    format = _format(job, noted)
    named = job.base or noted.get("config", {}).get("model") or _base_of(adapter)
    source = locate(named)
    made_for = read_base(adapter)
    if made_for and made_for["digest"] != source.digest:
        raise HarnessError(
            f"this adapter was trained on {made_for['name']} ({made_for['digest']}), not on {source.name} ({source.digest})",
            where=str(adapter),
        )
    tokenizer = load_tokenizer(source)
    if made_for.get("added_tokens"):
        tokenizer = with_tokens(tokenizer, made_for["added_tokens"])
    base_id = job.base_id or _shared_name(named, source)
    with fresh_folder(job.out) as partial:
        template = _write_tokenizer(tokenizer, format, partial)
        _write_adapter(adapter, base_id, partial)
        stops = _write_generation(tokenizer, format, partial)
        facts = CardFacts(
            job.out.name, base_id, made_for, noted, format, stops, job.license, job.data_license
        )
        write_card(partial, facts, run, job.report)
        _check(partial, template, format, tokenizer)
    return job.out


def find_adapter(source: Path) -> tuple[Path, Path | None]:
    """The adapter of a run, or an adapter's own folder, and the run it belongs to."""
    adapter = (
        source / "adapter" if (source / "adapter" / "adapter_config.json").is_file() else source
    )
    if not (adapter / "adapter_config.json").is_file():
        raise HarnessError(
            "no adapter here",
            where=str(source),
            hint="give a run's folder or an adapter's, with its adapter_config.json",
        )
    return adapter, next(
        (folder for folder in (adapter.parent, adapter) if (folder / RUN_FILE).is_file()), None
    )


def _format(job: ExportJob, noted: dict[str, Any]) -> Format:
    known = load_formats(
        *map(
            Path,
            job.formats_dirs or noted.get("config", {}).get("formats", {}).get("formats_dir", ()),
        )
    )
    if job.format not in known:
        raise HarnessError(
            f"unknown format {job.format!r}",
            hint=nearest(job.format, noted.get("trained_formats") or list(known)),
        )
    return known[job.format]


def _base_of(adapter: Path) -> str:
    named = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8")).get(
        "base_model_name_or_path"
    )
    if not named:
        raise HarnessError(
            "the adapter does not say what its base is", where=str(adapter), hint="--base MODEL"
        )
    return str(named)


def _shared_name(named: str, source: ModelSource) -> str:
    """A name of the base that means something elsewhere: a path on this machine does not."""
    if named.lower() in PACKAGED or source.name == "SmolLM2-135M-Instruct":
        return _PACKAGED_ID
    return named if source.digest.startswith("hub:") else source.name


def chat_template(format: Format, tokenizer: PreTrainedTokenizerBase) -> str:
    """The format as this tokenizer's chat template. A BOS that the model was never given is left out of it."""
    text = export_format(format, "hf").text
    return text if bos_text(tokenizer) else re.sub(r"\bbos_token\b", "''", text)


def _write_tokenizer(tokenizer: PreTrainedTokenizerBase, format: Format, folder: Path) -> str:
    template = chat_template(format, tokenizer)
    original = tokenizer.chat_template
    tokenizer.chat_template = template
    with quiet():
        tokenizer.save_pretrained(folder)
    tokenizer.chat_template = original
    return template


def _write_adapter(adapter: Path, base_id: str, folder: Path) -> None:
    settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = base_id
    (folder / "adapter_config.json").write_text(
        json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    weights = adapter / ADAPTER_FILE
    if not weights.is_file():
        raise HarnessError(
            f"no {ADAPTER_FILE}",
            where=str(adapter),
            hint="pickled weights are never loaded: convert them to safetensors",
        )
    for file in (
        weights,
        adapter / BASE_FILE,
    ):  # the note of the base is ours: plain peft does not look at it
        if file.is_file():
            shutil.copyfile(file, folder / file.name)


def _write_generation(
    tokenizer: PreTrainedTokenizerBase, format: Format, folder: Path
) -> tuple[str, ...]:
    """generation_config.json with every id that ends an answer. Returns the stops that are text and need ``stop_strings``."""
    from transformers import GenerationConfig

    known = special_texts(tokenizer)
    single = [text for text in (*format.stop_tokens, *format.stops) if text in known]
    ids = list(
        dict.fromkeys([tokenizer.eos_token_id, *map(tokenizer.convert_tokens_to_ids, single)])
    )
    GenerationConfig(
        eos_token_id=ids, pad_token_id=tokenizer.pad_token_id, do_sample=False
    ).save_pretrained(folder)
    return tuple(stop for stop in format.stops if stop not in known)


def _check(folder: Path, template: str, format: Format, original: PreTrainedTokenizerBase) -> None:
    """Load what was written and hold its rendering against ours."""
    from transformers import AutoTokenizer

    with quiet():
        again = AutoTokenizer.from_pretrained(folder)
    if again.chat_template != template:
        raise HarnessError(
            "transformers reads back another chat template than was written", where=str(folder)
        )
    if "strftime_now" in template:  # ours is frozen, theirs is today
        return
    turns = _TURNS if format.system != "unsupported" else _TURNS[1:]
    for count in range(len(turns) - 3, len(turns) + 1):
        prompt = turns[count - 1].role == "user"
        if turns[count - 1].role == "system":
            continue
        rows = [{"role": message.role, "content": message.content} for message in turns[:count]]
        theirs = again.apply_chat_template(rows, tokenize=False, add_generation_prompt=prompt)
        ours = render(
            Conversation("check", turns[:count]),
            format,
            add_generation_prompt=prompt,
            bos_token=bos_text(original),
            eos_token=eos_text(original),
        ).text
        if theirs != ours:
            raise HarnessError(
                f"transformers renders {format.id} otherwise than we do: {theirs!r} for {ours!r}",
                where=str(folder),
            )
