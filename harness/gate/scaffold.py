"""The files with which a user gates a model in a repository of their own."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.gate.thresholds import THRESHOLDS_FILE
from harness.resources import data_dir

WORKFLOW = Path(".github") / "workflows" / "format-gate.yml"
#: What the gate's folder holds, copied from the shipped one, so that a user can read and change it.
SHIPPED = ("conftest.py", "test_gate.py", THRESHOLDS_FILE)
_NEEDS_GGUF = ".gguf"


@dataclass(frozen=True, slots=True)
class GatePlan:
    """The model to gate, its adapter if any, and what to measure."""

    model: str
    adapter: str | None = None
    formats: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    limit: int | None = None
    folder: str = "eval"

    @property
    def baseline(self) -> str:
        """Where the numbers of the accepted model are kept."""
        return f"{self.folder}/baselines/{Path(self.model).name}.json"

    @property
    def arguments(self) -> list[str]:
        """pytest's arguments, the same for making the baseline and for comparing with it."""
        words = [f"{self.folder}/", "--model", self.model]
        words += ["--adapter", self.adapter] if self.adapter else []
        words += ["--formats", ",".join(self.formats)] if self.formats else []
        words += [word for file in self.cases for word in ("--cases", file)]
        words += ["--limit", str(self.limit)] if self.limit is not None else []
        return [*words, "--baseline", self.baseline]

    @property
    def package(self) -> str:
        """The distribution with the extras that this model needs."""
        return "formatproof[gate,gguf]" if self.model.endswith(_NEEDS_GGUF) else "formatproof[gate]"


def write_gate(root: Path, plan: GatePlan, *, force: bool = False) -> list[Path]:
    """Write the gate's folder, its thresholds and the workflow.

    Raises HarnessError, having written nothing, when one of the files exists already.
    """
    texts = {
        root / plan.folder / name: (data_dir("eval") / name).read_text(encoding="utf-8")
        for name in SHIPPED
    }
    texts[root / WORKFLOW] = workflow(plan)
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


def workflow(plan: GatePlan) -> str:
    """A workflow for GitHub Actions: install, gate, keep the report whatever the outcome."""
    command = shlex.join(
        [
            "pytest",
            *plan.arguments,
            "--report-dir",
            "build/gate",
            "--junitxml",
            "build/gate/junit.xml",
        ]
    )
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
        run: python -m pip install {shlex.quote(plan.package)}
      - name: Gate
        run: {command}
      - name: Keep the report
        if: always()
        uses: actions/upload-artifact@v4
        with:
          name: format-gate
          path: build/gate
"""
