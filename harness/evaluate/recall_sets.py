"""Which training rows, and which twins that were never trained on, are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.data.conversations import load_conversations
from harness.errors import HarnessError
from harness.evaluate.cases import recall_case
from harness.evaluate.session import RecallSets
from harness.records import Case


def recall_sets(train: Sequence[str], twins: Sequence[str], most: int) -> RecallSets:
    """At most ``most`` training rows and as many twins, each spread evenly over their files."""
    rows, null = (_spread(recall_cases(names), most) for names in (train, twins))
    if not rows or not null:
        raise HarnessError("recall needs conversations that end with an answer, trained ones and twins never trained on", where=", ".join((*train, *twins)))
    trained = {case.id for case in rows}  # results are found by id, and two files may number their rows alike
    null = [replace(case, id=f"twin/{case.id}") if case.id in trained else case for case in null]
    answers = [(f"{c.id}#{at}", m.content) for c in load_conversations(train) for at, m in enumerate(c.messages) if m.role == "assistant"]
    return RecallSets(tuple(rows), tuple(null), tuple(answers))


def recall_cases(names: Sequence[str]) -> list[Case]:
    """The conversations of some files that end with an answer, as reference cases."""
    return [case for case in map(recall_case, load_conversations(names)) if case is not None]


def _spread(cases: list[Case], most: int) -> list[Case]:
    return cases if len(cases) <= most else [cases[index * len(cases) // most] for index in range(most)]
