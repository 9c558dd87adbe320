"""What all tests share: hypothesis' settings, the tiny model and its tokenizer."""

from __future__ import annotations

import os
from pathlib import Path
from random import SystemRandom

import pytest
from hypothesis import HealthCheck, settings

from tests.device import choose, chosen_device
from tests.tiny import build_model, build_tokenizer

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_addoption(parser: pytest.Parser) -> None:
    about = "load models here: cpu, cuda, cuda:1 (tests marked cpu_only are then skipped)"
    parser.addoption("--device", default="cpu", help=about)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the device, and let hypothesis draw its examples."""
    use_device(config.getoption("--device"))
    draw_examples(config)


def use_device(name: str) -> None:
    """Load models onto this device, and let what picks one by itself pick it too.

    For the CPU cards are hidden, from the processes that tests start as well.
    """
    if name.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise pytest.UsageError(f"--device {name}: torch sees no CUDA device here")
    elif name.startswith("cpu"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    choose(name)


def draw_examples(config: pytest.Config) -> None:
    """Let hypothesis draw the same examples at each run on a desk, and new ones in CI.

    With ``CI=true``, and in the long run (``HYPOTHESIS_EXAMPLES=10000``), the examples come from a
    fresh seed that is printed at the end. ``pytest --hypothesis-seed=N`` draws them again, and a
    failing test prints a ``@reproduce_failure`` line that replays its one example.
    No property depends on the machine's speed, so there is no deadline.
    """
    draws_new = os.environ.get("CI") or "HYPOTHESIS_EXAMPLES" in os.environ
    if draws_new and config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(SystemRandom().randrange(2**32))
    seeded = config.option.hypothesis_seed is not None
    settings.register_profile(
        "suite",
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        derandomize=not seeded,
        print_blob=seeded,
    )
    settings.load_profile("suite")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how to draw hypothesis' examples again."""
    if seed := terminalreporter.config.option.hypothesis_seed:
        terminalreporter.write_line(f"hypothesis: --hypothesis-seed={seed} repeats these examples")


_LOCAL = {"tokenizer", "tiny_model", "tiny"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the tiny model: ``tox -e light`` has no torch and leaves it out.

    On another device than the CPU, skip what is about the CPU.
    """
    for item in items:
        reason = item.get_closest_marker("cpu_only")
        if reason and not chosen_device().startswith("cpu"):
            item.add_marker(pytest.mark.skip(reason=reason.args[0]))
        if _LOCAL & set(getattr(item, "fixturenames", ())):
            item.add_marker("local")


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
    """The tiny model, loaded in float32 on the device of --device."""
    from harness.models import load

    return load(str(tiny_model), dtype="float32", device=chosen_device())
