"""Keep a foreign template unchanged: probe its front matter and verify its loss mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.conversation import NO_MARKS
from harness.errors import HarnessError
from harness.formats.frontmatter import parse_format, write_front_matter
from harness.formats.guard import check_template
from harness.formats.kept.kept_facts import Facts, find_facts
from harness.formats.kept.kept_probes import Prober
from harness.formats.kept.kept_proof import Proof, prove
from harness.records import Format, KeptTemplate


@dataclass(frozen=True)
class Kept:
    """A kept template as a format: its file's text, the findings and the proof of its mask."""

    format: Format
    source: str
    findings: tuple[str, ...]
    proof: Proof


def keep_template(
    template: str,
    format_id: str,
    *,
    where: str,
    origin: str = "",
    special_tokens: Sequence[str] = (),
    variables: Mapping[str, Any] | None = None,
) -> Kept:
    """A template as a format that keeps its text unchanged.

    ``special_tokens`` are the tokenizer's, ``variables`` further values that the template reads.
    Raises HarnessError if it does harm, does not compile, cannot render a question and its answer,
    or if its loss mask cannot be proved.
    """
    template = template.removeprefix("\ufeff")
    check_template(template, where)
    prober = Prober(template, where, variables or {})
    try:
        facts = find_facts(prober)
        proof = prove(prober, facts)
        if proof.wrong:
            facts, proof = _without_what_is_wrong(prober, facts, proof)
    except HarnessError as error:
        raise HarnessError(
            f"this template cannot be imported: {error.message}",
            where=where,
            hint="if it needs a variable, set it with --variable NAME=VALUE",
        ) from None
    source = _front_matter(facts, format_id, origin, special_tokens, variables or {}) + template
    chat_format = parse_format(source, Path(f"{format_id}.jinja"))
    refused = (*facts.refused, *proof.refused)
    return Kept(
        replace(chat_format, path=where),
        source,
        tuple(facts.findings),
        replace(proof, refused=refused),
    )


def _without_what_is_wrong(prober: Prober, facts: Facts, proof: Proof) -> tuple[Facts, Proof]:
    """Leave out thoughts or tools if the mask cannot be proved with them."""
    if any("thought" in shape for shape in proof.wrong) and facts.reasoning != "none":
        facts.findings.append(f"Thoughts are left out because {_first(proof, 'thought')}.")
        facts.reasoning, facts.thoughts = "none", NO_MARKS
    if any("call" in shape for shape in proof.wrong) and facts.tools != "none":
        facts.findings.append(f"Tools are refused because {_first(proof, 'call')}.")
        facts.tools = "none"
    again = prove(prober, facts)
    if again.wrong:
        raise HarnessError(f"the loss mask is not proved: {again.wrong[0]}")
    return facts, again


def _first(proof: Proof, word: str) -> str:
    return "the loss mask is not proved: " + next(one for one in proof.wrong if word in one)


def _front_matter(
    facts: Facts,
    format_id: str,
    origin: str,
    special_tokens: Sequence[str],
    variables: Mapping[str, Any],
) -> str:
    values: dict[str, Any] = {
        "family": format_id,
        "system": facts.system,
        "reasoning": facts.reasoning,
        "tools": facts.tools,
        "stops": list(facts.stops),
        "stop_tokens": [stop for stop in facts.stops if stop in special_tokens],
        "eos": facts.eos,
        "origin": origin,
        "notes": " ".join(facts.findings),
    }
    default = asdict(KeptTemplate())
    tables: dict[str, Mapping[str, Any]] = {
        "kept": {key: value for key, value in asdict(facts.way).items() if value != default[key]}
    }
    if facts.thoughts != NO_MARKS:
        tables["thoughts"] = asdict(facts.thoughts)
    if facts.calls is not None and facts.tools != "none":
        tables["calls"] = {key: value for key, value in asdict(facts.calls).items() if value}
    if facts.switches and facts.reasoning != "none":
        tables["switches"] = facts.switches
        values["thoughts_off"] = dict.fromkeys(facts.switches, False)
    if variables:
        tables["variables"] = variables
    filled = {key: value for key, value in values.items() if value}
    return write_front_matter(filled, facts.roles, **tables)
