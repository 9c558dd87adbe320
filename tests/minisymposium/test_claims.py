"""A verdict on a claim has its error rates: what was planted is found, and what was not is not."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.effects import absent_until, onset, present, reversed_sign
from experiments.minisymposium.claims import CLAIMS, LEAST, NOT_MEASURED, findings
from experiments.minisymposium.symptoms import recall_gain
from experiments.paired import above, as_dict
from harness.metrics.registry import METRICS

RUNS, ITEMS = 200, 32
#: 2.5 % of RUNS, and what chance adds to it in one simulation of a thousand.
FEW = 0.025 * RUNS + 3.1 * (0.025 * 0.975 * RUNS) ** 0.5


def index(words: str) -> int:
    [found] = [at for at, claim in enumerate(CLAIMS) if words in claim.text]
    return found


def verdict(parts, words: str):
    return findings(parts)[index(words)].holds


def nll(rng, mean):
    return as_dict(METRICS["nll"].difference(rng.normal(mean, 0.15, ITEMS)))


def rate(rng, mean, metric):
    """A paired change of rates: a case gains or loses."""
    change = rng.random(ITEMS) < 0.1 + abs(mean)
    sign = np.where(rng.random(ITEMS) < 0.5 * (1 + mean / (0.1 + abs(mean))), 1.0, -1.0)
    return as_dict(METRICS[metric].difference(change * sign))


def recall(rng, gain):
    """A log entry of four trained rows and 24 controls that gained that much less."""
    sides = {"rows": (4, gain), "controls": (24, 0.0)}
    start = {side: {str(i): 0.0 for i in range(n)} for side, (n, _) in sides.items()}
    now = {
        side: {str(i): float(v) for i, v in enumerate(rng.normal(mean, 0.15, n))}
        for side, (n, mean) in sides.items()
    }
    return recall_gain({"recall_items": start}, {"recall_items": now})


def symptom(name, effect):
    return {
        "2": {
            "symptoms": [
                {
                    "symptom": name,
                    "from": None,
                    "points": [
                        {"step": 0, "value": 0.0, "difference": None},
                        {"step": 8, "value": effect["value"], "difference": effect},
                    ],
                }
            ]
        }
    }


def schedule(shape, effect):
    return {"4": {"rows": [{"shape": shape, "against_constant": reversed_sign(effect)}]}}


#: Words of a claim → where its effect is in the results, the least effect that matters, and the
#: metric whose intervals are simulated.
NUMBERS = {
    "recites the training rows": (lambda e: symptom("near-verbatim recall", e), 0.1, "nll"),
    "Past a turning point": (lambda e: {"2": {"effects": {"rise": e}}}, 0.05, "nll"),
    "more in other formats than in its own": (
        lambda e: {"2": {"effects": {"gap": e}}},
        0.05,
        "nll",
    ),
    "invents facts": (
        lambda e: symptom("false statement on an unanswerable question", e),
        0.1,
        "on_task",
    ),
    "canned phrases": (lambda e: symptom("canned phrase", e), 0.05, "gptisms"),
    "It writes Chinese": (lambda e: symptom("answer in another language", e), 0.05, "drift"),
    "Another script": (lambda e: symptom("drift hazard along references", e), 0.02, "nll"),
    "A tenth of the rate is better": (
        lambda e: {"3": {"difference": reversed_sign(e)}},
        0.02,
        "nll",
    ),
    "at a very low rate improve it": (
        lambda e: {"9": {"difference": reversed_sign(e)}},
        0.05,
        "nll",
    ),
    "Stopping at the turning point": (lambda e: {"3": {"stopping": e}}, 0.02, "nll"),
    "Going back before the turning point": (
        lambda e: {"4": {"auto_branch": {"against_trunk": reversed_sign(e)}, "rows": []}},
        0.02,
        "nll",
    ),
    "A sigmoid schedule": (lambda e: schedule("sigmoid (bump)", e), 0.02, "nll"),
    "A rising sigmoid": (lambda e: schedule("sigmoid (rise)", e), 0.02, "nll"),
}


def simulated(rng, effect, metric):
    return nll(rng, effect) if metric == "nll" else rate(rng, effect, metric)


@pytest.mark.parametrize("words", NUMBERS)
def test_a_claim_without_an_effect_rarely_holds_and_a_planted_one_is_found(words):
    place, least, metric = NUMBERS[words]
    rng = np.random.default_rng(index(words))
    judged = {
        effect: [verdict(place(simulated(rng, effect, metric)), words) for _ in range(RUNS)]
        for effect in (0.0, least, 0.5)
    }
    assert judged[0.0].count(True) <= FEW
    assert judged[least].count(False) <= FEW
    assert judged[0.5].count(True) >= 0.95 * RUNS


@pytest.mark.parametrize("words", [*NUMBERS, "do not memorise"])
def test_an_effect_is_absent_where_its_interval_is_below_what_matters(words):
    absent = words not in NUMBERS
    place, least, _ = NUMBERS.get(words, (lambda e: {"9": {"recall": e}}, 0.25, ""))
    ends = {(-0.3, least + 1e-6): None, (-0.3, least - 1e-6): absent, (1e-6, 0.5): not absent}
    for (low, high), holds in ends.items():
        effect = {"value": 0.0, "low": low, "high": high, "n": 40}
        assert verdict(place(effect), words) is holds, (low, high)


def test_a_large_effect_of_the_other_sign_is_a_claim_that_does_not_hold():
    rng = np.random.default_rng(0)
    for words, (place, _, metric) in NUMBERS.items():
        assert verdict(place(simulated(rng, -0.5, metric)), words) is False, words


def test_the_absence_of_memory_has_its_error_rates_too():
    rng, words = np.random.default_rng(1), "do not memorise"
    least = LEAST["training answers likelier than controls"]
    judged = {
        gain: [verdict({"9": {"recall": recall(rng, gain)}}, words) for _ in range(RUNS)]
        for gain in (0.0, least, 1.5)
    }
    assert judged[0.0].count(False) <= FEW and judged[0.0].count(True) >= 0.5 * RUNS
    assert judged[least].count(True) <= FEW
    assert judged[1.5].count(False) >= 0.95 * RUNS


def alpha(raw, corrected):
    rows = [{"alpha": 16.0, "compensated": False, "reference": True, "strays": 0.0}]
    for compensated, strays in ((False, raw), (True, corrected)):
        rows.append(
            {"alpha": 64.0, "compensated": compensated, "reference": False, "strays": strays}
        )
    return {"5": {"rows": rows}}


@pytest.mark.parametrize(
    ("raw", "corrected", "holds"),
    [
        (0.3, 0.0, True),
        (0.3, 0.029, True),
        (0.3, 0.031, None),
        (0.3, 0.149, None),
        (0.3, 0.151, False),
        (0.0201, 0.0, True),
        (0.0199, 0.0, None),
        (0.0, 0.0, None),
        (0.01, 0.021, False),
    ],
)
def test_alpha_acts_on_the_rate_if_correcting_the_rate_undoes_it(raw, corrected, holds):
    assert verdict(alpha(raw, corrected), "Alpha acts") is holds


def test_an_alpha_without_its_corrected_run_is_not_compared():
    parts = alpha(0.3, 0.0)
    parts["5"]["rows"].append({**parts["5"]["rows"][1], "alpha": 4.0, "strays": 0.0})
    assert verdict(parts, "Alpha acts") is True
    del parts["5"]["rows"][2]
    assert findings(parts)[index("Alpha acts")] == NOT_MEASURED


def test_a_part_that_was_not_run_was_not_measured():
    assert findings({}) == [NOT_MEASURED] * len(CLAIMS)


def test_every_claim_is_simulated():
    simulated = {index(words) for words in (*NUMBERS, "do not memorise", "Alpha acts")}
    assert simulated == set(range(len(CLAIMS)))


@pytest.mark.parametrize(
    ("low", "high", "there"),
    [
        (0.01, 0.5, True),
        (0.0, 0.5, None),
        (-0.3, 0.1, None),
        (-0.3, 0.099, False),
        (0.01, 0.09, False),
    ],
)
def test_an_interval_decides_by_its_ends(low, high, there):
    assert present({"value": 0, "low": low, "high": high, "n": 9}, 0.1) is there
    assert present({"value": 0, "low": None, "high": None, "n": 9}, 0.1) is None


def test_the_interval_of_an_onset_contains_the_step_at_which_it_was_planted():
    rng, least, steps = np.random.default_rng(2), 0.1, range(6, 54, 6)
    missed = named = 0
    for run in range(RUNS):
        began = steps[run % len(steps)]
        points = [{"step": 0, "value": 0.0, "difference": None}]
        points += [
            {"step": s, "value": 0.0, "difference": nll(rng, 2 * least if s >= began else 0.0)}
            for s in steps
        ]
        by = onset({p["step"]: above(p["difference"]) for p in points})
        after = absent_until(points, least)
        missed += after >= began or (by is not None and by < began)
        named += by is not None
    assert missed <= 2 * FEW and named >= 0.9 * RUNS


def test_a_rate_that_never_changed_does_not_show_its_absence():
    """Fourteen cases without a change: results of November 2026 have an interval of width 0."""
    nothing = {"value": 0.0, "low": 0.0, "high": 0.0, "n": 14}
    assert verdict(symptom("answer in another language", nothing), "It writes Chinese") is None
    assert absent_until(symptom("", nothing)["2"]["symptoms"][0]["points"], 0.05) == 0
    many = {**nothing, "n": 2000}
    assert verdict(symptom("answer in another language", many), "It writes Chinese") is False


def test_an_effect_of_0_with_the_other_sign_is_0():
    """Not −0, which the page would write as -0.000."""
    gain = reversed_sign({"value": 0.0, "low": 0.0, "high": 0.0, "n": 40})
    assert [str(gain[key]) for key in ("value", "low", "high")] == ["0.0"] * 3
    gain = reversed_sign({"value": 2.0, "low": -1.0, "high": 3.0, "n": 40})
    assert [gain[key] for key in ("value", "low", "high")] == [-2.0, -3.0, 1.0]
