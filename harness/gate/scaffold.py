"""The files with which a user gates a model in a repository of their own."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.errors import HarnessError
from harness.gate.run_gate import GateOptions, suggested_baseline
from harness.gate.thresholds import THRESHOLDS_FILE
from harness.resources import data_dir

WORKFLOW = Path(".github") / "workflows" / "format-gate.yml"
#: What the gate's folder holds, copied from the shipped one, so that a user can read and change it.
SHIPPED = ("conftest.py", "test_gate.py", THRESHOLDS_FILE)


def package(options: GateOptions) -> str:
    """The distribution with the extras that the gate of this model needs."""
    extras = "gate,gguf" if options.model.endswith(".gguf") else "gate"
    return f"formatproof[{extras}]"


def write_gate(root: Path, options: GateOptions, *, force: bool = False) -> list[Path]:
    """Write the gate's folder, its thresholds and the workflow. ``options.tests`` is that folder.

    Raises HarnessError, having written nothing, when one of the files exists already.
    """
    texts = {
        root / options.tests[0] / name: (data_dir("eval") / name).read_text(encoding="utf-8")
        for name in SHIPPED
    }
    texts[root / WORKFLOW] = workflow(options)
    existing = ", ".join(str(path) for path in texts if path.exists())
    if existing and not force:
        raise HarnessError("exists already", where=existing, hint="--force replaces it")
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"cannot write: {error.strerror}", where=str(error.filename)) from None
    return list(texts)


def workflow(options: GateOptions) -> str:
    """A workflow for GitHub Actions: install, gate, keep the report whatever the outcome."""
    command = options.command(baseline=suggested_baseline(options))
    command += " --report-dir build/gate --junitxml build/gate/junit.xml"
    return f"""# Does the model still work in the prompt formats that people use?
# Written by harness gate init; yours to change.
name: format gate
on:
  pull_request:
  workflow_dispatch:
jobs:
  gate:
    runs-on: ubuntu-latest
    timeout-minutes: 60
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
          cache: pip
          cache-dependency-path: {WORKFLOW.as_posix()}
      - name: Install
        run: python -m pip install {shlex.quote(package(options))}
      - name: Gate
        run: {command}
      - name: Keep the report
        if: always()
        uses: actions/upload-artifact@v4
        with:
          name: format-gate
          path: build/gate
"""
