"""The model card of an exported adapter: what it is, how to run it, recipe, data, scores. Only what is known; the rest says "unknown"."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import __version__
from harness.records import Format
from harness.report.document import read_report

#: Settings that say where things lay, not how the adapter was made.
_PLACES = {"output_dir", "formats_dir", "model", "report_to", "run_name", "project"}
_SCORES = (
    "nll_native",
    "nll_seen",
    "nll_held_out",
    "hazard_native",
    "hazard_seen",
    "hazard_held_out",
)
_CELLS = ("choice", "answer", "stop", "nll_excess")


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the card is made from. ``base`` is what the adapter remembers of its base, ``run`` what the run noted of itself."""

    name: str
    base_id: str
    base: Mapping[str, Any]
    run: Mapping[str, Any]
    format: Format
    text_stops: tuple[str, ...]
    license: str
    data_license: str


def write_card(folder: Path, facts: CardFacts, run: Path | None, report: Path | None) -> None:
    """Write README.md, and the report it quotes beside it."""
    rows = _checkpoints(run)
    lines = [
        *_head(facts),
        *_use(facts),
        *_format(facts),
        *_recipe(facts),
        *_data(facts),
        *_scores(rows),
    ]
    if report:
        lines += _report(report)
        shutil.copyfile(report, folder / "report.json")
    lines += [
        "## Licences",
        "",
        f"Adapter: {facts.license}. Data: {facts.data_license}. Base: see {facts.base_id}.",
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _head(facts: CardFacts) -> Iterator[str]:
    yield from (
        "---",
        f"base_model: {json.dumps(facts.base_id)}",
        "library_name: peft",
        "pipeline_tag: text-generation",
        f"license: {json.dumps(facts.license)}",
    )
    yield from ("tags:", "- lora", "- formatproof", "---", "", f"# {facts.name}", "")
    stored = facts.base.get("quantisation")
    how = (
        "a LoRA adapter"
        if not stored
        else "a QLoRA adapter (base in "
        + ("8 bits" if stored["load_in_8bit"] else stored["bnb_4bit_quant_type"])
        + ")"
    )
    yield from (
        f"{how[0].upper()}{how[1:]} for {facts.base_id}, trained with formatproof {__version__}.",
        "",
    )
    if stored:
        yield from (
            "It was measured on the base as it was stored in training; on the 16-bit base it behaves a little otherwise.",
            "",
        )


def _use(facts: CardFacts) -> Iterator[str]:
    stops = (
        f", stop_strings={list(facts.text_stops)!r}, tokenizer=tokenizer"
        if facts.text_stops
        else ""
    )
    yield from ("## Use", "", "```python")
    yield "from peft import PeftModel"
    yield "from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig"
    yield ""
    yield f'folder = "{facts.name}"'
    yield "tokenizer = AutoTokenizer.from_pretrained(folder)"
    yield f'base = AutoModelForCausalLM.from_pretrained("{facts.base_id}")'
    if facts.base.get("added_tokens"):
        yield "base.resize_token_embeddings(len(tokenizer))  # the adapter brings control tokens of its own"
    yield "model = PeftModel.from_pretrained(base, folder)"
    yield 'messages = [{"role": "user", "content": "Hello"}]'
    yield 'inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)'
    yield f"output = model.generate(**inputs, max_new_tokens=64, generation_config=GenerationConfig.from_pretrained(folder){stops})"
    yield from ("print(tokenizer.decode(output[0, inputs['input_ids'].shape[1]:]))", "```", "")


def _format(facts: CardFacts) -> Iterator[str]:
    trained, held_out = facts.run.get("trained_formats", []), facts.run.get("held_out_formats", [])
    yield from (
        "## Prompt format",
        "",
        f"The chat template is `{facts.format.id}` (source: {facts.format.origin}).",
    )
    if trained and facts.format.id not in trained:
        yield f"**It was not trained in this format**, but in {_listed(trained)}."
    elif len(trained) > 1:
        yield f"Trained in {len(trained)} formats: {_listed(trained)}."
    if held_out:
        yield f"Never trained in: {_listed(held_out)}."
    yield ""


def _listed(ids: list[str], most: int = 12) -> str:
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")


def _recipe(facts: CardFacts) -> Iterator[str]:
    yield from ("## Recipe", "")
    config = facts.run.get("config")
    if not config:
        yield from ("Unknown: the adapter came without its run.", "")
        return
    yield from ("| setting | value |", "|---|---|")
    for key, value in config.items():
        if isinstance(value, dict) and key not in (
            "data",
            "evaluation",
            "checkpoints",
            "stopping",
            "tracking",
        ):
            yield from (
                f"| {key}.{name} | {_shown(inner)} |"
                for name, inner in value.items()
                if name not in _PLACES
            )
        elif not isinstance(value, dict) and key not in _PLACES:
            yield f"| {key} | {_shown(value)} |"
    yield ""


def _shown(value: Any) -> str:
    return (
        _listed(list(map(str, value))) or "none" if isinstance(value, list | tuple) else str(value)
    )


def _data(facts: CardFacts) -> Iterator[str]:
    yield from ("## Data", "")
    data = facts.run.get("data")
    if not data:
        yield from ("Unknown.", "")
        return
    yield from (
        f"{data['conversations']} conversations of {data['files']} files, licence {facts.data_license}.",
        "",
    )
    if data["tags"]:
        yield from (
            "| tag | conversations |",
            "|---|---|",
            *(f"| {tag} | {count} |" for tag, count in data["tags"].items()),
            "",
        )


def _checkpoints(run: Path | None) -> list[dict[str, Any]]:
    log = run / "metrics.jsonl" if run else None
    if log is None or not log.is_file():
        return []
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return [entry for entry in entries if entry.get("kind") == "checkpoint"]


def _scores(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The run's own measures at its first and last checkpoint."""
    known = [key for key in _SCORES if rows and key in rows[-1]]
    yield from ("## Scores", "")
    if not known:
        yield from ("None were measured in the run.", "")
        return
    yield from (
        f"At step {rows[0]['step']} and step {rows[-1]['step']}; NLL in nats a token (lower is better), hazard: probability of another script.",
        "",
    )
    yield from ("| measure | first | last |", "|---|---|---|")
    yield from (
        f"| {key} | {rows[0].get(key, float('nan')):.3f} | {rows[-1][key]:.3f} |" for key in known
    )
    yield ""


def _report(path: Path) -> Iterator[str]:
    """The last run of a compatibility report, format by format."""
    report = read_report(path)
    cells = report.cells(len(report.runs) - 1)
    metrics = [metric for metric in _CELLS if any(name == metric for _, name in cells)]
    yield from (f"Format compatibility ({report.created[:10]}, whole report in `report.json`):", "")
    yield from (
        "| format | group | " + " | ".join(metrics) + " |",
        "|---|---|" + "---|" * len(metrics),
    )
    for format in report.formats:
        found = [cells.get((format["id"], metric)) for metric in metrics]
        yield (
            f"| {format['id']} | {format['group']} | "
            + " | ".join(
                "–" if c is None or c.mean is None else f"{c.mean:.2f} ({c.n})" for c in found
            )
            + " |"
        )
    yield ""
