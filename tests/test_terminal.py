"""Control characters in texts from elsewhere are shown and not obeyed, in every command."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from harness.cli.main import COMMANDS, main, run_command
from harness.errors import HarnessError
from harness.gate.messages import describe
from harness.records import GateCheck
from harness.terminal import VisibleStream, console, visible, visible_streams, write_exactly

#: What moves the cursor, sets the title, rings, hides and overwrites; one is a C1 control.
HOSTILE = "a\x1b[2Jb\x1b]0;title\x07c\x9b31md\re\x7ff\x08g"
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@given(st.text())
def test_no_control_character_is_left_and_no_other_is_changed(text):
    shown = visible(text)
    assert not _OBEYED.search(shown)
    plain = "".join(c for c in text if not _OBEYED.match(c) and c not in "\u2028\u2029")
    if plain == text:
        assert shown == text
    shown.encode()


def test_json_keeps_its_meaning():
    text = json.dumps({"a": HOSTILE, "b": "\u2028ä"}, ensure_ascii=False)
    assert json.loads(visible(text)) == {"a": HOSTILE, "b": "\u2028ä"}


def test_lines_of_windows_are_lines():
    assert visible("a\r\nb\tc\n") == "a\nb\tc\n"


def test_a_terminal_without_the_letters_gets_escapes():
    raw = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert VisibleStream(raw).write("ä\x1b") == 2
    raw.flush()
    assert raw.buffer.getvalue() == b"\\xe4\\u001b"


def test_a_commands_output_and_errors_are_visible_and_the_streams_come_back(capsys):
    before = sys.stdout, sys.stderr

    def command(_args):
        print(HOSTILE)
        sys.stdout.writelines([HOSTILE])
        print(HOSTILE, file=sys.stderr)
        raise HarnessError(HOSTILE, where=HOSTILE)

    assert run_command(command, []) == 2
    assert (sys.stdout, sys.stderr) == before
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "\\u001b[2J" in text and not _OBEYED.search(text)


def test_tables_keep_our_colours_and_take_no_markup_from_names(monkeypatch):
    raw = Terminal()
    monkeypatch.setattr(sys, "stdout", raw)
    table = Table("[/head]", header_style="bold red")
    table.add_row(HOSTILE)
    table.add_row("[bold]x[/nonsense]")
    with visible_streams():
        console(force_terminal=True, width=100, color_system="standard").print(table)
    text = raw.getvalue()
    assert "\x1b[1;31m" in text  # ours: the control
    assert "\\u001b[2J" in text and "\x1b[2J" not in text and "\x9b" not in text
    assert "[bold]x[/nonsense]" in text


def test_exact_output_is_exact_in_a_file_and_visible_on_a_terminal(monkeypatch):
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", file)
    with visible_streams():
        write_exactly(HOSTILE)
    assert file.buffer.getvalue() == HOSTILE.encode()
    raw = Terminal()
    monkeypatch.setattr(sys, "stdout", raw)
    with visible_streams():
        write_exactly(HOSTILE)
    assert not _OBEYED.search(raw.getvalue())


def test_the_gates_messages_are_visible():
    verdict = GateCheck("f\x1b[2J", "stopped", "missing", 1.0, None, 0.1, 0, why=HOSTILE)
    assert not _OBEYED.search(describe(verdict))


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / f"{HOSTILE}.jsonl".replace("/", "")
    messages = [{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": HOSTILE * 3}]
    row = {"id": HOSTILE, "messages": messages, "tags": [HOSTILE]}
    file.write_text(json.dumps(row) + "\n" + '{"text": 3}\n')
    return file


def test_commands_that_show_texts(rows, tmp_path, tokenizer, capsys):
    """Commands that print ids, contents and file names, whatever they answer."""
    texts = tmp_path / "texts.jsonl"
    texts.write_text(json.dumps({"id": HOSTILE, "text": HOSTILE + " здравствуй мир, как дела"}))
    chat = tmp_path / "chat.json"
    chat.write_text(json.dumps([{"role": "user", "content": HOSTILE}]))
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    source = tmp_path / "template.jinja"
    source.write_text("{{ '" + HOSTILE + "' }}{% for m in messages %}{{ m.content }}{% endfor %}")
    for command in (
        ["drift", str(texts)],
        ["drift", str(texts), "--json"],
        ["phrases", str(texts)],
        ["recall", str(texts), "--against", str(rows)],
        ["recall", str(texts), "--against", str(texts)],
        ["data", "check", str(rows)],
        ["data", "convert", str(rows)],
        ["formats", "detect", str(source)],
        ["formats", "import", str(source), "--out", str(tmp_path / "o")],
        ["formats", "show", HOSTILE],
        ["formats", "render", HOSTILE, str(chat)],
        ["compare", HOSTILE, HOSTILE],
        ["results", "query", HOSTILE],
        ["train", HOSTILE],
        ["view", HOSTILE, "--port", "99999"],
        ["pick", HOSTILE],
        [HOSTILE],
        ["drift", f"--{HOSTILE}"],
    ):
        assert main(command) in (0, 1, 2)
        shown = capsys.readouterr()
        assert not _OBEYED.search(shown.out + shown.err), command


def test_every_command_names_a_hostile_argument_visibly(capsys):
    for name in COMMANDS:
        assert main([*name.split(" "), f"--{HOSTILE}", HOSTILE]) == 2
        shown = capsys.readouterr()
        assert not _OBEYED.search(shown.out + shown.err), name
