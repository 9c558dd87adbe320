"""The model card of an exported adapter: what it is, how to run it, recipe, data and scores.

It says only what is known; the rest is "unknown".
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.metrics.registry import headline
from harness.records import Aggregate, Format
from harness.report.document import read_report
from harness.run_file import RunMetadata, measured_checkpoints
from harness.version import __version__

#: Settings that say where files are, not how the adapter was made.
_PLACES = {"output_dir", "formats_dir", "model", "report_to", "run_name", "project"}
#: Sections that do not change the adapter.
_NOT_RECIPE = {"data", "evaluation", "checkpoints", "stopping", "tracking"}
_SCORES = (
    "nll_native",
    "nll_seen",
    "nll_held_out",
    "hazard_native",
    "hazard_seen",
    "hazard_held_out",
)
_USE = """\
## Use

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

folder = "{name}"
tokenizer = AutoTokenizer.from_pretrained(folder)
base = AutoModelForCausalLM.from_pretrained("{base}")
{resize}model = PeftModel.from_pretrained(base, folder)
messages = [{{"role": "user", "content": "Hello"}}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
settings = GenerationConfig.from_pretrained(folder)
output = model.generate(**inputs, max_new_tokens=64, generation_config=settings{stops})
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:]))
```
"""
_RESIZE = (
    "base.resize_token_embeddings(len(tokenizer))  # the adapter has control tokens of its own\n"
)


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the card is made from.

    ``base`` is what the adapter's folder says of its base. ``run`` is None for an adapter that came
    without its run.
    """

    name: str
    base_id: str
    base: Mapping[str, Any]
    run: RunMetadata | None
    chat_format: Format
    text_stops: tuple[str, ...]
    license: str
    data_license: str


def write_card(folder: Path, facts: CardFacts, run: Path | None, report: Path | None) -> None:
    """Write README.md, and copy the report that it quotes beside it."""
    lines = [
        *_head(facts),
        *_use(facts),
        *_prompt_format(facts),
        *_recipe(facts),
        *_data(facts),
        *_scores(measured_checkpoints(run) if run else []),
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
        *("tags:", "- lora", "- formatproof", "---", "", f"# {facts.name}", ""),
    )
    kind, stored = "A LoRA adapter", facts.base.get("quantisation")
    if stored:
        code = "8 bits" if stored["load_in_8bit"] else stored["bnb_4bit_quant_type"]
        kind = f"A QLoRA adapter (base in {code})"
    yield from (f"{kind} for {facts.base_id}, trained with formatproof {__version__}.", "")
    if stored:
        yield "It was measured on the base as it was stored in training. On the 16-bit base it"
        yield from ("behaves slightly differently.", "")


def _use(facts: CardFacts) -> Iterator[str]:
    stops = f", stop_strings={list(facts.text_stops)!r}, tokenizer=tokenizer"
    yield _USE.format(
        name=facts.name,
        base=facts.base_id,
        resize=_RESIZE if facts.base.get("added_tokens") else "",
        stops=stops if facts.text_stops else "",
    )


def _prompt_format(facts: CardFacts) -> Iterator[str]:
    used = facts.chat_format
    yield from (
        "## Prompt format",
        "",
        f"The chat template is `{used.id}` (source: {used.origin}).",
    )
    if facts.run:
        trained = facts.run.trained_formats
        if trained and used.id not in trained:
            yield f"**It was not trained in this format**, but in {_listed(trained)}."
        elif len(trained) > 1:
            yield f"Trained in {len(trained)} formats: {_listed(trained)}."
        if facts.run.held_out_formats:
            yield f"Never trained in: {_listed(facts.run.held_out_formats)}."
    yield ""


def _listed(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _recipe(facts: CardFacts) -> Iterator[str]:
    yield from ("## Recipe", "")
    if not facts.run:
        yield from ("Unknown: the adapter came without its run.", "")
        return
    yield from ("| setting | value |", "|---|---|")
    for key, value in facts.run.config.items():
        settings = value if isinstance(value, dict) else {"": value}
        if key not in _NOT_RECIPE | _PLACES:
            for name, setting in settings.items():
                if name not in _PLACES:
                    yield f"| {key}{'.' if name else ''}{name} | {_shown(setting)} |"
    yield ""


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return _listed(list(map(str, value))) or "none"
    return str(value)


def _data(facts: CardFacts) -> Iterator[str]:
    yield from ("## Data", "")
    data = facts.run.data if facts.run else {}
    if not data:
        yield from ("Unknown.", "")
        return
    counts = f"{data['conversations']} conversations of {data['files']} files"
    counts = "; ".join((counts, *data.get("thoughts_and_calls", ())))
    yield from (f"{counts}, licence {facts.data_license}.", "")
    if data["tags"]:
        yield from ("| tag | conversations |", "|---|---|")
        yield from (f"| {tag} | {count} |" for tag, count in data["tags"].items())
        yield ""


def _scores(checkpoints: list[dict[str, Any]]) -> Iterator[str]:
    """The run's own metrics at its first and last checkpoint."""
    yield from ("## Scores", "")
    known = [key for key in _SCORES if checkpoints and key in checkpoints[-1]]
    if not known:
        yield from ("None were measured in the run.", "")
        return
    first, last = checkpoints[0], checkpoints[-1]
    yield f"At step {first['step']} and step {last['step']}. NLL is in nats a token (lower is"
    yield from ("better), hazard is the probability of another script.", "")
    yield from ("| metric | first | last |", "|---|---|---|")
    for key in known:
        yield f"| {key} | {first.get(key, float('nan')):.3f} | {last[key]:.3f} |"
    yield ""


def _report(path: Path) -> Iterator[str]:
    """The headline metrics of a report's last run, format by format."""
    report = read_report(path)
    cells = report.cells(len(report.runs) - 1)
    present = {metric for (_, metric), cell in cells.items() if cell.n}
    metrics = [metric for metric in headline() if metric in present]
    yield f"Format compatibility ({report.created[:10]}, whole report in `report.json`):"
    words = {found.format: found.word for found in report.runs[-1].verdicts}
    yield from ("", "| format | group | verdict | " + " | ".join(metrics) + " |")
    yield "|---|---|---|" + "---|" * len(metrics)
    for facts in report.formats:
        scores = " | ".join(_cell(cells.get((facts.id, metric))) for metric in metrics)
        yield f"| {facts.id} | {facts.group} | {words.get(facts.id, '–')} | {scores} |"
    yield ""


def _cell(score: Aggregate | None) -> str:
    return "–" if score is None or score.mean is None else f"{score.mean:.2f} ({score.n})"
