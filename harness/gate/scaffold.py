"""The files with which a user gates a model in a repository of their own."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

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
    thresholds = root / options.tests[0] / THRESHOLDS_FILE
    texts[thresholds] = _with_gate_table(texts[thresholds], options)
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


def _with_gate_table(text: str, options: GateOptions) -> str:
    """The shipped thresholds with the user's ``[gate]`` in place of the example."""
    start = text.index("# [gate]\n")
    end = text.index("\n\n", start)
    return text[:start] + gate_table(options) + text[end:]


def gate_table(options: GateOptions) -> str:
    """``[gate]`` of these options as TOML, so that ``pytest eval/`` alone measures the same."""
    values: dict[str, Any] = {
        "model": options.model,
        "adapter": options.adapter,
        "native": options.native,
        "endpoint": options.endpoint,
        "formats": list(options.formats),
        "formats_dir": list(options.formats_dirs),
        "cases": list(options.cases),
        "metrics": list(options.metrics),
        "limit": options.limit,
        "baseline": suggested_baseline(options).as_posix(),
        "strict": options.strict,
    }
    # A JSON string or list of strings is TOML too, but for surrogates and the delete character.
    lines = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
        for key, value in values.items()
        if value
    ]
    return "\n".join(["[gate]", *lines])


def local_path(options: GateOptions) -> bool:
    """Whether the model is a folder or file, which a runner of GitHub Actions has to be given."""
    model = options.model
    return options.endpoint is None and (
        model.startswith((".", "/", "~")) or model.endswith(".gguf") or Path(model).exists()
    )


def workflow(options: GateOptions) -> str:
    """A workflow for GitHub Actions: install, gate, keep the report whatever the outcome."""
    thresholds = (Path(options.tests[0]) / THRESHOLDS_FILE).as_posix()
    command = f"pytest {shlex.quote(options.tests[0])}"
    command += " --gate-report-dir build/gate --junitxml build/gate/junit.xml"
    missing = (
        f"# {options.model} is a path: commit it, or add a step that fetches it before the gate.\n"
        if local_path(options)
        else ""
    )
    return f"""# Does the model still work in the prompt formats that people use?
# Written by harness gate init; yours to change. What it measures is in {thresholds}.
{missing}name: format gate
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
      - name: Install
        run: |  # uv, because it knows where the CPU build of torch is
          python -m pip install uv
          uv pip install --system --torch-backend cpu {shlex.quote(package(options))}
      - name: Gate
        run: {command}
      - name: Keep the report
        if: always()
        uses: actions/upload-artifact@v4
        with:
          name: format-gate
          path: build/gate
"""
