"""The layout of the house: names, sizes, docstrings, and the page that shows them."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "harness"
FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(file.parent for file in FILES if file.name == "__init__.py")
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MOST_LINES, MOST_ENTRIES = 400, 16
CROWDED = {"cli", "metrics"}
"""Rooms whose files are alike and are read one at a time: commands, metrics."""
LIST_OF_RECORDS = PACKAGE / "report" / "document.py"
"""A record for each object of report.json, and nothing to follow from one to the next."""


def test_no_module_name_occurs_twice():
    """``cli/`` mirrors the commands, whose names are those of rooms and functions."""
    names = Counter(
        file.stem for file in FILES if not file.stem.startswith("__") and file.parent.name != "cli"
    )
    assert not [name for name, count in names.items() if count > 1]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_a_room_has_few_entries_and_says_what_it_is(room):
    modules = [file for file in room.glob("*.py") if not file.stem.startswith("__")]
    rooms = [folder for folder in room.iterdir() if (folder / "__init__.py").is_file()]
    if room.name not in CROWDED:
        assert len(modules) <= MOST_ENTRIES and len(rooms) <= MOST_ENTRIES
    assert ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_is_not_too_long(file):
    most = 1.1 * MOST_LINES if file == LIST_OF_RECORDS else MOST_LINES
    assert len(file.read_text(encoding="utf-8").splitlines()) <= most


def test_every_top_level_room_is_on_the_page():
    for room in ROOMS:
        if room.parent == PACKAGE:
            assert f"`{room.name}/`" in PAGE


def test_each_answer_names_something_that_is_in_the_file():
    """``| question | [file](link), … | `name`, … |``: every name is defined in one of the files."""
    rows = re.findall(r"^\| [^|]* \| ([^|]+) \| ((?:`\w+`(?:, )?)+) \|$", PAGE, re.M)
    assert len(rows) >= 7
    for files, names in rows:
        links = re.findall(r"\((\.\./[\w/]+\.py)\)", files)
        links = links or ["../harness/metrics/registry.py"]  # the page of its own names it
        defined = {name for link in links for name in _defined(ROOT / "docs" / link)}
        assert set(re.findall(r"`(\w+)`", names)) <= defined, (names, links)


def test_the_way_names_what_is_in_its_files():
    for names, link in re.findall(r"\d\. \[([\w ]+)\]\((\.\./harness/[\w/]+\.py)\)", PAGE):
        assert set(names.split(" and ")) <= _defined(ROOT / "docs" / link), (names, link)


def test_the_code_is_written_in_plain_words():
    """These words each had several meanings here, and plainer ones exist. An alternative of a
    regular expression is data.
    """
    riddles = re.compile(r"\b(?:anew|told|stands|so many|METRICS §|DESIGN §)(?!\|)", re.I)
    texts = [file for end in ("py", "jinja", "js") for file in PACKAGE.rglob(f"*.{end}")]
    for file in texts:
        assert not riddles.findall(file.read_text(encoding="utf-8")), file


def _defined(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return found | {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
