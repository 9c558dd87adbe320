"""Sections as Markdown for the docs and as one self-contained HTML page."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import harness.report
from experiments.minisymposium.both_models import Results, both_models
from experiments.minisymposium.section import Section, by_part
from experiments.minisymposium.sections import sections

#: The results of the page while no model has any.
NONE_YET = (
    "The full run has not been made yet. The command above writes its figures, tables and numbers "
    "here, from `results.json`.\n"
)


def results_text(
    results: Results, places: Mapping[str, str], pictures: str = "minisymposium"
) -> str:
    """The results of all models as Markdown, with figures as links.

    ``pictures`` is the folder of the figures, relative to the page, and ``places`` the folder in
    it of each model, "" for the folder itself.
    """
    if not any(results.values()):
        return NONE_YET
    text = markdown(both_models(results), pictures)
    for model, found in results.items():
        text += f"## {model}\n\n" + _of_model(model, found, f"{pictures}/{places[model]}")
    return text


def _of_model(model: str, results: Mapping[str, Any] | None, pictures: str) -> str:
    if results is None:
        command = f"python -m experiments.minisymposium --model {model}"
        return f"This model has not been run yet. Run it with `{command}`.\n\n"
    day = by_part(results, lambda made: str(made["date"]))
    text = f"These results are from {day}.\n\n"
    return text + markdown(sections(results), pictures.rstrip("/"), "###")


def markdown(found: Sequence[Section], pictures: str, level: str = "##") -> str:
    """The sections, with figures as links."""
    parts = []
    for section in found:
        parts.append(f"{level} {section.title}\n")
        parts += [f"{line}\n" for line in section.lines]
        if section.rows:
            rows = [section.heads, tuple("---" for _ in section.heads), *section.rows]
            parts.append(
                "".join(
                    "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n"
                    for row in rows
                )
            )
        parts += [f"![{name}]({pictures}/{name}.svg)\n" for name in section.figures]
    return re.sub(r"^(- .*\n)\n(?=- )", r"\1", "\n".join(parts), flags=re.M) + "\n"


def page_html(found: Sequence[Section], svgs: Mapping[str, str], note: str) -> str:
    """One self-contained page. Everything but our own figures is escaped."""
    style = (Path(harness.report.__file__).parent / "page.css").read_text(encoding="utf-8")
    body = "\n".join(_section(section, svgs) for section in found)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>MiniSymposium</title>
<style>{style}
svg {{ max-width: 100%; height: auto }} td {{ vertical-align: top }}</style></head>
<body><main><h1>MiniSymposium</h1><p>{html.escape(note)}</p>
{body}
</main></body></html>
"""


def _section(section: Section, svgs: Mapping[str, str]) -> str:
    lines = "\n".join(f"<p>{_inline(line.removeprefix('- '))}</p>" for line in section.lines)
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in section.heads)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>"
        for row in section.rows
    )
    table = (
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>"
        if section.rows
        else ""
    )
    return (
        f"<section><h2>{html.escape(section.title)}</h2>\n{lines}\n{table}\n"
        + "\n".join(svgs[name] for name in section.figures if name in svgs)
        + "\n</section>"
    )


def _inline(text: str) -> str:
    """Escaped, with the two marks that the sections use: code and bold."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)
