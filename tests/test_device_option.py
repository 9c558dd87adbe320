"""``pytest --device`` reaches every test that loads a model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import pytest_collection_modifyitems, use_device
from tests.device import choose, chosen_device

TESTS = Path(__file__).parent
NAMES_THE_CPU = {
    "cli/test_guess_lines.py": "an option that a fake of load is given",
    "gate/conftest.py": "a recorded environment",
    "gate/test_baseline.py": "a recorded environment",
    "models/test_placement.py": "the CPU and a disk play two cards",
    "models/test_source.py": "a process of its own that loads nothing",
    "peers/test_lm_eval_log.py": "lm-evaluation-harness's own loading",
    "training/handwritten/test_gpu_passes.py": "the CPU plays a card",
    "training/test_memory_estimate.py": "the peak of a process, which a CPU's tensors are part of",
    "training/test_quantised.py": "the layout that bitsandbytes has on CPUs",
}
"""Files that load onto the CPU by design, or only write its name."""


def test_models_are_loaded_onto_the_chosen_device():
    """Whoever writes ``device="cpu"`` in a test says here why it is about the CPU."""
    named = {
        str(file.relative_to(TESTS))
        for file in TESTS.rglob("*.py")
        if file != Path(__file__)
        and re.search(r"""device(=|": ?)["']cpu["']""", file.read_text(encoding="utf-8"))
    }
    assert named == set(NAMES_THE_CPU)


@pytest.fixture
def device_after():
    before = chosen_device()
    yield
    choose(before)


class Item:
    """A test that is marked cpu_only."""

    fixturenames = ()

    def __init__(self):
        self.added = []

    def get_closest_marker(self, name):
        return pytest.mark.cpu_only("why").mark if name == "cpu_only" else None

    def add_marker(self, mark):
        self.added.append(mark)


@pytest.mark.parametrize(("device", "skipped"), [("cpu", 0), ("cpu:0", 0), ("cuda", 1)])
def test_tests_about_the_cpu_are_skipped_on_another_device(device_after, device, skipped):
    choose(device)
    item = Item()
    pytest_collection_modifyitems([item])
    assert [mark.mark.kwargs["reason"] for mark in item.added] == ["why"] * skipped


def test_a_card_that_is_not_there_is_refused(device_after, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(pytest.UsageError, match="no CUDA device here"):
        use_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    use_device("cuda:1")
    assert chosen_device() == "cuda:1"
