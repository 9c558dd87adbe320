"""Results in a page of the docs: the text between its two marks, and the pictures beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.files import read_text, write_text

#: The marks around the results.
BEGIN, END = "<!-- results:begin -->\n", "<!-- results:end -->\n"


def with_results(page: str, results: str, where: str = "") -> str:
    """The page with these results between its marks. Raises HarnessError if it has no marks."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        message = f"the page has no place for results ({BEGIN.strip()} … {END.strip()})"
        raise HarnessError(message, where=where)
    return head + BEGIN + results + END + tail


def read_page(page: Path) -> str:
    """The text of a page that has a place for results. Raises HarnessError for any other file."""
    text = read_text(page, "page")
    with_results(text, "", str(page))
    return text


def with_kept(page: Path, new: Mapping[str, Any], command: str) -> dict[str, Any]:
    """Numbers by name: the new ones and, of what was not measured again, those beside the page.

    They are JSON files in a folder with the page's name, to which the new ones are written. Raises
    HarnessError as ``read_page`` does, and if there are none; ``command`` measures them.
    """
    read_page(page)
    folder = page.with_suffix("")
    for name, numbers in new.items():
        write_text(folder / f"{name}.json", json.dumps(numbers, indent=1) + "\n")
    found = {file.stem: json.loads(file.read_text("utf-8")) for file in folder.glob("*.json")}
    if not found:
        raise HarnessError("no results yet", where=str(page), hint=command)
    return dict(sorted(found.items()))


def rewrite(page: Path, results: str) -> None:
    """Write the page with these results, and print its name."""
    write_text(page, with_results(read_page(page), results))
    print(page)


def write_picture(svg: str, path: Path) -> None:
    """Write an SVG in black on white. On its own it cannot take the colours of a page."""
    write_text(path, svg.replace("<svg", '<svg style="color: black; background: white"', 1))
