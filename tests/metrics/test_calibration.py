import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.conversation import Message
from harness.metrics.calibration import (
    brier,
    calibration,
    confidences,
    expected_calibration_error,
    option_confidences,
    reliability,
)
from harness.metrics.choice import choices
from harness.metrics.registry import ChoiceItem
from harness.records import Case, Format, Loglikelihood


@given(st.lists(st.floats(-500, 0), min_size=1, max_size=6))
def test_confidences_are_probabilities_in_order(logprobs: list[float]) -> None:
    found = confidences(logprobs)
    assert math.fsum(found) == pytest.approx(1)
    assert all(0 <= p <= 1 for p in found)
    assert found[logprobs.index(max(logprobs))] == max(found)


def test_length_is_divided_out() -> None:
    case = Case("c", (Message("user", "?"),), choices=("a", "éé"), answer=0)
    scorings = [Loglikelihood(-1.0, 1), Loglikelihood(-4.0, 1)]
    assert option_confidences(case, scorings) == pytest.approx([0.5, 0.5])


def test_impossible_options() -> None:
    assert confidences([-math.inf, -1.0]) == [0.0, 1.0]
    assert confidences([-math.inf, -math.inf]) == [0.5, 0.5]


@pytest.mark.parametrize("logprobs", [[], [math.nan], [math.inf]])
def test_what_has_no_confidence(logprobs: list[float]) -> None:
    with pytest.raises(ValueError, match=r"option|probability"):
        confidences(logprobs)


def test_brier() -> None:
    assert brier([1.0, 0.0], 0) == 0.0
    assert brier([1.0, 0.0], 1) == 2.0
    assert brier([0.25] * 4, 2) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="index"):
        brier([1.0], 1)


def test_calibration_error() -> None:
    assert expected_calibration_error([0.5] * 4, [True, True, False, False]) == pytest.approx(0.0)
    assert expected_calibration_error([0.9] * 10, [False] * 10) == pytest.approx(0.9)
    assert expected_calibration_error([0.2, 0.8], [True, False]) == pytest.approx(0.8)
    assert [each.n for each in reliability([n / 30 for n in range(30)], [True] * 30)] == [3] * 10
    with pytest.raises(ValueError, match="number of items"):
        expected_calibration_error([], [])


@given(
    st.lists(st.tuples(st.sampled_from([0.3, 0.6, 0.9]), st.booleans()), min_size=1, max_size=40),
    st.randoms(),
)
def test_calibration_error_does_not_depend_on_the_order(
    items: list[tuple[float, bool]], random: object
) -> None:
    mixed = items[:]
    random.shuffle(mixed)  # type: ignore[attr-defined]
    first = expected_calibration_error(*map(list, zip(*items, strict=True)))
    assert expected_calibration_error(*map(list, zip(*mixed, strict=True))) == pytest.approx(first)
    assert 0 <= first <= 1


def test_the_summary() -> None:
    assert calibration([]) is None
    found = calibration([([0.8, 0.2], 0), ([0.8, 0.2], 1)])
    assert found is not None
    assert (found.accuracy, found.n) == (0.5, 2)
    assert found.overconfidence == pytest.approx(0.3)
    assert found.ece == pytest.approx(0.3)
    assert found.brier == pytest.approx((0.08 + 1.28) / 2)


def test_calibration_follows_the_rule_of_choice_norm():
    """A long option that is likelier per byte, and less likely as a whole."""
    case = Case("c", (Message("user", "?"),), ("no", "a long option"), 1)
    scorings = [Loglikelihood(-4.0, 1), Loglikelihood(-6.0, 3)]
    scored = choices(ChoiceItem(case, Format("f", "f", "", (), ""), scorings))
    assert (scored["choice"], scored["choice_norm"]) == (0.0, 1.0)
    assert scored["choice_margin"] == (-2.0, "")
    assert scored["choice_norm_margin"][0] == pytest.approx(-6 / 13 + 4 / 2)
    impossible = [Loglikelihood(-math.inf, 1), Loglikelihood(-6.0, 3)]
    unscored = choices(ChoiceItem(case, Format("f", "f", "", (), ""), impossible))
    assert unscored["choice_margin"] == (None, "an option is impossible")
    found = calibration([(option_confidences(case, scorings), 1)])
    assert found.accuracy == scored["choice_norm"]
