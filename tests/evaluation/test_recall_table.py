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


def recall_of(text, finish):
    """Each metric of recall, with the same answer for a training row and a control."""
    cases = [
        Case(name, (Message("user", "q"),), reference=REFERENCE) for name in ("row", "control")
    ]
    answers = {
        (case.id, "toy", fraction): Answer(text, finish, "", ())
        for case in cases
        for fraction in PREFIX_FRACTIONS
    }
    scorings = {(case.id, "toy"): [Loglikelihood(-30.0, 20)] for case in cases}
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
