"""The gate's pytest hooks, which eval/conftest.py imports; run_gate.py decides.

The evaluation runs once, before collection, because the tests are its checks. ``--collect-only``
runs it too; what was computed before is taken from the results file. Every option begins with
``--gate-``, so that a repository's own ``--model`` is none of ours. The gate runs only when its
folder was asked for: in plain ``pytest`` of a repository its one test is skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import warnings
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.gate.messages import describe, github_lines, summary_lines
from harness.gate.pull_request import write_comment, write_refusal
from harness.gate.run_gate import GateOptions, GateResult, run_gate, write_results
from harness.gate.thresholds import read_gate_table
from harness.records import GateCheck
from harness.terminal import visible

__all__ = [
    "pytest_addoption",
    "pytest_collection",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_runtestloop",
    "pytest_sessionstart",
    "pytest_terminal_summary",
]

_RESULT = pytest.StashKey[GateResult]()
_WRITTEN = pytest.StashKey[bool]()
_ASKED = pytest.StashKey[bool]()
_UNASKED = "the gate runs when it is asked for: pytest eval/"
_NO_MODEL = "no model: pytest eval/ --gate-model PATH|NAME, or model in [gate] of thresholds.toml"


def _update_mode(word: str) -> str:
    if word not in ("all", "new"):
        raise argparse.ArgumentTypeError(
            f"{word!r} is neither all nor new: "
            "put --gate-update-baseline last, or write --gate-update-baseline=all"
        )
    return word


_REPEATABLE: dict[str, Any] = {"action": "append", "default": []}
_OPTIONS: dict[str, dict[str, Any]] = {
    "--gate-model": {
        "metavar": "PATH|NAME",
        "help": "model folder, .gguf file, hub id or SmolLM2-135M-Instruct",
    },
    "--gate-adapter": {
        "metavar": "DIR",
        "help": 'LoRA adapter to put on the model; "" for the model without the stored one',
    },
    "--gate-native": {
        "metavar": "ID",
        "help": "the model's native format, when its template equals none of the known ones",
    },
    "--gate-endpoint": {
        "metavar": "URL",
        "help": "OpenAI-compatible server that runs the model; its key is in OPENAI_API_KEY",
    },
    "--gate-artefact": {
        "metavar": "FILE|NAME",
        "help": "judge a shipped file of the model in its own runtime by the model's baseline: a "
        ".gguf file, ollama/NAME, or with --gate-endpoint its name on that server",
    },
    "--gate-baseline": {
        "metavar": "FILE",
        "help": "numbers to compare with; without it absolute limits are checked",
    },
    "--gate-update-baseline": {
        "metavar": "all|new",
        "nargs": "?",
        "const": "all",
        "type": _update_mode,
        "help": "write this run's numbers to the baseline instead of judging them; "
        "=new adds only what the baseline does not have, and judges the rest",
    },
    "--gate-strict": {
        "action": "store_true",
        "help": "an inconclusive check fails",
    },
    "--gate-require": {
        "metavar": "RULE",
        "help": 'require this of a mean, such as "held_out.stopped >= .9"; may be repeated',
        **_REPEATABLE,
    },
    "--gate-report-dir": {
        "metavar": "DIR",
        "help": "write report.json, .md and .html there, comment.md for a pull request, and keep "
        "the results there (default build/gate)",
    },
    "--gate-formats": {
        "metavar": "ID,…",
        "help": "these formats: ids, globs, sets (common, all) or draws (grammar:N:seed=S); "
        "default: the baseline's, or common, and all of --gate-formats-dir",
    },
    "--gate-metrics": {
        "metavar": "FILE.py",
        "help": "declare metrics of your own (docs/add-a-metric.md); may be repeated",
        **_REPEATABLE,
    },
    "--gate-formats-dir": {
        "metavar": "DIR",
        "help": "a folder of your own formats; may be repeated",
        **_REPEATABLE,
    },
    "--gate-cases": {
        "metavar": "FILE",
        "help": "cases instead of the shipped ones; may be repeated",
        **_REPEATABLE,
    },
    "--gate-limit": {"metavar": "N", "type": int, "help": "at most N cases of each kind"},
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The gate's options. The value of ``--gate-flag`` is ``gate_flag``."""
    group = parser.getgroup("gate", "does a model still work in every prompt format?")
    for flag, facts in _OPTIONS.items():
        group.addoption(flag, dest=flag[2:].replace("-", "_"), **facts)


def pytest_configure(config: pytest.Config) -> None:
    """Silence a warning of torch."""
    config.addinivalue_line(
        "filterwarnings", "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse pytest-xdist for the gate alone, since every worker would load the model.

    A conftest that is loaded only while tests are collected gets no such call: then the gate was
    not asked for.
    """
    config = session.config
    config.stash[_ASKED] = True
    if _distributed(config) and len(config.args) == 1:
        raise pytest.UsageError(
            "the gate runs one model once and batches by itself: leave out -n (pytest-xdist)"
        )


def _distributed(config: pytest.Config) -> bool:
    return bool(
        hasattr(config, "workerinput")
        or config.getoption("numprocesses", None)
        or config.getoption("dist", "no") != "no"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Evaluate and judge. A user error ends the session with one line and exit code 4."""
    config = session.config
    if _distributed(config):
        return
    with _as_user_sees(config):
        options = _options(config)
        if options.model:
            config.stash[_RESULT] = _judged(options)


def _judged(options: GateOptions) -> GateResult:
    try:
        return run_gate(options)
    except HarnessError as error:
        write_refusal(options, error)
        raise


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each check, named ``format-metric``; one that is skipped without a run."""
    if "check" not in metafunc.fixturenames:
        return
    config = metafunc.config
    result = config.stash.get(_RESULT, None)
    if result is None:
        if not config.stash.get(_ASKED, False):
            reason = _UNASKED
        else:
            reason = "the gate does not run under -n" if _distributed(config) else _NO_MODEL
        skipped = pytest.param(None, marks=pytest.mark.skip(reason=reason), id="gate")
        metafunc.parametrize("check", [skipped])
        return
    checks = [_param(check, strict=result.options.strict) for check in result.checks]
    metafunc.parametrize("check", checks)


def _param(check: GateCheck, *, strict: bool) -> Any:
    """A check as a test. An inconclusive one is skipped with its numbers: it has not passed."""
    name = f"{check.format}-{check.metric}".replace(" ", "-")
    if check.outcome != "inconclusive" or strict:
        return pytest.param(check, id=name)
    reason = "; ".join(describe(check).splitlines())
    return pytest.param(check, id=name, marks=pytest.mark.skip(reason=reason))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Write the report and the baseline, unless tests are only collected or collecting failed."""
    config = session.config
    result = config.stash.get(_RESULT, None)
    if result is None or config.option.collectonly or session.testsfailed:
        return
    with _as_user_sees(config):
        write_results(result)
        write_comment(result)
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
            for line in github_lines(result.checks):
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


def _given(flag: str | None, stored: str | None) -> str | None:
    """The flag where it is given: "" means none, whatever the table says."""
    return stored if flag is None else flag or None


def _options(config: pytest.Config) -> GateOptions:
    """The flags, and for what they leave open the table ``[gate]`` of thresholds.toml."""
    option, here = config.option, config.invocation_params.dir
    if option.gate_limit is not None and option.gate_limit < 1:
        raise HarnessError(f"--gate-limit {option.gate_limit}: at least 1 case")
    tests = tuple(
        os.path.relpath(arg, here) if Path(arg).is_absolute() else arg for arg in config.args
    )
    empty = GateOptions("", tests=tests, root=here)
    stored = read_gate_table(empty.thresholds)
    formats = tuple(name.strip() for name in (option.gate_formats or "").split(",") if name.strip())
    baseline = _given(option.gate_baseline, stored.baseline)
    return replace(
        empty,
        model=option.gate_model or stored.model,
        adapter=_given(option.gate_adapter, stored.adapter),
        native=_given(option.gate_native, stored.native),
        endpoint=_given(option.gate_endpoint, stored.endpoint),
        artefact=option.gate_artefact,
        baseline=Path(baseline) if baseline else None,
        update=option.gate_update_baseline == "all",
        add_new=option.gate_update_baseline == "new",
        require=tuple(option.gate_require),
        strict=option.gate_strict or stored.strict,
        folder=Path(option.gate_report_dir or here / "build" / "gate"),
        report=bool(option.gate_report_dir),
        formats=formats or tuple(stored.formats),
        formats_dirs=tuple(option.gate_formats_dir or stored.formats_dir),
        cases=tuple(option.gate_cases or stored.cases),
        metrics=tuple(option.gate_metrics or stored.metrics),
        limit=option.gate_limit or stored.limit,
        stored=stored,
    )
