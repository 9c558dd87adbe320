"""One test for each format and metric: pytest eval/ ([gate] in thresholds.toml)."""

import pytest

from harness.gate.messages import describe
from harness.records import GateCheck


def test_gate(check: GateCheck) -> None:
    """Nothing may have been lost for certain and beyond its tolerance against the baseline."""
    if check.outcome not in ("passed", "improved", "new"):
        pytest.fail(describe(check), pytrace=False)
