"""What is wrong with training in the formats of a run, for its dry run and its start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness.records import Format
from harness.tokens.tokenizer_check import training_findings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: More formats are not checked at the start of a run: a sample of the grammar has thousands.
MOST = 200
#: A format's setting of ``reasoning`` → why it does not write a thought.
_WHY_DROPPED = {"last-turn": "earlier turns", "none": "the format has no place for them"}


def format_findings(
    formats: Iterable[Format], tokenizer: PreTrainedTokenizerBase
) -> dict[str, list[str]]:
    """By format, the findings of ``harness formats check`` that concern training, if any."""
    found = {each.id: training_findings(each, tokenizer) for each in list(formats)[:MOST]}
    return {format_id: findings for format_id, findings in found.items() if findings}


def finding_lines(findings: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """One line for each finding."""
    for format_id, sentences in findings.items():
        yield from (f"format {format_id}: {sentence}" for sentence in sentences)


def thought_line(format_id: str, counts: Mapping[str, Any], reasoning: str) -> str:
    """How many thoughts a format leaves out, and why; "" where it leaves out none."""
    if not counts.get("thoughts_dropped"):
        return ""
    total = f"{counts['thoughts_dropped']} of {counts['thoughts']} thoughts"
    why = _WHY_DROPPED.get(reasoning, "it does not write them there")
    return f"{total} are not trained in {format_id}: {why}"
