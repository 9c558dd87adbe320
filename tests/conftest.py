"""What all tests share: hypothesis' settings, the tiny model and its tokenizer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.tiny import build_model, build_tokenizer

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# No property hangs on the machine's speed: no deadline, and no complaint about slow drawing. The same examples at each run;
# HYPOTHESIS_EXAMPLES=10000 is the long run, which draws new ones.
settings.register_profile(
    "suite",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="HYPOTHESIS_EXAMPLES" not in os.environ,
)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A folder with a random two-layer Llama and its tokenizer."""
    folder = tmp_path_factory.mktemp("model") / "tiny"
    build_model(folder)
    return folder


@pytest.fixture
def tiny(tiny_model):
    """The tiny model, loaded in float32 on the CPU."""
    from harness.models import load

    return load(str(tiny_model), dtype="float32", device="cpu")
