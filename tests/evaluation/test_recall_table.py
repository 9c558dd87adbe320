"""Recall: gains of rows against controls, and continuations that are held to all that is left."""

import random
from statistics import fmean

import pytest

from harness.backends.protocol import Answer
from harness.conversation import Message
from harness.evaluation.analysis.recall_table import (
    ALL_FORMATS,
    LEVEL,
    PREFIX_FRACTIONS,
    recall_table,
)
from harness.evaluation.requests import reference_prefix
from harness.evaluation.results import RecallSets, Results
from harness.records import Case, Format, Loglikelihood

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
    table = recall_table(sets, Results(answers, scorings), [FORMAT], {"toy": "native"})
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


FORMATS = [Format(name, name, "", (), "") for name in ("native", "seen", "unseen")]
GROUPS = {"native": "native", "seen": "seen", "unseen": "held-out"}


def model(rows, controls, gains, *, seed=0, copied=()):
    """Sets, results of a tuned model and of its base: log-probability a token of 20 tokens.

    ``gains``: what trained rows gain more than controls, by format. ``copied``: formats in which
    the trained rows come back word for word.
    """
    rng = random.Random(seed)
    cases = [
        Case(f"{side} {n}", (Message("user", "q"),), reference=REFERENCE, tags=(f"kind {n % 2}",))
        for side, count in (("row", rows), ("control", controls))
        for n in range(count)
    ]
    before, after, answers = {}, {}, {}
    for case in cases:
        easy = -3.0 + rng.gauss(0, 0.7)
        learnt = 0.5 + rng.gauss(0, 0.1)
        trained = case.id.startswith("row")
        for name in GROUPS:
            level = easy + rng.gauss(0, 0.05)
            now = level + learnt + gains[name] * trained
            before[case.id, name] = [Loglikelihood(20 * level, 20)]
            after[case.id, name] = [Loglikelihood(20 * now, 20)]
            for fraction in PREFIX_FRACTIONS:
                rest = REFERENCE[len(reference_prefix(REFERENCE, fraction)) :]
                text = rest if trained and name in copied else "Nothing of the kind was said."
                answers[case.id, name, fraction] = Answer(text, "stop", "", ())
    sets = RecallSets(tuple(cases[:rows]), tuple(cases[rows:]))
    return sets, Results(answers, after), Results({}, before)


def entries(sets, after, base, **options):
    table = recall_table(sets, after, FORMATS, GROUPS, base=base, **options)
    return {(row.format, row.metric): row for row in table.rows}, table


NOTHING = dict.fromkeys(GROUPS, 0.0)


def test_the_gain_is_compared_not_the_level():
    """Rows that are easier for the base gain nothing; the level alone would say otherwise."""
    sets, after, base = model(120, 120, NOTHING)
    for case in sets.train:
        for name in GROUPS:
            for results in (after, base):
                [found] = results.scorings[case.id, name]
                results.scorings[case.id, name] = [Loglikelihood(found.logprob + 20, 20)]
    found, table = entries(sets, after, base)
    gain, level = found[ALL_FORMATS, "gain"], found[ALL_FORMATS, "token_logprob"]
    assert gain.low < 0 < gain.high and gain.high - gain.low < 0.1 and gain.note == table.note == ""
    assert level.excess == pytest.approx(1.0, abs=0.25) and level.low > 0.5
    assert gain.train == pytest.approx(0.5, abs=0.05) == gain.null


def test_the_null_holds_in_most_runs_and_a_planted_gain_is_found():
    beyond = {0.0: 0, 0.1: 0}
    for gain in beyond:
        for seed in range(60):
            found, _ = entries(*model(40, 40, dict.fromkeys(GROUPS, gain), seed=seed))
            beyond[gain] += found[ALL_FORMATS, "gain"].low > 0
    assert beyond[0.0] <= 5 and beyond[0.1] >= 54


def test_the_mean_over_formats_has_one_interval_of_rows_not_of_cells():
    """Three formats of one row are one row: the interval is hardly narrower than one format's."""
    found, _ = entries(*model(50, 50, NOTHING))
    widths = {name: found[name, "gain"].high - found[name, "gain"].low for name in GROUPS}
    over_all = found[ALL_FORMATS, "gain"]
    assert over_all.high - over_all.low > 0.9 * min(widths.values())
    assert (over_all.n_train, over_all.n_null, over_all.group) == (50, 50, None)
    assert over_all.excess == pytest.approx(fmean(found[name, "gain"].excess for name in GROUPS))


def test_depth_is_the_number_of_formats_that_give_a_row_away():
    found, _ = entries(*model(8, 8, NOTHING, copied=("native", "seen")))
    depth = found[ALL_FORMATS, "memory depth"]
    assert (depth.train, depth.null) == (2.0, 0.0)
    assert ("native", "memory depth") not in found
    copy = found["native", "near@50%"]
    assert (copy.train, copy.null) == (1.0, 0.0) and copy.low > 0.4  # not of width 0
    none = found["unseen", "near@50%"]
    assert none.excess == 0 and none.low < -0.1 and none.high > 0.1


def test_each_format_says_how_well_rows_are_separated_from_controls():
    gains = {"native": 0.0, "seen": 0.3, "unseen": 0.0}
    _, table = entries(*model(100, 120, gains))
    found = {each.format: each for each in table.separations}
    assert found["seen"].metric == "gain" and found["seen"].auc > 0.9
    assert found["seen"].found_low > 0.3
    for name in ("native", "unseen"):
        assert found[name].auc_low < 0.5 < found[name].auc_high
        assert found[name].found_low < 0.05
    few = entries(*model(10, 98, gains))[1].separations[0]
    assert few.found is few.found_low is None and few.n_null == 98


def test_few_controls_are_named_and_without_a_base_it_is_a_level():
    assert "only 99 controls" in entries(*model(5, 99, NOTHING))[1].note
    assert entries(*model(5, 100, NOTHING))[1].note == ""
    sets, after, _ = model(100, 100, NOTHING)
    found, table = entries(sets, after, None)
    assert (ALL_FORMATS, "gain") not in found and "a level" in table.note
    assert {each.metric for each in table.separations} == {"token_logprob"}


def test_without_controls_only_the_gain_is_reported():
    sets, after, base = model(30, 0, NOTHING)
    found, table = entries(sets, after, base)
    assert {metric for _, metric in found} == {"gain"} and not table.separations
    gain = found[ALL_FORMATS, "gain"]
    assert gain.null is gain.excess is None and gain.low < gain.train < gain.high
    assert "no controls" in table.note
    alone, table = entries(sets, after, None)
    assert not alone and "nothing to compare" in table.note


def test_one_row_and_one_control_have_no_interval():
    found, _ = entries(*model(1, 1, NOTHING))
    assert found[ALL_FORMATS, "gain"].low is found[ALL_FORMATS, "gain"].high is None


def test_rows_that_are_not_continued_are_scored():
    """All six of a side give the level; the two that were continued give the rest."""
    sides = [
        [Case(f"{side}{at}", (Message("user", "q"),), reference=REFERENCE) for at in range(6)]
        for side in ("row", "control")
    ]
    every = [case for side in sides for case in side]
    answers = {
        (case.id, "toy", fraction): Answer(REFERENCE, "stop", "", ())
        for side in sides
        for case in side[:2]
        for fraction in PREFIX_FRACTIONS
    }
    scorings = {(case.id, "toy"): [Loglikelihood(-30.0, 20)] for case in every}
    sets = RecallSets(tuple(sides[0]), tuple(sides[1]))
    table = recall_table(sets, Results(answers, scorings), [FORMAT], {"toy": "native"})
    found = {(row.format, row.metric): row for row in table.rows}
    for place in ("toy", ALL_FORMATS):
        level, exact = found[place, "token_logprob"], found[place, "exact@0%"]
        assert (level.n_train, level.n_null, exact.n_train, exact.n_null) == (6, 6, 2, 2)
        assert exact.train == 1.0
    assert found[ALL_FORMATS, "memory depth"].n_train == 2


@pytest.mark.parametrize("trait", ["words of the conversation", "characters a token", "neither"])
def test_what_makes_an_answer_likely_in_itself_is_no_noise(trait):
    """120 rows and controls whose level follows a trait of the answer, or chance alone."""
    rng = random.Random(7)
    cases, scorings = [], {}
    for at in range(240):
        shared, tokens = rng.randrange(11), rng.randrange(10, 31)
        said = [f"known{n}" for n in range(shared)] + [f"other{n}" for n in range(10 - shared)]
        reference = " ".join(said)
        level = {
            "words of the conversation": shared / 10,
            "characters a token": len(reference) / tokens / 4,
            "neither": rng.random(),
        }[trait]
        question = Message("user", " ".join(f"Known{n}" for n in range(10)))
        cases.append(Case(f"c{at}", (question,), reference=reference))
        noise = rng.gauss(0, 0.01)
        scorings[f"c{at}", "toy"] = [Loglikelihood((level - 3 + noise) * tokens, tokens)]
    sets = RecallSets(tuple(cases[:120]), tuple(cases[120:]))
    table = recall_table(sets, Results({}, scorings), [FORMAT], {"toy": "native"})
    row = next(row for row in table.rows if (row.metric, row.format) == (LEVEL, "toy"))
    levels = [found[0].logprob / found[0].tokens for found in scorings.values()]
    assert row.train == pytest.approx(fmean(levels[:120]))
    assert (row.high - row.low < 0.02) == (trait != "neither")
