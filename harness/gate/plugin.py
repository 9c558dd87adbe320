"""The gate's pytest hooks, which eval/conftest.py imports; run_gate.py decides.

The evaluation runs once, before collection, because the tests are its verdicts. ``--collect-only``
runs it too; what was computed before is taken from the results file.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.gate.messages import github_lines, summary_lines
from harness.gate.run_gate import GateOptions, GateResult, run_gate, write_results
from harness.records import GateCheck
from harness.terminal import visible

__all__ = [
    "pytest_addoption",
    "pytest_collection",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_runtestloop",
    "pytest_terminal_summary",
]

_RESULT = pytest.StashKey[GateResult]()
_WRITTEN = pytest.StashKey[bool]()
_USAGE = "the gate needs a model: pytest eval/ --model PATH|NAME [--baseline FILE]"


def _update_mode(word: str) -> str:
    if word not in ("all", "new"):
        raise argparse.ArgumentTypeError(
            f"{word!r} is neither all nor new: "
            "put --update-baseline last, or write --update-baseline=all"
        )
    return word


_REPEATABLE: dict[str, Any] = {"action": "append", "default": []}
_OPTIONS: dict[str, dict[str, Any]] = {
    "--model": {
        "metavar": "PATH|NAME",
        "help": "model folder, .gguf file, hub id or SmolLM2-135M-Instruct",
    },
    "--adapter": {"metavar": "DIR", "help": "LoRA adapter to put on the model"},
    "--baseline": {
        "metavar": "FILE",
        "help": "numbers to compare with; without it absolute limits are checked",
    },
    "--update-baseline": {
        "metavar": "all|new",
        "nargs": "?",
        "const": "all",
        "type": _update_mode,
        "help": "write this run's numbers to the baseline instead of judging them; "
        "=new adds only what the baseline does not have, and judges the rest",
    },
    "--require": {
        "metavar": "RULE",
        "help": 'require this of a mean, such as "held_out.stopped >= .9"; may be repeated',
        **_REPEATABLE,
    },
    "--report-dir": {
        "metavar": "DIR",
        "help": "write report.json, .md and .html there, and keep the results there "
        "(default build/gate)",
    },
    "--formats": {
        "metavar": "ID,…",
        "help": "these formats: ids, globs, sets (common, all) or draws (grammar:N:seed=S); "
        "default: the baseline's, or common, and all of --formats-dir",
    },
    "--metrics": {
        "metavar": "FILE.py",
        "help": "declare metrics of your own (docs/add-a-metric.md); may be repeated",
        **_REPEATABLE,
    },
    "--formats-dir": {
        "metavar": "DIR",
        "help": "a folder of your own formats; may be repeated",
        **_REPEATABLE,
    },
    "--cases": {
        "metavar": "FILE",
        "help": "cases instead of the shipped ones; may be repeated",
        **_REPEATABLE,
    },
    "--limit": {"metavar": "N", "type": int, "help": "at most N cases of each kind"},
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The gate's options. The value of ``--flag`` is ``gate_flag``, apart from pytest's own."""
    group = parser.getgroup("gate", "does a model still work in every prompt format?")
    for flag, facts in _OPTIONS.items():
        group.addoption(flag, dest=f"gate_{flag[2:].replace('-', '_')}", **facts)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Refuse pytest-xdist, since every worker would load the model; silence a warning of torch."""
    if config.getoption("numprocesses", None) or config.getoption("dist", "no") != "no":
        raise pytest.UsageError(
            "the gate runs one model once and batches by itself: leave out -n (pytest-xdist)"
        )
    config.addinivalue_line(
        "filterwarnings", "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Evaluate and judge. A user error ends the session with one line and exit code 4."""
    config = session.config
    with _as_user_sees(config):
        config.stash[_RESULT] = run_gate(_options(config))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each verdict, named ``format-metric``."""
    if "verdict" not in metafunc.fixturenames:
        return
    result = metafunc.config.stash.get(_RESULT, None)
    if result is None:  # the session started in another folder and does not know the options
        raise pytest.Collector.CollectError(_USAGE)
    metafunc.parametrize("verdict", result.verdicts, ids=_test_id)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Write the report and the baseline, unless tests are only collected or collecting failed."""
    config = session.config
    result = config.stash.get(_RESULT, None)
    if result is None or config.option.collectonly or session.testsfailed:
        return
    with _as_user_sees(config):
        write_results(result)
    config.stash[_WRITTEN] = True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """Print our summary after pytest's own, so that the next command comes last."""
    yield
    result = config.stash.get(_RESULT, None)
    if result is not None and config.stash.get(_WRITTEN, False):
        terminalreporter.section("gate")
        for line in summary_lines(result):
            terminalreporter.write_line(line)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for line in github_lines(result.verdicts):
                terminalreporter.write_line(line)


@contextlib.contextmanager
def _as_user_sees(config: pytest.Config) -> Generator[None, None, None]:
    """Show progress, make a HarnessError a usage error, and let no library's warning fail the gate.

    The last because pytest's ``filterwarnings = error`` is meant for a project's tests, not for the
    model that runs below them.
    """
    capture = config.pluginmanager.getplugin("capturemanager")
    shown = capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()
    try:
        with shown, warnings.catch_warnings():
            warnings.simplefilter("default")
            yield
    except HarnessError as error:
        raise pytest.UsageError(visible(str(error))) from None


def _test_id(verdict: GateCheck) -> str:
    return f"{verdict.format}-{verdict.metric}".replace(" ", "-")


def _options(config: pytest.Config) -> GateOptions:
    option = config.option
    if not option.gate_model:
        raise HarnessError(_USAGE)
    if option.gate_limit is not None and option.gate_limit < 1:
        raise HarnessError(f"--limit {option.gate_limit}: at least 1 case")
    here = config.invocation_params.dir
    return GateOptions(
        model=option.gate_model,
        adapter=option.gate_adapter,
        baseline=Path(option.gate_baseline) if option.gate_baseline else None,
        update=option.gate_update_baseline == "all",
        add_new=option.gate_update_baseline == "new",
        require=tuple(option.gate_require),
        folder=Path(option.gate_report_dir or here / "build" / "gate"),
        report=bool(option.gate_report_dir),
        formats=tuple(
            name.strip() for name in (option.gate_formats or "").split(",") if name.strip()
        ),
        formats_dirs=tuple(option.gate_formats_dir),
        cases=tuple(option.gate_cases),
        metrics=tuple(option.gate_metrics),
        limit=option.gate_limit,
        tests=tuple(
            os.path.relpath(arg, here) if Path(arg).is_absolute() else arg for arg in config.args
        ),
        root=here,
    )
