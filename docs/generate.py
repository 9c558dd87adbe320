"""Write the files that are generated from the code: ``python docs/generate.py``."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docs.architecture_picture import architecture_svg

ROOT = Path(__file__).parents[1]
#: Columns of the help texts.
WIDTH = 110


def cli_page() -> str:
    """Every command's help, and the gate's options."""
    from harness.cli.main import COMMANDS, help_text

    lines = [
        "# Commands",
        "",
        "What each command prints for `--help`, written by `python docs/generate.py`.",
        "",
        "```text",
        help_text(),
        "```",
        "",
        "| exit code | means |",
        "|---|---|",
        "| 0 | success |",
        "| 1 | findings: a regression, a broken rule, refused rows |",
        "| 2 | a mistake in the input; one line says what is wrong, where, and what to do |",
        "| 3 | a bug in formatproof, with a traceback; please report it |",
        "| 130 | interrupted; finished work is kept |",
        "",
    ]
    for name, command in COMMANDS.items():
        lines += [
            f"## harness {name}",
            "",
            f"{command.summary[0].upper()}{command.summary[1:]}.",
            "",
            "```text",
            help_of(name),
            "```",
            "",
        ]
    lines += [
        "## pytest eval/",
        "",
        "The gate's options, beside pytest's own ([Gate a model in CI](../gate.md)).",
        "",
        "| option | |",
        "|---|---|",
    ]
    return "\n".join([*lines, *_gate_options()]) + "\n"


def help_of(command: str) -> str:
    """What ``harness COMMAND --help`` prints in a terminal of WIDTH columns, without colours."""
    from harness.cli.main import main

    output = io.StringIO()
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    os.environ |= {"COLUMNS": str(WIDTH), "NO_COLOR": "1"}
    os.environ.pop("FORCE_COLOR", None)
    try:
        with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            main([*command.split(), "--help"])
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ |= {} if value is None else {name: value}
    return "\n".join(line.rstrip() for line in output.getvalue().strip().splitlines())


def _gate_options() -> list[str]:
    """The options that the gate's pytest hook adds, as rows."""
    from harness.gate.plugin import pytest_addoption

    rows: list[str] = []

    class Group:
        def getgroup(self, *_: str) -> Group:
            return self

        def addoption(self, flag: str, **facts: Any) -> None:
            value = facts.get("metavar", "").replace("|", "\\|")
            shown = f"[={value}]" if "const" in facts else f" {value}".rstrip()
            rows.append(f"| `{flag}{shown}` | {facts['help']} |")

    pytest_addoption(Group())  # type: ignore[arg-type]  # the two methods that it calls
    return rows


def settings_page() -> str:
    """Every key of a training run's TOML file."""
    from harness.training.config.reading import keys
    from harness.training.config.reference import reference

    others = [
        f"`{place}` is `--{name}`"
        for name, place in keys().items()
        if place.rpartition(".")[2] != name
    ]

    head = f"""# Settings of a training run

For people who write a recipe, the TOML file that `harness train` runs.
[Train an adapter](../training.md) explains how the settings work together.
`python docs/generate.py` wrote this page.

Each key is also a flag (`learning_rate`: `--learning-rate`) and an environment variable
(`HARNESS_TRAIN_LEARNING_RATE`). Exceptions: {", ".join(others)}.
"""
    return f"{head}\n{reference().replace('### ', '## ')}"


def report_schema() -> str:
    """harness/report/schema.json: JSON Schema of report.json, sweep.json and a comparison."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    from harness.report.comparison import COMPARISON_SCHEMA, Comparison
    from harness.report.document import SCHEMA, Report
    from harness.report.sweep_document import SWEEP_SCHEMA, Sweep

    class Plain(GenerateJsonSchema):
        """Without titles that repeat the key, and without defaults."""

        def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002  # pydantic calls it
            return False

        def default_schema(self, schema: Any) -> Any:
            return self.generate_inner(schema["schema"])

    documents = {Report: SCHEMA, Comparison: COMPARISON_SCHEMA, Sweep: SWEEP_SCHEMA}
    _, schema = TypeAdapter.json_schemas(
        [(kind.__name__, "validation", TypeAdapter(kind)) for kind in documents],
        schema_generator=Plain,
    )
    for definition in schema["$defs"].values():
        definition.pop("title", None)
        definition["description"] = " ".join(definition["description"].split())
    for kind in documents:
        schema["$defs"][kind.__name__]["required"].append("schema")
    report = schema["$defs"].pop("Report")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": SCHEMA}
    return json.dumps({**head, **report, **schema}, indent=1, ensure_ascii=False) + "\n"


def report_page() -> str:
    """The schema of report.json, one table an object."""
    schema = json.loads(report_schema())
    head = f"""# report.json

For people who read results with a program. Every evaluation writes `report.json`; this is version
`{schema["title"]}`. A sweep's `sweep.json` is a [Sweep](#sweep), and the JSON file beside the page
of a comparison is a [Comparison](#comparison). The package contains the JSON Schema (2020-12):
[harness/report/schema.json](../../harness/report/schema.json). `python docs/generate.py` wrote it
and this page.

```python
from pathlib import Path
from harness.report.document import read_report

report = read_report(Path("build/eval/report.json"))
cell = report.cells(0)["chatml", "stopped"]
print(cell.mean, cell.low, cell.high, cell.n)
```
"""
    tables = [_table("Report", schema)]
    tables += [_table(name, definition) for name, definition in schema["$defs"].items()]
    return "\n".join([head, *tables])


def _table(name: str, schema: dict[str, Any]) -> str:
    """An object's keys as a table."""
    needed = schema.get("required", ())
    rows = [
        f"| `{key}` | {_kind(value)} | {'always' if key in needed else ''} |"
        for key, value in schema["properties"].items()
    ]
    table = "\n".join(["| key | type | present |", "|---|---|---|", *rows])
    return f"## {name}\n\n{schema['description']}\n\n{table}\n"


def _kind(schema: dict[str, Any]) -> str:  # noqa: PLR0911  # one line for each kind
    """A schema's type in words, with links to the objects in it."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if "prefixItems" in schema:
        return f"[{', '.join(map(_kind, schema['prefixItems']))}]"
    if "items" in schema:
        return f"array of {_kind(schema['items'])}"
    if isinstance(values := schema.get("additionalProperties"), dict):
        return f"object of {_kind(values)}"
    return str(schema.get("type", "any"))


def measures_page() -> str:
    """docs/measures.md with the table of metrics as the registry has it."""
    from harness.metrics.registry import metrics_table

    page = (ROOT / "docs" / "measures.md").read_text(encoding="utf-8")
    head, rest = page.split("<!-- metrics:begin", 1)
    note, _ = rest.split("\n", 1)
    tail = rest.split("<!-- metrics:end -->", 1)[1]
    return f"{head}<!-- metrics:begin{note}\n{metrics_table()}\n<!-- metrics:end -->{tail}"


def models_page() -> str:
    """docs/models.md, from the record of ``tox -e zoo``."""
    from tests.zoo.record import models_page

    return models_page()


def templates_page() -> str:
    """docs/templates.md, from the record of ``tox -e corpus``."""
    from tests.corpus.page import templates_page

    return templates_page()


#: Each generated file of the repository, and the function that makes its text.
FILES: dict[str, Callable[[], str]] = {
    "docs/reference/cli.md": cli_page,
    "docs/reference/settings.md": settings_page,
    "docs/reference/report-json.md": report_page,
    "docs/measures.md": measures_page,
    "docs/models.md": models_page,
    "docs/templates.md": templates_page,
    "harness/report/schema.json": report_schema,
    "docs/pictures/architecture.svg": architecture_svg,
}

if __name__ == "__main__":
    for name, text in FILES.items():
        (ROOT / name).write_text(text(), encoding="utf-8")
        print(f"wrote {name}")
