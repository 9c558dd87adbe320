"""Recall of the training set, beside controls that were never trained on."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.data.conversations import load_conversations
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import recall_case, spread_evenly
from harness.evaluation.requests import reference_prefix
from harness.evaluation.results import RecallSets, RecallTable, Results
from harness.metrics.canaries import TAG, exposure
from harness.metrics.recall import NEAR, diverge_at, excess, extractable, near, nv_recall
from harness.records import Case, Format, Group
from harness.report.document import RecallEntry

#: The parts of a reference that a continuation is given.
PREFIX_FRACTIONS = (0.0, 0.25, 0.5)
#: (n, p): is an answer met with probability p among n samples?
EXTRACTION = ((100, 0.5), (10_000, 0.5), (10_000, 0.9))

#: Metric → value, for one case.
Values = dict[str, float]


def recall_sets(train: Sequence[str], controls: Sequence[str], most: int) -> RecallSets:
    """At most ``most`` training rows and as many controls, each spread evenly over their files."""
    rows, others = (spread_evenly(recall_cases(names), most) for names in (train, controls))
    if not rows or not others:
        raise HarnessError(
            "recall needs conversations that end with an answer, trained ones and controls",
            where=", ".join((*train, *controls)),
        )
    trained = {case.id for case in rows}  # two files may number their rows alike
    others = [
        replace(case, id=f"twin/{case.id}") if case.id in trained else case for case in others
    ]
    answers = [
        (f"{conversation.id}#{at}", message.content)
        for conversation in load_conversations(train)
        for at, message in enumerate(conversation.messages)
        if message.role == "assistant"
    ]
    return RecallSets(tuple(rows), tuple(others), tuple(answers))


def recall_cases(names: Sequence[str]) -> list[Case]:
    """The conversations of some files that end with an answer, as reference cases."""
    return [case for case in map(recall_case, load_conversations(names)) if case is not None]


def recall_table(
    sets: RecallSets,
    results: Results,
    formats: Sequence[Format],
    groups: Mapping[str, Group],
    seed: int,
    run: str = "evaluate",
) -> RecallTable:
    """Compare training rows with controls by log-probability and by their continuations."""
    rows: list[RecallEntry] = []
    medians: dict[str, float] = {}
    for chat_format in formats:
        train, controls = (
            [values for case in cases if (values := _values(case, chat_format.id, results))]
            for cases in (sets.train, sets.controls)
        )
        if not train or not controls:
            continue
        if all(TAG in case.tags for case in (*sets.train, *sets.controls)):
            _add_exposure(train, controls)
        medians[chat_format.id] = statistics.median(values["log_pz"] for values in train)
        rows += [
            _row(run, chat_format.id, groups[chat_format.id], metric, train, controls, seed)
            for metric in train[0]
            if metric != "log_pz"
        ]
    trained = [median for name, median in medians.items() if groups[name] != "held-out"]
    leak = {
        name: median - statistics.median(trained) for name, median in medians.items() if trained
    }
    return RecallTable(tuple(rows), leak)


def _row(
    run: str,
    format_id: str,
    group: Group,
    metric: str,
    train: Sequence[Values],
    controls: Sequence[Values],
    seed: int,
) -> RecallEntry:
    ours, theirs = ([values[metric] for values in side] for side in (train, controls))
    difference = excess(ours, theirs, seed)
    if difference.value is None or difference.low is None or difference.high is None:
        raise AssertionError("both sides were checked to hold items")
    return RecallEntry(
        run,
        format_id,
        metric,
        statistics.fmean(ours),
        statistics.fmean(theirs),
        difference.value,
        difference.low,
        difference.high,
        difference.n_train,
        difference.n_null,
        difference.note,
        group,
    )


def _add_exposure(train: Sequence[Values], controls: Sequence[Values]) -> None:
    """Rank every canary among the secrets never trained on, and each of those among the others."""
    untrained = [values["log_pz"] for values in controls]
    for values in train:
        values["exposure"] = exposure(values["log_pz"], untrained)
    for at, values in enumerate(controls):
        others = untrained[:at] + untrained[at + 1 :]
        values["exposure"] = exposure(values["log_pz"], others) if others else 0.0


def _values(case: Case, format_id: str, results: Results) -> Values:
    """Each metric of one case in one format; empty where a result is missing."""
    scorings = results.scorings.get((case.id, format_id))
    if scorings is None or case.reference is None:
        return {}
    log_pz = scorings[0].logprob
    values = {"log_pz": log_pz, "token_logprob": log_pz / max(1, scorings[0].tokens)}
    for n, p in EXTRACTION:
        values[f"within {n} samples, p {p:g}"] = float(extractable(log_pz, n, p))
    for fraction in PREFIX_FRACTIONS:
        answer = results.answers.get((case.id, format_id, fraction))
        if answer is None:
            return {}
        rest = case.reference[len(reference_prefix(case.reference, fraction)) :].strip()
        cut = answer.finish != "stop"  # then it is compared as far as it goes
        text, wanted = answer.text.strip(), rest[: len(answer.text)] if cut else rest
        exact = bool(text) and (text.startswith(rest) or (cut and rest.startswith(text)))
        values[f"nv_recall@{fraction:.0%}"] = nv_recall(answer.text, rest).value
        values[f"near@{fraction:.0%}"] = float(near(answer.text, wanted) >= NEAR)
        values[f"diverge_at@{fraction:.0%}"] = _agreement(text.split(), rest.split())
        values[f"exact@{fraction:.0%}"] = float(exact)
    return values


def _agreement(answer: Sequence[str], wanted: Sequence[str]) -> float:
    """The fraction of words before the first that differs; 0 for an empty answer."""
    n = min(len(answer), len(wanted))
    return diverge_at(answer, wanted) / n if n else 0.0
