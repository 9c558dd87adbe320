"""The docs are true: commands exist, links lead somewhere, the shown format works."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from docs.generate import FILES
from harness.cli.main import COMMANDS, main
from harness.data.conversations import load_conversations
from harness.formats import load_formats
from harness.training.config import parse_config, read_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands_shown(page: Path) -> list[tuple[str, list[str]]]:
    """(noun and verb, the other words) of every harness command in the page's shell blocks."""
    fenced = re.findall(
        r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S
    )  # all of them, or their ends look like beginnings
    blocks = [text for language, text in fenced if language in ("", "sh", "console")]
    lines = [
        shlex.split(line, comments=True)[1:]
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("harness ")
    ]
    return [
        (words[0], words[1:]) if words[0] in COMMANDS else (" ".join(words[:2]), words[2:])
        for words in lines
    ]


@cache
def help_of(command: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    return output.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_shown_exists_with_its_flags(page):
    for command, words in commands_shown(page):
        assert command in COMMANDS, command
        for flag in (word.split("=")[0] for word in words if word.startswith("--")):
            assert re.search(rf"{flag}\b", help_of(command)), f"harness {command} knows no {flag}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_into_the_repository_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "docs" / "reference" / "python.md"], ids=lambda p: p.name
)
def test_every_python_session_shown_is_so(page):
    text = page.read_text(encoding="utf-8")
    sessions = "\n".join(re.findall(r"^```pycon\n(.*?)^```", text, re.M | re.S))
    test = doctest.DocTestParser().get_doctest(sessions, {}, page.name, str(page), 0)
    failures: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=failures.append)
    assert not failures, "".join(failures)


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "docs" / "recipes").glob("*.toml")), ROOT / "eval" / "demo.toml"],
    ids=lambda p: p.name,
)
def test_every_recipe_loads_and_names_known_formats(path):
    """``read_config`` raises on an unknown key, ``select`` on an unknown format."""
    config = read_config(path)
    for names in (config.formats.train, config.formats.held_out):
        assert bool(load_formats().select(names)) == bool(names)


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_generated_file_is_what_the_code_says(name):
    assert (ROOT / name).read_text(encoding="utf-8") == FILES[name](), (
        "write it again: python docs/generate.py"
    )


def test_the_data_shown_is_read_as_the_page_says(tmp_path):
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text(re.search(r"^```json\n(.*?)^```", page, re.M | re.S)[1])
    [shown] = load_conversations([str(tmp_path / "rows.jsonl")])
    assert [message.weight for message in shown.messages] == [1, 0, 1, 2]
    config = parse_config(tomllib.loads(re.search(r"^```toml\n(.*?)^```", page, re.M | re.S)[1]))
    assert [(s.path, s.weight, s.schema) for s in config.data.sources()] == [
        ("my/chats.jsonl", 1, "auto"),
        ("my/poems.jsonl", 0.5, "auto"),
        ("owner/dataset", 2, "sharegpt"),
    ]


def test_the_page_of_formats_is_current():
    from harness.report.catalog import catalog_page

    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    assert page == catalog_page(load_formats().values()), (
        "write it again: harness formats list --markdown > docs/formats.md"
    )


def test_the_training_set_and_its_controls_hold_what_their_card_says():
    sides = [load_conversations([str(ROOT / name)]) for name in ("trainset", "eval/controls.jsonl")]
    counts = [Counter(row.tags[0] for row in side) for side in sides]
    card = (ROOT / "trainset" / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\w+)\.jsonl \| (\d+) \| (\d+) \| \d+ % \|", card, re.M)
    assert shown == [(kind, str(counts[0][kind]), str(counts[1][kind])) for kind in counts[0]]
    totals = [len(side) for side in sides]
    assert f"{sum(totals)} conversations" in card and f"Apache-2.0: {totals[0]} to train on" in card
    words = [
        sum(len(m.content.split()) for row in side for m in row.messages if m.role == "assistant")
        for side in sides
    ]
    spaced = [f"{count:,}".replace(",", " ") for count in words]
    assert f"have {spaced[0]} words, those of the controls {spaced[1]}" in card
