"""What came of each step of each model, as record.json keeps it and docs/models.md shows it."""

from __future__ import annotations

import json
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
RIGHT, REFUSED, WRONG, LEFT_OUT = "right", "refused", "wrong", "–"


@dataclass
class Outcome:
    """One model: the engine that ran it, and what each step ended as.

    ``steps`` holds "right", "–", or "refused: …" and "wrong: …" with the line that says why.
    """

    engine: str = ""
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
    rows = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(asdict(known[name]), ensure_ascii=False)}"
        for name in sorted(known)
    )
    text = f'{{"versions": {json.dumps(versions())},\n"models": {{\n{rows}\n}}}}\n'
    write_text(RECORD, text)


def models_page() -> str:
    """docs/models.md."""
    made_with, outcomes = read_record()
    counts = dict.fromkeys((RIGHT, REFUSED, WRONG), 0)
    for outcome in outcomes.values():
        for ended in outcome.steps.values():
            kind = ended.partition(":")[0]
            counts[kind] = counts.get(kind, 0) + 1
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
        f"**{len(outcomes)} models: {counts[RIGHT]} steps are right, {counts[REFUSED]} are refused "
        f"in one line, {counts[WRONG]} are wrong.** A step that needs a trained adapter is left out "
        "(–) where training is refused. What the record does not hold yet is not in the table.",
        "",
        "Log-probabilities differ by less than 1e-4 nats and greedy answers are the same; a batch's "
        "gradient is that of its rows alone; a resumed run ends in the same bytes; a merged folder "
        "and an exported adapter compute in plain transformers and peft what the adapter computes "
        "here; the dry run counts the weights that training makes.",
        "",
        "The engine: *own passes* are written by hand for Llama-like models, *packs* lay rows of a "
        "batch into prefix trees, *padded rows* are run together, *single rows* one at a time.",
        "",
        f"| architecture | engine | {head} |",
        "|---|---|" + "---|" * len(STEPS),
    ]
    lines += [
        f"| {name} | {outcome.engine or '–'} | "
        + " | ".join(_cell(outcome.steps.get(step, LEFT_OUT)) for step in STEPS)
        + " |"
        for name, outcome in sorted(outcomes.items())
    ]
    for kind, title in ((WRONG, "What is wrong"), (REFUSED, "What is refused, and how it is said")):
        lines += ["", f"## {title}", "", *(_reasons(outcomes, kind) or ["Nothing."])]
    return "\n".join(lines) + "\n"


def _cell(ended: str) -> str:
    kind = ended.partition(":")[0]
    return {RIGHT: "✓", WRONG: "**wrong**"}.get(kind, kind)


def _reasons(outcomes: dict[str, Outcome], kind: str) -> list[str]:
    """Each message once, with the models and steps that it was said of."""
    said: dict[str, dict[str, list[str]]] = {}
    for name, outcome in sorted(outcomes.items()):
        for step, ended in outcome.steps.items():
            found, _, why = ended.partition(": ")
            if found == kind:
                said.setdefault(why, {}).setdefault(name, []).append(STEPS[step])
    return [
        f"- `{why.replace('`', '')}`: "
        + "; ".join(f"{name} ({', '.join(steps)})" for name, steps in models.items())
        for why, models in said.items()
    ]
