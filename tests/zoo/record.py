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


#: Who wrote the page.
_WRITTEN = ("", "`python docs/generate.py` wrote this page from the record of `tox -e zoo`.")


def models_page() -> str:
    """docs/models.md."""
    made_with, outcomes = read_record()
    ended = {name: set(map(_kind, one.steps.values())) for name, one in outcomes.items()}
    whole = {name for name, kinds in ended.items() if kinds <= {REFUSED, LEFT_OUT}}
    counts = {
        "work in every step": sum(kinds == {RIGHT} for kinds in ended.values()),
        "are refused": len(whole),
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
        "For people who want to know whether their model works. Look up the `model_type` of its "
        "config.json in the table. If it is missing, run `harness eval MODEL`: the model is checked "
        "against plain transformers when it is loaded, and a model that cannot be measured is refused "
        "with one line that says why. [Base models](base-models.md) have a page of their own.",
        "",
        f"**Of {len(outcomes)} architectures "
        + ", ".join(f"{count} {how}" for how, count in counts.items())
        + ".**",
        "",
        "These are all causal language models of transformers, each as a tiny model with random "
        "weights. Every step is compared with plain transformers and peft, one row at a time, in "
        f"float32 ({libraries}). ✓ means:",
        "",
        "- evaluate: log-probabilities differ by less than 1e-4 nats, and greedy answers are equal;",
        "- train: the gradient of a batch is that of its rows alone;",
        "- resume: a resumed run ends with the same bytes as an uninterrupted one;",
        "- merge, export: in plain transformers and peft, the result computes what the adapter "
        "computes here;",
        "- dry run: it counts the weights that training creates.",
        "",
        "*Engine* says how rows are computed when a model is measured: by *own passes*, written by "
        "hand for Llama-like models; in *packs*, prefix trees of several rows; as *padded rows*; or "
        "as *single rows*. *Rows of a step* says how they are computed in training: *end to end* in "
        "one pass, or *padded* to the longest. All engines give the same results; the first are "
        "faster.",
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
    lines += ["", "## Refused in every step", ""]
    lines += _reasons(outcomes, REFUSED, whole, with_steps=False)
    for kind, title in ((REFUSED, "Refused in some steps"), (WRONG, "Wrong")):
        found = _reasons(outcomes, kind, outcomes.keys() - whole, with_steps=True)
        lines += ["", f"## {title}", "", *(found or ["Nothing."])]
    return "\n".join([*lines, *_WRITTEN]) + "\n"


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
