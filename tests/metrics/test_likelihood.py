"""The cost of a reference, in every format by the native format's count of tokens."""

import pytest

from harness.metrics.likelihood import reference_nll
from harness.metrics.registry import ReferenceItem
from harness.records import Case, Format, Loglikelihood, Message

CASE = Case("r", (Message("user", "q"),), reference="a b c")
FORMAT = Format("toy", "toy", "", (), "")


def test_formats_are_compared_by_the_native_count_of_tokens():
    """A format that splits the same words into twice as many tokens is not half as expensive."""
    item = ReferenceItem(CASE, FORMAT, Loglikelihood(-12.0, 8), Loglikelihood(-8.0, 4))
    assert reference_nll(item) == {"nll": pytest.approx(3.0), "nll_excess": pytest.approx(1.0)}
    alone = ReferenceItem(CASE, FORMAT, Loglikelihood(-12.0, 8), None)
    assert reference_nll(alone)["nll"] == pytest.approx(1.5)
    assert reference_nll(alone)["nll_excess"][0] is None
