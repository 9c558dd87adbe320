"""NLL of a reference, per token of the native format."""

from __future__ import annotations

import pytest

from harness.conversation import Message
from harness.metrics.likelihood import reference_nll
from harness.metrics.registry import ReferenceItem
from harness.records import Case, Format, Loglikelihood

CASE = Case("c", (Message("user", "?"),), reference="a reference")
FORMAT = Format("f", "f", "", (), "")


def nll(here: Loglikelihood, native: Loglikelihood | None):
    return reference_nll(ReferenceItem(CASE, FORMAT, here, native))


def test_both_formats_are_divided_by_the_native_tokens():
    assert nll(Loglikelihood(-12.0, 6), Loglikelihood(-8.0, 4)) == {
        "nll": 3.0,
        "nll_excess": pytest.approx(1.0),
    }


def test_without_a_native_format_its_own_tokens_count_and_there_is_no_excess():
    found = nll(Loglikelihood(-12.0, 6), None)
    assert found["nll"] == 2.0 and found["nll_excess"][0] is None


def test_a_reference_without_a_token_is_not_scored():
    for found in (
        nll(Loglikelihood(0.0, 0), None),
        nll(Loglikelihood(-1.0, 1), Loglikelihood(0.0, 0)),
    ):
        assert found["nll"][0] is None and found["nll_excess"][0] is None
