"""Adapters on a loaded base."""

import pytest

from harness.errors import HarnessError
from harness.models import load


def test_a_folder_that_is_no_adapter_is_reported(tiny_model, tmp_path):
    with pytest.raises(HarnessError, match=r"no adapter_config\.json"):
        load(str(tiny_model), adapter=str(tmp_path), dtype="float32", device="cpu")
