"""One test for each format and metric: pytest eval/ --model PATH|NAME --baseline FILE."""

import pytest

from harness.gate.messages import describe
from harness.records import GateCheck


def test_gate(verdict: GateCheck) -> None:
    """A metric must not have lost more than its margin against the baseline."""
    if verdict.failed:
        pytest.fail(describe(verdict), pytrace=False)
