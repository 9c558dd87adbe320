"""The word of a format: both sides of every limit, level and power of every word."""

from __future__ import annotations

from typing import get_args

import pytest

from benchmarks.words import Model, models, rates
from harness.evaluation.analysis.criteria import Criterion, compare, loss_at_most
from harness.evaluation.analysis.format_verdicts import best_others, judge
from harness.records import Evidence, Word
from harness.report.wording import points
from harness.stats import Interval

CHANCE = 0.25
GOOD = {"choice": 0.8, "on_task": 0.8, "stopped": 1.0, "leak": 0.0, "empty": 0.0}


def spread(rate, n, metric):
    """The first cases of n are 1."""
    ones = round(rate * n)
    return {f"{metric}-{at:03}": float(at < ones) for at in range(n)}


def values(n=400, **changed):
    return {metric: spread(rate, n, metric) for metric, rate in {**GOOD, **changed}.items()}


def word(n=400, excess=None, **changed):
    own = values(n, **changed)
    if excess is not None:
        own["nll_excess"] = {f"r{at}": excess + 0.01 * (at % 2) for at in range(n)}
    return judge("other", own, values(n), "native", CHANCE)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "works"),
        ({"choice": 0.74}, "works"),  # 3 points in the mean of both kinds
        ({"choice": 0.74, "on_task": 0.74}, "works"),  # shown to be a loss, and within the margin
        ({"choice": 0.68, "on_task": 0.68}, "degraded"),
        ({"choice": 0.5}, "degraded"),
        ({"stopped": 0.94}, "works"),
        ({"stopped": 0.88}, "degraded"),
        ({"stopped": 0.55}, "degraded"),
        ({"stopped": 0.43}, "broken"),
        ({"leak": 0.06}, "works"),
        ({"leak": 0.12}, "degraded"),
        ({"leak": 0.45}, "degraded"),
        ({"leak": 0.57}, "broken"),
        ({"empty": 0.06}, "works"),
        ({"empty": 0.12}, "degraded"),
        ({"empty": 0.57}, "broken"),
        ({"choice": 0.37}, "degraded"),
        ({"choice": 0.29}, "broken"),
        ({"excess": 0.33}, "works"),
        ({"excess": 0.36}, "degraded"),
    ],
)
def test_each_limit_from_both_sides(changed, expected):
    found = word(**changed)
    assert found.word == expected, found
    assert found.evidence is not None and bool(found.remedy) == (expected != "works")


def test_few_cases_are_unclear_with_the_number_that_would_do():
    found = word(n=24, choice=0.67, on_task=0.75)
    assert found.word == "unclear" and "may be as good as native or up to " in found.reason
    assert found.needed is not None and 25 <= found.needed <= 400
    assert f"--cases-per-format {found.needed}" in found.remedy
    assert word(n=found.needed * 2, choice=0.67, on_task=0.75).word == "degraded"


def test_the_loss_that_is_possible_is_named_and_rarely_exceeded():
    """The largest true loss is above it in at most 5 % of evaluations, at 10, 20 and 48 cases."""
    import numpy as np

    rng = np.random.default_rng(3)
    model = Model(
        "worse", choice=(0.6, 0.5), on_task=(0.5, 0.4), stopped=(0.9, 0.7), leak=(0, 0.05)
    )
    for n in (10, 20, 48):
        found = [model.judge(model.draw_formats(rng, n), n) for _ in range(150)]
        bounds = [one.loss_at_most for one in found if one.word == "unclear"]
        known = [bound for bound in bounds if bound is not None]
        assert len(known) > 20 and sum(bound < 0.2 for bound in known) <= 16  # 5 % of 150: 99.9 %
        assert max(known) < 1
        for one in found:
            if one.word == "unclear" and one.loss_at_most is not None:
                assert f"or up to {points(one.loss_at_most)} worse" in one.reason
    small = Model("as good", choice=(1, 1), on_task=(1, 1), stopped=(1, 1), leak=(0, 0), excess=0.0)
    [few, many] = [small.judge(small.draw_formats(rng, n), n).loss_at_most for n in (10, 20)]
    assert few is not None and many is not None and many < few < 0.5
    assert 0.5 < word(n=3).loss_at_most < 0.7


@pytest.mark.parametrize(
    ("highs", "most"),
    [
        ({"choice": 0.3, "stopped": 0.4, "leak": -0.1}, 0.4),
        ({"stopped": 0.4, "nll_excess": 0.9}, 0.4),
        ({"stopped": 0.4, "leak": None}, None),  # any loss of this one is possible
        ({"stopped": 1.0}, None),
        ({"nll_excess": 0.3}, None),
        ({}, None),
    ],
)
def test_the_loss_that_is_possible_is_that_of_the_least_certain_rate(highs, most):
    def rate(metric, high):
        loss = Interval(0.0, high and -0.2, high, 20)
        return Criterion(metric, "", 0.1, loss, False, False, Evidence(metric, 0.0, 20))

    found = [rate(metric, high) for metric, high in highs.items()]
    assert loss_at_most(found) == most


def test_the_number_that_would_do_gives_the_word_in_80_of_100():
    """On data like those that the number was computed from."""
    import numpy as np

    rng = np.random.default_rng(0)
    model = Model("as good", stopped=(1.0, 1.0), leak=(0.0, 0.0), excess=0.0)
    needed = []
    for _ in range(60):
        native, other = model.draw(rng, 48)
        found = judge("other", other, native, "native", CHANCE)
        if found.needed is not None:
            needed.append(found.needed)
    assert 60 <= np.median(needed) <= 250
    words = rates(model, int(np.median(needed)), 200)
    assert words["works"] / 200 >= 0.6


@pytest.mark.parametrize(("half", "known"), [(2.6, True), (2.8, False)])
def test_more_than_twenty_thousand_cases_are_not_asked_for(half, known):
    """Of a mean whose items differ so much that no affordable number would do."""
    loss = Interval(0.17, 0.17 - half, 0.17 + half, 40)
    found = Criterion("nll_excess", "", 0.35, loss, False, False, Evidence("nll_excess", 0.17, 40))
    assert (found.needed() is not None) == known
    assert not known or 19_000 < found.needed() < 20_000


@pytest.mark.parametrize(
    ("n", "changed", "given", "strict"),
    [
        (48, {}, "works", "unclear"),
        (30, {"choice": 0.5, "on_task": 0.5}, "degraded", "unclear"),
        (14, {"stopped": 0.0}, "broken", "unclear"),
        (40, {"choice": 0.15}, "broken", "degraded"),
    ],
)
def test_a_part_of_the_level_asks_for_more(n, changed, given, strict):
    """Each word is given at 5 %, and not at the smallest level, whose intervals are wider."""
    own = values(n, **changed)
    words = [judge("a", own, values(n), "b", CHANCE, level).word for level in (0.05, 1e-6)]
    assert words == [given, strict]


def test_the_reason_names_both_rates_and_the_worst_case():
    found = word(on_task=0.4)
    assert "40% of the free answers right against 80%" in found.reason
    assert found.evidence.metric == "on_task" and found.evidence.worst_case == "on_task-319"
    assert found.evidence.loss == pytest.approx(0.2) and found.evidence.low > 0.1
    assert "use native" in found.remedy and "--formats other" in found.remedy
    broken = word(stopped=0.1)
    assert broken.reason == "only 10% of the answers end by themselves"
    assert (broken.evidence.reference, broken.evidence.worst_case) == (None, "stopped-040")


def test_the_native_format_is_not_compared_with_itself():
    for changed, expected in (
        ({}, "works"),
        ({"stopped": 0.52}, "unclear"),
        ({"stopped": 0.3}, "broken"),
        ({"choice": 0.3}, "unclear"),
        ({"leak": 0.48}, "unclear"),
    ):
        found = judge("native", values(60, **changed), values(60), "native", CHANCE)
        assert found.word == expected, (changed, found)
    only = {"nll": {"r": 1.0}}
    assert judge("native", only, only, "native", 0.0).word == "unclear"


ABLE = {"thinks": 0.95, "call_valid": 0.9, "call_exact": 0.8}


def able(**changed):
    """The word against a native format that thinks and calls."""
    return judge("other", values(**{**ABLE, **changed}), values(**ABLE), "native", CHANCE)


@pytest.mark.parametrize(
    ("changed", "expected", "says", "helps"),
    [
        ({}, "works", "as good as native", ""),
        ({"thinks": 0.91}, "works", "as good as native", ""),
        ({"thinks": 0.87}, "degraded", "lost its thinking: 87%", "train on answers with their th"),
        ({"thinks": 0.0}, "degraded", "lost its thinking: 0%", "train on answers with their th"),
        ({"call_valid": 0.85, "call_exact": 0.78}, "works", "as good as native", ""),
        ({"call_valid": 0.8}, "degraded", "calls do not parse: 80%", "with tool calls"),
        ({"call_exact": 0.7}, "degraded", "calls are wrong: 70%", "with tool calls"),
        ({"thinks": 0.0, "stopped": 0.8}, "degraded", "lost its thinking", "--formats other"),
    ],
)
def test_what_a_model_lost_is_named_with_what_brings_it_back(changed, expected, says, helps):
    found = able(**changed)
    assert (found.word, says in found.reason, helps in found.remedy) == (expected, True, True), (
        found
    )


def test_an_ability_is_compared_only_where_both_formats_have_a_place_for_it():
    assert judge("other", values(), values(**ABLE), "native", CHANCE).word == "works"
    assert judge("other", values(thinks=0.0), values(), "native", CHANCE).word == "works"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "works"),
        ({"thinks": 0.6}, "works"),
        ({"thinks": 0.47}, "works"),  # not shown to be below a half
        ({"thinks": 0.4}, "degraded"),
        ({"call_valid": 0.4}, "degraded"),
        ({"call_exact": 0.4}, "degraded"),
        ({"thinks": 0.0, "stopped": 0.1}, "broken"),
    ],
)
def test_a_model_without_the_thoughts_and_calls_of_its_own_format_is_degraded(changed, expected):
    own = values(**{**ABLE, **changed})
    found = judge("native", own, own, "native", CHANCE)
    assert found.word == expected, found
    if expected == "degraded":
        assert "in the model's own format" in found.reason and found.remedy.startswith("train on")
        assert found.evidence.high < 0.5


def test_a_model_that_thinks_in_half_of_its_answers_keeps_its_word():
    """Of 300 evaluations at most 16 are wrong at a rate of 2.5 %, in 99.9 of 100 simulations."""
    import numpy as np

    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        own = values(48)
        for metric in ABLE:
            drawn = rng.random(48) < 0.5
            own[metric] = {f"{metric}-{at}": float(one) for at, one in enumerate(drawn)}
        wrong += judge("native", own, own, "native", CHANCE).word == "degraded"
    assert 0 < wrong <= 16


def test_a_format_as_bad_as_a_model_that_guesses_does_not_work():
    """No worse than the reference, and still not above chance."""
    guessing = values(100, choice=0.3)
    found = judge("other", guessing, guessing, "native", 0.25)
    assert found.word == "unclear" and "may be guesses" in found.reason
    assert judge("other", guessing, guessing, "native", 0.2).word == "works"
    assert judge("other", guessing, guessing, "native", 0.35).word == "broken"


def test_cases_with_tools_alone_show_a_loss_and_not_that_a_format_works():
    def called(valid, exact):
        whole = values(call_valid=valid, call_exact=exact)
        return {metric: whole[metric] for metric in ("call_valid", "call_exact")}

    lost = judge("other", called(0.5, 0.4), called(0.9, 0.8), "native", CHANCE)
    assert lost.word == "degraded" and "calls do not parse: 50%" in lost.reason
    assert lost.remedy.startswith("train on conversations with tool calls")
    for own in (called(0.9, 0.8), called(0.88, 0.78)):
        found = judge("other", own, called(0.9, 0.8), "native", CHANCE)
        assert found.word == "unclear" and "no free answer" in found.reason


def test_what_cannot_be_compared_is_unclear():
    own = {"nll_excess": {f"r{at}": 0.0 for at in range(50)}}
    found = judge("other", own, values(), "native", CHANCE)
    assert found.word == "unclear" and "cases" in found.remedy
    elsewhere = {"on_task": {"elsewhere": 1.0}}
    assert judge("other", elsewhere, values(), "native", CHANCE).word == "unclear"


def test_every_kind_of_right_answer_counts_the_same():
    own, reference = values(400, on_task=0.6), values(400)
    own["on_task"] = {case: own["on_task"][case] for case in sorted(own["on_task"])[300:]}
    first = compare(own, reference)[0]
    lost = sum(reference["on_task"][case] - own["on_task"][case] for case in own["on_task"]) / 100
    assert first.loss.value == pytest.approx(lost / 2)


def test_the_best_other_format_is_chosen_on_the_other_half():
    """``a`` is best on the even cases, ``b`` on the odd: each is the reference where it was not
    chosen."""
    cases = [f"c{at}" for at in range(8)]
    a = {"choice": {case: float(at % 2 == 0) for at, case in enumerate(cases)}}
    b = {"choice": {case: float(at % 2 == 1) for at, case in enumerate(cases)}}
    c = {"choice": dict.fromkeys(cases, 0.2)}
    found = best_others({"a": a, "b": b, "c": c})
    assert found["c"]["choice"] == dict.fromkeys(sorted(cases), 0.0)
    assert found["a"]["choice"] == {
        **b["choice"],
        **dict.fromkeys(cases[::2], 0.0),
        "c1": 0.2,
        "c3": 0.2,
        "c5": 0.2,
        "c7": 0.2,
    }
    assert best_others({"a": a})["a"]["choice"] == a["choice"]


@pytest.mark.parametrize("n", [12, 100])
@pytest.mark.parametrize("model", list(models()), ids=lambda model: model.name)
def test_level_and_power(model, n):
    """A short simulation; tests/slow/test_words.py has more sizes and runs.

    Of 60 evaluations at most 8 are wrong at a rate of 5 %, in 99.6 of 100 simulations.
    """
    found = rates(model, n, 60)
    if "good" in model.name:
        assert found["degraded"] + found["broken"] <= 8
        assert n < 100 or found["works"] >= 20
    else:
        assert found["works"] <= 8
        assert n < 100 or found["degraded"] + found["broken"] >= 15
    assert set(found) <= set(get_args(Word))
