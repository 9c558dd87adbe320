"""The files with which a user gates a model in a repository of their own."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from textwrap import indent
from typing import Any
from urllib.parse import urlsplit

from harness.errors import HarnessError
from harness.gate.pull_request import COMMENT_FILE, COMMENTS, POST_COMMENT
from harness.gate.run_gate import GateOptions, suggested_baseline
from harness.gate.thresholds import THRESHOLDS_FILE
from harness.models.source import OLLAMA
from harness.resources import data_dir

WORKFLOW = Path(".github") / "workflows" / "format-gate.yml"
#: What the gate's folder holds, copied from the shipped one, so that a user can read and change it.
SHIPPED = ("conftest.py", "test_gate.py", THRESHOLDS_FILE)


def packages(options: GateOptions) -> list[str]:
    """What to install for this gate. A model behind a server needs no torch."""
    if options.endpoint is not None or options.model.startswith(OLLAMA):
        return ["formatproof", "pytest"]
    extras = "gate,gguf" if options.model.endswith(".gguf") else "gate"
    return [f"formatproof[{extras}]"]


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


def missing_on_a_runner(options: GateOptions) -> list[str]:
    """What a runner of GitHub Actions does not have, a sentence each: paths, a server at home."""
    paths = [] if options.endpoint is not None else [options.model]
    local = [
        name
        for name in paths
        if name.startswith((".", "/", "~")) or name.endswith(".gguf") or Path(name).exists()
    ]
    local += [options.adapter] if options.adapter and options.endpoint is None else []
    sentences = [
        f"{name} is a path: commit it, or add a step that fetches it before the gate"
        for name in local
    ]
    sentences += [
        f"{name} is outside the repository: copy it into it"
        for name in (*options.formats_dirs, *options.cases, *options.metrics)
        if Path(name).is_absolute() or ".." in Path(name).parts
    ]
    host = urlsplit(options.endpoint or "").hostname or ""
    if host in ("localhost", "127.0.0.1", "::1"):
        sentences.append(f"{options.endpoint} is this machine: add a step that starts the server")
    if options.model.startswith(OLLAMA):
        sentences.append(f"{options.model} needs Ollama: add a step that starts it")
    return sentences


def workflow(options: GateOptions) -> str:
    """A workflow for GitHub Actions: install, gate, keep the report whatever the outcome, comment.

    The comment is left out for a fork, whose token may not write; the job's summary has its text.
    """
    thresholds = (Path(options.tests[0]) / THRESHOLDS_FILE).as_posix()
    command = f"pytest {shlex.quote(options.tests[0])}"
    command += " --gate-report-dir build/gate --junitxml build/gate/junit.xml"
    missing = "".join(f"# {sentence}.\n" for sentence in missing_on_a_runner(options))
    key = (
        "\n        env:\n          OPENAI_API_KEY: ${{ secrets.OPENAI_API_KEY }}  # if it needs one"
    )
    comment = indent(POST_COMMENT, " " * 10)
    install = shlex.join(packages(options))
    return f"""# Does the model still work in the prompt formats that people use?
# Written by harness gate init; yours to change. What it measures is in {thresholds}.
{missing}name: format gate
on:
  pull_request:
  workflow_dispatch:
permissions:
  contents: read
  pull-requests: write
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
          uv pip install --system --torch-backend cpu {install}
      - name: Gate{key * (options.endpoint is not None)}
        run: {command}
      - name: Keep the report
        if: always()
        uses: actions/upload-artifact@v4
        with:
          name: format-gate
          path: build/gate
      - name: Comment
        if: >-
          always() && github.event_name == 'pull_request' &&
          github.event.pull_request.head.repo.full_name == github.repository
        shell: bash
        env:
          GH_TOKEN: ${{{{ github.token }}}}
          COMMENTS: {COMMENTS}
          COMMENT: build/gate/{COMMENT_FILE}
        run: |
{comment}"""
