"""Write the reference pages that are made of the code: ``python docs/generate.py``. A test holds each against what this makes."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

REFERENCE = Path(__file__).parent / "reference"
#: Columns of the help texts.
WIDTH = 110


def cli_page() -> str:
    """Every command's help, and the gate's options."""
    from harness.cli.main import COMMANDS, help_text

    lines = [
        "# Commands",
        "",
        "Written by `python docs/generate.py`: what each command prints for `--help`.",
        "",
        "```text",
        help_text(),
        "```",
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
    """What ``harness COMMAND --help`` prints in a terminal of so many columns, without colours."""
    from harness.cli.main import main

    told = io.StringIO()
    kept = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    os.environ |= {"COLUMNS": str(WIDTH), "NO_COLOR": "1"}
    os.environ.pop("FORCE_COLOR", None)
    try:
        with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
            main([*command.split(), "--help"])
    finally:
        for name, value in kept.items():
            os.environ.pop(name, None)
            os.environ |= {} if value is None else {name: value}
    return "\n".join(line.rstrip() for line in told.getvalue().strip().splitlines())


def _gate_options() -> Iterator[str]:
    """The options that the gate's pytest hook adds, as rows."""
    from harness.gate.plugin import pytest_addoption

    class Group:
        rows: list[str] = []  # noqa: RUF012  # one object, thrown away

        def getgroup(self, *_: str) -> Group:
            return self

        def addoption(self, flag: str, **facts: Any) -> None:
            value = facts["metavar"].replace("|", "\\|")
            self.rows.append(
                f"| `{flag}{f'[={value}]' if 'const' in facts else f' {value}'}` | {facts['help']} |"
            )

    group = Group()
    pytest_addoption(group)  # type: ignore[arg-type]  # the two methods that it calls
    yield from group.rows


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

Written by `python docs/generate.py` from `harness/training/config`. How they work together: [Train an adapter](../training.md).

A key's name is also its flag (`learning_rate`: `--learning-rate`) and, in capitals, its environment variable (`HARNESS_TRAIN_LEARNING_RATE`), but {", ".join(others)}.
"""
    return f"{head}\n{reference().replace('### ', '## ')}"


def report_page() -> str:
    """The schema of report.json, one table an object."""
    from harness.report.document import SCHEMA

    schema = json.loads(
        (Path(__file__).parents[1] / "harness" / "report" / "schema.json").read_text(
            encoding="utf-8"
        )
    )
    head = f"""# report.json

Written by `python docs/generate.py` from [harness/report/schema.json](../../harness/report/schema.json) (JSON Schema 2020-12), which is shipped in the package. Every evaluation writes such a file; this is version `{SCHEMA}`.

```python
from pathlib import Path
from harness.report.document import read_report

report = read_report(Path("build/eval/report.json"))
cell = report.cells(0)["chatml", "stopped"]
print(cell.mean, cell.low, cell.high, cell.n)
```

{schema["description"]}
"""
    tables = list(_tables("report", schema))
    for name, definition in schema["$defs"].items():
        tables += list(_tables(name, definition))
    return head + "\n" + "\n".join(tables)


def _tables(name: str, schema: dict[str, Any]) -> Iterator[str]:
    """The table of an object's keys, then those of the objects within it."""
    if "properties" not in schema:
        yield f"## {name}\n\n{_kind(schema)}{': ' if 'description' in schema else '.'}{schema.get('description', '')}\n"
        return
    needed = schema.get("required", ())
    rows = [
        f"| `{key}` | {_kind(value)} | {'always' if key in needed else ''} | {value.get('description', '') or _ref_name(value)} |"
        for key, value in schema["properties"].items()
    ]
    told = f"{schema['description']}\n\n" if "description" in schema and name != "report" else ""
    yield (
        f"## {name}\n\n{told}"
        + "\n".join(["| key | type | there | |", "|---|---|---|---|", *rows])
        + "\n"
    )
    for key, value in schema["properties"].items():
        inner = value.get("items", value)
        if "properties" in inner:
            yield from _tables(f"{name}.{key}" if name != "report" else key, inner)


def _ref_name(schema: dict[str, Any]) -> str:
    ref = schema.get("$ref") or schema.get("items", {}).get("$ref", "")
    return f"[{(name := ref.rpartition('/')[2])}](#{name})" if ref else ""


def _kind(schema: dict[str, Any]) -> str:
    """A schema's type in words."""
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    kinds = schema.get("type", "any")
    word = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    return f"array of {_kind(schema['items'])}" if "items" in schema else word


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "settings.md": settings_page,
    "report-json.md": report_page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
        print(f"wrote {REFERENCE / name}")
