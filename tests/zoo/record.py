"""What came of each step of each model, as record.json keeps it and docs/models.md shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from harness.files import write_text

RECORD = Path(__file__).with_name("record.json")
STEPS = {
    "evaluate": "evaluate",
    "rows_that_stop_apart": "rows stop apart",
    "equals_plain": "equals plain",
    "two_steps": "train",
    "resume": "resume",
    "merge": "merge",
    "export": "export",
    "dry_run": "dry run",
}
"""Each step's test, and its name for people."""
_ROWS = {"bounds": "end to end", "padding": "padded"}
RIGHT, REFUSED, WRONG, LEFT_OUT = "right", "refused", "wrong", "–"


@dataclass
class Outcome:
    """One model: the engine that ran it, how rows share a training pass, and each step.

    ``steps`` holds "right", "–", or "refused: …" and "wrong: …" with the line that says why.
    """

    engine: str = ""
    rows: str = ""
    steps: dict[str, str] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """The libraries that the outcomes depend on."""
    return {name: version(name) for name in ("transformers", "peft", "torch")}


def read_record() -> tuple[dict[str, str], dict[str, Outcome]]:
    """The versions that the record was made with, and the outcome of each model."""
    if not RECORD.is_file():
        return {}, {}
    stored = json.loads(RECORD.read_text(encoding="utf-8"))
    return stored["versions"], {name: Outcome(**row) for name, row in stored["models"].items()}


def write_record(outcomes: dict[str, Outcome]) -> None:
    """Replace the outcomes of these models, one model a line, sorted by name."""
    known = read_record()[1] | outcomes
    for one in known.values():
        one.steps = {step: one.steps[step] for step in STEPS if step in one.steps}
    rows = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(asdict(known[name]), ensure_ascii=False)}"
        for name in sorted(known)
    )
    text = f'{{"versions": {json.dumps(versions())},\n"models": {{\n{rows}\n}}}}\n'
    write_text(RECORD, text)


def models_page() -> str:
    """docs/models.md."""
    made_with, outcomes = read_record()
    ended = {name: set(map(_kind, one.steps.values())) for name, one in outcomes.items()}
    whole = {name for name, kinds in ended.items() if kinds <= {REFUSED, LEFT_OUT}}
    counts = {
        "work in every step": sum(kinds == {RIGHT} for kinds in ended.values()),
        "are refused as a whole": len(whole),
        "are refused in some steps": sum(
            REFUSED in kinds and name not in whole for name, kinds in ended.items()
        ),
        "are wrong in a step": sum(WRONG in kinds for kinds in ended.values()),
    }
    libraries = ", ".join(f"{name} {number}" for name, number in made_with.items())
    head = " | ".join(STEPS.values())
    lines = [
        "# Which models work",
        "",
        "Written by `python docs/generate.py` from the record of `tox -e zoo`: a tiny random model of "
        "each architecture that transformers knows as a causal language model goes through every "
        "step, and each step is compared with plain transformers and peft, one row at a time, in "
        f"float32 ({libraries}).",
        "",
        f"**Of {len(outcomes)} models "
        + ", ".join(f"{count} {how}" for how, count in counts.items())
        + ".** A refusal is one line that says why, before anything is measured or trained.",
        "",
        "Log-probabilities differ by less than 1e-4 nats and greedy answers are the same; a batch's "
        "gradient is that of its rows alone; a resumed run ends in the same bytes; a merged folder "
        "and an exported adapter compute in plain transformers and peft what the adapter computes "
        "here; the dry run counts the weights that training makes.",
        "",
        "The engine: *own passes* are written by hand for Llama-like models, *packs* lay rows of a "
        "batch into prefix trees, *padded rows* are run together, *single rows* one at a time. In "
        "training, rows of a step lie *end to end* in one pass, or are *padded* to the longest.",
        "",
        f"| architecture | engine | rows of a step | {head} |",
        "|---|---|---|" + "---|" * len(STEPS),
    ]
    lines += [
        f"| {name} | {outcome.engine or '–'} | {_ROWS.get(outcome.rows, '–')} | "
        + " | ".join(_cell(outcome.steps.get(step, LEFT_OUT)) for step in STEPS)
        + " |"
        for name, outcome in sorted(outcomes.items())
        if name not in whole
    ]
    lines += ["", "## What is refused as a whole", ""]
    lines += _reasons(outcomes, REFUSED, whole, with_steps=False)
    for kind, title in ((REFUSED, "What is refused in a step"), (WRONG, "What is wrong")):
        found = _reasons(outcomes, kind, outcomes.keys() - whole, with_steps=True)
        lines += ["", f"## {title}", "", *(found or ["Nothing."])]
    return "\n".join(lines) + "\n"


def _kind(ended: str) -> str:
    return ended.partition(":")[0]


def _cell(ended: str) -> str:
    kind = _kind(ended)
    return {RIGHT: "✓", WRONG: "**wrong**"}.get(kind, kind)


def _reasons(
    outcomes: dict[str, Outcome], kind: str, names: Collection[str], *, with_steps: bool
) -> list[str]:
    """Each message once, without the class that it names, and the models that it was said of."""
    said: dict[str, dict[str, list[str]]] = {}
    for name in sorted(names):
        for step, title in STEPS.items():
            found, _, why = outcomes[name].steps.get(step, "").partition(": ")
            if found == kind:
                why = re.sub(r" \([A-Za-z0-9]+\)(?=,)", "", why).replace("`", "")
                said.setdefault(why, {}).setdefault(name, []).append(title)
    return [
        f"- `{why}`: "
        + ", ".join(
            f"{name} ({', '.join(steps)})" if with_steps else name for name, steps in models.items()
        )
        for why, models in said.items()
    ]
