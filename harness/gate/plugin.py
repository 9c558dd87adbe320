"""The pytest hooks of the gate. eval/conftest.py imports them; all that they decide is decided in judge.py.

The evaluation runs once, before collection, because the tests are its cells. ``--collect-only`` runs it
too; what was computed before is taken from the results file.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import warnings
from collections.abc import Generator
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.gate.messages import github_lines, summary_lines
from harness.gate.run_gate import GateOptions, GateResult, run_gate, write_results
from harness.records import Verdict

__all__ = [
    "pytest_addoption",
    "pytest_collection",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_runtestloop",
    "pytest_terminal_summary",
]

_JUDGEMENT = pytest.StashKey[GateResult]()
_KEPT = pytest.StashKey[bool]()
_USAGE = "the gate needs a model: pytest eval/ --model PATH|NAME [--baseline FILE]"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The gate's options."""
    group = parser.getgroup("gate", "does a model still work in every prompt format?")
    group.addoption(
        "--model",
        dest="gate_model",
        metavar="PATH|NAME",
        help="model folder, .gguf file, hub id or SmolLM2-135M-Instruct",
    )
    group.addoption(
        "--adapter", dest="gate_adapter", metavar="DIR", help="LoRA adapter to put on the model"
    )
    group.addoption(
        "--baseline",
        dest="gate_baseline",
        metavar="FILE",
        help="numbers to compare with; without it absolute limits are checked",
    )
    group.addoption(
        "--update-baseline",
        dest="gate_update",
        nargs="?",
        const="all",
        type=_update_mode,
        metavar="all|new",
        help="write this run's numbers to the baseline instead of judging them; =new adds only what the baseline does not have, and judges the rest",
    )
    group.addoption(
        "--require",
        dest="gate_require",
        metavar="DEMAND",
        action="append",
        default=[],
        help='judge by this, such as "held_out.stopped >= .9"; may be repeated',
    )
    group.addoption(
        "--report-dir",
        dest="gate_report_dir",
        metavar="DIR",
        help="write report.json, .md and .html there, and keep the results there (default build/gate)",
    )
    group.addoption(
        "--formats",
        dest="gate_formats",
        metavar="ID,…",
        help="these formats: ids, globs, sets (common, all) or draws (grammar:N:seed=S); default: common, and all of --formats-dir",
    )
    group.addoption(
        "--formats-dir",
        dest="gate_formats_dirs",
        metavar="DIR",
        action="append",
        default=[],
        help="a folder of your own formats; may be repeated",
    )
    group.addoption(
        "--cases",
        dest="gate_cases",
        metavar="FILE",
        action="append",
        default=[],
        help="cases instead of the shipped ones; may be repeated",
    )
    group.addoption(
        "--limit", dest="gate_limit", metavar="N", type=int, help="at most N cases of each kind"
    )


def _update_mode(word: str) -> str:
    if word not in ("all", "new"):
        raise argparse.ArgumentTypeError(
            f"{word!r} is neither all nor new: put --update-baseline last, or write --update-baseline=all"
        )
    return word


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Refuse pytest-xdist: every worker would load the model again. Keep a warning of torch about itself from the user."""
    if config.getoption("numprocesses", None) or config.getoption("dist", "no") != "no":
        raise pytest.UsageError(
            "the gate runs one model once and batches by itself: leave out -n (pytest-xdist)"
        )
    config.addinivalue_line(
        "filterwarnings", "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Evaluate and judge. A mistake of the user's ends the session with its one line and exit code 4."""
    config = session.config
    with _as_user_sees(config):
        config.stash[_JUDGEMENT] = run_gate(_options(config))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each verdict, named ``format-measure``."""
    if "verdict" not in metafunc.fixturenames:
        return
    result = metafunc.config.stash.get(_JUDGEMENT, None)
    if (
        result is None
    ):  # collected by a session that did not start in this folder, so the options are unknown to it
        raise pytest.Collector.CollectError(_USAGE)
    metafunc.parametrize("verdict", result.verdicts, ids=_test_id)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Write the report and the baseline, unless only the list of tests was asked for or collecting failed."""
    config = session.config
    result = config.stash.get(_JUDGEMENT, None)
    if result is None or config.option.collectonly or session.testsfailed:
        return
    with _as_user_sees(config):
        write_results(result)
    config.stash[_KEPT] = True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None, None, None]:
    """Our summary after pytest's own, so that the next command stands at the end."""
    yield
    result = config.stash.get(_JUDGEMENT, None)
    if result is not None and config.stash.get(_KEPT, False):
        terminalreporter.section("gate")
        for line in summary_lines(result):
            terminalreporter.write_line(line)
        if os.environ.get("GITHUB_ACTIONS") == "true":
            for line in github_lines(result.verdicts):
                terminalreporter.write_line(line)


@contextlib.contextmanager
def _as_user_sees(config: pytest.Config) -> Generator[None, None, None]:
    """Progress is shown, a HarnessError is a usage error, and a library's warning never fails the gate.

    The last because pytest's ``filterwarnings = error`` is meant for the tests of a project, not for a
    model that happens to be run below them.
    """
    capture = config.pluginmanager.getplugin("capturemanager")
    shown = capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()
    try:
        with shown, warnings.catch_warnings():
            warnings.simplefilter("default")
            yield
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from None


def _test_id(verdict: Verdict) -> str:
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
        update=option.gate_update == "all",
        add_new=option.gate_update == "new",
        require=tuple(option.gate_require),
        folder=Path(option.gate_report_dir or here / "build" / "gate"),
        report=bool(option.gate_report_dir),
        formats=tuple(
            name.strip() for name in (option.gate_formats or "").split(",") if name.strip()
        ),
        formats_dirs=tuple(option.gate_formats_dirs),
        cases=tuple(option.gate_cases),
        limit=option.gate_limit,
        tests=tuple(
            os.path.relpath(arg, here) if Path(arg).is_absolute() else arg for arg in config.args
        ),
        root=here,
    )
