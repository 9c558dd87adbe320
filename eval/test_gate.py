"""One test for each format and measure: pytest eval/ --model PATH|NAME --baseline FILE."""

import pytest

from harness.gate.messages import describe
from harness.records import Verdict


def test_gate(verdict: Verdict) -> None:
    """A measure must not have lost more than its margin against the baseline."""
    if verdict.failed:
        pytest.fail(describe(verdict), pytrace=False)
