"""Canaries are drawn alike for training and null, and a remembered one is exposed."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.metrics.canaries import exposure, make_canaries
from harness.metrics.recall import extractable, samples_needed


def test_trained_and_null_share_form_and_nothing_else() -> None:
    trained, null = make_canaries(40, 1, copies=(1, 4)), make_canaries(40, 1, trained=False)
    assert len(trained) == 20 * 1 + 20 * 4 and len(null) == 40
    secrets = [{row.messages[1].content for row in rows} for rows in (trained, null)]
    assert len(secrets[0]) == 40 and not secrets[0] & secrets[1]
    assert len({row.id for row in (*trained, *null)}) == len(trained) + len(null)
    assert trained == make_canaries(40, 1, copies=(1, 4)) != make_canaries(40, 2, copies=(1, 4))
    with pytest.raises(ValueError, match="counted from 1"):
        make_canaries(3, 0, copies=(0,))


@given(st.lists(st.floats(-100, 0), min_size=1, max_size=200), st.floats(-100, 0))
def test_exposure_is_between_nothing_and_all_bits(null: list[float], logprob: float) -> None:
    assert 0.0 <= exposure(logprob, null) <= math.log2(len(null) + 1)


def test_what_was_not_learnt_has_one_bit_or_so() -> None:
    """A secret like the others has a uniform rank: E[log2((n+1)/rank)] → 1/ln 2 = 1.44 bits."""
    rng = random.Random(0)
    found = []
    for _ in range(2000):
        first, *rest = (rng.gauss(0, 1) for _ in range(128))
        found.append(exposure(first, rest))
    assert sum(found) / len(found) == pytest.approx(1 / math.log(2), abs=0.12)
    assert exposure(0.0, [-1.0] * 127) == 7.0
    with pytest.raises(ValueError, match="never trained on"):
        exposure(0.0, [])


def test_how_many_samples_it_takes() -> None:
    """Hayes 2024: n ≥ log(1 − p) ∕ log(1 − p_z)."""
    assert samples_needed(math.log(0.5), 0.5) == pytest.approx(1.0)
    assert samples_needed(math.log(0.01), 0.9) == pytest.approx(math.log(0.1) / math.log(0.99))
    assert samples_needed(0.0, 0.9) == 1.0
    assert samples_needed(-50.0, 0.5) == pytest.approx(math.log(2) * math.exp(50), rel=1e-6)
    assert samples_needed(-2000.0, 0.5) == math.inf
    assert extractable(math.log(0.01), n=100, p=0.5) and not extractable(
        math.log(0.001), n=100, p=0.5
    )
    with pytest.raises(ValueError, match="between 0 and 1"):
        samples_needed(-1.0, 1.0)
