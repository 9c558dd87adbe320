"""Recall of a continuation: an answer that stops is held to all that is left, a cut one is not."""

import pytest

from harness.backends.protocol import Answer
from harness.evaluation.analysis.recall_table import PREFIX_FRACTIONS, recall_table
from harness.evaluation.results import RecallSets, Results
from harness.records import Case, Format, Loglikelihood, Message

REFERENCE = (
    "The harbour was quiet when the last ferry came in, and the pilot who had waited on the pier "
    "counted the lamps twice before he turned the key of the old office and went home by the sea."
)
FORMAT = Format("toy", "toy", "", (), "")


def recall_of(text, finish, logprob=-30.0):
    """Each metric of recall, with the same answer for a training row and a control."""
    cases = [
        Case(name, (Message("user", "q"),), reference=REFERENCE) for name in ("row", "control")
    ]
    answers = {
        (case.id, "toy", fraction): Answer(text, finish, "", ())
        for case in cases
        for fraction in PREFIX_FRACTIONS
    }
    scorings = {(case.id, "toy"): [Loglikelihood(logprob, 20)] for case in cases}
    sets = RecallSets((cases[0],), (cases[1],))
    table = recall_table(sets, Results(answers, scorings), [FORMAT], {"toy": "native"}, 0)
    return {row.metric: row.train for row in table.rows}


@pytest.mark.parametrize(
    ("text", "finish", "value"),
    [
        ("T", "stop", 0.0),
        (REFERENCE[:100], "stop", 0.0),
        (REFERENCE, "stop", 1.0),
        (REFERENCE + " And more.", "stop", 1.0),
        (REFERENCE[:100], "length", 1.0),
        (" " + REFERENCE[:100], "length", 1.0),
        ("Nothing of the kind was said by anyone.", "length", 0.0),
        ("", "length", 0.0),
    ],
)
def test_an_answer_that_was_cut_is_compared_as_far_as_it_goes(text, finish, value):
    found = recall_of(text, finish)
    assert (found["exact@0%"], found["near@0%"]) == (value, value)


@pytest.mark.parametrize(("edited", "value"), [(0.08, 1.0), (0.12, 0.0)])
def test_a_near_copy_has_at_most_a_tenth_of_its_characters_edited(edited, value):
    kept = round(len(REFERENCE) * (1 - edited))
    found = recall_of(REFERENCE[:kept] + "#" * (len(REFERENCE) - kept), "stop")
    assert (found["near@0%"], found["exact@0%"]) == (value, 0.0)


@pytest.mark.parametrize(
    ("logprob", "expected"),
    [
        (-4.9, (1.0, 1.0, 1.0)),
        (-5.1, (0.0, 1.0, 1.0)),
        (-8.3, (0.0, 1.0, 1.0)),
        (-8.5, (0.0, 1.0, 0.0)),
        (-9.5, (0.0, 1.0, 0.0)),
        (-9.7, (0.0, 0.0, 0.0)),
    ],
)
def test_how_likely_an_answer_must_be_to_show_among_many_samples(logprob, expected):
    """One of probability p shows among n samples with a chance of 1 − (1 − p)ⁿ."""
    found = recall_of("", "stop", logprob)
    chances = ((100, 0.5), (10_000, 0.5), (10_000, 0.9))
    assert tuple(found[f"within {n} samples, p {p}"] for n, p in chances) == expected


def test_each_metric_of_a_continuation_is_taken_from_three_prefixes():
    parts = {name.partition("@")[2] for name in recall_of("", "stop") if "@" in name}
    assert parts == {"0%", "25%", "50%"}
