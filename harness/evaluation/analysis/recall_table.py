"""Which training rows, and which twins that were never trained on, are asked for.

Recall of the training set, beside its null: the same on references that were never trained (METRICS §2).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.data.conversations import load_conversations
from harness.errors import HarnessError
from harness.evaluation.cases.case_files import recall_case
from harness.evaluation.results import RecallRow, RecallSets, RecallTable, Results
from harness.metrics.canaries import TAG, exposure
from harness.metrics.recall import NEAR, diverge_at, excess, extractable, near, nv_recall
from harness.records import Case, Format, Group


def recall_sets(train: Sequence[str], twins: Sequence[str], most: int) -> RecallSets:
    """At most ``most`` training rows and as many twins, each spread evenly over their files."""
    rows, null = (_spread(recall_cases(names), most) for names in (train, twins))
    if not rows or not null:
        raise HarnessError(
            "recall needs conversations that end with an answer, trained ones and twins never trained on",
            where=", ".join((*train, *twins)),
        )
    trained = {
        case.id for case in rows
    }  # results are found by id, and two files may number their rows alike
    null = [replace(case, id=f"twin/{case.id}") if case.id in trained else case for case in null]
    answers = [
        (f"{c.id}#{at}", m.content)
        for c in load_conversations(train)
        for at, m in enumerate(c.messages)
        if m.role == "assistant"
    ]
    return RecallSets(tuple(rows), tuple(null), tuple(answers))


def recall_cases(names: Sequence[str]) -> list[Case]:
    """The conversations of some files that end with an answer, as reference cases."""
    return [case for case in map(recall_case, load_conversations(names)) if case is not None]


def _spread(cases: list[Case], most: int) -> list[Case]:
    return (
        cases
        if len(cases) <= most
        else [cases[index * len(cases) // most] for index in range(most)]
    )


#: The shares of a reference that a completion is given (the rungs of METRICS §2.2's ladder).
PREFIX_FRACTIONS = (0.0, 0.25, 0.5)
#: (n, p): is an answer met with probability p among n samples?
EXTRACTION = ((100, 0.5), (10_000, 0.5), (10_000, 0.9))


def recall_table(
    sets: RecallSets,
    results: Results,
    formats: Sequence[Format],
    groups: Mapping[str, Group],
    seed: int,
) -> RecallTable:
    """Compare training rows with their twins, by log-probability, near-verbatim recall and exact continuation."""
    rows: list[RecallRow] = []
    medians: dict[str, float] = {}
    for format in formats:
        train = {
            case.id: values
            for case in sets.train
            if (values := _measures(case, format.id, results))
        }
        null = {
            case.id: values
            for case in sets.controls
            if (values := _measures(case, format.id, results))
        }
        if not train or not null:
            continue
        if all(TAG in case.tags for case in (*sets.train, *sets.controls)):
            _add_exposure(train, null)
        medians[format.id] = statistics.median(values["log_pz"] for values in train.values())
        for metric in next(iter(train.values())):
            if metric == "log_pz":
                continue
            rows.append(
                _row(
                    format.id,
                    groups[format.id],
                    metric,
                    [v[metric] for v in train.values()],
                    [v[metric] for v in null.values()],
                    seed,
                )
            )
    trained = [median for format, median in medians.items() if groups[format] != "held-out"]
    leak = (
        {format: median - statistics.median(trained) for format, median in medians.items()}
        if trained
        else {}
    )
    return RecallTable(tuple(rows), medians, leak)


def _row(
    format: str, group: Group, metric: str, train: list[float], null: list[float], seed: int
) -> RecallRow:
    found = excess(train, null, seed)
    if found.value is None or found.low is None or found.high is None:
        raise AssertionError("both sides were checked to hold items")
    return RecallRow(
        format,
        group,
        metric,
        statistics.fmean(train),
        statistics.fmean(null),
        found.value,
        found.low,
        found.high,
        found.n_train,
        found.n_null,
        found.note,
    )


def _add_exposure(train: dict[str, dict[str, float]], null: dict[str, dict[str, float]]) -> None:
    """Rank every canary among the secrets that were never trained on; a null's own among the others of the null."""
    nulls = [values["log_pz"] for values in null.values()]
    for values in train.values():
        values["exposure"] = exposure(values["log_pz"], nulls)
    for at, values in enumerate(null.values()):
        others = nulls[:at] + nulls[at + 1 :]
        values["exposure"] = exposure(values["log_pz"], others) if others else 0.0


def _measures(case: Case, format: str, results: Results) -> dict[str, float]:
    scorings = results.scorings.get((case.id, format))
    if scorings is None or case.reference is None:
        return {}
    measures = {
        "log_pz": scorings[0].logprob,
        "token_logprob": scorings[0].logprob / max(1, scorings[0].tokens),
    }
    for n, p in EXTRACTION:
        measures[f"within {n} samples, p {p:g}"] = float(extractable(scorings[0].logprob, n, p))
    for share in PREFIX_FRACTIONS:
        answer = results.answers.get((case.id, format, share))
        if answer is None:
            return {}
        rest = remainder(case.reference, share)
        measures[f"nv_recall@{share:.0%}"] = nv_recall(answer.text, rest).value
        wanted = (
            rest if answer.finish == "stop" else rest[: len(answer.text)]
        )  # one that was cut is compared as far as it goes
        measures[f"near@{share:.0%}"] = float(near(answer.text, wanted) >= NEAR)
        measures[f"diverge_at@{share:.0%}"] = _agreement(answer.text.split(), rest.split())
        measures[f"exact@{share:.0%}"] = float(
            answer.text.strip()[: len(rest)] == rest[: len(answer.text.strip())]
            and bool(answer.text.strip())
        )
    return measures


def _agreement(told: Sequence[str], wanted: Sequence[str]) -> float:
    """The share of the words that were told before the first that is another; 0 for an empty answer."""
    n = min(len(told), len(wanted))
    return diverge_at(told, wanted) / n if n else 0.0


def remainder(reference: str, share: float) -> str:
    """What is left of a reference after its first ``share`` of words."""
    from harness.evaluation.requests import reference_prefix

    return reference[len(reference_prefix(reference, share)) :].strip()
